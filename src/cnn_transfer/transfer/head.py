"""The head that is transferred to: which depths it reads, how finely, and what it knows out of sample.

Everything is decided on the labelled training images, each judged by a head that has not seen it. The same decisions on
features of random weights say what the method brings without any knowledge; with permuted labels, what chance brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from threadpoolctl import threadpool_limits

from cnn_transfer.images import Augmentation, class_names
from cnn_transfer.parameters import Parameters, did_you_mean
from cnn_transfer.transfer.depths import TapChoice, choose_taps, draw_images, knn_accuracy, score_taps
from cnn_transfer.transfer.features import FeatureSet
from cnn_transfer.transfer.groups import mean_and_error
from cnn_transfer.transfer.probe import ClassShares, Probe, fit_probe
from cnn_transfer.transfer.ridge import class_targets, fit_ridge
from cnn_transfer.transfer.standardised import Rows, Standardised, standardisation

EQUAL_ERRORS = 0.25  # of a standard error of the paired difference: fewer cells are as good
MOST_EQUATIONS_ALONE = 3000  # larger systems gain by more threads
MOST_COPIES = 5000  # in all; with many labelled images there are fewer copies of each


class HeadRule(Parameters):
    """What a head may read, and what it may learn from."""

    taps: tuple[str, ...] | None = Field(min_length=1)  # names of layers; None: chosen on left-out images
    grids: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field(min_length=1)  # cells a side; the better one is taken
    depth_steepness: float = Field(ge=0, le=24)  # how much more deep layers are expected to weigh; see `choose_taps`
    copies: int = Field(ge=0, le=50)  # moved copies of each training image
    augmentation: Augmentation  # how far they are moved
    most_unlabelled: int | None = Field(ge=0)  # images without a label; None: all there are, 0: none
    class_shares: ClassShares  # of the images without a label

    @model_validator(mode="after")
    def _copies_are_not_mixed(self) -> HeadRule:
        mixed = self.augmentation.mixup_alpha, self.augmentation.cutmix_alpha
        if any(mixed):
            raise ValueError(
                "augmentation.mixup_alpha and cutmix_alpha must be 0, since a copy keeps the label of its image; they "
                f"are {mixed[0]:g} and {mixed[1]:g}"
            )
        return self

    def of_random_weights(self) -> HeadRule:
        """The rule for weights that know nothing, of which nothing is expected at any depth."""
        return self.model_copy(update={"depth_steepness": 0.0})

    def copies_of(self, images: int) -> int:
        """Copies of each of so many labelled images."""
        return min(self.copies, MOST_COPIES // max(1, images))


@dataclass(frozen=True)
class Head:
    """A head that was fitted in closed form, and why it is as it is.

    Attributes:
        taps: Names of the layers that it reads, from shallow to deep.
        tap_weights: (taps,) mean 1: how much each may say before the ridge decides; see `choose_taps`.
        grid: Cells a side that each is averaged over.
        probe: Its weights, calibrated, and its errors on left-out images.
        hits: (images,) whether each labelled image is classified right when it is left out with its group.
        least_errors: Squared error of each of at most `depths.MOST_IMAGES` labelled images when it is left out, times
            its weight (see `class_weights`), by the best depths and grid that were tried, also where fewer depths are
            read.
        steps: One row a set of taps that was tried, and a column `grid`; see `TapChoice.evidence`. `chosen`: one True,
            what the head reads.
        alone: One row a tap: `tap`, `loss`, `accuracy` of a head on it alone.
        neighbours: Accuracy of the nearest neighbours' vote on the same features.
        permuted: Accuracy on left-out images, at most `depths.MOST_IMAGES`, when the labels are permuted.
        drawn: (at most `depths.MOST_IMAGES`,) class of each image that the depths were chosen on.
        groups: (images,) the number of each one's group, with which it was left out; None: each by itself.
        least_groups: The same of the images of `least_errors`.
        lone: Labelled images whose class has no other group: without them it is unknown, so that they are never right.
        unlabelled: Images without a label that there are; `HeadRule.most_unlabelled` may let fewer take part.
        learnt_unlabelled: Ids of those that the head has learnt from, in the order of `Probe.unlabelled`.
    """

    taps: tuple[str, ...]
    tap_weights: np.ndarray
    grid: int
    probe: Probe
    hits: np.ndarray
    least_errors: np.ndarray
    steps: pd.DataFrame
    alone: pd.DataFrame
    neighbours: float
    permuted: float
    drawn: np.ndarray
    groups: np.ndarray | None = None
    least_groups: np.ndarray | None = None
    lone: int = 0
    unlabelled: int = 0
    learnt_unlabelled: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """On left-out images."""
        return float(self.hits.mean())

    @property
    def blind(self) -> bool:
        """Whether left-out images say nothing, since every class is unknown without them."""
        return self.lone == len(self.hits)

    def gain_over(self, other: Head) -> tuple[float, float]:
        """Difference of accuracies on the same left-out images, and its standard error."""
        return mean_and_error(self.hits.astype(float) - other.hits, self.groups)

    def describe(self) -> dict[str, Any]:
        """Figures for the plan."""
        return {
            "accuracy": self.accuracy,
            "standard_error": mean_and_error(self.hits.astype(float), self.groups)[1],
            "loss": float(self.probe.path["error"].min()),
            "nearest_neighbours": self.neighbours,
            "permuted_labels": self.permuted,
            "images": len(self.hits),
            "lone_images": self.lone,
            "depths_chosen_on": {
                "images": len(self.drawn),
                "classes": len(np.unique(self.drawn)),
                "accuracy": float(self.steps["accuracy"][self.steps["chosen"]].iloc[0]),
            },
            "self_training": self.probe.evidence,
        }


def choose_head(features: FeatureSet, splits: pd.DataFrame, rule: HeadRule, seed: int) -> Head:
    """Decide which depths the head reads and how finely, and fit it.

    Depths are chosen in one thread, and all is done in one unless both images and features are many: hundreds of small
    systems are solved, for which the threads of OpenBLAS wait for one another in loops. On cores that others use, too,
    that made a system of 512 equations take 570 ms instead of 5.

    Args:
        features: Of the training images with their copies, and of unlabelled images.
        splits: Table of splits; `training` and `unlabelled` are read, nothing else.
        rule: What the head may read and learn from.
        seed: Of draws among many images, of folds, and of the permutation of labels.

    Raises:
        ValueError: When a tap asked for is not one of the network's, or when fewer than two classes have images.
    """
    ids, classes, groups = labelled(splits)
    if classes.max(initial=0) == 0:
        raise ValueError(
            f"A head needs labelled training images of at least two classes. Received: {len(classes)} images of "
            f"{', '.join(class_names(splits)) or 'none'}."
        )
    copies = 1 + features.copies
    grids, wished = _wished(features, rule)
    drawn = draw_images(classes, seed)  # all depths are read of these alone: of many images they are gigabytes
    some, some_classes, some_groups = ids.iloc[drawn], classes[drawn], groups[drawn]
    with _threads(1):
        choices = {
            grid: choose_taps(
                features.of(some, wished, grid),
                some_classes,
                features.widths_of(wished, grid),
                wished,
                seed=seed,
                groups=some_groups,
                steepness=rule.depth_steepness,
            )
            for grid in grids
        }
    grid, best = choose_grid(choices)
    taps = wished if rule.taps else choices[grid].names
    weights = np.ones(len(wished)) if rule.taps else choices[grid].weights
    widths = features.widths_of(taps, grid)
    everything, pool = features.of(ids, taps, grid, copies=True), pool_of(features, splits)
    with _threads(1 if min(everything.shape) <= MOST_EQUATIONS_ALONE else None):
        probe = fit_probe(
            everything,
            classes,
            widths,
            features.of(pool, taps, grid),
            copies,
            rule.class_shares,
            seed=seed,
            groups=groups,
            tap_weights=weights,
            unlabelled_groups=_group_numbers(splits)[pool].to_numpy(),
        )
        neighbours = knn_accuracy(everything, classes, widths, copies, groups=groups, weights=weights, judged=drawn)
    with _threads(1):
        alone = score_taps(
            features.of(some, features.taps, grid),
            some_classes,
            features.widths_of(features.taps, grid),
            features.taps,
            seed=seed,
            groups=some_groups,
        )
        permuted = _permuted_accuracy(features.of(some, taps, grid), some_classes, widths, weights, seed, some_groups)
    steps = pd.concat([choice.evidence.assign(grid=size) for size, choice in choices.items()], ignore_index=True)
    asked = ~steps.duplicated("grid")  # all of them, weighing the same, whatever would do as well
    steps["chosen"] = steps["grid"].eq(grid) & (asked if rule.taps else steps["chosen"])
    return Head(
        taps=tuple(taps),
        tap_weights=weights,
        grid=grid,
        probe=probe,
        hits=probe.left_out.argmax(axis=1) == classes,
        least_errors=min((choice.least for choice in choices.values()), key=np.mean),
        steps=steps,
        alone=alone,
        neighbours=neighbours,
        permuted=permuted,
        drawn=some_classes,
        groups=groups,
        least_groups=best.groups,
        lone=int((pd.Series(groups).groupby(classes).transform("nunique") == 1).sum()),
        unlabelled=int((splits["split"] == "unlabelled").sum()),
        learnt_unlabelled=tuple(pool[: len(probe.unlabelled)]),
    )


def _threads(number: int | None) -> threadpool_limits:
    """So many for linear algebra; None: as many as there are."""
    return threadpool_limits(number, user_api="blas")


def choose_grid(choices: Mapping[int, TapChoice]) -> tuple[int, TapChoice]:
    """The fewest cells a side whose errors on left-out images are as good as the best, and the best choice.

    Args:
        choices: By cells a side, each made on the same images.
    """
    best = min(choices.values(), key=lambda choice: choice.errors.mean())
    rounding = 1e-9 * best.errors.mean()  # a network too small for finer cells has the same features
    for grid in sorted(choices):
        mean, error = mean_and_error(choices[grid].errors - best.errors, choices[grid].groups)
        if mean <= EQUAL_ERRORS * error + rounding:
            break
    return grid, best


def labelled(splits: pd.DataFrame) -> tuple[pd.Series, np.ndarray, np.ndarray]:
    """Ids of the training images, the class index of each, and the number of its group."""
    training = splits[splits["split"] == "training"]
    classes = pd.Index(class_names(splits)).get_indexer(pd.Index(training["label"]))
    return training["id"], np.asarray(classes), _group_numbers(splits)[training["id"]].to_numpy()


def _group_numbers(splits: pd.DataFrame) -> pd.Series:
    """By id, the number of each image's group: its own where the table knows none."""
    return pd.Series(pd.factorize(splits["group" if "group" in splits else "id"])[0], index=splits["id"])


