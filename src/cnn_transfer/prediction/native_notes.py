"""Lines that native code writes to the terminal past Python's logging."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_native_notes() -> Iterator[None]:
    """Close the stream of errors, the only way to be rid of notes that come whatever log level is set."""
    standard_error = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)


def import_tensorflow() -> None:
    """Import it, and look for a GPU, without the lines that its C++ core writes before any log level is read."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with without_native_notes():
        import tensorflow as tf

        tf.config.list_physical_devices()  # complains when there is no GPU; once a process, also a forked one
