"""CIFAR-10 through Keras's downloader (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images").

The archive holds Python pickles: `data_batch_*` and `test_batch`, each a mapping with `data` ((n, 3072) uint8, channels
first) and `labels`, and `batches.meta` with `label_names`. Its digest is checked before anything is unpickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.downloads import keras_download
from cnn_transfer.images.listing import ImageListing
from cnn_transfer.images.reasons import UnusableSetError


def list_cifar10(origin: str, sha256: str) -> ImageListing:
    """Download (once, into Keras's cache) and list the training part of CIFAR-10 or an archive of the same form.

    Args:
        origin: Address of the `.tar.gz` archive.
        sha256: Expected digest of the archive; another digest is an error, since pickles run code.

    Returns:
        A listing whose `read` yields (32, 32, 3) uint8 arrays.
    """
    import keras

    # Keras names the folder after the file: archives with different digests must not share one.
    name = f"{sha256[:12]}-{origin.rsplit('/', 1)[-1]}"
    with keras_download():
        file = keras.utils.get_file(name, origin=origin, file_hash=sha256, hash_algorithm="sha256", extract=True)
    extracted = Path(file)
    files = sorted(extracted.rglob("data_batch_*"))
    if not files or not files[0].with_name("batches.meta").exists():
        raise UnusableSetError(
            f"{origin} must hold data_batch_* and batches.meta, as CIFAR-10's archive does. They are not both there."
        )
    names = _unpickle(files[0].with_name("batches.meta"))["label_names"]
    batches = [_unpickle(file) for file in files]
    labels = [names[label] for batch in batches for label in batch["labels"]]
    pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    table = pd.DataFrame({"id": [f"cifar10/{index:05d}" for index in range(len(labels))], "label": labels})

    def read(rows: np.ndarray) -> Iterator[np.ndarray]:
        return (pixels[row] for row in rows)

    return ImageListing(table, read, "CIFAR-10")


def _unpickle(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        content: dict[str | bytes, Any] = pickle.load(stream, encoding="bytes")
    decoded = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    if "label_names" in decoded:
        decoded["label_names"] = [n.decode() if isinstance(n, bytes) else n for n in decoded["label_names"]]
    return decoded
