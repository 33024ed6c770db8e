"""Attribution: which places of an image speak for a class, as maps of one number a pixel.

Pixels are (n, height, width, channels) uint8 in 0-255, classes (n,) indices, maps (n, height, width) float32. Maps are
about the logit of a class, the score before the softmax, since the probability saturates. Images are explained many at
a time; how many depends on the memory that the network's activations take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnn_transfer.models import cut_layers, reinitialise
from cnn_transfer.parameters import did_you_mean

if TYPE_CHECKING:
    import keras

MOST_BYTES = 2 * 2**30  # of activations and gradients, were all held at once; most are freed on the way
MOST_AT_ONCE = 512  # images, or points of a path; more is not faster
BLUR_SHARE = 1 / 8  # deviation of the blur, as a share of the shorter side

Reference = Literal["black", "mean", "blurred"]
REFERENCES: tuple[Reference, ...] = ("black", "mean", "blurred")


class AttributionUnavailableError(ValueError):
    """A method cannot explain this network; the message says why, for the report."""


class LogitNetwork:
    """A network prepared for attribution: a copy from float pixels to logits, traced once for all methods.

    The network itself casts its pixels from uint8, and no gradient passes a cast; the copy takes them as float32 in
    0-255 and is the same from there on.

    Args:
        network: A flat functional network from uint8 pixels to the probabilities of classes.
        layer: The layer whose activations Grad-CAM weighs; None: the deepest convolutional activation.

    Raises:
        ValueError: When the network has no such layer.
    """

    def __init__(self, network: keras.Model, layer: str | None = None) -> None:
        self._network, self._layer = network, layer
        if layer is not None and layer not in (allowed := cut_layers(network)):
            raise ValueError(
                f"layer must be one of {', '.join(allowed)} (shallow to deep). Received: {layer}. "
                + did_you_mean(layer, allowed).strip()
            )
        self._copy = _with_logits(network)
        self._calls: dict[str, Callable[..., Any]] = {}
        values = sum(_size(operation.output) for operation in self._copy.operations)
        # Forward activations and the gradients of about as many.
        self._at_once = int(np.clip(MOST_BYTES // (8 * max(1, values)), 1, MOST_AT_ONCE))

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels) of the images."""
        return tuple(self._copy.input_shape[1:])

    @property
    def layer(self) -> str:
        """Name of the layer that Grad-CAM reads.

        Raises:
            AttributionUnavailableError: When the network has no convolution.
        """
        return self._layer or deepest_convolution(self._network)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Scores of all classes, (n, classes) float32, of images that may be float.

        Raises:
            ValueError: When a score is not finite, or the images have another shape than the network takes.
        """
        call = self._traced("logits", lambda pixels: self._copy(pixels, training=False), classes=False)
        chunks = self._chunks(len(self._checked(pixels)))
        logits = np.concatenate([np.asarray(call(pixels[chunk].astype(np.float32))) for chunk in chunks])
        return _finite(logits, "logits")

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Softmax of the logits, (n, classes) float32."""
        from scipy.special import softmax

        return np.asarray(softmax(self.logits(pixels), axis=1))

    def grad_cam(self, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """See `grad_cam`."""
        from scipy.ndimage import zoom

        call = self._traced("grad_cam", self._class_activation(self.layer))
        classes = self._checked_classes(pixels, classes)
        parts = [
            np.asarray(call(pixels[chunk].astype(np.float32), classes[chunk])) for chunk in self._chunks(len(pixels))
        ]
        coarse = _finite(np.concatenate(parts), "Grad-CAM")
        factors = (1, *(side / cells for side, cells in zip(pixels.shape[1:3], coarse.shape[1:], strict=True)))
        return np.asarray(np.maximum(zoom(coarse, factors, order=1), 0), np.float32)

    def integrated_gradients(
        self, pixels: np.ndarray, classes: np.ndarray, steps: int = 32, baseline: Reference = "blurred"
    ) -> np.ndarray:
        """See `integrated_gradients`."""
        if steps < 1:
            raise ValueError(f"steps must be at least 1. Received: {steps}.")
        call = self._traced("path", self._path_gradients, path=True)
        classes = self._checked_classes(pixels, classes)
        start = reference_images(pixels, baseline)
        difference = pixels.astype(np.float32) - start
        positions = ((np.arange(steps) + 0.5) / steps).astype(np.float32)
        maps = np.zeros(pixels.shape, np.float32)
        images_at_once = max(1, self._at_once // steps)
        for first in range(0, len(pixels), images_at_once):
            part = slice(first, first + images_at_once)
            for step in range(0, steps, self._at_once):  # a large network does not hold a whole path
                points = positions[step : step + self._at_once]
                maps[part] += np.asarray(call(start[part], difference[part], classes[part], points)) / steps
        return _finite(np.asarray((maps * difference).sum(axis=-1), np.float32), "Integrated gradients")

    @contextmanager
    def reinitialised(self, seed: int) -> Iterator[LogitNetwork]:
        """This network with new random weights for as long as the context lasts; nothing is traced again."""
        trained = self._copy.get_weights()
        try:
            self._copy.set_weights(reinitialise(self._network, seed).get_weights())
            yield self
        finally:
            self._copy.set_weights(trained)

    def _class_activation(self, layer: str) -> Callable[..., Any]:
        import keras
        import tensorflow as tf

        inner = keras.Model(self._copy.input, [self._copy.get_layer(layer).output, self._copy.output])

        def weighted(pixels: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(pixels)
                activations, logits = inner(pixels, training=False)
                scores = tf.gather(logits, classes, batch_dims=1)
            gradients = tape.gradient(scores, activations, unconnected_gradients="zero")
            weights = tf.reduce_mean(tf.cast(gradients, tf.float32), axis=(1, 2), keepdims=True)
            return tf.nn.relu(tf.reduce_sum(weights * tf.cast(activations, tf.float32), axis=-1))

        return weighted

    def _path_gradients(self, start: Any, difference: Any, classes: Any, positions: Any) -> Any:
        """Sum over positions of the gradient of each image's class at that place of its path."""
        import tensorflow as tf

        n_steps, shape = tf.shape(positions)[0], tf.shape(start)
        points = start[:, None] + positions[None, :, None, None, None] * difference[:, None]
        points = tf.reshape(points, tf.concat([[shape[0] * n_steps], shape[1:]], axis=0))
        points = tf.ensure_shape(points, [None, *start.shape[1:]])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            scores = tf.gather(self._copy(points, training=False), tf.repeat(classes, n_steps), batch_dims=1)
        gradients = tape.gradient(scores, points, unconnected_gradients="zero")
        return tf.reduce_sum(tf.reshape(gradients, tf.concat([shape[:1], [n_steps], shape[1:]], axis=0)), axis=1)

    def _traced(self, name: str, call: Callable[..., Any], classes: bool = True, path: bool = False) -> Any:
        """A function compiled for any number of images, once."""
        import tensorflow as tf

        if name not in self._calls:
            pixels = tf.TensorSpec([None, *self.image_shape], tf.float32)
            signature = [pixels, *[pixels] * path, *[tf.TensorSpec([None], tf.int32)] * classes]
            signature += [tf.TensorSpec([None], tf.float32)] * path
            self._calls[name] = tf.function(call, input_signature=signature, autograph=False)
        return self._calls[name]

    def _chunks(self, images: int) -> list[slice]:
        return [slice(start, start + self._at_once) for start in range(0, images, self._at_once)]

    def _checked(self, pixels: np.ndarray) -> np.ndarray:
        expected = self.image_shape
        sides = zip(expected, pixels.shape[1:], strict=False)
        fits = pixels.ndim == 4 and all(wanted in {None, side} for wanted, side in sides)
        if not fits or not len(pixels):
            raise ValueError(
                f"pixels must have the shape (n, {', '.join(map(str, expected))}) with at least one image. "
                f"Received: {pixels.shape}."
            )
        return pixels

    def _checked_classes(self, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
        classes, n_classes = np.asarray(classes), self._copy.output_shape[-1]
        if classes.shape != (len(self._checked(pixels)),):
            raise ValueError(
                f"classes must have one index an image, shape ({len(pixels)},). Received: {classes.shape}."
            )
        if not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0 or classes.max() >= n_classes:
            raise ValueError(f"classes must be indices from 0 to {n_classes - 1}. Received: {classes}.")
        return classes.astype(np.int32)


def grad_cam(
    network: keras.Model | LogitNetwork, pixels: np.ndarray, classes: np.ndarray, layer: str | None = None
) -> np.ndarray:
    """Grad-CAM: a layer's activations, each channel weighed by the mean gradient of the logit (arXiv 1610.02391).

    Negative sums are cut off (equation 2), and the map is stretched to the image bilinearly, corner to corner. Where
    the head reads several depths, only what passes through this layer counts.

    Args:
        network: The network, or one that is prepared already.
        pixels: (n, height, width, channels) uint8.
        classes: (n,) index of the class to explain in each image.
        layer: Name of the layer; None: the deepest convolutional activation. It is part of a network that is prepared.

    Returns:
        (n, height, width) float32, at least 0. All 0 where nothing at this layer speaks for the class.

    Raises:
        AttributionUnavailableError: When the network has no convolution.
        ValueError: When there is no such layer, the arguments do not fit the network, or a score is not finite.
    """
    return prepared(network, layer).grad_cam(pixels, classes)


def integrated_gradients(
    network: keras.Model | LogitNetwork,
    pixels: np.ndarray,
    classes: np.ndarray,
    steps: int = 32,
    baseline: Reference = "blurred",
) -> np.ndarray:
    """Integrated gradients: each pixel's share of the logit's rise from a reference to the image (arXiv 1703.01365).

    Equation 3, by the midpoint rule; channels are summed. The shares are signed: below 0 speaks against the class. They
    add up to the difference of the logits of image and reference (completeness), up to the error of the rule.

    Args:
        network: The network, or one that is prepared already.
        pixels: (n, height, width, channels) uint8.
        classes: (n,) index of the class to explain in each image.
        steps: Gradients an image.
        baseline: Where the path starts; see `reference_images`.

    Returns:
        (n, height, width) float32, signed, in units of the logit.

    Raises:
        ValueError: When the arguments do not fit the network, or a score is not finite.
    """
    return prepared(network).integrated_gradients(pixels, classes, steps, baseline)


def reference_images(pixels: np.ndarray, kind: Reference) -> np.ndarray:
    """The images with what they show taken away, (n, h, w, c) float32 in 0-255.

    Args:
        pixels: (n, h, w, c) uint8.
        kind: `black`; `mean`: the mean colour of each image; `blurred`: a Gaussian blur whose deviation is an eighth of
            the shorter side.

    Raises:
        ValueError: When there is no such kind.
    """
    from scipy.ndimage import gaussian_filter

    images = pixels.astype(np.float32)
    if kind == "black":
        return np.zeros_like(images)
    if kind == "mean":
        return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape).copy()
    if kind == "blurred":
        sigma = BLUR_SHARE * min(pixels.shape[1:3])
        return np.asarray(gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest"))
    raise ValueError(f"baseline must be one of {', '.join(REFERENCES)}. Received: {kind}.")


def deepest_convolution(network: keras.Model) -> str:
    """Name of the deepest layer below the head that is a picture of more than one place and lies on a convolution.

    Raises:
        AttributionUnavailableError: When the network has none.
    """
    pictures = cut_layers(network)
    convolved, found = False, []
    for name in pictures:
        layer = network.get_layer(name)
        convolved |= any(len(weight.shape) == 4 for weight in layer.weights)
        if convolved and np.prod([side or 2 for side in layer.output.shape[1:3]]) > 1:
            found.append(name)
    if not found:
        raise AttributionUnavailableError(
            "Grad-CAM weighs the activations of a convolutional layer; this network has none that keeps places apart."
        )
    return found[-1]


def prepared(network: keras.Model | LogitNetwork, layer: str | None = None) -> LogitNetwork:
    """The network prepared for attribution, as it is if it is so already.

    Raises:
        ValueError: When it is prepared for another layer.
    """
    if not isinstance(network, LogitNetwork):
        return LogitNetwork(network, layer)
    if layer is not None and layer != network.layer:
        raise ValueError(f"The network is prepared for the layer {network.layer}. Received: layer={layer}.")
    return network


def _with_logits(network: keras.Model) -> keras.Model:
    """A copy that takes float pixels and ends before the softmax."""
    import keras

    last = next(operation for operation in network.operations if operation.name == network.output_names[0])
    is_softmax = isinstance(last, keras.layers.Softmax)
    activation = getattr(getattr(last, "activation", None), "__name__", "none")
    if not is_softmax and activation != "softmax":
        raise ValueError(
            f"The network must end in a softmax over classes. Received: {last.name}, a {type(last).__name__} with "
            f"activation {activation}. Put a head on it first (add_head)."
        )

    def clone(operation: keras.Operation) -> keras.Operation:
        config = operation.get_config()
        if operation is last and not is_softmax:
            config["activation"] = "linear"
        return operation.__class__.from_config(config)

    inputs = keras.Input(network.input_shape[1:], dtype="float32", name="float_pixels")
    copy = keras.models.clone_model(network, input_tensors=inputs, clone_function=clone)
    copy.set_weights(network.get_weights())
    return keras.Model(copy.input, copy.get_layer(last.name).input) if is_softmax else copy


def _size(tensors: Any) -> int:
    """Values of a layer's output for one image."""
    import keras

    return sum(int(np.prod([side or 1 for side in tensor.shape[1:]])) for tensor in keras.tree.flatten(tensors))


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not (bad := ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)).any():
        return values
    raise ValueError(
        f"{what} must be finite. Received NaN or infinity for {bad.sum()} of {len(values)} images, the first at "
        f"position {bad.argmax()}. The weights of the network are damaged, or its training has diverged."
    )
