"""Services that answer over a real socket, and a client that asks them."""

import contextlib
import http.client
import json
import socket
import threading
import time
from typing import NamedTuple

import uvicorn

from cnn_transfer.serving import Settings, create_app
from cnn_transfer.serving.server import configuration

VERSION = "2026-01-02T00.00.00.000Z"


class Reply(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


def form(*files, field="files"):
    """A multipart form of (name, content), and its content type."""
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + b"--limit--\r\n", "multipart/form-data; boundary=limit"


class Client:
    """Asks a service at a port."""

    def __init__(self, port):
        self.port = port

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())

    def get(self, path):
        return self.ask("GET", path)

    def send(self, *files, path="/predict"):
        body, kind = form(*files)
        return self.ask("POST", path, body, {"content-type": kind})

    def raw(self, content, seconds=60):
        """What comes back for these bytes, until the connection is closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            received = b""
            with contextlib.suppress(ConnectionError):  # refused before all was sent
                connection.sendall(content)
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    received += part
            return received

    def metric(self, line):
        """The number of a metric, 0 where it has none."""
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(found.rsplit(" ", 1)[1]) for found in lines if found.startswith(line + " "))


@contextlib.contextmanager
def serving(releases, **settings):
    """A service in a thread of this process."""
    app = create_app(Settings(release=str(releases), **settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(configuration(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            client = Client(listener.getsockname()[1])
            client.service = app.state.service
            yield client
        finally:
            server.should_exit = True
            thread.join()