def pool_of(features: FeatureSet, splits: pd.DataFrame) -> pd.Series:
    """Ids of the unlabelled images that there are features of, in an order that says nothing about their class."""
    pool = splits["id"][(splits["split"] == "unlabelled") & splits["id"].isin(features.table["id"])]
    return pool.sort_values().sample(frac=1, random_state=0)


def _wished(features: FeatureSet, rule: HeadRule) -> tuple[Sequence[int], Sequence[str]]:
    taps = features.taps if rule.taps is None else tuple(name for name in features.taps if name in rule.taps)
    unknown = set(rule.taps or ()) - set(features.taps)
    if unknown:
        raise ValueError(
            f"taps must be among {', '.join(features.taps)} (shallow to deep). Received: {', '.join(sorted(unknown))}. "
            + did_you_mean(min(unknown), list(features.taps)).strip()
        )
    return [grid for grid in features.widths if grid in rule.grids], taps


def _permuted_accuracy(
    features: Rows,
    classes: np.ndarray,
    widths: Sequence[int],
    weights: np.ndarray,
    seed: int,
    groups: np.ndarray,
) -> float:
    """What the same ridge has of left-out images when the labels mean nothing."""
    permuted = np.random.default_rng(seed).permutation(classes)
    rows = Standardised(features, *standardisation(features, widths, weights))
    fit = fit_ridge(rows, class_targets(permuted, classes.max() + 1), groups=groups)
    return float((fit.left_out.argmax(axis=1) == permuted).mean())
