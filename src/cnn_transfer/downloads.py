"""Downloads by Keras: its progress bar on a terminal, one line in the log anywhere else."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

LOGGER = logging.getLogger(__name__)


@contextmanager
def keras_download() -> Iterator[None]:
    """Around what may download by `keras.utils.get_file`, which draws its bar into files, too."""
    if sys.stdout.isatty():
        yield
        return
    with redirect_stdout(io.StringIO()) as told:
        yield
    for origin in re.findall(r"Downloading data from (\S+)", told.getvalue()):
        LOGGER.info("Downloaded %s, once: it is in Keras's cache now.", origin)
