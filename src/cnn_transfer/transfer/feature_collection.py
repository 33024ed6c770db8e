"""Features of the same images by several networks: a folder with one folder of features a network, of its name.

Networks are handed over as functions and built one at a time, when their turn comes to be written, so that only one is
in memory. Whatever has been computed before by a network of the same weights is copied, whichever name it went by: from
an earlier collection, or from a set just written, as with random weights of an architecture that two names share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cnn_transfer.transfer.features import FeatureExtraction, FeatureSet, open_features, write_features

CONTENTS = "collection.json"  # written last, with the names in their order

Extractions = Mapping[str, Callable[[], FeatureExtraction]]


def write_feature_collection(extractions: Extractions, folder: Path, earlier: Iterable[Path] = ()) -> None:
    """Compute features and write them; the caller makes them visible by renaming `folder`.

    Args:
        extractions: What to compute, by the name of the network, which is a name of a folder, too.
        folder: A folder that does not exist yet.
        earlier: Collections, the newest first.
    """
    folder.mkdir(parents=True)
    stored = [member for collection in earlier for member in _members(collection)]
    for name, extract in extractions.items():
        write_features(extract(), folder / name, stored)
        stored.insert(0, folder / name)
    (folder / CONTENTS).write_text(json.dumps(list(extractions), indent=2))


def open_feature_collection(folder: Path) -> dict[str, FeatureSet]:
    """Open features by the name of their network, in the order in which they were written; no value is read."""
    return {member.name: open_features(member) for member in _members(folder)}


def _members(folder: Path) -> list[Path]:
    return [folder / name for name in json.loads((folder / CONTENTS).read_text())]
