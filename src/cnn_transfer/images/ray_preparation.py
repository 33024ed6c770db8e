"""The same preparation on a Ray cluster, with Ray Data (arXiv 2501.12407): `preparation.prepare_chunk` in its workers.

Ray finds the cluster by its own variable RAY_ADDRESS and starts a local one without it. The workers need this package
installed, and read the images themselves, so that a path must mean the same on every machine.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.images.decoding import ImageFormat, quiet_pillow
from cnn_transfer.images.listing import Encoded
from cnn_transfer.images.preparation import Chunk, StoredImages, prepare_chunk


def prepare_on_ray(
    read: Callable[[np.ndarray], Iterator[Encoded]],
    rows: np.ndarray,
    parts: list[pd.DataFrame],
    image_format: ImageFormat,
    stored: StoredImages | None,
) -> Iterator[Chunk]:
    """Read, decode and resize images on a cluster, in order.

    Args:
        read: Of the listing.
        rows: Row numbers of the listing, increasing.
        parts: Their rows of the listing's table, chunk by chunk.
        image_format: Size and colour of the result.
        stored: Images that need not be decoded again.

    Raises:
        ModuleNotFoundError: When Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "engine: ray needs the extra \"ray\": pip install 'cnn-transfer[ray]'. Or set engine to threads."
        ) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    shared = [ray.put((read, image_format, stored))]  # in a list, else Ray would unpack it for every chunk

    def prepare(item: dict[str, Any]) -> dict[str, bytes]:
        return {"chunk": pickle.dumps(_prepare(shared, *pickle.loads(item["part"])))}

    ends = np.cumsum([len(part) for part in parts])
    items = [{"part": pickle.dumps((rows[end - len(part) : end], part))} for end, part in zip(ends, parts, strict=True)]
    dataset = _dataset(items)
    with _quiet(logging.getLogger("ray.data")):
        for row in dataset.map(prepare, num_cpus=1).iter_rows():
            yield pickle.loads(row["chunk"])


def _dataset(items: list[dict[str, Any]]) -> Any:
    """One block an item, whose results come in the same order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray Data 2.60 warns of its own settings
        import ray.data

        dataset = ray.data.from_items(items, override_num_blocks=max(1, len(items)))
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False  # the image set shows one of its own
    return dataset


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep its remarks on each execution from the terminal."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _prepare(shared: list[Any], rows: np.ndarray, listed: pd.DataFrame) -> Chunk:
    read, image_format, stored = _fetch(*shared)
    with quiet_pillow():
        return prepare_chunk(list(read(rows)), listed, image_format, stored)


@lru_cache(maxsize=1)
def _fetch(reference: Any) -> Any:
    """An object of the cluster, unpacked once a worker."""
    import ray

    return ray.get(reference)
