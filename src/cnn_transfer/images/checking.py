"""Checks of a decoded set as a whole: copies, contradicting labels, pictures on two given sides, tiny classes.

What is set aside and what is used stay apart: an image is either in the table of checked images or in the table of
rejected ones, never in both and never in neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from cnn_transfer.images.duplicates import NearDuplicates, connected, near_pairs
from cnn_transfer.images.image_set import ImageSet
from cnn_transfer.images.listing import LISTING_COLUMNS, SIDES, rank_sides
from cnn_transfer.images.reasons import (
    EXPECTED_REASONS,
    PASSING_REASONS,
    REJECTED_COLUMNS,
    UnusableSetError,
    note_table,
)
from cnn_transfer.images.series import Series, find_series
from cnn_transfer.images.shortcuts import Shortcut, find_shortcut
from cnn_transfer.images.splits import DRAWN_SIDES, SplitRule
from cnn_transfer.parameters import Parameters, check_pattern

AUTO = "auto"


class CheckRule(Parameters):
    """What is checked, and what becomes of what is found."""

    # Regular expression on the id whose first group names what must stay on one side; "auto": what names and pixels
    # together show (`series`), which are not looked at where it is None.
    group_pattern: str | None
    near_duplicates: NearDuplicates | None  # null: not looked for
    small_classes: Literal["error", "set_aside"]
    most_set_aside: float = Field(ge=0, le=1)  # share of the listed images; with more the run stops

    @field_validator("group_pattern")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        if pattern is None or pattern == AUTO:
            return pattern
        return check_pattern(pattern, "'(patient[0-9]+)', or is 'auto' or null")


@dataclass(frozen=True)
class CheckedImages:
    """What the checks found.

    Attributes:
        table: One row a usable image, in the order of the set: `id`, `label`, given `split`, `group` (never missing).
        rejected: One row for everything that was listed and is not used: `id`, `label`, `reason`, `detail`.
        notes: One row a remark: `id`, `label`, `note`, `detail`.
        alike: Used images of which another one, of no given group with them, is a near copy.
        series: What names and pixels say of images in series, one each for series by name and by order (see
            `series.find_series`): `pattern` of the names (None: by their order), how many `images` in how many
            `series`, such as `example`; `across_classes`, `nearest` and `chance` (see `series.Series`);
            `kept_together`: whether those of one series are of one group; `held_out_seen`: images of given test and
            validation sides of whose series there are images among the others.
        shortcut: What of the files tells the class without the picture, if something does.
    """

    table: pd.DataFrame
    rejected: pd.DataFrame
    notes: pd.DataFrame
    alike: int = 0
    series: tuple[dict[str, Any], ...] = ()
    shortcut: Shortcut | None = None

    def describe(self) -> dict[str, Any]:
        """Counts: `listed`, `used`, `classes`, `grouped` (with another of their group), `alike`, `set_aside`, `notes`.

        The last two by code. And `share_set_aside` of the images; `series` and `shortcut`; `examples`: the path and
        the detail of the first image that was set aside for each reason; `similar_labels`: names of classes that differ
        only by case or white space, those of one name together.
        """
        reasons = Counter(self.rejected["reason"])
        suspicious = sum(count for reason, count in reasons.items() if reason not in EXPECTED_REASONS)
        candidates = len(self.table) + suspicious
        firsts = self.rejected.drop_duplicates("reason")
        examples = firsts["id"] + firsts["detail"].map(lambda detail: f" ({detail})" if detail else "")
        return {
            "listed": len(self.table) + len(self.rejected),
            "used": len(self.table),
            "classes": self.table["label"].nunique(),
            "grouped": int(self.table["group"].duplicated(keep=False).sum()),
            "alike": self.alike,
            "series": list(self.series),
            "shortcut": self.shortcut.describe() if self.shortcut else None,
            "set_aside": dict(reasons.most_common()),
            "notes": dict(Counter(self.notes["note"]).most_common()),
            "share_set_aside": suspicious / candidates if candidates else 1.0,
            "examples": dict(zip(firsts["reason"], examples, strict=True)),
            "similar_labels": self.notes["detail"][self.notes["note"] == "similar_labels"].unique().tolist(),
        }


def check_image_set(images: ImageSet, rule: CheckRule, split_rule: SplitRule) -> CheckedImages:
    """Set aside what must not be used, and put into one group what must stay on one side.

    The steps, each on what the one before left: unlabelled test images; exact copies and contradicting labels; groups,
    given ones joined by copies and near copies; groups on several given sides; series, which are groups on each given
    side by itself, unless a class had too few groups to be split then; classes too small to be split.
    """
    table = images.table[[*LISTING_COLUMNS, "pixel_digest"]].copy()
    verdicts = pd.DataFrame({"reason": "", "detail": ""}, index=table.index, dtype="str")
    verdicts.loc[table["label"].isna() & (table["split"] == "test"), "reason"] = "unlabelled_test"
    _judge_copies(table, verdicts)
    kept = np.flatnonzero(verdicts["reason"] == "")
    pairs = near_pairs(images, kept, rule.near_duplicates) if rule.near_duplicates else np.empty((0, 2), int)
    joined = np.concatenate([pairs, _copies(table, verdicts)])
    given = _given_groups(table, None if rule.group_pattern == AUTO else rule.group_pattern)
    table["group"] = _joined_groups(given, joined)
    _judge_leaks(table, verdicts)
    series: tuple[dict[str, Any], ...] = ()
    if rule.group_pattern == AUTO:
        left = np.flatnonzero(verdicts["reason"] == "")
        free = left[images.table["group"].isna().to_numpy()[left]]
        if found := find_series(images, free):
            joined = joined[(verdicts["reason"] != "leak").to_numpy()[joined].all(axis=1)]
            given, joined, series = _keep_together(table.iloc[left], given, joined, found, split_rule)
            table["group"] = _joined_groups(given, joined)
    if rule.small_classes == "set_aside":
        _judge_small_classes(table, verdicts, split_rule)
    is_used = verdicts["reason"] == ""
    strangers = pairs[
        is_used.to_numpy()[pairs].all(axis=1) & np.ptp(pd.factorize(given)[0][pairs], axis=1).astype(bool)
    ]
    late = pd.concat([table, verdicts], axis=1)[~is_used][REJECTED_COLUMNS]
    used, rejected = table[is_used][LISTING_COLUMNS], pd.concat([images.rejected, late], ignore_index=True)
    notes = [
        images.notes,
        _empty_notes(used, rejected, images.notes),
        _near_notes(table, pairs, is_used),
        _image_notes(images.table, is_used),
    ]
    return CheckedImages(
        table=used.reset_index(drop=True),
        rejected=rejected.astype("str"),
        notes=pd.concat(notes, ignore_index=True).astype("str"),
        alike=len(np.unique(strangers)),
        series=series,
        shortcut=find_shortcut(images.table[is_used].assign(group=table["group"]).dropna(subset="label")),
    )


def check_share(intake: Mapping[str, Any], most_set_aside: float) -> None:
    """Refuse a set of which too much was set aside.

    Args:
        intake: What `CheckedImages.describe` returned.
        most_set_aside: Share of the images.

    Raises:
        ValueError: With the counts by reason, and an example of the most frequent one that counts.
    """
    share, reasons = intake["share_set_aside"], intake["set_aside"]
    if share > most_set_aside:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        most = next((reason for reason in reasons if reason not in EXPECTED_REASONS), None)
        later = " A new run tries those that could not be read again." if PASSING_REASONS & reasons.keys() else ""
        example = f" An example of {most}: {intake['examples'][most]}." if most else ""
        raise UnusableSetError(
            f"{share:.1%} of the images were set aside, more than most_set_aside ({most_set_aside:.0%}) allows: "
            f"{counts or 'none was found'}.{example}{later} Each is listed with its reason in "
            "target_rejected_images.parquet (of a source: source_rejected_images.parquet) in 08_reporting. Mend them, "
            "name the files that are meant in a manifest, or raise most_set_aside."
        )


def _judge_copies(table: pd.DataFrame, verdicts: pd.DataFrame) -> None:
    """Of exact copies the first is used: on the test side before the others, with a label before without, by id."""
    left = table[verdicts["reason"] == ""]
    copies = left[left["pixel_digest"].duplicated(keep=False)]
    ranked = copies.assign(side=rank_sides(copies["split"]), nameless=copies["label"].isna())
    ranked = ranked.sort_values(["side", "nameless", "id"])
    for _, same in ranked.groupby("pixel_digest", sort=False):
        labels = same["label"].dropna().unique()
        if len(labels) > 1:
            verdicts.loc[same.index, "reason"] = "conflicting_labels"
            verdicts.loc[same.index, "detail"] = f"{', '.join(sorted(labels))}: {_some(same['id'])}"
            continue
        first, others = same.iloc[0], same.iloc[1:]
        leaks = others["split"].notna() & (others["side"] != first["side"])
        verdicts.loc[others.index, "reason"] = np.where(leaks, "leak", "duplicate")
        verdicts.loc[others.index, "detail"] = f"same pixels as {first['id']}" + (
            f" ({first['split']})" if pd.notna(first["split"]) else ""
        )


def _copies(table: pd.DataFrame, verdicts: pd.DataFrame) -> np.ndarray:
    """Pairs of rows, (m, 2): an exact copy that is set aside, and the one that is used; the group of both is one."""
    positions = pd.Series(np.arange(len(table)), table["pixel_digest"])
    kept = positions[(verdicts["reason"] == "").to_numpy()]
    copies = positions[verdicts["reason"].isin(["duplicate", "leak"]).to_numpy()]
    used = kept.reindex(copies.index)
    return np.stack([copies[used.notna().to_numpy()], used.dropna()], axis=1).astype(int)


def _given_groups(table: pd.DataFrame, pattern: str | None) -> pd.Series:
    """The group of each image: as given, or by the pattern, or itself."""
    given = table["group"]
    if pattern is not None:
        given = given.fillna(table["id"].str.extract(pattern, expand=True).iloc[:, 0])
    return given.where(given.isna(), "group " + given.astype("str")).fillna("image " + table["id"])


def _keep_together(
    used: pd.DataFrame, given: pd.Series, joined: np.ndarray, found: Sequence[Series], split_rule: SplitRule
) -> tuple[pd.Series, np.ndarray, tuple[dict[str, Any], ...]]:
    """Groups and pairs with those of the series, on each given side by itself, if all classes can still be split."""
    side = used["split"].where(used["split"].isin(DRAWN_SIDES), "").astype("str").reindex(given.index, fill_value="")
    described = []

    def shortages(given: pd.Series, joined: np.ndarray) -> set[str]:
        return set(split_rule.shortages(used.assign(group=_joined_groups(given, joined)[used.index])))

    for series in found:
        names = series.names.reindex(given.index)
        parts = ("series " + names + " " + side).str.rstrip()
        together = given.where(parts.isna(), parts) if series.pattern else given
        pairs = np.concatenate([joined, _chains(parts)])
        is_kept = shortages(together, pairs) == shortages(given, joined)
        if is_kept:
            given, joined = together, pairs
        sizes = names.value_counts()
        largest = str(sizes.index[0])
        members = _some(used.loc[names.index[names == largest], "id"], 2)
        described.append(
            {
                "pattern": series.pattern,
                "images": int(sizes.sum()),
                "series": len(sizes),
                "across_classes": series.across_classes,
                "example": f"{largest} ({members})" if series.pattern else members,
                "nearest": series.nearest,
                "chance": series.chance,
                "held_out_seen": int(names[side != ""].dropna().isin(names[side == ""].dropna()).sum()),
                "kept_together": is_kept,
            }
        )
    return given, joined, tuple(described)


def _chains(names: pd.Series) -> np.ndarray:
    """Pairs of positions, (m, 2), that join all of one name, each with the next."""
    codes = pd.factorize(names)[0]
    order = np.argsort(codes, kind="stable")
    pairs = np.stack([order[:-1], order[1:]], axis=1)
    one, other = codes[pairs].T
    return np.asarray(pairs[(one == other) & (one >= 0)])


def _joined_groups(given: pd.Series, pairs: np.ndarray) -> pd.Series:
    """Groups joined over pairs of images; the name is the first one's."""
    codes, unique = pd.factorize(given)
    components = connected(codes[pairs], len(unique))
    first_name = pd.Series(unique).groupby(components).min()
    return pd.Series(first_name.loc[components[codes]].to_numpy(), given.index, dtype="str")


