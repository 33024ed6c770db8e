"""Can the class be told from the files, without looking at the picture? Then a network may have learnt that instead.

Images of different classes that were collected in different places often differ in size, format or colours, and what a
network learns of them may be where they come from ("shortcut learning", Geirhos et al., Nature Machine Intelligence
2020): test images of the same places do not show it. What is read of the files here is nothing that tells a class by
itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.images.image_set import ImageSet

MOST_IMAGES = 5000  # that are looked at
MOST_OF_A_GROUP = 20  # where there are hundreds
FEWEST_GROUPS = 5  # of a class that takes part
FOLDS = 5
EIGHTHS = 8
FEWEST_IN_LEAF = 5
LEAST_GAIN = 0.25  # of what is missing to certainty by chance
LEAST_ERRORS = 4.0  # standard errors above chance
COMMON_FORMS = 0.02  # share of the images that have one
POINT_TO = "size_and_form_of_the_file_point_to"


@dataclass(frozen=True)
class Shortcut:
    """What of the files tells the class.

    Attributes:
        by: `size` (width, height) or `form` (extension, colours, orientation: the codes of `reasons.NOTES`).
        accuracy: Share of left-out images whose class a decision tree tells from it, every class counting the same.
        chance: One over the number of classes.
        smallest: The class with the smallest images in the middle, and its median width and height in pixels.
        largest: The class with the largest ones.
    """

    by: str
    accuracy: float
    chance: float
    smallest: tuple[str, int, int]
    largest: tuple[str, int, int]

    def describe(self) -> dict[str, Any]:
        """As it is written into JSON."""
        return asdict(self)


def find_shortcut(table: pd.DataFrame, seed: int = 0) -> Shortcut | None:
    """What of the files tells the class best; None where nothing tells it well.

    Args:
        table: Labelled images: `id`, `label`, `group`, `width_px`, `height_px`, `notes`; see `ImageSet.table`.
        seed: Of the sample of large sets, and of the folds.
    """
    groups = table.groupby("label")["group"].nunique()
    table = table[table["label"].isin(groups.index[groups >= FEWEST_GROUPS])]
    number = pd.factorize(table["group"])[0]
    rng = np.random.default_rng(seed)
    rank = rng.permutation(number.max(initial=0) + 1)[number]
    # Of few and large groups some of each, so that there are groups to leave out.
    most = max(MOST_OF_A_GROUP, MOST_IMAGES // max(1, len(np.unique(number))))
    turn = pd.Series(rng.permutation(len(table))).groupby(number).rank(method="first").to_numpy()
    kept = np.flatnonzero(turn <= most)
    chosen = np.sort(kept[np.argsort(rank[kept], kind="stable")[:MOST_IMAGES]])
    table, folds = table.iloc[chosen], rank[chosen] % FOLDS
    names = table["label"].unique()
    if len(names) < 2:
        return None
    found = [
        (_judge(features, table, folds), by) for by, features in _features(table).items() if _may_tell(features, table)
    ]
    accuracy, by = max(found, default=(0.0, ""))
    chance = 1 / len(names)
    if not accuracy:
        return None
    sizes = table.groupby("label")[["width_px", "height_px"]].median()
    order = sizes.prod(axis=1).sort_values(kind="stable").index
    return Shortcut(by, accuracy, chance, _middle(sizes, order[0]), _middle(sizes, order[-1]))


def _middle(sizes: pd.DataFrame, name: str) -> tuple[str, int, int]:
    width, height = sizes.loc[name].to_numpy(int)
    return name, int(width), int(height)


def shortcut_guesses(images: ImageSet, splits: pd.DataFrame) -> pd.DataFrame:
    """The class that size and form of each test image point to, where they tell the class of training images.

    Args:
        images: The set.
        splits: `id`, `label`, `split`, `group` of its images.

    Returns:
        `id` of the labelled test images, and the column `POINT_TO`; it is not there where size and form tell nothing.
    """
    table = images.table[["id", "width_px", "height_px", "notes"]].merge(splits, on="id")
    known, asked = (table[table["split"].isin(sides)] for sides in (["training", "validation"], ["test"]))
    if (shortcut := find_shortcut(known)) is None:
        return asked[["id"]]
    features = _features(known)[shortcut.by]
    tree = _tree().fit(features.to_numpy(), known["label"])
    of_test = _all_features(asked)[shortcut.by].reindex(columns=features.columns, fill_value=0.0)
    return asked[["id"]].assign(**{POINT_TO: tree.predict(of_test.to_numpy())})


def _features(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Numbers that a tree may ask for, by kind; without those that are the same for all images, or nearly all."""
    found = _all_features(table)
    common = found["form"].mean().between(COMMON_FORMS, 1 - COMMON_FORMS)
    return {"size": found["size"].loc[:, found["size"].nunique() > 1], "form": found["form"].loc[:, common]}


def _all_features(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    width, height = table["width_px"].astype(float), table["height_px"].astype(float)
    size = pd.DataFrame({"width": width, "height": height, "longer": width / height, "pixels": width * height})
    extension = table["id"].str.extract(r"(\.[A-Za-z0-9]{1,5})$", expand=False).str.lower().fillna("")
    form = pd.concat([pd.get_dummies(extension), table["notes"].str.get_dummies(" ")], axis=1).astype(float)
    return {"size": size, "form": form}


def _may_tell(features: pd.DataFrame, table: pd.DataFrame) -> bool:
    """Whether it is worth a closer look, which needs scikit-learn and that a second to be there.

    It is not where cells of two features, each by its eighths, tell too little even of the images that named them.
    """
    cells = [(features[name].rank(pct=True) * EIGHTHS).astype(int) for name in features]
    pairs = combinations(cells, 2) if len(cells) > 1 else [(one, one) for one in cells]
    chance = 1 / table["label"].nunique()
    for one, other in pairs:
        counts = pd.crosstab(table["label"], one * (EIGHTHS + 1) + other, normalize="index")
        if counts.max().sum() / len(counts) >= chance + LEAST_GAIN * (1 - chance):
            return True
    return False


def _judge(features: pd.DataFrame, table: pd.DataFrame, folds: np.ndarray) -> float:
    """Share of left-out images whose class is told, every class counting the same; 0 where that may be chance."""
    labels, told = table["label"].to_numpy(), np.empty(len(table), object)
    for fold in range(FOLDS):
        left_out = folds == fold
        told[left_out] = _tree().fit(features[~left_out], labels[~left_out]).predict(features[left_out])
    right = pd.Series(told == labels, table.index, dtype=float)
    by_class = right.groupby(table["label"])
    accuracy, chance = float(by_class.mean().mean()), 1 / by_class.ngroups
    off = (right - by_class.transform("mean")).groupby([table["label"], table["group"]]).sum()
    variances = (off**2).groupby(level=0).sum() / by_class.size() ** 2
    error = float(np.sqrt(variances.sum())) / by_class.ngroups
    gain = (accuracy - chance) / (1 - chance)
    return accuracy if gain >= LEAST_GAIN and accuracy - chance >= LEAST_ERRORS * error else 0.0


def _tree() -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(min_samples_leaf=FEWEST_IN_LEAF, class_weight="balanced", random_state=0)
