"""Labels for new images with honest confidence, through the same intake as in training; works without Kedro.

    from cnn_transfer.prediction import Predictor

    predictor = Predictor.load("data/06_models/predictor/<run>/predictor")
    table = predictor("photos")

A predictor is a folder that needs nothing else:

    model.keras           the network with its calibration inside
    training.parquet, features.npz, validation.parquet, seen.parquet, unlabelled.parquet
                          what it keeps of the images it was made with: `references`
    README.md             the card of the model
    predictor.json        `PredictorFacts`; written last
    model.onnx, model.tflite, model_int8.tflite, saved_model/      exports, where they were made
"""

from __future__ import annotations

import hashlib
import json
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from cnn_transfer.evaluation import calibrate, embed_images, reference_rows
from cnn_transfer.evaluation.conformal import sets_of
from cnn_transfer.evaluation.familiarity import Near, ScaledImages, find_near, scaled
from cnn_transfer.evaluation.predictions import PROBABILITY, left_out_rows
from cnn_transfer.evaluation.selective import UNFAMILIAR
from cnn_transfer.evaluation.slices import grey_figures
from cnn_transfer.evaluation.tried_damage import TriedDamage
from cnn_transfer.images import DecodedImages, ImageFormat, ImageListing, ImageSet, Workers, list_unlabelled
from cnn_transfer.images.preparation import Chunk
from cnn_transfer.models import ModelCard, write_keras_file
from cnn_transfer.models.keras_file import read_keras_file
from cnn_transfer.prediction.calibrated_network import calibrated_network
from cnn_transfer.prediction.facts import FORM, PredictorFacts
from cnn_transfer.prediction.references import References, gather_references
from cnn_transfer.prediction.runtimes import MOST_BYTES, RUNTIMES, KerasRuntime, Outputs, Runtime, open_runtime

if TYPE_CHECKING:
    import keras

FACTS, CARD = "predictor.json", "README.md"
MOST_ALONE = 2_000_000  # numbers in the features of the references: NumPy's threads only disturb below, by a third
NEAREST = 3  # training images named beside each image
UNSURE, NO_THRESHOLD = "unsure", "no_threshold"
WITHHELD = {  # why an image has no answer
    UNFAMILIAR: "unlike the training images",
    UNSURE: "less sure than the threshold that keeps the promised accuracy",
    NO_THRESHOLD: "no confidence is known above which enough of its answers are right",
}
KNOWN = ("id", "width_px", "height_px", "notes", "pixel_digest")  # of an image before it is labelled
TEXT_COLUMNS = ("id", "answer", "withheld", "predicted", "set", "unlike", "notes")
TRAINING_IMAGE = "training_image"  # a note: the network was trained on this very picture
UNLABELLED_IMAGE = "unlabelled_image"  # a note: the network may have learnt its own guess of this very picture
LEFT_OUT_IMAGE = "left_out_image"  # a note: it has learnt that, and the picture is judged as it would be without


class Labelled(NamedTuple):
    """What a predictor says of some images.

    Attributes:
        predictions: One row a usable image: `id`, `answer` (class; missing where none is given), `withheld` (why not,
            a code of `WITHHELD`; empty), `predicted`, `confidence` (0-1, calibrated), `set` (classes that may be it,
            joined by ` · `; missing where no sets were fitted), `unfamiliar` (missing where nothing can be called so),
            `distance`, `strangeness`, `percentile` and `unlike` (see `evaluation.familiarity_table`),
            `probability_<class>` (float32), and `nearest_1` … (ids of training images), `width_px`, `height_px`,
            `brightness`, `sharpness`, `notes` (codes, separated by spaces).
        rejected: One row an image that cannot be used: `id`, `reason`, `detail`.
    """

    predictions: pd.DataFrame
    rejected: pd.DataFrame


