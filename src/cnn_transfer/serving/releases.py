"""The model that is served: the release that was completed last, loaded beside the old one and swapped in one step.

Releases lie on this machine or on `s3://`; which is the newest, `exporting.published` says.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from cnn_transfer.exporting.published import PublishedRelease, complete_releases, content_of
from cnn_transfer.exporting.release import EXPORTS, FORM
from cnn_transfer.images import ImageFormat, open_location
from cnn_transfer.images.locations import is_local
from cnn_transfer.prediction import RUNTIMES, Predictor
from cnn_transfer.serving.metrics import FAILED, SERVED, Metrics
from cnn_transfer.serving.settings import Settings

LOGGER = logging.getLogger(__name__)
QUICK_SECONDS = 0.02  # for which a batch may hold requests up
MOST_PAUSE_SECONDS = 600  # until a release that could not be loaded is tried again
MOST_WAITING = 4  # wall time over processor time of a batch beside other work; more: it computes in other threads


class NoReleaseError(RuntimeError):
    """There is no release to serve."""


class UnfitReleaseError(ValueError):
    """A release cannot be served by this program, however often it is tried."""


EXPECTED = (ValueError, OSError, ImportError)  # of `load_release`: the words say enough


@dataclass(frozen=True)
class ServedModel:
    """A release that is loaded.

    Attributes:
        release: Where it comes from.
        predictor: What labels images.
        image_format: How uploads are decoded: as in training, but for the limit of the service.
        exports: Content of `exports.json`.
        runtime: Name of what computes its network.
        quick_images: That it labels at once within `QUICK_SECONDS`; 0: not even one.
    """

    release: PublishedRelease
    predictor: Predictor
    image_format: ImageFormat
    exports: dict[str, Any]
    runtime: str
    quick_images: int = 0

    @cached_property
    def version(self) -> str:
        """Name of its version."""
        return self.release.version

    @cached_property
    def nearest(self) -> list[dict[str, str]]:
        """Each training image as `answers.Nearest`."""
        training, version = self.predictor.references.training, quote(self.version, safe="")
        return [
            {"id": name, "label": str(label), "thumbnail": f"/training-images/{row}?version={version}"}
            for row, (name, label) in enumerate(zip(training["id"], training["label"], strict=True))
        ]

    @cached_property
    def pictures(self) -> Sequence[bytes]:
        """A small WebP picture of each training image."""
        return list(self.predictor.references.training["thumbnail"])


def find_releases(location: str | Path) -> list[PublishedRelease]:
    """Complete releases at a place, the one that was completed last first.

    Args:
        location: A folder of versions, or one release; a local path or an address of fsspec, such as `s3://…`.

    Raises:
        ModuleNotFoundError: When the address needs a package that is not installed.
    """
    return complete_releases(*open_location(location, {}))


@contextmanager
def _on_disk(release: PublishedRelease, runtime: str) -> Iterator[Path]:
    """The folder of a release on this machine, without what other runtimes need where it has to be fetched."""
    filesystem, path = open_location(release.address, {})
    if is_local(filesystem):
        yield Path(path)
        return
    others = {kind.FILE for name, kind in RUNTIMES.items() if name != runtime}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / release.version / "release"
        for name in filesystem.find(path):
            relative = name.removeprefix(f"{path}/")
            if relative.split("/")[0] not in others:
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                filesystem.get_file(name, str(folder / relative))
        yield folder


def load_release(release: PublishedRelease, settings: Settings) -> ServedModel:
    """Load a release and label a few images with it, so that the first request is not the slow one.

    Raises:
        UnfitReleaseError: When it is of another form, or its export did not pass its checks.
        ValueError: When it is damaged.
        FileNotFoundError: When a file is missing.
        ModuleNotFoundError: When the runtime is not installed.
    """
    with _on_disk(release, settings.runtime) as folder:
        model = _load(release, folder, settings)
    model = replace(model, quick_images=_quick_images(model, settings.most_batch))
    _ = model.nearest  # made before the first request
    return model


def _quick_images(model: ServedModel, most: int) -> int:
    """How many images at once it labels quickly; 0: not even one. Each size is done twice, the first time is slow."""
    quick, images = 0, 1
    while quick < most:
        pixels = np.zeros((images, *model.predictor.facts.card.image_shape), np.uint8)
        for _ in range(2):
            wall, processor = time.perf_counter(), time.thread_time()
            model.predictor.judge(pixels)
            wall, processor = time.perf_counter() - wall, time.thread_time() - processor
        if max(processor, wall / MOST_WAITING) > QUICK_SECONDS:
            break
        quick, images = images, min(2 * images, most)
    return quick


def _load(release: PublishedRelease, folder: Path, settings: Settings) -> ServedModel:
    exports = json.loads((folder / EXPORTS).read_text(encoding="utf-8"))
    if exports.get("form") != FORM:
        raise UnfitReleaseError(
            f"The release {release.version} is of the form {exports.get('form')}, this program reads {FORM}: "
            "make it anew with kedro run --pipelines export"
        )
    if any(export["name"] == settings.runtime and not export["passed"] for export in exports["exports"]):
        raise UnfitReleaseError(
            f"The export {settings.runtime} of the release {release.version} is outside its tolerance"
        )
    predictor = Predictor.load(folder, settings.runtime, settings.threads)
    image_format = predictor.facts.image_format
    served = min(image_format.most_megapixels, settings.most_megapixels)
    return ServedModel(
        release, predictor, image_format.model_copy(update={"most_megapixels": served}), exports, settings.runtime
    )


class _Failure(NamedTuple):
    """A release could not be loaded: for how many seconds it is not tried again, and until when on the clock."""

    pause: float
    retry_at: float


class ModelSlot:
    """Holds the model that is served, and exchanges it while requests are answered.

    A request takes `current` once and keeps it to its end; a model is given up when no request has it any more.
    """

    def __init__(
        self,
        location: str | Path,
        load: Callable[[PublishedRelease], ServedModel],
        metrics: Metrics,
        watch_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._location, self._load, self._metrics = location, load, metrics
        self._watch_seconds, self._clock = watch_seconds, clock
        self._model: ServedModel | None = None
        self._content: frozenset[tuple[str, int, float]] = frozenset()  # of its release, before it was loaded
        self._failed: dict[PublishedRelease, _Failure] = {}
        self._blind = self._alone = False  # whether the last look failed, or found nothing, and this was said
        self._pictures: dict[str, Sequence[bytes]] = {}

    @property
    def current(self) -> ServedModel:
        """The model.

        Raises:
            NoReleaseError: When none is loaded.
        """
        if self._model is None:
            raise NoReleaseError(
                f"There is no release that can be served in {self._location}. Make one: kedro run, then "
                "kedro run --pipelines export (needs: pip install 'cnn-transfer[export]')"
            )
        return self._model

    def pictures(self, version: str | None) -> Sequence[bytes]:
        """Pictures of the training images of a version that is, or was until the last swap, served; None: is.

        Raises:
            KeyError: For any other.
        """
        return self._pictures[version or self.current.version]

    def refresh(self) -> bool:
        """Serve the newest release that can be loaded; returns whether that is another one than before.

        One that cannot is logged and counted. It may still be on its way here, or a store may not have answered: it is
        tried again after a pause, which doubles each time. One that is unfit is not, before it is written again.
        The one that is served is loaded again once a file of it was: it may have been written over while it was loaded.
        """
        found = find_releases(self._location)
        if self._model is not None and not found and not self._alone:
            LOGGER.warning(
                "There is no release in %s any more. %s stays, until this process ends: another one would not start",
                self._location,
                self._model.version,
            )
        self._alone = not found
        for release in found:
            content = content_of(*open_location(release.address, {}))
            if self._model is not None and (release, content) == (self._model.release, self._content):
                return False
            failed = self._failed.get(release)
            if failed and self._clock() < failed.retry_at:
                continue
            try:
                model = self._load(release)
            except Exception as error:  # a damaged release makes its readers raise whatever their code meets
                pause = math.inf if isinstance(error, UnfitReleaseError) else self._next_pause(failed)
                self._failed[release] = _Failure(pause, self._clock() + pause)
                self._metrics.swaps.labels(FAILED).inc()
                older = "an older one is tried" if release != found[-1] else "there is no older one"
                LOGGER.error(
                    "The release %s cannot be served; %s; it is tried again %s. %s: %s",
                    release.address,
                    f"{self._model.version} stays" if self._model else older,
                    "when it is written again" if pause == math.inf else f"in {pause:g} s",
                    type(error).__name__, error,
                    exc_info=not isinstance(error, EXPECTED),
                )  # fmt: skip
                continue
            self._failed.pop(release, None)
            self._content = content
            self._swap(model)
            return True
        return False

    def _next_pause(self, failed: _Failure | None) -> float:
        return min(2 * failed.pause, MOST_PAUSE_SECONDS) if failed else self._watch_seconds

    def _swap(self, model: ServedModel) -> None:
        before = [] if self._model is None else [self._model.version]
        self._pictures = {
            **{version: self._pictures[version] for version in before},
            model.version: model.pictures,
        }
        self._model = model
        self._metrics.model.clear()
        self._metrics.model.labels(model.version, model.runtime).set(1)
        self._metrics.completed.set(model.release.completed)
        self._metrics.swaps.labels(SERVED).inc()
        LOGGER.info("Serving the release %s with %s", model.version, model.runtime)

    async def watch(self) -> None:
        """Refresh for ever, in another thread."""
        while True:
            await asyncio.sleep(self._watch_seconds)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Refresh, and say in the log where that is impossible: with the traceback when it begins, in a line after."""
        try:
            self.refresh()
        except Exception as error:  # the watch must not end; the next look may succeed
            self._metrics.failed_looks.inc()
            LOGGER.error(
                "%s cannot be looked at for a new release, %s stays: %s %s",
                self._location, self.current.version, type(error).__name__, error,
                exc_info=not self._blind,
            )  # fmt: skip
            self._blind = True
            return
        if self._blind:
            LOGGER.info("%s can be looked at again", self._location)
        self._blind = False
