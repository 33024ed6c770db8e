"""Stratified, group-aware splits, seeded, nested in the number of labels, and stable when images are added.

Groups are ranked by a digest of the seed and their name, so that a group's rank does not depend on the other images. In
the order of the ranking, groups go to the test side until each of their classes has its share; from its back, to the
validation side; what is left is the training side, where the first images of each class are the labelled ones and the
others `unlabelled`. Hence fewer labels are a subset of more labels, in training and in validation, and the test images
stay the same.

Sides that are given are kept: only what is missing is drawn, from the images given as training or as nothing. Images
for training only are beside all of that: they change no draw and count for no number, so that labels that were asked
for leave validation and test images as they were.

When k images that stand alone are added to a class, at most k of its former images leave the test side and at most k
join it; with `labels_per_class` set, at most 2 k training images and at most k validation images are replaced.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection

import numpy as np
import pandas as pd
from pydantic import Field

from cnn_transfer.images.listing import TRAINING_ONLY, TRAINING_TOO, UNUSED, hash_ranks, listing_table
from cnn_transfer.images.reasons import UnusableSetError
from cnn_transfer.parameters import Parameters

DRAWN_SIDES = ("test", "validation")  # drawn unless some images are given there
FREE = ""
SPLITS = ("training", "validation", "test", "unlabelled", UNUSED)
UNLABELLED = "(unlabelled)"  # in counts, in place of a class
MOST_NAMED = 5  # classes of one shortage, and shortages, in an error


class SplitRule(Parameters):
    """How many images of each class serve for what.

    With `labels_per_class` set, images beyond the labelled ones are `unlabelled`: their labels are not used. Images
    beyond the wanted number, and those for training only, that share a group with held-out images are `unused`. With
    `validation_ratio` 0 there are no validation images, unless some are given: every label serves for training.
    """

    test_fraction: float = Field(ge=0, lt=1)
    labels_per_class: int | None = Field(ge=1)
    validation_ratio: float = Field(ge=0, le=1)  # validation images per training image

    def counts(self, images: int, draws: Collection[str] = ("test", "validation")) -> tuple[int, int, int]:
        """(test, training, validation) images to be drawn from a class.

        Args:
            images: Images of the class that may be drawn.
            draws: The sides that are drawn; the others are given.
        """
        test = round(self.test_fraction * images) if "test" in draws else 0
        rest = images - test
        if self.labels_per_class is not None:
            training = self.labels_per_class
            validation = max(1, round(training * self.validation_ratio)) if self.validation_ratio else 0
        else:
            drawn = "validation" in draws and self.validation_ratio > 0
            training = max(1, int(rest / (1 + self.validation_ratio)) if drawn else rest)
            validation = max(1, rest - training) if drawn else 0
        return test, training, validation if "validation" in draws else 0

    def shortages(self, table: pd.DataFrame) -> dict[str, str]:
        """What each class that is too small to be split has and would need.

        Args:
            table: The usable images: `label`, given `split`, `group`.
        """
        labelled = table[table["label"].notna()]
        draws = _drawn_sides(labelled)
        found = {}
        for label, images in labelled.groupby("label", sort=True):
            free = images[~images["split"].isin({*DRAWN_SIDES, TRAINING_ONLY} - set(draws))]
            test, training, validation = self.counts(len(free), draws)
            sides, groups = [n for n in (test, training, validation) if n], free["group"].nunique()
            empty = [side for side in DRAWN_SIDES if side not in draws and not (images["split"] == side).any()]
            if sum(sides) > len(free):
                found[str(label)] = (
                    f"{len(free)} image{'' if len(free) == 1 else 's'}, needed {sum(sides)} "
                    f"({training} training + {validation} validation + {test} test)"
                )
            elif groups < len(sides):
                found[str(label)] = (
                    f"{groups} group{'' if groups == 1 else 's'}, needed {len(sides)}, since a group stays on one side"
                )
            elif empty:
                found[str(label)] = _none_given(empty[0])
        return found


def _drawn_sides(labelled: pd.DataFrame) -> list[str]:
    """The sides without a given image."""
    return [side for side in DRAWN_SIDES if not (labelled["split"] == side).any()]


def assign_splits(table: pd.DataFrame, rule: SplitRule, seed: int) -> pd.DataFrame:
    """Assign each image to training, validation, test, unlabelled or unused.

    Args:
        table: One row an image: `id`, `label` (missing: unlabelled), and optionally given `split` and `group`.
        rule: How many images serve for what.
        seed: Seed of the ranking.

    Returns:
        A table in the same order with the columns `id`, `label`, `split`, `group` (never missing).

    Raises:
        ValueError: Naming classes that have too few images, with their counts, or when there is one class only.
    """
    table = listing_table(table).reset_index(drop=True)
    table["group"] = table["group"].fillna(table["id"])
    has_label = table["label"].notna()
    names = sorted(table["label"][has_label].unique())
    if len(names) < 2:
        raise UnusableSetError(f"A classifier needs at least two classes. Found: {', '.join(names) or 'none'}.")
    if shortages := rule.shortages(table):
        raise UnusableSetError(_too_few(shortages, rule, len(names)))
    draws = _drawn_sides(table[has_label])
    given = table["split"].where(table["split"].isin({*DRAWN_SIDES, TRAINING_ONLY} - set(draws)) & has_label, FREE)
    free_of_class = table["label"][given == FREE].value_counts()
    counts = {name: rule.counts(int(free_of_class.get(name, 0)), draws) for name in names}
    side = given.where(has_label, "unlabelled").to_numpy(object)
    ranking = _ranked(table, seed)
    _draw(side, "test", ranking, table, {name: test for name, (test, _, _) in counts.items()})
    _draw(side, "validation", ranking[::-1], table, {name: validation for name, (_, _, validation) in counts.items()})
    if rule.labels_per_class is not None:
        if "validation" in draws:
            _limit(side, "validation", UNUSED, ranking[::-1], table, counts[names[0]][2])
        side[(side == FREE) & (table["split"] == TRAINING_TOO)] = TRAINING_ONLY
        side[side == FREE] = "training"
        _limit(side, "training", "unlabelled", ranking, table, rule.labels_per_class)
    side[side == FREE] = "training"
    held_out = table["group"].isin(table["group"][np.isin(side, DRAWN_SIDES)]).to_numpy()
    side[np.isin(side, ("unlabelled", TRAINING_ONLY)) & held_out] = UNUSED
    side[(side == "unlabelled") & (table["split"] == UNUSED)] = UNUSED
    side[side == TRAINING_ONLY] = "training"
    result = table[["id", "label"]].assign(split=pd.Series(side, dtype="str"), group=table["group"])
    _check_every_class(result, names, ["training", "validation"] if rule.validation_ratio else ["training"])
    return result


def check_test_images(splits: pd.DataFrame, rule: SplitRule) -> None:
    """Stop before anything is trained when test images are wanted and there is none to judge by.

    Args:
        splits: See `assign_splits`.
        rule: How many images serve for what.

    Raises:
        ValueError: With what helps.
    """
    if not rule.test_fraction or (splits["split"] == "test").any():
        return
    largest = int(splits["label"].value_counts().max())
    sides = 3 if rule.validation_ratio else 2
    enough = max(sides, math.floor(0.5 / rule.test_fraction) + 1)  # of so many the share rounds to one
    spared = "set validation_ratio to 0 and " if largest < sides else ""
    raised = f", or {spared}raise test_fraction above {0.5 / largest:.3g}" if largest > 1 else ""
    raise UnusableSetError(
        f"No image is left to test on: the largest class has {largest:,} with a label, and test_fraction "
        f"({rule.test_fraction}) of that rounds to none. Label {enough:,} images of each class{raised}."
    )


def _check_every_class(splits: pd.DataFrame, names: list[str], sides: list[str]) -> None:
    for side in sides:
        present = set(splits["label"][splits["split"] == side])
        if missing := [name for name in names if name not in present]:
            raise UnusableSetError(
                f"No {side} image is left for {', '.join(missing)}: their groups are too large to be divided. Lower "
                "test_fraction or validation_ratio, or divide the groups."
            )


def _ranked(table: pd.DataFrame, seed: int) -> np.ndarray:
    """Positions in the order of their groups' ranks, and within a group of their own."""
    groups = pd.Series(table["group"].unique())
    rank_of_group = dict(zip(groups, hash_ranks(groups, seed), strict=True))
    ranks = pd.DataFrame({"group": table["group"].map(rank_of_group), "own": hash_ranks(table["id"], seed)})
    return np.asarray(ranks.sort_values(["group", "own"]).index)


