"""What a predictor keeps of the images that it was made with: to say which of them a new image is like, and how far.

Of training images their features and small pictures are kept, of those that the network was judged on (validation
images, or training images left out) only what is compared in sum with new images (`drift`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.appearance import appearance
from cnn_transfer.evaluation.embedding import EmbeddedImages, last_dense
from cnn_transfer.evaluation.familiarity import ScaledImages, familiarity_table, scaled_nameless
from cnn_transfer.evaluation.predictions import PROBABILITY
from cnn_transfer.evaluation.slices import grey_figures
from cnn_transfer.evaluation.tried_damage import NOTHING_TRIED, TriedDamage
from cnn_transfer.images import ImageSet, thumbnail

if TYPE_CHECKING:
    import keras

CHUNK = 256  # images in memory at once
SEEN = ("training", "validation", "unlabelled")  # splits that a network is made with
FIGURES = ["width_px", "height_px", "brightness", "sharpness"]


@dataclass(frozen=True)
class References:
    """Images that a predictor was made with.

    Attributes:
        training: One row a kept training image: `id`, `label`, `thumbnail` (an encoded picture), and `width_px`,
            `height_px` before resizing, `brightness`, `sharpness` (see `evaluation.image_attributes`).
        features: (kept images, d) float32, what the last dense layer reads.
        appearance: (kept images, 7) float32, see `evaluation.appearance`.
        parts: Numbers of features that are compared by themselves, see `evaluation.embedding.feature_parts`.
        kernel: (d, c) float32, what that layer multiplies by, without what all classes share.
        validation: One row a validation image, or without them a training image that was left out: the same figures,
            and `predicted`, `confidence` (calibrated, 0-1), `distance` (see `evaluation.familiarity_table`).
        seen: One row an image that the network was made with, also those that are not kept: `split` (`training`,
            `validation`, `unlabelled`), `pixel_digest`, `content_digest` (of the encoded image).
        unlabelled: One row an image that the network has learnt from without a label: `pixel_digest`, and where it is a
            head in closed form, `probability_<class>` (calibrated) by that head without the image.
        tried: Damaged copies of validation images, see `evaluation.tried_damage`.
    """

    TABLES: ClassVar[tuple[str, ...]] = ("training", "validation", "seen", "unlabelled")
    FILES: ClassVar[tuple[str, ...]] = (*(f"{name}.parquet" for name in TABLES), "features.npz")

    training: pd.DataFrame
    features: np.ndarray
    appearance: np.ndarray
    parts: tuple[int, ...]
    kernel: np.ndarray
    validation: pd.DataFrame
    seen: pd.DataFrame
    unlabelled: pd.DataFrame
    tried: TriedDamage = NOTHING_TRIED

    def embedded(self) -> EmbeddedImages:
        """The training images as the network sees them."""
        names, labels = (self.training[column].to_numpy(object) for column in ("id", "label"))
        logits = self.features @ self.kernel
        return EmbeddedImages(names, labels, self.features, logits, self.appearance, self.parts)

    def embed(self, features: np.ndarray, pixels: np.ndarray) -> ScaledImages:
        """New images as the network sees them; whatever they are called, none is one of the training images."""
        return scaled_nameless(features, features @ self.kernel, appearance(pixels), self.parts)

    def save(self, folder: Path) -> None:
        """Write its files into a folder that is there."""
        for name in self.TABLES:
            getattr(self, name).to_parquet(folder / f"{name}.parquet", index=False)
        with open(folder / "features.npz", "wb") as file:
            arrays = {name: getattr(self, name) for name in ("features", "appearance", "parts", "kernel")}
            np.savez(file, **arrays, tried_appearance=self.tried.appearance, tried_wrong=self.tried.wrong)

    @classmethod
    def load(cls, folder: Path) -> References:
        """Read what `save` wrote."""
        with open(folder / "features.npz", "rb") as file, np.load(file, allow_pickle=False) as arrays:
            features, taken, kernel = arrays["features"], arrays["appearance"], arrays["kernel"]
            parts = tuple(arrays["parts"].tolist())
            tried = TriedDamage(arrays["tried_appearance"], arrays["tried_wrong"])
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in cls.TABLES}
        return cls(features=features, appearance=taken, parts=parts, kernel=kernel, tried=tried, **tables)


def gather_references(
    network: keras.Model,
    images: ImageSet,
    splits: pd.DataFrame,
    training: tuple[np.ndarray, EmbeddedImages],
    judged: tuple[np.ndarray, EmbeddedImages],
    predictions: pd.DataFrame,
    familiarity: Mapping[str, Any],
    tried: TriedDamage,
    unlabelled: pd.DataFrame,
) -> References:
    """Keep what is needed of training images, and of those that the network was judged on.

    Args:
        network: The network that the features are of.
        images: The set of all.
        splits: Which image is in which split.
        training: Row numbers of those that are kept, and these as the network sees them.
        judged: The same of validation images, or of training images that were left out; may be empty.
        predictions: Calibrated predictions of these at least.
        familiarity: What was fitted on both.
        tried: Damaged copies of validation images.
        unlabelled: `id` of each image that the network has learnt from without a label, and perhaps calibrated
            probabilities of it without the image.
    """
    kernel = np.asarray(last_dense(network).get_weights()[0], np.float32)
    rows, embedded = training
    kept = images.table.iloc[rows][["id", "label"]].reset_index(drop=True)
    kept["thumbnail"] = [thumbnail(pixels) for chunk in _chunks(images, rows) for pixels in chunk]
    others, others_embedded = judged
    distances = familiarity_table(embedded, others_embedded, familiarity, nearest=1)["distance"]
    columns = [name for name in predictions if str(name).startswith(PROBABILITY)]
    own = predictions.set_index("id").loc[others_embedded.ids]
    outcomes = pd.DataFrame(
        {
            "predicted": own["predicted"].to_numpy(object),
            "confidence": own[columns].to_numpy(float).max(axis=1, initial=0.0),
            "distance": distances.to_numpy(float),
        }
    ).astype({"predicted": "str"})
    return References(
        training=pd.concat([kept, _figures(images, rows)], axis=1),
        features=embedded.features,
        appearance=embedded.appearance,
        parts=embedded.parts,
        kernel=kernel - kernel.mean(axis=1, keepdims=True),
        validation=pd.concat([_figures(images, others), outcomes], axis=1),
        seen=_seen(images, splits),
        unlabelled=_unlabelled(images, unlabelled),
        tried=tried,
    )


def _seen(images: ImageSet, splits: pd.DataFrame) -> pd.DataFrame:
    """See `References.seen`."""
    parts = []
    for split in SEEN:
        digests = images.table.iloc[images.rows(splits, split)][["pixel_digest", "content_digest"]]
        parts.append(digests.assign(split=split))
    table = pd.concat(parts, ignore_index=True)
    return table[["split", "pixel_digest", "content_digest"]].astype("str")


def _unlabelled(images: ImageSet, known: pd.DataFrame) -> pd.DataFrame:
    """See `References.unlabelled`."""
    digests = images.table["pixel_digest"].iloc[images.rows_of(known["id"])].to_numpy(object)
    probabilities = known[[name for name in known if str(name).startswith(PROBABILITY)]]
    table = pd.DataFrame({"pixel_digest": pd.Series(digests, dtype="str")})
    return pd.concat([table, probabilities.reset_index(drop=True)], axis=1)


def _chunks(images: ImageSet, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Their pixels, some at a time."""
    return (images.pixels(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK))


def _figures(images: ImageSet, rows: np.ndarray) -> pd.DataFrame:
    """Size, brightness and sharpness of images, one row each."""
    parts = [grey_figures(pixels) for pixels in _chunks(images, rows)]
    brightness, sharpness = np.concatenate(parts, axis=1) if parts else np.empty((2, 0))
    sizes = images.table[["width_px", "height_px"]].iloc[rows].reset_index(drop=True)
    return sizes.assign(brightness=brightness, sharpness=sharpness)[FIGURES]
