"""The card of a model in Markdown, in the form of Hugging Face: a front matter for programs, text for people.

The fields of the front matter are those of https://huggingface.co/docs/hub/model-cards (`model-index` as in Papers with
Code); the sections follow Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv 1810.03993).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from cnn_transfer.evaluation.calibration import NONE
from cnn_transfer.evaluation.probabilities import confidence_text, counted, percent_text
from cnn_transfer.evaluation.report.blocks import page_environment, share
from cnn_transfer.images import ImageFormat

RANDOM_WEIGHTS = "random weights"  # where a network comes from that nothing was transferred to
METRICS = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "balanced_accuracy": "Balanced accuracy"}
MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\|`*_<>[]#$~&"} | {"\n": " "})


def write_model_card(
    card: Mapping[str, Any],
    metrics: Mapping[str, Any],
    per_class: pd.DataFrame,
    summary: Mapping[str, Any],
    calibration: Mapping[str, Any] | None = None,
    out_of_scope: Sequence[str] = (),
) -> str:
    """The card of the delivered network.

    Args:
        card: Its card.
        metrics: Its metrics on the test images, calibrated.
        per_class: Its table by class, of the same predictions.
        summary: The summary of the run.
        calibration: What makes its probabilities honest, see `evaluation.fit_calibration`; None: not said.
        out_of_scope: See `limits_of_use`; empty: not said.
    """
    name = f"{card['architecture']} for {card['trained_on']}"
    return (
        page_environment(autoescape=False)
        .get_template("model_card.md.jinja")
        .render(
            front_matter=yaml.safe_dump(_front_matter(name, card, metrics), sort_keys=False, allow_unicode=True),
            name=_plain(name),
            file="delivered_model.keras",
            card={
                **card,
                **{key: _plain(card[key]) for key in ("architecture", "trained_on", "initialised_from", "strategy")},
                "class_names": [_plain(label) for label in card["class_names"]],
            },
            training_images=counted(summary["n_train"], "labelled training image"),
            validation_images=counted(summary["n_validation"], "validation image"),
            test_images=counted(summary["n_test"], "test image"),
            made=_how_made(card),
            is_transferred=_is_transferred(card),
            plan=_plain(summary["plan"]),
            verdict=_plain(summary["sentence"]),
            figures=[
                {"name": heading, "value": cell.text, "interval": cell.range}
                for key, heading in METRICS.items()
                if key in metrics
                for cell in [share(metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"])]
            ],
            classes=[
                {
                    "label": _plain(row["label"]),
                    "images": row["images"],
                    "recall": share(row["recall"]).text,
                    "precision": share(row["precision"]).text,
                }
                for row in per_class.to_dict("records")
            ],
            calibration=_plain(calibration["statement"]) if calibration else "",
            is_calibrated=calibration is not None and calibration["method"] != NONE,
            out_of_scope=list(out_of_scope),
            limitations=_limitations(summary, per_class),
        )
    )


def limits_of_use(
    image_format: ImageFormat | None, threshold: Mapping[str, Any], familiarity: Mapping[str, Any]
) -> list[str]:
    """What is refused or left without an answer, by the code and not by advice alone; Markdown.

    Args:
        image_format: How images are read; None: not known.
        threshold: See `evaluation.choose_threshold`.
        familiarity: See `evaluation.fit_familiarity`.
    """
    limits = [
        "Files that are no image of a known format, or cannot be read whole, are rejected with a reason code "
        "(`not_an_image`, `truncated`, …).",
    ]
    if image_format is not None:
        limits.append(
            f"Images with a side below {image_format.smallest_side_px} px, or of more than "
            f"{image_format.most_megapixels:g} megapixels, are rejected (`too_small`, `too_large`)."
        )
    if familiarity.get("limit") is None:
        limits.append("Nothing tells whether an image is unlike the training images: none is withheld for that.")
    else:
        limits.append(
            "Images unlike the training images get no answer (`unfamiliar`): those farther from them, by what the "
            "network sees and by how they were taken (brightness, contrast, detail, noise, colour), than all but "
            f"{100 * familiarity['false_alarm_rate']:.3g}% of ordinary images are."
        )
    if threshold["threshold"] is None:
        limits.append(
            f"No image gets an answer (`no_threshold`): the {threshold['judged_on']} show for no confidence that an "
            f"accuracy of {percent_text(threshold['wished_accuracy'])}, or one that is worth a promise, is kept."
        )
    elif threshold["threshold"] == 0:
        limits.append(
            "No image is withheld because the model is unsure of it: over all images an accuracy of "
            f"{percent_text(threshold['promised_accuracy'])} is promised."
        )
    else:
        limits.append(
            f"Images of which the model is less than {confidence_text(threshold['threshold'])} sure get no answer "
            f"(`unsure`); above it an accuracy of {percent_text(threshold['promised_accuracy'])} is promised."
        )
    return [*limits, "A model file that brings code of its own is not opened."]


def _front_matter(name: str, card: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the hub reads; its metrics are numbers in 0-1."""
    kinds = {"accuracy": "accuracy", "macro_f1": "f1"}
    found = [
        {"type": kind, "name": METRICS[key], "value": round(float(metrics[key]), 6)}
        for key, kind in kinds.items()
        if metrics.get(key) is not None
    ]
    dataset = {"name": card["trained_on"], "type": card["trained_on"], "split": "test"}
    return {
        "license": str(card["licence"]).lower(),
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", *["transfer-learning"] * _is_transferred(card), "cnn-transfer"],
        "datasets": [card["trained_on"]],
        "metrics": [entry["type"] for entry in found],
        "model-index": [
            {
                "name": name,
                "results": [{"task": {"type": "image-classification"}, "dataset": dataset, "metrics": found}],
            }
        ],
    }


def _is_transferred(card: Mapping[str, Any]) -> bool:
    """Whether it holds weights of a source; what is delivered may be a network that the transfer is compared with."""
    return not card["initialised_from"].startswith(RANDOM_WEIGHTS)


def _how_made(card: Mapping[str, Any]) -> str:
    if _is_transferred(card):
        return "made by transfer learning"
    if card["initialised_from"] == RANDOM_WEIGHTS:
        return "trained from scratch"
    return "made from random weights by the method of transfer learning"


def _limitations(summary: Mapping[str, Any], per_class: pd.DataFrame) -> list[str]:
    weakest = per_class[per_class["recall"] < 1].nsmallest(3, "recall").to_dict("records")
    named = ", ".join(f"{_plain(row['label'])} ({share(row['recall']).text})" for row in weakest)
    return [
        f"Trained on {counted(summary['n_train'], 'labelled image')}; those from another camera, place or time may be "
        "recognised less well than the figures say.",
        f"Classes recognised least well: {named}."
        if weakest
        else "No test image is mistaken: none says which class is recognised least well.",
        "The intervals hold for test images drawn like these; they do not cover another training of the model.",
        *map(_plain, summary["statements"]),
    ]


def _plain(text: Any) -> str:
    """Text that Markdown takes as it is."""
    return str(text).translate(MARKDOWN)