def _judge_leaks(table: pd.DataFrame, verdicts: pd.DataFrame) -> None:
    """Of a group on several given sides only the images on the foremost side stay."""
    if table["split"].isna().all():
        return
    used = table[verdicts["reason"] == ""]
    # Where sides are given, the others are drawn from the rest.
    side = rank_sides(used["split"]).clip(upper=SIDES.index("training"))
    foremost = side.groupby(used["group"]).transform("min")
    leaks = used[side > foremost]
    verdicts.loc[leaks.index, "reason"] = "leak"
    verdicts.loc[leaks.index, "detail"] = [
        f"of one group with images on the {SIDES[int(keeper)]} side ({group})"
        for group, keeper in zip(leaks["group"], foremost[leaks.index], strict=True)
    ]


def _judge_small_classes(table: pd.DataFrame, verdicts: pd.DataFrame, split_rule: SplitRule) -> None:
    used = table[verdicts["reason"] == ""]
    for label, shortage in split_rule.shortages(used).items():
        members = used.index[used["label"] == label]
        verdicts.loc[members, "reason"] = "small_class"
        verdicts.loc[members, "detail"] = shortage


def _image_notes(table: pd.DataFrame, is_used: pd.Series) -> pd.DataFrame:
    noted = table[is_used & (table["notes"] != "")]
    rows = noted.assign(note=noted["notes"].str.split(" "), detail="").explode("note")
    return rows[["id", "label", "note", "detail"]]


