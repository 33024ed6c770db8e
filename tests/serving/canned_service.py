"""A service that answers by the name of the file, so that a page can be tested on every answer there is."""

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cnn_transfer

PAGE = Path(cnn_transfer.__file__).parent / "serving/page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = "default-src 'self'; img-src 'self' data: blob:"
SIDE = 28
MOST_MB = 1
NAMES = ["circle", "square", "<b>bold</b>", "star", *(f"class {n}" for n in range(8))]
ANSWER = {
    "answer": "circle", "withheld": "", "withheld_text": "", "predicted": "circle", "confidence": 0.9994,
    "probabilities": dict.fromkeys(NAMES, 0.0006 / 11) | {"circle": 0.9994}, "set": ["circle"], "unfamiliar": False,
    "unlike": "", "percentile": 0.41, "notes": [],
    "nearest": [{"id": f"{n}.png", "label": label, "thumbnail": f"/training-images/{n}"}
                for n, label in enumerate(["circle", "circle", "star"])],
}  # fmt: skip
UNSURE = ANSWER | {
    "answer": None, "withheld": "unsure", "withheld_text": "less sure than the threshold", "predicted": "<b>bold</b>",
    "confidence": 0.4, "set": ["<b>bold</b>", "star"], "notes": ["alpha", "training_image"],
    "probabilities": dict.fromkeys(NAMES, 0.03) | {"<b>bold</b>": 0.4, "star": 0.3},
}  # fmt: skip
UNFAMILIAR = ANSWER | {
    "answer": None, "withheld": "unfamiliar", "withheld_text": "unlike the training images", "unfamiliar": True,
    "unlike": "noise", "percentile": 1.0, "set": [],
}  # fmt: skip
BARE = ANSWER | {"set": None, "unfamiliar": None, "percentile": None, "nearest": []}
ANSWERS = {"unsure": UNSURE, "unfamiliar": UNFAMILIAR, "bare": BARE}
VERSION = "2026-01-01T00.00.00.000Z"
MODEL = {"runtime": "onnx", "class_names": NAMES}
FACTS = {
    "threshold": 0.85, "promised_accuracy": 0.98, "confidence": 0.95, "sets": {"coverage": 0.95},
    "familiarity": {"false_alarm_rate": 0.01},
    "card": {"image_shape": [SIDE, SIDE, 1], "class_names": NAMES, "training_images": 200, "trained_on": "shapes"},
}  # fmt: skip


def picture(seed: int = 0, mode: str = "L") -> bytes:
    """A small picture of noise, as PNG."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (SIDE, SIDE) if mode == "L" else (SIDE, SIDE, 4)).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels, mode).save(encoded, "PNG")
    return encoded.getvalue()


def address(content: bytes) -> str:
    """The content as an address."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


class CannedService(ThreadingHTTPServer):
    """What it was asked, which version it has, what is known of it, and whether it refuses all as overloaded."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.overloaded = False
        self.version = VERSION
        self.facts = FACTS
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: CannedService

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    @property
    def _model(self) -> dict[str, Any]:
        return MODEL | {"version": self.server.version}

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/model":
            self._send(200, self._model | {"facts": self.server.facts, "limits": {"most_file_mb": MOST_MB}})
        elif self.path.startswith("/training-images/"):
            self._send(200, picture(int(self.path.rsplit("/", 1)[1])), "image/png")
        else:
            file = PAGE / ("index.html" if self.path == "/" else self.path.removeprefix("/static/"))
            self._send(200, file.read_bytes(), TYPES[file.suffix])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (name,) = re.findall(rb'filename="([^"]*)"', body)
        stem = name.decode().rpartition(".")[0]
        self.server.asked.append(f"{self.path} {name.decode()}")
        if self.server.overloaded:
            self._send(503, {"error": {"code": "overloaded", "detail": "too much is waiting"}, "images": []})
        elif stem.startswith("bad-"):
            error = {"code": stem.removeprefix("bad-"), "detail": f"the detail of {stem}"}
            self._send(422, {"error": error, "images": [{"name": name.decode(), "error": error}]})
        elif self.path == "/explain":
            note = {"faithfulness_note": "Each place was covered.", "method": "occlusion", "class": "circle"}
            self._send(200, note | {"picture": address(picture()), "map": address(picture(1, "RGBA"))})
        else:
            self._send(200, {"model": self._model, "images": [{"name": name.decode(), **ANSWERS.get(stem, ANSWER)}]})

    def _send(self, status: int, content: Any, kind: str = "application/json") -> None:
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Content-Security-Policy": POLICY}
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def canned_service() -> Iterator[CannedService]:
    """The service, for as long as the context lasts."""
    service = CannedService()
    thread = threading.Thread(target=service.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()
