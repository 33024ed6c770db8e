"""The release before a new one, and what both say of the test images that neither has seen.

The release before is the champion, the one to be made the challenger. Test images that the champion was made with
(trained or validated on, or used without their label), and those whose group holds such an image, are left out; so are
those of classes that it cannot know. `challenge` decides what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from cnn_transfer.images import ImageFormat, ImageSet
from cnn_transfer.images.decoding import decode_image
from cnn_transfer.prediction import Predictor

CHUNK = 256  # images in memory at once
JUDGED_COLUMNS = [
    "id", "label", "group", "predicted", "confidence", "withheld",
    "champion_predicted", "champion_confidence", "champion_withheld",
]  # fmt: skip


@dataclass(frozen=True)
class Champion:
    """The release before.

    Attributes:
        version: Name of its version; empty: there is none.
        predictor: What it labels images with; None: there is none, or it cannot be used.
        problem: Why it cannot be used, or nothing.
    """

    version: str = ""
    predictor: Predictor | None = None
    problem: str = ""


class Candidate(NamedTuple):
    """A release that may be the champion.

    Attributes:
        version: Name of its version.
        predictor_version: That of its predictor.
        open: Opens its predictor, see `Predictor.load` for what it raises.
    """

    version: str
    predictor_version: str
    open: Callable[[], Predictor]


def choose_champion(candidates: Sequence[Candidate], predictor_version: str) -> Champion:
    """The newest release of another predictor than the challenger's, which may be released already.

    One that cannot be opened is not served either: then the newest that can, as the service does. When none can, the
    champion says why.

    Args:
        candidates: Releases, the newest first.
        predictor_version: That of the challenger.
    """
    problems = []
    for candidate in candidates:
        if candidate.predictor_version == predictor_version:
            continue
        try:
            return Champion(candidate.version, candidate.open())
        except Exception as error:  # a damaged release makes its readers raise whatever their code meets
            problems.append(Champion(candidate.version, None, str(error)))
    return problems[0] if problems else Champion()


def judge_both(challenger: Predictor, champion: Champion, images: ImageSet, splits: pd.DataFrame) -> pd.DataFrame:
    """Label the test images that the champion has not seen and whose class it knows, with both.

    Args:
        challenger: The predictor of the new release.
        champion: The release before.
        images: Those that the challenger was made with.
        splits: Which of them is in which split.

    Returns:
        One row an image: `id`, `label`, `group`, and what each says of it, `predicted`, `confidence` (0-1, calibrated)
        and `withheld` (why it gives no answer, a code of `prediction.WITHHELD`; empty where it does), the champion's as
        `champion_…`; `attrs` hold the counts of test images that are left out, `seen` and `unknown_classes`. No row
        without a champion that can be used, or where it is the same network.
    """
    test = splits[splits["split"] == "test"].reset_index(drop=True)
    if champion.predictor is None or same_network(challenger, champion):
        return pd.DataFrame(columns=JUDGED_COLUMNS)
    rows = images.rows(splits, "test")
    seen = _seen(champion.predictor, images, splits, rows)
    known = test["label"].isin(champion.predictor.facts.class_names).to_numpy()
    rows, table = rows[known & ~seen], test[known & ~seen].reset_index(drop=True)
    parts = list(_judged(challenger, champion.predictor, images, rows))
    said = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=JUDGED_COLUMNS[3:])
    group = table.get("group", table["id"])
    found: pd.DataFrame = pd.concat([table[["id", "label"]].assign(group=group), said], axis=1)[JUDGED_COLUMNS]
    found.attrs = {"seen": int(seen.sum()), "unknown_classes": int((~known & ~seen).sum())}
    return found


def same_network(challenger: Predictor, champion: Champion) -> bool:
    """Whether both are one network, of which another run has made another version."""
    return champion.predictor is not None and champion.predictor.digest == challenger.digest


def _seen(champion: Predictor, images: ImageSet, splits: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """Which of some images the champion was made with, or others of their groups: (rows,) booleans."""
    seen = champion.references.seen
    same = images.table["content_digest"].isin(seen["content_digest"])
    same |= images.table["pixel_digest"].isin(seen["pixel_digest"])  # the same picture in another file
    ids = images.table["id"]
    if "group" not in splits:
        return np.asarray(same.to_numpy()[rows])
    groups = splits.set_index("id")["group"].reindex(ids)
    met = set(groups[same.to_numpy()].dropna())
    return np.asarray((same.to_numpy() | groups.isin(met).to_numpy())[rows])


def _judged(challenger: Predictor, champion: Predictor, images: ImageSet, rows: np.ndarray) -> Iterator[pd.DataFrame]:
    """What both say of some images, chunk by chunk."""
    resized = _differs(challenger.facts.image_format, champion.facts.image_format)
    with tqdm(total=len(rows), unit="images", desc="comparing with the release before", disable=None) as progress:
        for start in range(0, len(rows), CHUNK):
            pixels = images.pixels(rows[start : start + CHUNK])
            now = challenger.judge(pixels)
            before = champion.judge(_resized(pixels, champion.facts.image_format) if resized else pixels)
            yield pd.DataFrame(
                {
                    f"{whose}{name}": getattr(said, name)
                    for whose, said in (("", now), ("champion_", before))
                    for name in ("predicted", "confidence", "withheld")
                }
            )
            progress.update(len(pixels))


def _differs(one: ImageFormat, other: ImageFormat) -> bool:
    """Whether an image of usual size and without transparency is stored in another way."""
    return (one.shape, one.resize) != (other.shape, other.resize)


def _resized(pixels: np.ndarray, image_format: ImageFormat) -> np.ndarray:
    """Stored images in the format of another network."""
    any_size = image_format.model_copy(update={"smallest_side_px": 1})
    return np.stack([decode_image(image, any_size).pixels for image in pixels])