class Judged(NamedTuple):
    """What a predictor says of the pixels of n images.

    Attributes:
        probabilities: (n, c) float32, calibrated.
        confidence: (n,) float64, the largest of each image.
        predicted: (n,) text, the class that it is of.
        withheld: (n,) text, why the class is no answer, a code of `WITHHELD`; empty where it is one.
        near: The training images that are like each.
        features: (n, d) float32, what the last dense layer reads.
    """

    probabilities: np.ndarray
    confidence: np.ndarray
    predicted: np.ndarray
    withheld: np.ndarray
    near: Near
    features: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A network with all that is needed to label new images.

    Attributes:
        facts: What it is and promises.
        references: What it keeps of training and validation images.
        card: The card of the model, Markdown.
        runtime: What computes its network.
        version: Name of its version; empty where it has none.
        digest: Of the files that it was loaded from; one that was not loaded is like no other.
    """

    facts: PredictorFacts
    references: References
    card: str
    runtime: Runtime
    version: str = ""
    digest: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def load(cls, path: str | Path, runtime: str = "keras", threads: int | None = None) -> Predictor:
        """Open a predictor's folder.

        Args:
            path: The folder.
            runtime: What computes the network: one of `RUNTIMES`.
            threads: That compute one batch; None: one a core.

        Raises:
            FileNotFoundError: When there is no predictor, or no file for the runtime.
            ValueError: When the folder is damaged, of another form, or its network brings code of its own.
        """
        folder = Path(path)
        facts, references = _read_facts(folder), _read_references(folder)
        card = (folder / CARD).read_text(encoding="utf-8")
        computes = open_runtime(folder, runtime, threads)
        version, digest = folder.resolve().parent.name, _digest_of(folder, RUNTIMES[runtime].FILE)
        return cls(facts, references, card, computes, version, digest)

    def save(self, folder: Path) -> None:
        """Write the predictor into a new folder.

        Raises:
            ValueError: When its network is not computed by Keras, and cannot be written.
        """
        if not isinstance(self.runtime, KerasRuntime):
            raise ValueError(
                "Only a predictor whose runtime is keras can be saved. Received: one with "
                f"{type(self.runtime).__name__}. Load it with runtime='keras'."
            )
        folder.mkdir(parents=True)
        write_keras_file(self.runtime.network, folder / KerasRuntime.FILE)
        self.references.save(folder)
        (folder / CARD).write_text(self.card, encoding="utf-8")
        (folder / FACTS).write_text(self.facts.model_dump_json(indent=2), encoding="utf-8")

    def __call__(self, images: Any) -> pd.DataFrame:
        """Label images; see `Labelled.predictions`, with `rejected` in the table's `attrs`.

        Args:
            images: A folder, a manifest or a table of images (path or address), one file, or a list of paths, encoded
                images, arrays (height, width, channels) uint8 and pictures of Pillow.

        Raises:
            FileNotFoundError: When nothing is at a path.
            ValueError: When there is no image at all.
        """
        parts = list(self.stream(as_listing(images)))
        table = pd.concat([part.predictions for part in parts], ignore_index=True)
        rejected = [part.rejected for part in parts if len(part.rejected)]
        table.attrs["rejected"] = pd.concat(rejected or [parts[0].rejected], ignore_index=True).to_dict("records")
        return table

    def stream(
        self, listing: ImageListing, rows: np.ndarray | None = None, threads: int | None = None
    ) -> Iterator[Labelled]:
        """Label images part by part, in their order: memory does not grow with their number.

        What comes next is decoded while this is computed.

        Args:
            listing: The images.
            rows: Row numbers of the listing, increasing; None: all. What is no image of the listing at all
                (`ImageListing.rejected`) is not repeated.
            threads: That decode; None: see `Workers`.
        """
        wanted = np.arange(len(listing.table)) if rows is None else rows
        images = DecodedImages(listing, self.facts.image_format, wanted, Workers(engine="threads", workers=threads))
        blas = 1 if self.references.features.size <= MOST_ALONE else None
        with threadpool_limits(blas, user_api="blas"):
            for chunk in images.chunks():
                yield self.label_chunk(chunk)

    def label_chunk(self, chunk: Chunk) -> Labelled:
        """Label images that are decoded."""
        rejected = chunk.rejected[["id", "reason", "detail"]]
        return Labelled(self.label(chunk.pixels, chunk.table), rejected)

    def label(self, pixels: np.ndarray, images: pd.DataFrame) -> pd.DataFrame:
        """Label pixels.

        Args:
            pixels: (n, height, width, channels) uint8 in the network's size; n may be 0.
            images: What is known of them, columns `KNOWN`.
        """
        columns = self.columns(pixels, {name: images[name].to_numpy(object) for name in KNOWN})
        if columns["unfamiliar"].dtype == object:
            columns["unfamiliar"] = pd.array(columns["unfamiliar"], "boolean")
        nearest = [name for name in columns if name.startswith("nearest_")]
        return pd.DataFrame(columns | {name: pd.array(columns[name], "str") for name in (*TEXT_COLUMNS, *nearest)})

    def columns(self, pixels: np.ndarray, images: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of `label` without their table, whose making costs more than all else where images are few.

        Args:
            pixels: (n, height, width, channels) uint8 in the network's size; n may be 0.
            images: What is known of them, by the names in `KNOWN`.

        Returns:
            Arrays (n,) by the name of the column; what is missing is None.
        """
        judged, names = self.judge(pixels, images["pixel_digest"]), self.facts.class_names
        near = judged.near
        brightness, sharpness = grey_figures(pixels)
        nothing = np.full(len(pixels), None, object)
        return {
            "id": np.asarray(images["id"], object),
            "answer": np.where(judged.withheld == "", judged.predicted, nothing),
            "withheld": judged.withheld,
            "predicted": judged.predicted,
            "confidence": judged.confidence,
            "set": sets_of(judged.probabilities, self.facts.sets)[1] if self.facts.sets else nothing,
            "distance": near.distance,
            "strangeness": near.strangeness,
            "percentile": near.percentile,
            "unfamiliar": nothing if near.unfamiliar is None else near.unfamiliar,
            "unlike": near.unlike,
            **{f"nearest_{place + 1}": self._training_ids[rows] for place, rows in enumerate(near.rows.T)},
            **dict(zip([PROBABILITY + name for name in names], judged.probabilities.T, strict=True)),
            "width_px": np.asarray(images["width_px"], int),
            "height_px": np.asarray(images["height_px"], int),
            "brightness": brightness,
            "sharpness": sharpness,
            "notes": np.asarray(
                [self.noted(*image) for image in zip(images["notes"], images["pixel_digest"], strict=True)], object
            ),
        }

    def judge(self, pixels: np.ndarray, pixel_digests: Sequence[str] | None = None) -> Judged:
        """What is said of pixels.

        Args:
            pixels: (n, height, width, channels) uint8 in the network's size; n may be 0.
            pixel_digests: (n,) of the images that they are of. The probabilities of a head's own unlabelled images are
                those that it would give without them. None: whatever the network says.
        """
        outputs = self.compute(pixels)
        if pixel_digests is not None:
            outputs = outputs._replace(probabilities=self._without_own(outputs.probabilities, pixel_digests))
        near = find_near(
            self._training,
            self.references.embed(outputs.features, pixels),
            self.facts.familiarity,
            NEAREST,
            self.references.tried,
        )
        confidence = outputs.probabilities.max(axis=1, initial=0.0).astype(float)
        predicted = np.asarray(self.facts.class_names, object)[outputs.probabilities.argmax(axis=1)]
        withheld = self._withheld(confidence, near.unfamiliar).astype(object)
        return Judged(outputs.probabilities, confidence, predicted, withheld, near, outputs.features)

    def noted(self, notes: str, pixel_digest: str) -> str:
        """Notes of an image (codes, separated by spaces), with that of the training where it was part of it."""
        own = [note for note, digests in self._noted_digests.items() if pixel_digest in digests]
        return " ".join([notes, *own]).strip()

    def compute(self, pixels: np.ndarray) -> Outputs:
        """What the network says of pixels, (n, height, width, channels) uint8, some at a time.

        Raises:
            ValueError: When the pixels are others, or a probability is not finite.
        """
        card = self.facts.card
        if pixels.dtype != np.uint8 or pixels.shape[1:] != card.image_shape:
            raise ValueError(
                f"pixels must be uint8 of the shape (n, {', '.join(map(str, card.image_shape))}). Received: "
                f"{pixels.dtype} {pixels.shape}. Give files or encoded images, which are resized as in training."
            )
        if not len(pixels):
            return Outputs(
                *(
                    np.empty((0, width), np.float32)
                    for width in (*[len(card.class_names)] * 2, len(self.references.kernel))
                )
            )
        size = max(1, MOST_BYTES // int(np.prod(card.image_shape)))
        parts = [self.runtime(pixels[start : start + size]) for start in range(0, len(pixels), size)]
        outputs = parts[0] if len(parts) == 1 else Outputs(*map(np.concatenate, zip(*parts, strict=True)))
        if not np.isfinite(outputs.probabilities).all():
            raise ValueError(
                f"Probabilities must be finite. The model {self.version} gives NaN or infinity: its weights are "
                "damaged. Take another version."
            )
        return outputs

    @cached_property
    def _training(self) -> ScaledImages:
        return scaled(self.references.embedded())

    @cached_property
    def _training_ids(self) -> np.ndarray:
        return self.references.training["id"].to_numpy(object)

    @cached_property
    def _noted_digests(self) -> dict[str, frozenset[str]]:
        seen, (places, left_out) = self.references.seen, self._unlabelled
        learnt = LEFT_OUT_IMAGE if left_out.size else UNLABELLED_IMAGE
        return {
            TRAINING_IMAGE: frozenset(seen["pixel_digest"][seen["split"] == "training"]),
            learnt: frozenset(places),
        }

    @cached_property
    def _unlabelled(self) -> tuple[dict[str, int], np.ndarray]:
        """Places of the digests of unlabelled images learnt from, and (images, classes) of them without themselves.

        Networks that are no head in closed form know nothing of the second: (images, 0).
        """
        known = self.references.unlabelled
        columns = [PROBABILITY + name for name in self.facts.class_names if PROBABILITY + name in known]
        places = {digest: place for place, digest in enumerate(known["pixel_digest"])}
        return places, known[columns].to_numpy(np.float32)

    def _without_own(self, probabilities: np.ndarray, pixel_digests: Sequence[str]) -> np.ndarray:
        """Probabilities, those of the head's own unlabelled images replaced by those that it would give without."""
        places, left_out = self._unlabelled
        if not left_out.size:
            return probabilities
        found = np.array([places.get(digest, -1) for digest in pixel_digests], int)
        return np.where(found[:, None] >= 0, left_out[found], probabilities)

    def _withheld(self, confidence: np.ndarray, unfamiliar: np.ndarray | None) -> np.ndarray:
        threshold = self.facts.threshold
        unsure = (
            np.full(len(confidence), NO_THRESHOLD)
            if threshold is None
            else np.where(confidence < threshold, UNSURE, "")
        )
        return unsure if unfamiliar is None else np.where(unfamiliar, UNFAMILIAR, unsure)


def as_listing(images: Any) -> ImageListing:
    """Images as people hand them over, see `Predictor.__call__`."""
    if isinstance(images, ImageListing):
        return images
    if isinstance(images, str | Path):
        return list_unlabelled(images)
    if isinstance(images, bytes | np.ndarray | Image.Image):
        raise ValueError(
            f"images must be a path, or a list of paths, encoded images, arrays or pictures. Received: one "
            f"{type(images).__name__}. Put it into a list."
        )
    return _listing_of(images)


def _listing_of(images: Iterable[Any]) -> ImageListing:
    given = list(images)
    if not given:
        raise ValueError("There is no image to label: the list is empty.")
    encoded = [_checked(image, place) for place, image in enumerate(given)]
    names = [str(image) if isinstance(image, str | Path) else f"image {place}" for place, image in enumerate(given)]
    table = pd.DataFrame({"id": names, "label": None, "split": None, "group": None}).astype("str")
    return ImageListing(table, lambda rows: (encoded[row] for row in rows))


def _checked(image: Any, place: int) -> Any:
    """One image in a form that the intake reads."""
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        grey = image.ndim == 2 or (image.ndim == 3 and image.shape[-1] == 1)
        if image.dtype != np.uint8 or not (grey or (image.ndim == 3 and image.shape[-1] in {3, 4})):
            raise ValueError(
                "Arrays must be uint8 of the shape (height, width) or (height, width, 1, 3 or 4). Received: "
                f"{image.dtype} {image.shape} at position {place}. Scale numbers to 0-255, and give one array an image."
            )
    elif not isinstance(image, str | Path | bytes):
        raise ValueError(
            "Each image must be a path, encoded bytes, an array or a picture of Pillow. Received: "
            f"{type(image).__name__} at position {place}."
        )
    return image


def build_predictor(
    network: keras.Model,
    card: Mapping[str, Any],
    card_text: str,
    images: ImageSet,
    splits: pd.DataFrame,
    judged: pd.DataFrame,
    calibration: Mapping[str, Any],
    threshold: Mapping[str, Any],
    sets: Mapping[str, Any],
    familiarity: Mapping[str, Any],
    tried: pd.DataFrame,
    unlabelled: pd.DataFrame,
    seed: int,
) -> Predictor:
    """Put a network together with what was fitted for it.

    Args:
        network: From raw pixels to probabilities, not calibrated.
        card: Its card.
        card_text: The same for people, Markdown.
        images: The set that it was trained on.
        splits: Which image is in which split.
        judged: Predictions of validation images, of training images that were left out, or of both, not calibrated;
            may be empty.
        calibration: See `evaluation.fit_calibration`.
        threshold: See `evaluation.choose_threshold`.
        sets: See `evaluation.fit_sets`; empty: none.
        familiarity: See `evaluation.fit_familiarity`, of the same training and validation images.
        tried: Damaged copies of validation images, see `evaluation.try_damage`.
        unlabelled: `id` of each image that the network has learnt from without a label, and if it is a head in closed
            form, `probability_<class>` by that head without the image, not calibrated.
        seed: Of the draw from a large training set.
    """
    training, validation = (
        (rows, embed_images(network, images, rows, splits))
        for rows in (reference_rows(network, images, splits, seed), images.rows(splits, "validation"))
    )
    facts = PredictorFacts(
        card=ModelCard.model_validate(card),
        image_format=images.image_format
        or ImageFormat(image_size_px=images.image_shape[0], channels=images.image_shape[2]),
        calibration=dict(calibration),
        threshold=threshold["threshold"],
        promised_accuracy=threshold["promised_accuracy"],
        confidence=threshold["confidence"],
        sets=dict(sets),
        familiarity=dict(familiarity),
        statements=tuple(
            part["statement"] for part in (calibration, threshold, sets, familiarity) if part.get("statement")
        ),
    )
    compared = training if left_out_rows(judged).any() and not len(validation[0]) else validation
    judged = calibrate(judged, calibration)
    references = gather_references(
        network,
        images,
        splits,
        training,
        compared,
        judged,
        familiarity,
        TriedDamage.of(tried),
        calibrate(unlabelled, calibration) if len(unlabelled.columns) > 1 else unlabelled,
    )
    return Predictor(facts, references, card_text, KerasRuntime.of(calibrated_network(network, calibration)))


def check_predictor(folder: Path) -> None:
    """See, without TensorFlow, whether a folder holds a whole predictor of this program without code of its own.

    Raises:
        FileNotFoundError: When there is no predictor.
        ValueError: When it is damaged, of another form, or its network brings code of its own.
    """
    _read_facts(folder)
    _read_references(folder)
    read_keras_file(folder / KerasRuntime.FILE)
    try:
        with zipfile.ZipFile(folder / KerasRuntime.FILE) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error) as error:
        damaged = str(error)
    if damaged:
        raise ValueError(_damaged(folder, f"{KerasRuntime.FILE}, {damaged}"))


