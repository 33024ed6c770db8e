"""Which run a process belongs to.

A run is one pass over a graph or a part of it, in one process or in many, on one machine or on many. Its id is the
version of everything that it saves and loads. It comes from outside when several processes have it in common; otherwise
a process makes one, Kedro's timestamp, and is a run by itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from cnn_transfer.parameters import ParameterError

VARIABLE, PARAMETER = "TRANSFER_RUN_ID", "run_id"
AS_A_NUMBER = (  # what YAML does, with the name of the parameter
    "The command line reads 0123 as 83, 2026_11_25 as 20261125 and 1e3 as a fraction; in quotes it is taken as it "
    "stands: --params \"{}='0123'\"."
)
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]{0,127}")


def given_run_id(parameters: Mapping[str, Any] | None) -> str | None:
    """The id that was given to this process, or None.

    Args:
        parameters: Those of the command line; `run_id` among them goes before the environment's `TRANSFER_RUN_ID`.

    Raises:
        ParameterError: When it has characters that cannot be in the name of a folder everywhere.
    """
    given = (parameters or {}).get(PARAMETER)
    source = f"The parameter {PARAMETER}" if given is not None else f"The environment variable {VARIABLE}"
    given = os.environ.get(VARIABLE) if given is None else given
    if given is None:
        return None
    if isinstance(given, int) and not isinstance(given, bool):  # the command line turns digits into a number
        given = str(given)
    if not isinstance(given, str) or not RUN_ID.fullmatch(given):
        nearest = re.sub(r"[^A-Za-z0-9._+=@-]+", "-", str(given)).lstrip("._+=@-")[:128]
        raise ParameterError(
            f"{source} must be 1 to 128 letters, digits or . _ + = @ -, and begin with a letter or digit. Received: "
            f"{given!r}."
            + ("" if isinstance(given, str) else f" {AS_A_NUMBER.format(PARAMETER)}")
            + (f" Use {nearest}, for example." if nearest else " Leave it out, and one is made.")
        )
    return given