def _empty_notes(used: pd.DataFrame, rejected: pd.DataFrame, noted: pd.DataFrame) -> pd.DataFrame:
    """One note a class of which nothing is used, unless that is said already."""
    lost = rejected[rejected["label"].notna() & ~rejected["label"].isin(used["label"].unique())]
    said = {*lost["label"][lost["reason"] == "small_class"], *noted["label"][noted["note"] == "empty_class"]}
    reasons = lost.groupby("label")["reason"].agg(lambda found: ", ".join(sorted(found.unique())))
    return note_table(
        [("", str(label), "empty_class", f"all {why}") for label, why in reasons.items() if label not in said]
    )


def _near_notes(table: pd.DataFrame, pairs: np.ndarray, is_used: pd.Series) -> pd.DataFrame:
    """One note an image for its nearest pair; pairs with two labels come first, for somebody to look at."""
    pairs = pairs[is_used.to_numpy()[pairs].all(axis=1)]
    labels, names = table["label"].to_numpy(), table["id"].to_numpy()
    rows: dict[str, tuple[str, str, str, str]] = {}
    for one, other in pairs:
        differ = pd.notna(labels[one]) and pd.notna(labels[other]) and labels[one] != labels[other]
        note = "near_duplicate_other_label" if differ else "near_duplicate"
        detail = f"{names[other]}" + (f" ({labels[other]})" if differ else "")
        if names[one] not in rows or differ:
            rows[names[one]] = (names[one], labels[one], note, detail)
    return note_table(sorted(rows.values(), key=lambda row: row[2], reverse=True))


def _some(names: pd.Series, most: int = 5) -> str:
    listed = ", ".join(names.iloc[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
