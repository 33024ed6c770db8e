"""Attribution: many images at once against one at a time, agreement with tf-keras-vis, and the worth of the maps.

    python benchmarks/attribution.py PROJECT [--images 256] [--repetitions 3]

PROJECT: the folder of a finished `kedro run`. Its delivered network explains its own predictions of test images. Both
sides of a comparison run in this process in turns; the fastest of the repetitions counts. tf-keras-vis and the code of
Keras's guides get a copy of the network that takes float pixels, since they cannot explain uint8. Integrated gradients
of one image are a batch of 16 points already. Occlusion, the method of the service, needs no gradients; its forms, of
which one had to be chosen, are judged on validation images beside both others. About 3 minutes on 2 cores.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cnn_transfer.evaluation.attribution import LogitNetwork, Reference, reference_images
from cnn_transfer.evaluation.explanations import explain
from cnn_transfer.evaluation.faithfulness import faithfulness, mean_faithfulness, random_maps, randomisation_check
from cnn_transfer.evaluation.occlusion import PLACES, occlusion_map
from cnn_transfer.evaluation.similarity import map_similarity, similarity_by_depth
from cnn_transfer.images import open_image_set

PATH_STEPS = 16
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def latest(project: Path, entry: str) -> Path:
    """The newest version of an entry of the catalog."""
    versions = sorted((project / "data" / entry).glob("*/"))
    return versions[-1] / Path(entry).name


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def keras_guides(model: keras.Model, layer: str) -> dict[str, Callable[[np.ndarray, int], object]]:
    """Grad-CAM and integrated gradients of one image as keras.io/examples/vision shows them, eagerly."""
    import tensorflow as tf

    floats = float_copy(model)
    floats.layers[-1].activation = None  # the logit
    inner = keras.Model(floats.input, [floats.get_layer(layer).output, floats.output])

    def grad_cam(image: np.ndarray, label: int) -> object:
        with tf.GradientTape() as tape:
            activations, logits = inner(image[None].astype(np.float32))
            score = logits[:, label]
        weights = tf.reduce_mean(tape.gradient(score, activations), axis=(0, 1, 2))
        return tf.maximum(activations[0] @ weights[..., None], 0).numpy()

    def integrated_gradients(image: np.ndarray, label: int) -> object:
        start = reference_images(image[None], "blurred")[0]
        positions = (np.arange(PATH_STEPS, dtype=np.float32) + 0.5) / PATH_STEPS
        points = tf.constant(start + positions[:, None, None, None] * (image - start))
        with tf.GradientTape() as tape:
            tape.watch(points)
            score = floats(points)[:, label]
        return (tf.reduce_mean(tape.gradient(score, points), axis=0) * (image - start)).numpy()

    return {"Grad-CAM": grad_cam, "integrated gradients": integrated_gradients}


def compare_speed(model: keras.Model, pixels: np.ndarray, classes: np.ndarray, repetitions: int) -> None:
    """Print images a second of three ways, and how much faster many at once are."""
    network = LogitNetwork(model)
    guides = keras_guides(model, network.layer)
    methods: dict[str, Method] = {
        "Grad-CAM": network.grad_cam,
        "integrated gradients": lambda x, c: network.integrated_gradients(x, c, PATH_STEPS),
    }
    for name, method in methods.items():
        pairs = [(pixels[i : i + 1], classes[i : i + 1]) for i in range(len(pixels))]
        ways: dict[str, Callable[[], object]] = {
            "at once": partial(method, pixels, classes),
            "one at a time": partial(of_each, method, pairs),
            "one at a time as in Keras's guide": partial(of_each, guides[name], [*zip(pixels, classes, strict=True)]),
        }
        for call in ways.values():
            call()  # traced before the clock starts
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(repetitions):
            for way, call in ways.items():
                times[way].append(seconds(call))
        best = {way: min(values) for way, values in times.items()}
        rates = ", ".join(
            f"{len(pixels) / taken:,.0f} {way} (ratio {taken / best['at once']:.1f})" for way, taken in best.items()
        )
        print(f"{name}, images/s: {rates}", flush=True)


def of_each(method: Callable[[Any, Any], object], pairs: Iterable[tuple[Any, Any]]) -> list[object]:
    """What a method makes of each image and its class."""
    return [method(*pair) for pair in pairs]


def float_copy(model: keras.Model) -> keras.Model:
    """The same network from float pixels; gradients do not pass the cast from uint8."""
    copy = keras.models.clone_model(model, input_tensors=keras.Input(model.input_shape[1:], dtype="float32"))
    copy.set_weights(model.get_weights())
    return copy


def compare_with_tf_keras_vis(model: keras.Model, pixels: np.ndarray, classes: np.ndarray) -> None:
    """Print the lowest correlation of the maps of an image, and images a second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports old names from scipy
        from tf_keras_vis.gradcam import Gradcam
        from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
        from tf_keras_vis.utils.scores import CategoricalScore

    network = LogitNetwork(model)
    theirs = Gradcam(float_copy(model), model_modifier=ReplaceToLinear())

    def explain_theirs(x: np.ndarray, c: np.ndarray) -> np.ndarray:
        score = CategoricalScore(c.tolist())
        options = {"penultimate_layer": network.layer, "seek_penultimate_conv_layer": False}
        return np.asarray(theirs(score, x.astype(np.float32), **options))

    ours, other = network.grad_cam(pixels, classes), explain_theirs(pixels, classes)
    defined = (ours.std(axis=(1, 2)) > 0) & (other.std(axis=(1, 2)) > 0)
    lowest = min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours[defined], other[defined], strict=True))
    print(
        f"tf-keras-vis: {len(pixels) / seconds(lambda: explain_theirs(pixels, classes)):,.0f} images/s at once; lowest "
        f"correlation with ours {lowest:.6f} ({defined.sum()} of {len(ours)} maps, the others are all 0 in both: "
        f"{(ours[~defined] == 0).all()})",
        flush=True,
    )


