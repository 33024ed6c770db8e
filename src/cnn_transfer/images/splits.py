"""Stratified, seeded splits that are nested in the number of labels.

Within each class the images are ranked by a digest of the seed and their id, so that an image's rank does not depend on
the other images. From the front of the ranking come the test images, then the training images; the validation images
come from its back. Hence fewer labels are a subset of more labels, in training and in validation, and the test
images stay the same.
"""

from __future__ import annotations

import hashlib

import pandas as pd
from pydantic import Field

from cnn_transfer.images.image_set import ImageSet
from cnn_transfer.parameters import Parameters

SPLITS = ("training", "validation", "test", "unlabelled")


class SplitRule(Parameters):
    """How many images of each class serve for what.

    With `labels_per_class` set, images beyond the labelled ones are `unlabelled`: their labels are not used.
    """

    test_fraction: float = Field(ge=0, lt=1)
    labels_per_class: int | None = Field(ge=1)
    validation_ratio: float = Field(gt=0, le=1)  # validation images per training image

    def counts(self, images: int) -> tuple[int, int, int]:
        """(test, training, validation) images that a class with so many images should have."""
        test = round(self.test_fraction * images)
        if self.labels_per_class is None:
            training = max(1, int((images - test) / (1 + self.validation_ratio)))
            return test, training, max(1, images - test - training)
        return test, self.labels_per_class, max(1, round(self.labels_per_class * self.validation_ratio))


def assign_splits(images: ImageSet, rule: SplitRule, seed: int) -> pd.DataFrame:
    """Assign each image to training, validation, test or unlabelled.

    Returns:
        A table in the order of the set with the columns `id`, `label`, `split`.

    Raises:
        ValueError: Naming each class that has too few images, with its counts, or when there is one class only.
    """
    if len(images.class_names) < 2:
        raise ValueError(f"A classifier needs at least two classes. Found: {', '.join(images.class_names)}.")
    table = images.table[["id", "label"]].copy()
    table["split"] = "unlabelled"
    table["rank"] = [hashlib.blake2b(f"{seed}:{image_id}".encode(), digest_size=8).digest() for image_id in table["id"]]
    too_small = []
    for label, ranked in table.sort_values("rank").groupby("label", sort=True):
        test, training, validation = rule.counts(len(ranked))
        if test + training + validation > len(ranked):
            too_small.append(
                f"{label}: {len(ranked)} images, needed {test + training + validation} "
                f"({training} training + {validation} validation + {test} test)"
            )
            continue
        table.loc[ranked.index[:test], "split"] = "test"
        table.loc[ranked.index[test : test + training], "split"] = "training"
        table.loc[ranked.index[len(ranked) - validation :], "split"] = "validation"
    if too_small:
        raise ValueError(
            "Too few images in "
            + "; ".join(too_small)
            + f". Lower labels_per_class (now {rule.labels_per_class}), validation_ratio ({rule.validation_ratio}) or "
            f"test_fraction ({rule.test_fraction}), or add images."
        )
    return table.drop(columns="rank")


def count_splits(splits: pd.DataFrame) -> pd.DataFrame:
    """Images of each class in each split: one row a class, one column a split, and `total`."""
    counts = pd.crosstab(splits["label"], splits["split"]).reindex(columns=list(SPLITS), fill_value=0)
    counts["total"] = counts.sum(axis=1)
    return counts.rename_axis(columns=None).reset_index()
