"""The service under load, under attack, and while its model is exchanged.

python benchmarks/serving.py [--release data/06_models/release] [--seconds 60] [--hostile 1000] [--swaps 20]

Needs a release (kedro run, then kedro run --pipelines export) and the extra `serve`. The service is a process of its
own on loopback; the client is this process, on the same cores. Requests are one image each, real digits. Without load:
one request after the other. Capacity: as many clients as give the highest rate, each sending its next request when it
has its answer. At 70% of that, and of the capacity of one image a batch, requests come whatever the answers do, once
evenly spaced and once at random times (Poisson), and the time counts from when a request was due. What the machine
does to any program in that time is shown by additions that take about as long as a request, one after the other.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import uvloop
from hostile_uploads import Hostile, form, hostile_requests

ROOT = Path(__file__).parents[1]
STEP_SECONDS = 5
CLIENTS = (1, 2, 4, 8, 16, 32, 64)
KEPT = 64  # connections that wait for requests at given times
WAIT_SECONDS = 30


class Measured(NamedTuple):
    """One load: times of the good answers in milliseconds, how many of each status, and when the good ones were due."""

    milliseconds: np.ndarray
    statuses: Counter[str]
    seconds: float
    due: np.ndarray | None = None

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.milliseconds) / self.seconds

    @property
    def errors(self) -> int:
        """All others."""
        return sum(count for status, count in self.statuses.items() if status != "200")

    @property
    def answers(self) -> str:
        """How many errors there were, and which."""
        others = [f"{count} × {status}" for status, count in self.statuses.most_common() if status != "200"]
        return f"{self.errors} errors{' (' + ', '.join(others) + ')' if others else ''}"

    def percentile(self, share: float) -> float:
        """Time below which this share of the answers came."""
        return float(np.percentile(self.milliseconds, share))

    def median_p99(self, seconds: float = 0.25) -> float:
        """Median over short stretches of the time below which 99% of a stretch came."""
        assert self.due is not None
        stretch = ((self.due - self.due.min()) / seconds).astype(int)
        return float(np.median([np.percentile(self.milliseconds[stretch == n], 99) for n in np.unique(stretch)]))


class Service:
    """A process of the service."""

    def __init__(self, release: Path, log: Path, **settings: float) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        arguments = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        command = [sys.executable, "-m", "cnn_transfer.serving", "--release", str(release), "--port", str(self.port)]
        self.log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen([*command, *arguments], stdout=stream, stderr=stream)
        deadline = time.monotonic() + 120
        while not self.version():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The service did not start:\n{log.read_text()}")
            time.sleep(0.1)

    def version(self) -> str:
        """The version that is served; empty when nothing is."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = b""
            while part := connection.recv(4096):
                received += part
            return received.split(b'"version":"')[-1].split(b'"')[0].decode() if b'"ready":true' in received else ""
        return ""

    def memory_mb(self) -> float:
        """What it holds now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def processor_ms(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """Stop it, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def running(release: Path, log: Path, **settings: float) -> Iterator[Service]:
    """A service while the block runs."""
    service = Service(release, log, **settings)
    try:
        yield service
    finally:
        service.stop()


class Connection(asyncio.Protocol):
    """A connection that is kept for the next request."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] | None = None
        self.received, self.closed = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what sends."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Look whether the answer is complete."""
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if separator and len(body) >= int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            self._end(head[9:12].decode())

    def connection_lost(self, error: Exception | None) -> None:
        """It was the end of the answer, too."""
        self.closed = True
        self._end(type(error).__name__ if error else "closed")

    async def send(self, request: bytes) -> str:
        """Send a request and return the status of its answer, or what went wrong."""
        self.received, self.answer = b"", asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer

    def _end(self, status: str) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_result(status)