def occlusion(
    network: LogitNetwork,
    pixels: np.ndarray,
    classes: np.ndarray,
    places: int = PLACES,
    reference: Reference = "blurred",
) -> np.ndarray:
    """Maps of several images."""
    maps = [
        occlusion_map(network.logits, image, int(index), places, reference)
        for image, index in zip(pixels, classes, strict=True)
    ]
    return np.stack(maps)


def judge_occlusion(network: LogitNetwork, pixels: np.ndarray, classes: np.ndarray) -> None:
    """Print what maps by covering places are worth, beside those by gradients, and the time of one."""
    covers: list[tuple[int, Reference]] = [(12, "blurred"), (12, "mean"), (8, "blurred"), (5, "blurred")]
    forms: dict[str, Method] = {
        "Grad-CAM": network.grad_cam,
        f"integrated gradients, {PATH_STEPS} steps": lambda x, c: network.integrated_gradients(x, c, PATH_STEPS),
        **{
            f"occlusion, {places} x {places} places, {cover}": partial(
                occlusion, network, places=places, reference=cover
            )
            for places, cover in covers
        },
    }
    for name, form in forms.items():
        start = time.perf_counter()
        maps = form(pixels, classes)
        taken = (time.perf_counter() - start) / len(pixels)
        figures = mean_faithfulness(faithfulness(network, pixels, classes, maps, 16, seed=0))
        gains = ", ".join(
            f"{curve} {figures[f'{curve}_gain']:+.3f} ({figures[f'{curve}_gain_low']:+.3f} to "
            f"{figures[f'{curve}_gain_high']:+.3f})"
            for curve in ("insertion", "deletion")
        )
        print(f"{name}: {gains} over random maps; {1000 * taken:.0f} ms an image", flush=True)
    print(randomisation_check(network, pixels[:32], classes[:32], occlusion, seed=0)["statement"], flush=True)


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    project = arguments.project
    models = {
        name: keras.models.load_model(latest(project, f"06_models/{name}.keras"), compile=False)
        for name in ("delivered_model", "migrated_model", "target_model")
    }
    images = open_image_set(latest(project, "02_intermediate/target_images"))
    predictions = pd.read_parquet(latest(project, "07_model_output/delivered_predictions.parquet"))

    start = time.perf_counter(), time.process_time()
    explanations = explain(models["delivered_model"], images, predictions)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"explain: {wall:.1f} s, {cpu:.1f} s of processor time, first call of the process", flush=True)
    for statement in explanations.scores["statement"]:
        print(f"  {statement}", flush=True)

    drawn = predictions.sample(min(arguments.images, len(predictions)), random_state=0)
    pixels = images.pixels(pd.Index(images.table["id"]).get_indexer(pd.Index(drawn["id"])))
    network = LogitNetwork(models["delivered_model"])
    classes = network.logits(pixels).argmax(axis=1)
    compare_speed(models["delivered_model"], pixels, classes, arguments.repetitions)
    compare_with_tf_keras_vis(models["delivered_model"], pixels, classes)

    chosen = np.arange(len(pixels)), classes
    rise = (network.logits(pixels) - network.logits(reference_images(pixels, "blurred")))[chosen]
    maps = network.integrated_gradients(pixels, classes, PATH_STEPS)
    error = np.abs(maps.sum(axis=(1, 2)) - rise).mean() / np.abs(rise).mean()
    print(f"integrated gradients, {PATH_STEPS} steps: mean error of completeness {error:.1%} of the rise", flush=True)
    chance = mean_faithfulness(
        faithfulness(network, pixels, classes, random_maps(maps, np.random.default_rng(0)), 16, seed=1)
    )
    print(
        f"a random map: insertion {chance['insertion_gain']:+.3f} ({chance['insertion_gain_low']:+.3f} to "
        f"{chance['insertion_gain_high']:+.3f}), deletion {chance['deletion_gain']:+.3f} "
        f"({chance['deletion_gain_low']:+.3f} to {chance['deletion_gain_high']:+.3f})",
        flush=True,
    )

    validation = pd.read_parquet(latest(project, "07_model_output/calibration_predictions.parquet"))
    judged = images.pixels(pd.Index(images.table["id"]).get_indexer(pd.Index(validation["id"])))
    judge_occlusion(network, judged, network.logits(judged).argmax(axis=1))

    before, after = models["migrated_model"], models["target_model"]
    start_cka = time.perf_counter()
    depths = similarity_by_depth(before, after, pixels)
    print(f"what fine-tuning changed ({time.perf_counter() - start_cka:.1f} s):", flush=True)
    print(depths.round(3).to_string(index=False), flush=True)
    first, second = (LogitNetwork(model).integrated_gradients(pixels, classes, PATH_STEPS) for model in (before, after))
    print(map_similarity(first, second)["statement"], flush=True)


if __name__ == "__main__":
    main()
