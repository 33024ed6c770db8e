"""Does a network say the class that the files point to, rather than what is shown?

Size and form of files may tell the class of images that were collected in different places (`images.shortcuts`). Then
accuracy on test images of the same places says nothing of whether the network learnt the place. Its mistakes do: if it
did, images of a class are taken for another one more often where their files point to that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation.intervals import Units

FEWEST_COMPARED = 5.0  # pairs of images, one whose file points to the other class and one whose does not
MOST_UNSEEN = 0.1  # that may be taken for what files point to more often, where no sign is seen


def judge_reliance(predictions: pd.DataFrame, guesses: pd.Series, confidence: float) -> dict[str, Any]:
    """How much more often images are taken for the class that their files point to than others of their class are.

    Images of class a whose files point to b are compared with those of class a whose files do not; the differences of
    all a and b are put together by the weights of Mantel and Haenszel (1959), so that no class counts that has only
    one of both. That some classes are told more easily than others makes no difference.

    Args:
        predictions: `id`, `label`, `predicted`, and perhaps `group`, which makes images of one group dependent.
        guesses: The class that the file of each image points to, by id; see `images.shortcut_guesses`.
        confidence: Level of the interval.

    Returns:
        `images` that point to another class, `compared` (how many pairs of images of a class they are worth, of which
        one points there and one does not), `said` and `said_of_others` (share taken for the class that was pointed to),
        `difference` with `_low` and `_high`, and `relies`: True where that is above 0, False where it can hardly be
        more than `MOST_UNSEEN`, None where neither can be said. Figures are None where nothing can be compared.
    """
    label, predicted = (predictions[name].astype("str").to_numpy() for name in ("label", "predicted"))
    pointed = guesses.reindex(predictions["id"]).to_numpy()
    units = Units(predictions.get("group"), len(predictions))
    influences = np.zeros(len(predictions))
    said = of_others = compared = floor = 0.0
    for own in np.unique(label):
        for other in np.unique(pointed[label == own]):
            there, not_there = (label == own) & (pointed == other), (label == own) & (pointed != other)
            if own == other or not not_there.any():
                continue
            weight = there.sum() * not_there.sum() / (label == own).sum()
            compared += weight
            for side, sign in ((there, 1), (not_there, -1)):
                count, images = int((predicted[side] == other).sum()), int(side.sum())
                share, smoothed = count / images, (count + 1) / (images + 2)  # Agresti and Caffo (2000)
                influences[side] += sign * weight * ((predicted[side] == other) - share) / images
                floor += weight**2 * smoothed * (1 - smoothed) / (images + 2)
                said, of_others = said + weight * share * (sign > 0), of_others + weight * share * (sign < 0)
    found: dict[str, Any] = {"images": int((pointed != label).sum()), "compared": float(compared)}
    figures = dict.fromkeys(("said", "said_of_others", "difference", "difference_low", "difference_high"))
    if compared < FEWEST_COMPARED:
        return found | figures | {"relies": None}
    variance = max(units.variance(influences / compared), floor / compared**2)
    difference, half = (said - of_others) / compared, units.quantile(confidence) * float(np.sqrt(variance))
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return found | {
        "said": float(said / compared),
        "said_of_others": float(of_others / compared),
        "difference": float(difference),
        "difference_low": float(low),
        "difference_high": float(high),
        "relies": True if low > 0 else False if high <= MOST_UNSEEN else None,
    }


def describe_reliance(reliance: Mapping[str, Any]) -> str:
    """The same in a sentence or two; empty where files point nowhere."""
    if not reliance:
        return ""
    would_tell = "Test images of each class from every place would tell."
    if reliance["difference"] is None:
        return (
            "Whether the network goes by size and form of the files cannot be told: hardly any test image differs in "
            f"what they point to from the others of its class. {would_tell}"
        )
    low, difference, high = (100 * reliance[f"difference{end}"] for end in ("_low", "", "_high"))
    figures = (
        f"Size and form of the files of {reliance['images']:,} test images point to another class. The network says "
        f"that class for {reliance['said']:.1%} of them, and for "
        f"{reliance['said_of_others']:.1%} of images of their classes whose files do not point there "
        f"({difference:+z.1f} points, {low:+z.1f} to {high:+z.1f}): "
    )
    if reliance["relies"]:
        return figures + "IT SEEMS TO GO BY WHERE IMAGES COME FROM, and will be wrong where that is otherwise."
    if reliance["relies"] is None:
        return figures + f"these are too few to tell whether it goes by where images come from. {would_tell}"
    return figures + "no sign that it goes by where images come from."
