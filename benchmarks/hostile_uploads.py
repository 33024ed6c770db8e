"""Requests that mean harm, or are broken: what clients, proxies and attackers send, as bytes on a connection."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

BOUNDARY = "limit"


class Hostile(NamedTuple):
    """One request.

    Attributes:
        kind: What it tries.
        content: Its bytes; the connection stays open after them.
    """

    kind: str
    content: bytes


def form(*files: tuple[str, bytes], end: bytes = b"--limit--\r\n") -> bytes:
    """A multipart form of (name, content)."""
    head = '--limit\r\nContent-Disposition: form-data; name="files"; filename="{}"\r\nContent-Type: image/png\r\n\r\n'
    return b"".join(head.format(name).encode("utf-8", "replace") + body + b"\r\n" for name, body in files) + end


def post(body: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}", length: int | None = None) -> bytes:
    """A request to /predict; the length may be a lie."""
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    return head.encode() + f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


@cache
def png_bomb(side: int) -> bytes:
    """A whole PNG of 1 bit a pixel that declares, and holds, side × side pixels."""
    packer = zlib.compressobj(1)
    row = bytes(1 + -(-side // 8))
    data = b"".join(packer.compress(row * 1000) for _ in range(side // 1000)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@cache
def zip_bomb() -> bytes:
    """A hundred kilobytes that unpack to a thousand times as much."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive, archive.open("a", "w") as file:
        for _ in range(100):
            file.write(bytes(10**6))
    return stream.getvalue()


def picture(seed: int, kind: str = "PNG") -> bytes:
    """A picture of noise."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


def hostile_requests(count: int, slow_share: float = 0.02, seed: int = 0) -> Iterator[Hostile]:
    """Requests of all kinds in turn.

    Args:
        count: Of requests.
        slow_share: Share of those that never end, 0-1: each takes as long as the service lets it.
        seed: Of what is random in them.
    """
    draw = random.Random(seed)
    bombs = {side: png_bomb(side) for side in (7_000, 30_000)}  # below and above the limits on pixels
    archive = zip_bomb()
    kinds = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
    whole = [picture(number, kind) for number, kind in enumerate(kinds)]

    def cut() -> bytes:
        image = draw.choice(whole)
        return post(form(("a.png", image[: draw.randrange(len(image))])))

    def flipped() -> bytes:
        image = bytearray(draw.choice(whole))
        for _ in range(20):
            image[draw.randrange(len(image))] ^= 1 << draw.randrange(8)
        return post(form(("a.png", bytes(image))))

    def chunked() -> bytes:
        head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        part = b"--limit\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n" + bytes(10**6)
        return head + (b"%x\r\n%b\r\n" % (len(part), part)) * 40 + b"0\r\n\r\n"

    makers: dict[str, Callable[[], bytes]] = {
        "truncated image": cut,
        "flipped bits": flipped,
        "noise": lambda: post(form(("a.jpg", draw.randbytes(draw.randrange(5_000))))),
        "empty file": lambda: post(form(("a.png", b""))),
        "text": lambda: post(form(("a.png", b"hello " * 100))),
        "zip bomb": lambda: post(form(("a.png", archive))),
        "PNG bomb above the limit": lambda: post(form(("a.png", bombs[30_000]))),
        "PNG bomb below the limit": lambda: post(form(("a.png", bombs[7_000]))),
        "too many files": lambda: post(form(*[("a.png", whole[0])] * 50)),
        "10,000 parts": lambda: post(form(*[("a.png", b"x")] * 10_000)),
        "large file": lambda: post(form(("a.png", bytes(11_000_000)))),
        "large request": lambda: post(form(("a.png", bytes(34_000_000)))),
        "length that lies": lambda: post(form(("a.png", whole[0])), length=10**12),
        "length that is too small": lambda: post(form(("a.png", whole[0])), length=100),
        "length that is no number": lambda: post(b"x").replace(b"Length: 1", b"Length: one"),
        "endless chunks": chunked,
        "path in the name": lambda: post(form(("../" * draw.randrange(1, 20) + "etc/passwd", whole[0]))),
        "odd name": lambda: post(
            form((draw.choice(["\0.png", "a" * 5_000, "%00%n%s", "<script>", "ä\u202e.gnp"]), b"x"))
        ),
        "form without end": lambda: post(form(("a.png", whole[0]), end=b"")),
        "form without boundary": lambda: post(form(("a.png", whole[0])), "multipart/form-data"),
        "boundary of 10,000 letters": lambda: post(b"x", "multipart/form-data; boundary=" + "b" * 10_000),
        "header of a part without end": lambda: post(b"--limit\r\nContent-Disposition: " + b"a" * 100_000),
        "JSON": lambda: post(b'{"files": []}', "application/json"),
        "no form": lambda: post(draw.randbytes(1_000)),
        "noise instead of HTTP": lambda: draw.randbytes(200),
        "header of a megabyte": lambda: b"GET / HTTP/1.1\r\nA: " + b"a" * 10**6 + b"\r\n\r\n",
        "path out of the folder": lambda: (
            b"GET /static/../../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ),
    }
    slow = {
        "slow body": post(form(("a.png", whole[0])), length=100_000)[:-50],
        "slow header": b"POST /predict HTTP/1.1\r\nHost: x\r\nA: ",
        "silence": b"",
    }
    for number in range(count):
        if draw.random() < slow_share:
            kind = draw.choice(list(slow))
            yield Hostile(kind, slow[kind])
        else:
            kind = list(makers)[number % len(makers)]
            yield Hostile(kind, makers[kind]())
