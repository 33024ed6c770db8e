"""Reading uploads within limits: into memory, never onto a disk, and never more of a request than may be used.

What is refused has a code: those of the intake (`images.reasons`) for images, and `SERVICE_CODES` for requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from cnn_transfer.serving.settings import MEGABYTE, Settings

MOST_NAME = 200  # characters of a file's name that are repeated
MOST_FIELD = 4096  # bytes of a field that is no file; nothing is done with it
FILE_TOO_LARGE = "file_too_large"

SERVICE_CODES = {  # code: (status, what it means)
    "wrong_content_type": (415, "the request is not multipart/form-data"),
    "malformed": (400, "the request's multipart form is broken"),
    "no_file": (422, "the request has no file"),
    "too_many_files": (413, "more files than a request may have"),
    "request_too_large": (413, "more bytes than a request may have"),
    FILE_TOO_LARGE: (413, "more bytes than a file may have; the other files are labelled"),
    "too_slow": (408, "the request was not sent within the time limit"),
    "overloaded": (503, "more is waiting than can be done soon; try again after the seconds of Retry-After"),
    "stopping": (503, "the service is about to stop; another one answers"),
    "not_found": (404, "there is nothing at this address"),
    "wrong_method": (405, "the address takes other methods, see the header Allow"),
    "bad_request": (400, "the request cannot be read"),
    "no_usable_image": (422, "no image of the request can be used, for several reasons; each says its own"),
    "internal": (500, "a defect of the service; its log has the details under the id in the message"),
}


class RefusedError(Exception):
    """A whole request is refused; `code` is one of `SERVICE_CODES`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail

    @property
    def status(self) -> int:
        """Status of HTTP."""
        return SERVICE_CODES[self.code][0]


class Upload(NamedTuple):
    """One uploaded file.

    Attributes:
        name: As its sender calls it, without folders; of no meaning here.
        content: Its bytes; None: more than a file may have.
        size: Number of bytes.
    """

    name: str
    content: bytes | None
    size: int


class UploadMemory:
    """Bytes of uploads that are in memory, of all requests together."""

    def __init__(self, most: float) -> None:
        self.most, self.used = most, 0

    @contextmanager
    def share(self) -> Iterator[MemoryShare]:
        """What one request takes, given back at the end."""
        share = MemoryShare(self)
        try:
            yield share
        finally:
            self.used -= share.taken


class MemoryShare:
    """The part of one request."""

    def __init__(self, memory: UploadMemory) -> None:
        self._memory, self.taken = memory, 0

    def take(self, size: int) -> None:
        """Take bytes.

        Raises:
            RefusedError: When there is no room.
        """
        if self._memory.used + size > self._memory.most:
            raise RefusedError("overloaded", "too many uploads are in memory at once")
        self._memory.used += size
        self.taken += size


class _WholeInMemory(MultiPartParser):
    """Starlette's parser writes larger files to a disk, unless it is told not to, and takes a form that was cut off."""

    spool_max_size: ClassVar[int] = 2**62  # type: ignore[misc]
    _ended = False

    def on_end(self) -> None:
        """Note that the closing boundary is there."""
        self._ended = True

    async def parse(self) -> FormData:
        """Parse all of it; where that fails, files that have begun are closed."""
        self.stream = self._to_the_end(self.stream)
        return await super().parse()

    async def _to_the_end(self, body: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        async for chunk in body:
            yield chunk
        if not self._ended:
            raise MultiPartException("The form must end with its closing boundary, and does not: it was cut off.")


async def read_uploads(request: Request, settings: Settings, share: MemoryShare) -> list[Upload]:
    """Read the files of a multipart form, whatever its fields are called.

    Args:
        request: The request.
        settings: The limits.
        share: Of the memory for uploads.

    Raises:
        RefusedError: When the request breaks a limit, has no file, or is not such a form.
        ClientDisconnect: When the client has gone.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RefusedError(
            "wrong_content_type",
            "The request must be multipart/form-data with the images in the field files. Received: "
            f"{request.headers.get('content-type', 'no content type')[:100]}. With curl: -F files=@photo.jpg",
        )
    most = int(settings.most_request_mb * MEGABYTE)
    try:
        if int(request.headers.get("content-length", 0)) > most:
            raise _too_large(settings)
    except ValueError as error:
        raise RefusedError("bad_request", "Content-Length is not a number") from error
    try:
        async with asyncio.timeout(settings.upload_seconds):
            files = await _parse(request, _limited(request, most, settings, share), settings)
    except TimeoutError as error:
        raise RefusedError(
            "too_slow", f"the request took longer than {settings.upload_seconds:g} s to arrive"
        ) from error
    uploads = [await _upload(file, int(settings.most_file_mb * MEGABYTE)) for file in files]
    uploads = [upload for upload in uploads if upload.name or upload.size]  # of a form in which none was chosen
    if not uploads:
        raise RefusedError("no_file", "Send the images in the field files. With curl: -F files=@photo.jpg")
    return uploads


async def _limited(request: Request, most: int, settings: Settings, share: MemoryShare) -> AsyncIterator[bytes]:
    """The body as it arrives, up to a limit; what Content-Length says does not count."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > most:
            raise _too_large(settings)
        share.take(len(chunk))
        yield chunk


async def _parse(request: Request, body: AsyncIterator[bytes], settings: Settings) -> Sequence[UploadFile]:
    parser = _WholeInMemory(
        request.headers,
        body,  # type: ignore[arg-type]
        max_files=settings.most_files,
        max_fields=settings.most_files,
        max_part_size=MOST_FIELD,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many"):
            raise RefusedError(
                "too_many_files", f"A request may have {settings.most_files} files. Send them in several requests."
            ) from error
        raise RefusedError("malformed", error.message) from error
    except UnicodeError as error:  # of codecs that are not for text on the wire, such as undefined
        raise RefusedError(
            "malformed", "Names in the form cannot be read in its charset. Send them in UTF-8."
        ) from error
    return [part for _, part in form.multi_items() if isinstance(part, UploadFile)]


async def _upload(file: UploadFile, most: int) -> Upload:
    name = (file.filename or "").replace("\\", "/").rsplit("/", maxsplit=1)[-1][-MOST_NAME:]
    size = file.size or 0
    content = await file.read() if size <= most else None
    await file.close()
    return Upload(name, content, size)


def _too_large(settings: Settings) -> RefusedError:
    return RefusedError(
        "request_too_large",
        f"A request may have {settings.most_request_mb:g} MB. Send fewer or smaller files at once.",
    )