def _read_references(folder: Path) -> References:
    try:
        return References.load(folder)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(_damaged(folder, str(error))) from error


def _damaged(folder: Path, what: str) -> str:
    return f"The predictor in {folder} is damaged: {what}. Take another version, or run evaluate again."


def _digest_of(folder: Path, network: str) -> str:
    whole = hashlib.blake2b(digest_size=16)
    files = [folder / name for name in (FACTS, *References.FILES, network)]
    for file in sorted(part for place in files for part in ([place] if place.is_file() else place.rglob("*"))):
        if file.is_file():
            whole.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
            whole.update(file.read_bytes())
    return whole.hexdigest()


def _read_facts(folder: Path) -> PredictorFacts:
    if not (folder / FACTS).is_file():
        raise FileNotFoundError(
            f"There is no predictor in {folder}: {FACTS} is missing. Name the folder that holds it, such as "
            "data/06_models/predictor/<run>/predictor; a run makes one at its end: kedro run"
        )
    try:
        content = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if content.get("form") != FORM:
            raise ValueError(f"its form is {content.get('form')}, this program reads {FORM}; run evaluate again")
        return PredictorFacts.model_validate(content)
    except (ValidationError, ValueError) as error:
        raise ValueError(f"The predictor in {folder} cannot be read: {error}") from error