def _draw(side: np.ndarray, name: str, ranking: np.ndarray, table: pd.DataFrame, wanted: dict[str, int]) -> None:
    """Give whole groups, in order, to a side as long as that brings its classes nearer to the wanted numbers.

    A class that gets none in this way, since all its groups are too large, gives its smallest one.
    """
    labels, groups = table["label"].tolist(), table["group"].tolist()
    members: dict[str, list[int]] = {}
    for position in ranking[side[ranking] == FREE].tolist():
        members.setdefault(groups[position], []).append(position)
    need = dict(wanted)

    def take(group: str) -> None:
        side[members[group]] = name
        need.update({label: need[label] - count for label, count in Counter(labels[p] for p in members[group]).items()})

    for group, positions in members.items():
        if len(positions) == 1:  # nearly all of them; the same as below, faster
            if need[labels[positions[0]]] > 0:
                side[positions[0]] = name
                need[labels[positions[0]]] -= 1
            continue
        counts = Counter(labels[position] for position in positions)
        if sum(abs(need[label]) - abs(need[label] - count) for label, count in counts.items()) > 0:
            take(group)
    for label in (label for label, number in wanted.items() if number and need[label] == number):
        others = [
            g
            for g, positions in members.items()
            if side[positions[0]] == FREE and label in map(labels.__getitem__, positions)
        ]
        if len(others) > 1:
            take(min(others, key=lambda group: len(members[group])))


