"""What the exit code of a run says to whom schedules it: whether the same command may succeed when it is tried again.

| code | meaning | to try the same command again |
|---|---|---|
| 0 | done | changes nothing |
| 1 | failed: a store that does not answer, no room, an input that is not there yet, a defect | may help |
| 2 | an option that the command does not know (click's code) | cannot help |
| 75 | stopped, by SIGTERM or because another machine was lost (`EX_TEMPFAIL` of sysexits.h) | goes on |
| 78 | refused: parameters, configuration, images or a release that cannot be used (`EX_CONFIG`) | cannot help |
"""

from __future__ import annotations

import click

STOPPED = 75
REFUSED = 78


class RefusedError(click.ClickException):
    """What was asked for cannot be done as often as it is tried: something must be changed first."""

    exit_code = REFUSED
