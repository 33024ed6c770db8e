"""Explanations of single predictions, shown only together with what tests say of the method that made them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.attribution import (
    AttributionUnavailableError,
    LogitNetwork,
    grad_cam,
    integrated_gradients,
)
from cnn_transfer.evaluation.faithfulness import (
    CURVES,
    Method,
    faithfulness,
    mean_faithfulness,
    randomisation_check,
)
from cnn_transfer.evaluation.figures import (
    BASELINE_COLOUR,
    TRANSFER_COLOUR,
    Figure,
    drawable,
    new_figure,
    short_name,
    show_images,
)
from cnn_transfer.evaluation.probabilities import class_columns, counted, probabilities_of, whole_percent
from cnn_transfer.images import ImageSet
from cnn_transfer.parameters import did_you_mean

if TYPE_CHECKING:
    import keras

METHODS = {"grad_cam": "Grad-CAM", "integrated_gradients": "integrated gradients"}
SCORE_COLUMNS = [
    "method",
    "images",
    *(f"{curve}{part}" for curve in CURVES for part in ("", "_random", "_gain", "_gain_low", "_gain_high")),
    *(f"randomisation_{name}" for name in ("correlation", "correlation_low", "correlation_high")),
    "magnitude_correlation",
    "stability",
    "randomisation_passes",
    "passes",
    "statement",
]
SHOWN_COLUMNS = ["id", "label", "predicted", "probability", "correct"]
STRONGEST = 99.0  # percentile of a map's absolute values that gets the full colour: single pixels would leave it pale


@dataclass(frozen=True)
class Explanations:
    """Maps of some images, and how far their methods can be trusted.

    Attributes:
        shown: One row an image that is shown: `id`, `label`, `predicted`, `probability`, `correct`; the most confident
            mistakes first.
        maps: By method, (images shown, height, width) float32 about the predicted class; methods that cannot explain
            this network are missing.
        scores: One row a method, also one without maps: `method`, `images` (judged), `insertion`, `insertion_random`,
            `insertion_gain`, `insertion_gain_low`, `insertion_gain_high`, the same for `deletion` (a gain above 0 is
            better in both), `randomisation_correlation` with `_low` and `_high`, `magnitude_correlation`, `stability`,
            `randomisation_passes`, `passes` (both gains surely above 0, and the check passed; None where that cannot
            be said), `statement`.
        statement: What all that amounts to, for the reader.
    """

    shown: pd.DataFrame
    maps: Mapping[str, np.ndarray]
    scores: pd.DataFrame
    statement: str

    def describe(self) -> dict[str, Any]:
        """The figures without the maps, ready for JSON."""
        rows = self.scores.astype(object).where(self.scores.notna(), None)
        return {
            "statement": self.statement,
            "methods": rows.to_dict(orient="records"),
            "shown": self.shown.astype(object).to_dict(orient="records"),
        }


def explain(
    network: keras.Model,
    images: ImageSet,
    predictions: pd.DataFrame,
    methods: Sequence[str] = tuple(METHODS),
    shown: int = 8,
    judged: int = 128,
    steps: int = 16,
    path_steps: int = 16,
    seed: int = 0,
    confidence: float = 0.95,
) -> Explanations:
    """Explain some predictions, and judge the methods on others.

    Judging costs most: for each of the `judged` images about 6 × `steps` predictions a method, and for integrated
    gradients 5 × `path_steps` gradients. With the defaults 4 s for a small CNN at 28 px; a network that classifies 200
    images a second needs `judged` near 16 to be done in half a minute.

    Args:
        network: The network that made the predictions.
        images: The set that the predictions are about.
        predictions: Table of predictions. The class explained is the predicted one.
        methods: Of `METHODS`.
        shown: Images to show: up to half of them the most confident mistakes, the rest right, class after class.
        judged: Images, drawn by the seed, that the methods are judged on.
        steps: Steps of the insertion and deletion curves.
        path_steps: Gradients an image of integrated gradients.
        seed: Of all draws.
        confidence: Level of the intervals, 0-1.

    Raises:
        ValueError: When a method is unknown, the table does not fit the network or the images, or a probability or a
            score of the network is not finite.
    """
    for name in methods:
        if name not in METHODS:
            known = list(METHODS)
            raise ValueError(
                f"methods must be among {', '.join(known)}. Received: {name}. {did_you_mean(name, known)}".strip()
            )
    if predictions.empty or not methods:
        what = "No image was predicted" if predictions.empty else "No method was asked for"
        return _nothing(f"{what}: there is nothing to explain.")
    classes, probabilities = _predicted_classes(network, predictions)
    rows = images.rows_of(predictions["id"])
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(predictions), min(judged, len(predictions)), replace=False))
    pictured = _pictured(predictions, probabilities, shown, rng)
    prepared = LogitNetwork(network)
    made, scores = {}, []
    for name in methods:
        method = _method(name, path_steps)
        try:
            made[name] = method(prepared, images.pixels(rows[pictured]), classes[pictured])
        except AttributionUnavailableError as error:
            scores.append({"method": name, "statement": str(error)})
            continue
        pixels, about = images.pixels(rows[chosen]), classes[chosen]
        scores.append(_judge(name, method, prepared, pixels, about, steps, seed, confidence))
    table = predictions.iloc[pictured]
    table = pd.DataFrame(
        {
            "id": table["id"],
            "label": table["label"],
            "predicted": table["predicted"],
            "probability": probabilities[pictured],
            "correct": table["label"] == table["predicted"],
        }
    ).reset_index(drop=True)
    table = table if made else table.iloc[:0]
    score_table = pd.DataFrame(scores).reindex(columns=SCORE_COLUMNS)
    return Explanations(table, made, score_table, _statement(score_table))


def draw_explanations(images: ImageSet, explanations: Explanations) -> Figure:
    """One row an image: the image, and on it each method's map, with what its tests say above the column.

    Orange speaks for the predicted class, blue against it.
    """
    shown = explanations.shown
    if shown.empty:
        figure = new_figure(7, 0.8)
        figure.suptitle(_wrapped(explanations.statement, 90), fontsize=9, parse_math=False)
        return figure
    columns = 1 + len(explanations.maps)
    texts = [_description(row) for row in shown.to_dict("records")]
    room = max(len(line) for text in texts for line in text.splitlines())
    figure = new_figure(2.2 * columns + 0.065 * room, 1.5 * len(shown) + 1.4)
    # The layout makes room before the columns become as narrow as they are high, some pixels too little.
    figure.set_layout_engine("constrained", w_pad=0.15)
    axes = figure.subplots(len(shown), columns, squeeze=False)
    pixels = images.pixels(images.rows_of(shown["id"]))
    show_images(axes[:, 0], pixels)
    scores = {row["method"]: row for _, row in explanations.scores.iterrows()}
    for column, (name, maps) in enumerate(explanations.maps.items(), start=1):
        overlaid = [_overlaid(image, values) for image, values in zip(pixels, maps, strict=True)]
        show_images(axes[:, column], np.round(255 * np.stack(overlaid)).astype(np.uint8))
        axes[0, column].set_title(_caption(name, scores[name]), fontsize=8)
    axes[0, 0].set_title("Image\n\n\n\n", fontsize=8)
    for axis, text in zip(axes[:, 0], texts, strict=True):
        axis.text(-0.08, 0.5, text, transform=axis.transAxes, ha="right", va="center", fontsize=8, parse_math=False)
    figure.suptitle(
        "What speaks for the predicted class (orange) and against it (blue)\n"
        "Above each method: its gain over random maps, with the interval",
        fontsize=9,
    )
    return figure


def _description(row: Mapping[Hashable, Any]) -> str:
    """What stands beside an image that is explained."""
    label, predicted = (short_name(row[key]) for key in ("label", "predicted"))
    answer = "right" if row["correct"] else "wrong"
    return f"true: {label}\npredicted: {predicted}\n{whole_percent(row['probability'])} sure\n{answer}"


def _method(name: str, path_steps: int) -> Method:
    methods: dict[str, Method] = {
        "grad_cam": grad_cam,
        "integrated_gradients": partial(integrated_gradients, steps=path_steps),
    }
    return methods[name]


def _judge(
    name: str,
    method: Method,
    network: LogitNetwork,
    pixels: np.ndarray,
    classes: np.ndarray,
    steps: int,
    seed: int,
    confidence: float,
) -> dict[str, Any]:
    """One row of the scores."""
    maps = method(network, pixels, classes)
    figures = mean_faithfulness(faithfulness(network, pixels, classes, maps, steps, seed), confidence)
    check = randomisation_check(network, pixels, classes, method, seed, confidence, maps)
    lows = [figures[f"{curve}_gain_low"] for curve in CURVES]
    passes = None
    if check["passes"] is not None and None not in lows:
        passes = bool(min(lows) > 0 and check["passes"])
    gains = " and ".join(_gain(curve, figures) for curve in CURVES)
    verdict = {
        True: f"{METHODS[name]} passed its tests",
        False: f"{METHODS[name]} FAILED its tests and is not to be trusted here",
        None: f"{METHODS[name]} could not be judged",
    }[passes]
    return {
        "method": name,
        **figures,
        **{f"randomisation_{key}": check[key] for key in ("correlation", "correlation_low", "correlation_high")},
        "magnitude_correlation": check["magnitude_correlation"],
        "stability": check["stability"],
        "randomisation_passes": check["passes"],
        "passes": passes,
        "statement": f"{verdict}: {gains} over random maps as smooth, on {counted(figures['images'], 'image')}. "
        f"{check['statement']}",
    }


def _gain(curve: str, figures: Mapping[str, Any]) -> str:
    low, high = figures[f"{curve}_gain_low"], figures[f"{curve}_gain_high"]
    interval = f" ({low:+z.2f} to {high:+z.2f})" if low is not None else " (one image: no interval)"
    return f"{curve} {figures[f'{curve}_gain']:+z.2f}{interval}"


def _statement(scores: pd.DataFrame) -> str:
    return " ".join(scores["statement"])


def _caption(name: str, score: pd.Series) -> str:
    """Title of a column: the method, its gains, and whether its tests were passed."""
    lines = [METHODS[name][:1].upper() + METHODS[name][1:]]
    for curve in CURVES:
        low, high = score[f"{curve}_gain_low"], score[f"{curve}_gain_high"]
        ends = "" if pd.isna(low) else f" ({low:+z.2f} to {high:+z.2f})"
        lines.append(f"{curve} {score[f'{curve}_gain']:+z.2f}{ends}")
    check, passes = score["randomisation_passes"], score["passes"]
    lines.append("randomisation " + ("not judged" if pd.isna(check) else "passed" if check else "FAILED"))
    lines.append("not judged" if pd.isna(passes) else "tests passed" if passes else "FAILED: NOT TO BE TRUSTED")
    return "\n".join(lines)


def _overlaid(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A pale grey image with a map on it, (h, w, 3) in 0-1: mixed here, since SVG viewers mix layers differently."""
    from matplotlib.colors import to_rgb

    grey = image.mean(axis=-1, keepdims=True) / 255
    pale = np.repeat(0.25 + 0.6 * grey, 3, axis=-1)
    strongest = np.percentile(np.abs(values), STRONGEST) or np.abs(values).max()
    strength = np.clip(np.abs(values) / strongest, 0, 1)[..., None] if strongest else np.zeros((*values.shape, 1))
    colour = np.where(values[..., None] >= 0, to_rgb(BASELINE_COLOUR), to_rgb(TRANSFER_COLOUR))
    return np.asarray((1 - 0.85 * strength) * pale + 0.85 * strength * colour)