class Connections:
    """Connections to the service, of which the one that was not used for longest takes the next request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.free: deque[Connection] = deque()

    async def open(self, number: int = 1) -> None:
        """Open some more."""
        for _ in range(number):
            _, opened = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
            self.free.append(opened)

    async def send(self, request: bytes) -> str:
        """Send a request and return the status of its answer, or what went wrong."""
        while self.free and self.free[0].closed:
            self.free.popleft()
        try:
            if not self.free:
                await self.open()
        except OSError as error:
            return type(error).__name__
        connection = self.free.popleft()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                status = await connection.send(request)
        except TimeoutError as error:
            connection.transport.close()
            return type(error).__name__
        self.free.append(connection)
        return status


def digits(count: int = 200) -> list[bytes]:
    """Requests with one digit each."""
    table = pd.read_parquet(ROOT / "data/01_raw/mnist_digits.parquet").head(5 * count).sample(count, random_state=0)
    images = [image["bytes"] if isinstance(image, dict) else image for image in table["image"]]
    bodies = [form((f"{number}.png", image)) for number, image in enumerate(images)]
    kind = "multipart/form-data; boundary=limit"
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


async def closed_loop(port: int, requests: list[bytes], clients: int, seconds: float) -> Measured:
    """Clients of which each sends its next request when it has its answer."""
    connections, times, statuses = Connections(port), array("d"), Counter[str]()
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        draw = random.Random(number)
        while (start := time.perf_counter()) < end:
            status = await connections.send(draw.choice(requests))
            statuses[status] += 1
            if status == "200":
                times.append(1000 * (time.perf_counter() - start))

    begin = time.perf_counter()
    with no_collection():
        await asyncio.gather(*map(client, range(clients)))
    return Measured(np.array(times), statuses, time.perf_counter() - begin)


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float, evenly: bool) -> Measured:
    """Requests at even or at random times, whatever becomes of those before."""
    connections, times, dues, statuses = Connections(port), array("d"), array("d"), Counter[str]()
    draw = random.Random(0)
    await connections.open(KEPT)

    async def one(due: float) -> None:
        status = await connections.send(draw.choice(requests))
        statuses[status] += 1
        if status == "200":
            times.append(1000 * (time.perf_counter() - due))
            dues.append(due)

    begin = due = time.perf_counter()
    waiting: set[asyncio.Task[None]] = set()
    with no_collection():
        while due < begin + seconds:
            due += 1 / rate if evenly else draw.expovariate(rate)
            await asyncio.sleep(max(0, due - time.perf_counter()))
            waiting.add(task := asyncio.create_task(one(due)))
            task.add_done_callback(waiting.discard)
        await asyncio.gather(*waiting)
    return Measured(np.array(times), statuses, time.perf_counter() - begin, np.array(dues))


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Without the garbage collector of this process, whose pauses of up to 0.1 s would count as the service's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def machine_alone(milliseconds: float, seconds: float) -> np.ndarray:
    """Times of nothing but additions, each about so long: what the machine does to any program now."""
    turns, start = 20_000, time.perf_counter()
    sum(range(turns))
    turns = round(turns * milliseconds / 1000 / (time.perf_counter() - start))
    times, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        sum(range(turns))
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times)


def find_capacity(port: int, requests: list[bytes]) -> tuple[int, Measured]:
    """The number of clients with the highest rate of good answers."""
    found = {}
    for clients in CLIENTS:
        found[clients] = uvloop.run(closed_loop(port, requests, clients, STEP_SECONDS))
        print(f"  {clients:3} clients: {found[clients].rate:6.0f} a second", flush=True)
    best = max(found, key=lambda clients: found[clients].rate if not found[clients].errors else 0)
    return best, found[best]


def attack(service: Service, requests: list[Hostile]) -> Counter[str]:
    """Send hostile requests, sixteen at a time, and count how they end."""

    def one(request: Hostile) -> str:
        with contextlib.suppress(TimeoutError), socket.create_connection(("127.0.0.1", service.port), 40) as connection:
            received = b""
            with contextlib.suppress(ConnectionError):  # refused before all was sent
                connection.sendall(request.content)
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    received += part
            if b"Traceback" in received or b'File "' in received:
                return "traceback"
            return received[9:12].decode() or "closed"
        return "no end within 40 s"

    with ThreadPoolExecutor(16) as pool:
        return Counter(pool.map(one, requests))


def swap(service: Service, releases: Path, source: Path, requests: list[bytes], swaps: int) -> tuple[Measured, float]:
    """New releases one after the other under load: the load, and the seconds that a release took to be served."""
    seconds = []

    def exchange() -> None:
        for number in range(swaps):
            target = releases / f"swap-{number}" / "release"
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("exports.json"))
            shutil.copyfile(source / "exports.json", target / "exports.json")
            start = time.monotonic()
            while service.version() != f"swap-{number}":
                if time.monotonic() - start > 60:
                    raise SystemExit(f"swap-{number} is not served:\n{service.log.read_text()[-2000:]}")
                time.sleep(0.1)
            seconds.append(time.monotonic() - start)

    async def both() -> Measured:
        exchanging = asyncio.create_task(asyncio.to_thread(exchange))
        parts = []
        while not exchanging.done():
            parts.append(await closed_loop(service.port, requests, 4, 1))
        await exchanging
        statuses = sum((part.statuses for part in parts), Counter[str]())
        return Measured(np.concatenate([part.milliseconds for part in parts]), statuses, sum(p.seconds for p in parts))

    return uvloop.run(both()), float(np.median(seconds))


def under_load(service: Service, requests: list[bytes], seconds: float, unbatched: float) -> list[tuple[str, str]]:
    """What each load gave, in rows; `unbatched` is the capacity of one image a batch."""
    uvloop.run(closed_loop(service.port, requests, 4, 3))
    single = uvloop.run(closed_loop(service.port, requests, 1, 10))
    usual = single.percentile(50)
    print("Batches of what waits:", flush=True)
    clients, capacity = find_capacity(service.port, requests)
    used = service.processor_ms()
    full = uvloop.run(closed_loop(service.port, requests, clients, seconds))
    used = service.processor_ms() - used
    alone = machine_alone(usual, seconds / 2)
    middle, last, worst = np.percentile(alone, [50, 99, 99.9])
    rows = [
        ("one request at a time", f"p50 {usual:.1f} ms, p99 {single.percentile(99):.1f} ms"),
        (
            "additions alone, about as long",
            f"p50 {middle:.1f} ms, p99 {last:.1f} ms ({last / middle:.1f} times), p99.9 {worst:.1f} ms "
            f"({worst / middle:.1f} times)",
        ),
        ("capacity", f"{capacity.rate:.0f} images/s ({clients} clients)"),
        (
            f"{seconds:.0f} s at capacity",
            f"{full.rate:.0f} images/s, {full.answers}; p50 {full.percentile(50):.0f} ms, "
            f"p99 {full.percentile(99):.0f} ms; {used / len(full.milliseconds):.2f} ms of a processor each",
        ),
    ]
    loads = [
        (whole, rate, evenly)
        for whole, rate in (("it", full.rate), ("one image a batch", unbatched))
        for evenly in (True, False)
    ]
    for whole, rate, evenly in loads:
        part = uvloop.run(open_loop(service.port, requests, 0.7 * rate, seconds, evenly))
        rows.append(
            (
                f"{seconds:.0f} s at 70% of {whole}, {'evenly spaced' if evenly else 'at random times'}",
                f"{part.rate:.0f} images/s, {part.answers}; p50 {part.percentile(50):.1f} ms, "
                f"p99 {part.percentile(99):.1f} ms: {part.percentile(99) / usual:.1f} times one request; "
                f"p99 of a quarter of a second {part.median_p99():.1f} ms in the median",
            )
        )
    return rows


def main() -> None:
    """Measure and print."""
    from cnn_transfer.serving import find_releases

    parser = argparse.ArgumentParser()
    parser.add_argument("--release", type=Path, default=ROOT / "data/06_models/release")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--hostile", type=int, default=1000)
    parser.add_argument("--swaps", type=int, default=20)
    arguments = parser.parse_args()
    found = find_releases(arguments.release)
    if not found:
        raise SystemExit(f"No release in {arguments.release}: kedro run, then kedro run --pipelines export")
    requests, rows = digits(), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, log = Path(found[0].address), folder / "log"
        releases = folder / "releases"
        shutil.copytree(source, releases / "first" / "release")
        with running(releases, log, most_batch=1) as service:
            print("One image a batch:", flush=True)
            clients, capacity = find_capacity(service.port, requests)
            rows.append(("capacity, one image a batch", f"{capacity.rate:.0f} images/s ({clients} clients)"))
        with running(releases, log) as service:
            rows += under_load(service, requests, arguments.seconds, capacity.rate)
        with running(releases, log, upload_seconds=3) as service:
            hostile = list(hostile_requests(arguments.hostile))
            attack(service, hostile[: arguments.hostile // 4])
            before = service.memory_mb()
            ends = attack(service, hostile)
            time.sleep(1)
            after, alive = service.memory_mb(), service.version() != ""
            answers = ", ".join(f"{status} × {count}" for status, count in sorted(ends.items()))
            rows.append(
                (
                    f"{len(hostile)} hostile requests",
                    f"crashes {int(not alive)}, tracebacks {ends['traceback']}, defects (500) {ends['500']}; memory "
                    f"{before:.0f} → {after:.0f} MB; {answers}",
                )
            )
        with running(releases, log, watch_seconds=0.5) as service:
            load, seconds = swap(service, releases, source, requests, arguments.swaps)
            rows.append(
                (
                    f"{arguments.swaps} new releases under load",
                    f"{load.errors} of {sum(load.statuses.values())} requests failed; each served {seconds:.1f} s "
                    f"after it was complete (looked for every 0.5 s); p99 {load.percentile(99):.0f} ms; memory "
                    f"{service.memory_mb():.0f} MB",
                )
            )
            code = service.stop()
            rows.append(("exit code after SIGTERM", str(code)))
    print(f"\nOn {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n\n| what | measured |\n|---|---|")
    for what, measured in rows:
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    main()