def _limit(side: np.ndarray, name: str, beyond: str, ranking: np.ndarray, table: pd.DataFrame, most: int) -> None:
    """Let a side keep the first `most` images of each class in the order of the ranking."""
    members = ranking[side[ranking] == name]
    place = table["label"].iloc[members].groupby(table["label"].iloc[members]).cumcount().to_numpy()
    side[members[place >= most]] = beyond


def _too_few(shortages: dict[str, str], rule: SplitRule, classes: int) -> str:
    """What is missing, and what helps: an empty side that was given is not filled by lower numbers."""
    beside = sorted({side for side in DRAWN_SIDES for shortage in shortages.values() if shortage == _none_given(side)})
    remedies = []
    if any(shortage not in map(_none_given, DRAWN_SIDES) for shortage in shortages.values()):
        most = "" if rule.labels_per_class is None else f"labels_per_class (now {rule.labels_per_class}), "
        fractions = f"validation_ratio ({rule.validation_ratio}) or test_fraction ({rule.test_fraction})"
        remedies.append(f"Lower {most}{fractions}, add images")
    remedies += [f"Give {side} images of each class, or none at all: then they are drawn" for side in beside]
    aside = ", or set small_classes to set_aside" if len(shortages) < classes else ""
    by_shortage: dict[str, list[str]] = {}
    for label, shortage in shortages.items():
        by_shortage.setdefault(shortage, []).append(label)
    named = [f"{_some(labels)}: {shortage}" for shortage, labels in by_shortage.items()]
    return f"Too few images in {_some(named, '; ')}. {'. '.join(remedies)}{aside}."


def _some(names: list[str], separator: str = ", ") -> str:
    """The first of many, and how many there are besides."""
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return separator.join(names[:MOST_NAMED]) + more


def _none_given(side: str) -> str:
    return f"no image in the given {side} split"


def count_splits(splits: pd.DataFrame) -> pd.DataFrame:
    """Images of each class in each split: one row a class (`UNLABELLED` for none), a column a split, and `total`."""
    labels = splits["label"].fillna(UNLABELLED)
    counts = pd.crosstab(labels, splits["split"]).reindex(columns=list(SPLITS), fill_value=0)
    counts["total"] = counts.sum(axis=1)
    return counts.rename_axis(columns=None).reset_index()