def _predicted_classes(network: keras.Model, predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Class index of each prediction and its probability."""
    names = class_columns(predictions)
    if network.output_shape[-1] != len(names):
        raise ValueError(
            f"The network has {network.output_shape[-1]} classes, the predictions have {len(names)}. Run evaluate "
            "again, so that both have one version."
        )
    values = probabilities_of(predictions, names)
    classes = pd.Index(names).get_indexer(pd.Index(predictions["predicted"]))
    if (unknown := classes < 0).any():
        raise ValueError(
            f"Predicted classes must be among {', '.join(names)}. Received: "
            f"{predictions['predicted'][unknown].iloc[0]}."
        )
    return np.asarray(classes), values[np.arange(len(values)), classes]


def _pictured(predictions: pd.DataFrame, probabilities: np.ndarray, shown: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of the images to show: the most confident mistakes, then right ones, class after class."""
    right = (predictions["label"] == predictions["predicted"]).to_numpy(bool)
    wrong = np.flatnonzero(~right)
    wrong = wrong[np.argsort(-probabilities[wrong], kind="stable")]
    drawn = pd.Series(rng.permutation(np.flatnonzero(right)))
    turn = drawn.groupby(predictions["label"].to_numpy()[drawn]).cumcount()
    hits = drawn.iloc[np.argsort(turn, kind="stable")].to_numpy()
    n_wrong = min(len(wrong), max(shown // 2, shown - len(hits)))
    return np.concatenate([wrong[:n_wrong], hits[: shown - n_wrong]]).astype(int)


def _nothing(statement: str) -> Explanations:
    return Explanations(pd.DataFrame(columns=SHOWN_COLUMNS), {}, pd.DataFrame(columns=SCORE_COLUMNS), statement)


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(drawable(text), width))
