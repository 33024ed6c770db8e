"""Images of many requests at once: decoded side by side by the intake of the training, labelled together.

Most of the time of labelling one small image goes into what is done once a batch, so that images that arrive while a
batch is labelled make the next one. None waits for others to come, only for those that have come to be read: without
load a batch is one request. What takes only milliseconds is not handed to a thread, which takes as long again.
`benchmarks/serving.py` measures what that brings.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cnn_transfer.images import ImageFormat, UnusableImageError, decode_image
from cnn_transfer.images.decoding import FORMATS, Decoded
from cnn_transfer.serving.answers import explanation_json, images_json
from cnn_transfer.serving.metrics import ANSWERED, REJECTED, Metrics
from cnn_transfer.serving.releases import ServedModel
from cnn_transfer.serving.settings import Settings
from cnn_transfer.serving.uploads import FILE_TOO_LARGE, RefusedError, Upload

SMALL_BYTES, SMALL_MEGAPIXELS = 2048, 0.07  # most of an image that is decoded at once; a bomb declares more pixels
MOST_PIXELS = 50 * 10**6  # declared by the images that are decoded at once: each takes several bytes of memory
ROUNDS = 2  # of the event loop, in which requests that have arrived get into the next batch
MOST_EXPLANATIONS = 8  # on their way at once; each takes as long as a hundred images


class Rejected(NamedTuple):
    """An image that cannot be used: a code of `images.reasons` or `uploads.SERVICE_CODES`, and words."""

    reason: str
    detail: str

    def json(self) -> dict[str, Any]:
        """See `answers.RejectedImage`; without the name."""
        return {"error": {"code": self.reason, "detail": self.detail}}


@dataclass
class _Waiting:
    """Images of one request that wait for their labels."""

    model: ServedModel
    images: Sequence[Decoded]
    labelled: asyncio.Future[list[dict[str, Any]]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class DecodingRoom:
    """Pixels of images that are being decoded in threads, of all requests together."""

    def __init__(self, most: int) -> None:
        self._most, self._used = most, 0
        self._first, self._left = threading.Lock(), threading.Condition()

    @contextmanager
    def share(self, pixels: int) -> Iterator[None]:
        """Wait for room for an image, and keep it while the block runs; one larger than all of it gets all of it."""
        pixels = min(pixels, self._most)
        with self._first, self._left:  # one waits for room, the others to be the first: no small image overtakes it
            self._left.wait_for(lambda: self._used + pixels <= self._most)
            self._used += pixels
        try:
            yield
        finally:
            with self._left:
                self._used -= pixels
                self._left.notify()


class Labeller:
    """Decodes and labels."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._images = 0  # on their way
        self._explanations = 0  # likewise
        self._room = DecodingRoom(MOST_PIXELS)
        self._decoders = ThreadPoolExecutor(os.cpu_count(), "decode")
        self._labeller = ThreadPoolExecutor(1, "label")
        self._explainer = ThreadPoolExecutor(1, "explain")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the block does."""
        work = asyncio.create_task(self._work())
        try:
            yield
        finally:
            work.cancel()
            for pool in (self._decoders, self._labeller, self._explainer):
                pool.shutdown(wait=False, cancel_futures=True)

    def check_load(self, images: int = 1) -> None:
        """Refuse what would have to wait too long.

        Raises:
            RefusedError: When more images wait than may.
        """
        if self._images and self._images + images > self._settings.most_waiting_images:
            raise RefusedError("overloaded", "too many images wait; try again soon")

    async def label(self, model: ServedModel, uploads: Sequence[Upload]) -> list[dict[str, Any]]:
        """Label the images of one request, in their order: each as `answers.LabelledImage` or `RejectedImage`.

        Raises:
            RefusedError: When more images wait than may.
        """
        self.check_load(len(uploads))
        self._count(len(uploads))
        try:
            decoded = await self._decode_all(uploads, model.image_format)
            usable = [image for image in decoded if isinstance(image, Decoded)]
            labelled = iter(await self._together(model, usable) if usable else [])
        finally:
            self._count(-len(uploads))
        images = [image.json() if isinstance(image, Rejected) else next(labelled) for image in decoded]
        return [{"name": upload.name, **image} for upload, image in zip(uploads, images, strict=True)]

    async def explain(self, model: ServedModel, image: Decoded) -> dict[str, Any]:
        """See `answers.Explanation`; one image at a time, beside the labelling of others.

        Raises:
            RefusedError: When more explanations wait than may.
        """
        if self._explanations >= MOST_EXPLANATIONS:
            raise RefusedError("overloaded", "too many images wait to be explained; try again soon")
        self._explanations += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._explainer, explanation_json, model, image.pixels
            )
        finally:
            self._explanations -= 1

    async def _together(self, model: ServedModel, images: Sequence[Decoded]) -> list[dict[str, Any]]:
        waiting = _Waiting(model, images)
        self._waiting.put_nowait(waiting)
        return await waiting.labelled

    async def decode(self, upload: Upload, image_format: ImageFormat) -> Decoded | Rejected:
        """Decode one upload, in a thread unless it is small."""
        return (await self._decode_all([upload], image_format))[0]

    async def _decode_all(self, uploads: Sequence[Upload], image_format: ImageFormat) -> list[Decoded | Rejected]:
        most_mb, loop = self._settings.most_file_mb, asyncio.get_running_loop()
        decoded = [_decode_small(upload, image_format, most_mb) for upload in uploads]
        larger = {
            place: loop.run_in_executor(self._decoders, self._decode_large, uploads[place], image_format, most_mb)
            for place, image in enumerate(decoded)
            if image is None
        }
        images = [await larger[place] if image is None else image for place, image in enumerate(decoded)]
        for image in images:
            if isinstance(image, Rejected):
                self._metrics.images.labels(REJECTED).inc()
                self._metrics.rejected.labels(image.reason).inc()
        return images

    def _decode_large(self, upload: Upload, image_format: ImageFormat, most_mb: float) -> Decoded | Rejected:
        with self._room.share(_declared_pixels(upload)):
            return _decode(upload, image_format, most_mb)

    def _count(self, images: int) -> None:
        self._images += images
        self._metrics.waiting.set(self._images)

    async def _work(self) -> None:
        """Label batch after batch, for ever."""
        late: _Waiting | None = None
        while True:
            first, late = late or await self._waiting.get(), None
            for _ in range(ROUNDS):
                await asyncio.sleep(0)
            batch, images = [first], len(first.images)
            while images < self._settings.most_batch and not self._waiting.empty():
                following = self._waiting.get_nowait()
                if following.model is not first.model:  # arrived after a swap
                    late = following
                    break
                batch.append(following)
                images += len(following.images)
            await self._label_batch([waiting for waiting in batch if not waiting.labelled.done()])
            await asyncio.sleep(0)  # answers go out, requests come in

    async def _label_batch(self, batch: Sequence[_Waiting]) -> None:
        if not batch:  # their clients have gone
            return
        model, images = batch[0].model, [image for waiting in batch for image in waiting.images]
        start = time.perf_counter()
        try:
            if len(images) <= model.quick_images:
                labelled = _label(model, images)
            else:
                labelled = await asyncio.get_running_loop().run_in_executor(self._labeller, _label, model, images)
            self._note(labelled, time.perf_counter() - start)
        except Exception as error:  # of this batch only; the next may have no such image
            for waiting in batch:
                if not waiting.labelled.done():
                    waiting.labelled.set_exception(error)
            return
        place = 0
        for waiting in batch:
            if not waiting.labelled.done():
                waiting.labelled.set_result(labelled[place : place + len(waiting.images)])
            place += len(waiting.images)

    def _note(self, labelled: Sequence[Mapping[str, Any]], seconds: float) -> None:
        self._metrics.batch.observe(len(labelled))
        self._metrics.batch_seconds.observe(seconds)
        for image in labelled:
            self._metrics.images.labels(image["withheld"] or ANSWERED).inc()
            if image["unlike"]:
                self._metrics.unfamiliar.labels(image["unlike"]).inc()
            self._metrics.predicted.labels(image["predicted"]).inc()


def _decode_small(upload: Upload, image_format: ImageFormat, most_mb: float) -> Decoded | Rejected | None:
    """An image that takes no time worth mentioning; None for one that does."""
    if upload.size > SMALL_BYTES:
        return None
    limit = min(image_format.most_megapixels, SMALL_MEGAPIXELS)
    image = _decode(upload, image_format.model_copy(update={"most_megapixels": limit}), most_mb)
    return None if isinstance(image, Rejected) and image.reason == "too_large" else image


def _declared_pixels(upload: Upload) -> int:
    """What the header says; 0 where it cannot be read, which takes no memory either."""
    try:
        with Image.open(io.BytesIO(upload.content or b""), formats=FORMATS) as image:
            return image.width * image.height
    except Exception:  # damaged files make Pillow's plugins raise whatever they meet; `decode_image` says what it is
        return 0


def _decode(upload: Upload, image_format: ImageFormat, most_mb: float) -> Decoded | Rejected:
    if upload.content is None:
        return Rejected(FILE_TOO_LARGE, f"{upload.size:,} bytes; a file may have {most_mb:g} MB")
    try:
        return decode_image(upload.content, image_format, upload.name)
    except UnusableImageError as error:
        return Rejected(error.reason, error.detail)


def _label(model: ServedModel, images: Sequence[Decoded]) -> list[dict[str, Any]]:
    notes = [model.predictor.noted(" ".join(image.notes), image.pixel_digest) for image in images]
    pixels, digests = np.stack([image.pixels for image in images]), [image.pixel_digest for image in images]
    return images_json(model, model.predictor.judge(pixels, digests), notes)
