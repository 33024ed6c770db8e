"""The same preparation on a Ray cluster: `preparation.prepare_chunk` as a Ray task, a chunk each.

Ray finds the cluster by its own variable RAY_ADDRESS and starts a local one without it. The workers need this package
installed. They read the files themselves, so that a path must mean the same on every machine; images that lie in a
table are read here and sent to them.

Tasks rather than Ray Data: a task gets its own part of the listing only, where a dataset's function would carry the
whole of it to every block, and the order of the chunks needs no setting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import pandas as pd

from cnn_transfer.images.decoding import ImageFormat, quiet_pillow
from cnn_transfer.images.listing import Encoded
from cnn_transfer.images.preparation import Chunk, StoredImages, prepare_chunk

WAITING_PER_CPU = 2  # chunks sent or finished and not yet written: no worker waits, and memory stays bounded


def prepare_on_ray(
    encoded: Iterator[Encoded], parts: list[pd.DataFrame], image_format: ImageFormat, stored: StoredImages | None
) -> Iterator[Chunk]:
    """Read, decode and resize images on a cluster, in order.

    Args:
        encoded: The images, as the listing reads them.
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
    prepare = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_prepare)
    known = [ray.put(stored)]  # in a list, else Ray would unpack it for every task
    running: deque[Any] = deque()
    for part in parts:
        running.append(prepare.remote(list(islice(encoded, len(part))), part, image_format, known))
        if len(running) >= WAITING_PER_CPU * ray.cluster_resources().get("CPU", 1):
            yield ray.get(running.popleft())
    while running:
        yield ray.get(running.popleft())


def _prepare(encoded: list[Encoded], listed: pd.DataFrame, image_format: ImageFormat, known: list[Any]) -> Chunk:
    with quiet_pillow():
        return prepare_chunk(encoded, listed, image_format, _fetch(*known))


@lru_cache(maxsize=1)
def _fetch(reference: Any) -> Any:
    """An object of the cluster, unpacked once a worker."""
    import ray

    return ray.get(reference)
