"""Servers that stand between a reader and an S3 server, and fail as networks do."""

import socket
import threading
from types import TracebackType


class cutting_proxy:  # noqa: N801 - reads as a function
    """Between the reader and the server: answers to requests of one path end early.

    Args:
        server: The address of the server.
        path: What the first line of such requests contains; none has an empty one.
        whole: How many of them are answered before.
        share: Of the answer that is sent; without any, the connection is closed at once.
    """

    def __init__(self, server: str, path: bytes = b"", whole: int = 0, share: float = 0.5) -> None:
        host, port = server.removeprefix("http://").split(":")
        self.server, self.path, self.share = (host, int(port)), path, share
        self.whole, self.asked, self.lock = whole, 0, threading.Lock()

    def __enter__(self) -> str:
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            request = b""
            while b"\r\n\r\n" not in request:
                if not (received := client.recv(65536)):
                    return
                request += received
            with socket.create_connection(self.server) as server:
                server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                reply = b"".join(iter(lambda: server.recv(65536), b""))
            client.sendall(reply[: int(len(reply) * self.share)] if self._is_cut(request) else reply)

    def _is_cut(self, request: bytes) -> bool:
        first = request.split(b"\r\n")[0]
        if not self.path or not first.startswith(b"GET") or self.path not in first:
            return False
        with self.lock:
            self.asked += 1
            return self.asked > self.whole
