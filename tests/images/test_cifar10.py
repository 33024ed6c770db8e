import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading

import keras
import numpy as np
import pytest

from cnn_transfer.images import DecodedImages, ImageFormat, list_cifar10

NAMES = [b"frog", b"truck", b"ship"]


class Archives(http.server.ThreadingHTTPServer):
    """Serves the files of a mapping and counts how often each was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.requests = {}, []

    def address(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files[self.path.removeprefix("/")]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Nothing: the log would go to the terminal."""


@pytest.fixture
def server():
    with Archives() as archives:
        thread = threading.Thread(target=archives.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield archives
        archives.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    """An empty cache: Keras reads KERAS_HOME once, when it is imported, so that only this reaches it afterwards."""
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


def archive(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            body = pickle.dumps(content, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return stream.getvalue()


@pytest.fixture(scope="module")
def pixels():
    """Five images, channels last."""
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def cifar(pixels):
    """An archive of CIFAR-10's form: two batches for training, one for testing, and the names of the classes."""
    rows = pixels.transpose(0, 3, 1, 2).reshape(5, 3072)
    return archive(
        {
            "data_batch_2": {b"data": rows[3:], b"labels": [1, 2]},
            "data_batch_1": {b"data": rows[:3], b"labels": [2, 0, 1]},
            "test_batch": {b"data": rows[::-1], b"labels": [0] * 5},
            "batches.meta": {b"label_names": NAMES},
        }
    )


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_lists_the_training_batches_with_the_names_of_their_classes(server, cifar, pixels):
    server.files["cifar.tar.gz"] = cifar
    listing = list_cifar10(server.address("cifar.tar.gz"), sha256(cifar))
    assert listing.table["label"].tolist() == ["ship", "frog", "truck", "truck", "ship"]
    assert listing.table["id"].is_unique
    read = list(listing.read(np.array([0, 2, 4])))
    np.testing.assert_array_equal(read, pixels[[0, 2, 4]])


def test_its_images_decode_like_any_other(server, cifar, pixels):
    server.files["cifar.tar.gz"] = cifar
    listing = list_cifar10(server.address("cifar.tar.gz"), sha256(cifar))
    (chunk,) = DecodedImages(listing, ImageFormat(image_size_px=32, channels=3), np.arange(5)).chunks()
    np.testing.assert_array_equal(chunk.pixels, pixels)
    assert chunk.rejected.empty


def test_an_archive_in_the_cache_is_not_downloaded_again(server, cifar):
    server.files["cifar.tar.gz"] = cifar
    first = list_cifar10(server.address("cifar.tar.gz"), sha256(cifar))
    second = list_cifar10(server.address("cifar.tar.gz"), sha256(cifar))
    assert server.requests == ["/cifar.tar.gz"]
    assert first.table.equals(second.table)


def test_a_download_is_one_line_in_the_log_where_nobody_watches_a_bar(server, cifar, capfd, caplog):
    server.files["cifar.tar.gz"] = cifar
    caplog.set_level("INFO", "cnn_transfer.downloads")
    for _ in range(2):
        list_cifar10(server.address("cifar.tar.gz"), sha256(cifar))
    told = capfd.readouterr().out  # where Kedro's logging is set up by another test, the line in the log, too
    assert "Downloading data" not in told
    assert "\x1b[1m" not in told
    address = server.address("cifar.tar.gz")
    assert caplog.messages == [f"Downloaded {address}, once: it is in Keras's cache now."]


def test_a_bar_is_drawn_on_a_terminal(server, cifar, monkeypatch, caplog):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", terminal)
    server.files["cifar.tar.gz"] = cifar
    list_cifar10(server.address("cifar.tar.gz"), sha256(cifar))
    assert f"Downloading data from {server.address('cifar.tar.gz')}" in terminal.getvalue()
    assert not caplog.messages


def test_archives_with_one_name_and_other_digests_do_not_mix(server, cifar, pixels):
    other = archive(
        {
            "data_batch_1": {b"data": pixels[:1].reshape(1, 3072), b"labels": [0]},
            "batches.meta": {b"label_names": [b"only"]},
        }
    )
    server.files |= {"a/cifar.tar.gz": cifar, "b/cifar.tar.gz": other}
    assert len(list_cifar10(server.address("a/cifar.tar.gz"), sha256(cifar)).table) == 5
    assert list_cifar10(server.address("b/cifar.tar.gz"), sha256(other)).table["label"].tolist() == ["only"]


def test_an_archive_with_another_digest_is_refused_before_anything_is_unpickled(server, keras_home):
    marker = keras_home / "unpickled"
    harmful = archive({"batches.meta": _Touch(str(marker)), "data_batch_1": {}})
    server.files["cifar.tar.gz"] = harmful
    with pytest.raises(ValueError, match="sha256"):
        list_cifar10(server.address("cifar.tar.gz"), "0" * 64)
    assert not marker.exists()
    with pytest.raises(AttributeError):  # the digest is what protects: with the right one the pickle runs
        list_cifar10(server.address("cifar.tar.gz"), sha256(harmful))
    assert marker.exists()


class _Touch:
    """A pickle of this makes a folder when it is read."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (os.mkdir, (self.file,))


def test_an_archive_of_another_form_is_refused(server):
    other = archive({"something": {b"data": []}})
    server.files["cifar.tar.gz"] = other
    with pytest.raises(ValueError, match=r"cifar\.tar\.gz must hold data_batch_\* and batches\.meta"):
        list_cifar10(server.address("cifar.tar.gz"), sha256(other))
