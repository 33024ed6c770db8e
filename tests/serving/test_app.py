"""Over a real socket: the service says what the predictor says, refuses with codes, and never shows a traceback."""

import asyncio
import io
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image
from services import VERSION, form, serving

from cnn_transfer.images import ImageFormat
from cnn_transfer.prediction import WITHHELD, Predictor
from cnn_transfer.serving import labelling, releases
from cnn_transfer.serving.answers import Explanation, Predictions, Refusal
from cnn_transfer.serving.app import API_PAGE_POLICY, POLICY
from cnn_transfer.serving.metrics import Metrics
from cnn_transfer.serving.settings import Settings
from cnn_transfer.serving.uploads import SERVICE_CODES, Upload, UploadMemory
from images.odd_images import harmful, odd, torn

NOTED = ("withheld", "unlike", "predicted")  # what is counted of a labelled image
LISTED_ONLY = {"hidden_file", "system_file"}  # names of files in a folder; an upload is what it holds


@pytest.fixture(scope="module")
def photos(class_folder):
    """Images of all classes by name."""
    return {f"{path.parent.name}-{path.name}": path.read_bytes() for path in sorted(class_folder.glob("*/09[0-3].png"))}


def labels_quickly(client, monkeypatch, images):
    """Let up to so many images at once be labelled where requests are read, more in a thread."""
    slot = client.service.slot
    monkeypatch.setattr(slot, "_model", replace(slot.current, quick_images=images))


def test_says_what_the_predictor_says(client, photos, release_folder):
    expected = Predictor.load(release_folder, "onnx")(list(photos.values()))
    for start in range(0, len(photos), 4):
        names = list(photos)[start : start + 4]
        answer = client.send(*((name, photos[name]) for name in names))
        assert answer.status == 200
        Predictions.model_validate(answer.json)
        assert answer.json["model"] == {
            "version": VERSION, "runtime": "onnx", "class_names": ["blob", "column", "diagonal", "row"],
        }  # fmt: skip
        for place, (name, image) in enumerate(zip(names, answer.json["images"], strict=True), start):
            row = expected.iloc[place]
            assert image["name"] == name
            assert image["answer"] == (None if row["withheld"] else row["answer"])
            assert (image["withheld"], image["predicted"]) == (row["withheld"], row["predicted"])
            assert image["unfamiliar"] == row["unfamiliar"]
            assert image["probabilities"]["blob"] == pytest.approx(row["probability_blob"], abs=1e-5)
            assert " · ".join(image["set"]) == row["set"]
            assert [near["id"] for near in image["nearest"]] == row[["nearest_1", "nearest_2", "nearest_3"]].tolist()


def test_pictures_of_the_nearest_training_images_are_there(client, photos):
    image = client.send(*list(photos.items())[:1]).json["images"][0]
    for near in image["nearest"]:
        assert near["id"].split("/")[0] == near["label"]
        picture = client.get(near["thumbnail"])
        assert (picture.status, picture.headers["content-type"]) == (200, "image/webp")
        assert picture.body[8:12] == b"WEBP"
    for address in ("/training-images/100000", "/training-images/-1", "/training-images/0?version=other"):
        assert client.get(address).json["error"]["code"] == "not_found"


def test_uploads_pass_the_intake_of_the_training(client):
    files = {**torn(0), **harmful(100), **odd(200)}
    for name, (content, expected) in files.items():
        answer = client.send((name.encode("ascii", "replace").decode(), content))
        image = answer.json["images"][0]
        if expected.reason in LISTED_ONLY or not expected.reason:
            found = set(image.get("notes", [image.get("error", {}).get("code")]))
            assert expected.notes <= found if not expected.reason else found, name
            continue
        Refusal.model_validate(answer.json)
        assert image["error"]["code"] == answer.json["error"]["code"] == expected.reason, name
        status = {"too_large": 413, "not_an_image": 415, "other_file": 415}.get(expected.reason, 422)
        assert answer.status == status, name


def test_one_usable_image_is_enough(client, photos):
    good = next(iter(photos.values()))
    answer = client.send(("torn.png", good[:60]), ("huge.bin", bytes(1_100_000)), ("good.png", good))
    assert answer.status == 200
    codes = [image.get("error", {}).get("code") for image in answer.json["images"]]
    assert codes == ["truncated", "file_too_large", None]


def test_without_a_usable_image_there_is_one_code_or_several(client, photos):
    answer = client.send(("a.png", b""), ("b.png", b""))
    assert (answer.status, answer.json["error"]["code"]) == (422, "empty_file")
    answer = client.send(("a.png", b""), ("b.png", b"text"))
    assert (answer.status, answer.json["error"]["code"]) == (422, "no_usable_image")
    assert [image["error"]["code"] for image in answer.json["images"]] == ["empty_file", "not_an_image"]
    assert client.send(("big.png", bytes(1_100_000))).status == 413


@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"{}", "application/json", "wrong_content_type"),
        (b"x", "", "wrong_content_type"),
        (b"x", "multipart/form-data", "malformed"),
        (b"x" * 1000, "multipart/form-data; boundary=limit", "malformed"),
        (
            b'--limit\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx',
            "multipart/form-data; boundary=limit",
            "malformed",
        ),
        (form(("a.png", b"x"))[0][:-4], "multipart/form-data; boundary=limit", "malformed"),
        (form(("a.png", b"x"), ("b.png", b"x" * 100))[0][:-50], "multipart/form-data; boundary=limit", "malformed"),
        (b"", "multipart/form-data; boundary=limit", "malformed"),
        (form(("a.png", b"x"))[0], "multipart/form-data; boundary=limit; charset=undefined", "malformed"),
        (b"--limit--\r\n", "multipart/form-data; boundary=limit", "no_file"),
        (b"--limit--", "multipart/form-data; boundary=limit", "no_file"),
        (form(("", b""))[0], "multipart/form-data; boundary=limit", "no_file"),
        (form(*[("a.png", b"x")] * 5)[0], "multipart/form-data; boundary=limit", "too_many_files"),
        (form(*[("a.png", b"x")] * 10_000)[0], "multipart/form-data; boundary=limit", "too_many_files"),
        (form(("a.png", bytes(1_600_000)))[0], "multipart/form-data; boundary=limit", "request_too_large"),
    ],
)
def test_refuses_requests_with_a_code(client, path, body, kind, code):
    answer = client.ask("POST", path, body, {"content-type": kind})
    assert (answer.status, answer.json["error"]["code"]) == (SERVICE_CODES[code][0], code)
    Refusal.model_validate(answer.json)


def test_images_of_a_form_that_was_cut_off_are_not_labelled(client, photos):
    body, kind = form(*list(photos.items())[:2])
    answer = client.ask("POST", "/predict", body[:-100], {"content-type": kind})
    assert (answer.status, answer.json["images"]) == (400, [])
    assert answer.json["error"]["detail"] == (
        "The form must end with its closing boundary, and does not: it was cut off."
    )


def test_limits_hold_whatever_the_length_says(client):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=limit\r\n"
    said = client.raw(head + b"Content-Length: 900000000000\r\nConnection: close\r\n\r\n")
    assert b" 413 " in said.split(b"\r\n")[0]
    assert b"request_too_large" in said
    part = b"--limit\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n" + bytes(300_000)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for _ in range(6))
    unsaid = client.raw(head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert b"request_too_large" in unsaid


def test_a_slow_upload_ends_after_its_time(client):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=limit\r\n"
    start = time.monotonic()
    answer = client.raw(head + b"Content-Length: 1000\r\nConnection: close\r\n\r\n--limit")
    assert 0.9 < time.monotonic() - start < 10
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"too_slow" in answer


def test_names_are_repeated_without_folders_and_mean_nothing(client, photos):
    good = next(iter(photos.values()))
    names = ["../../etc/passwd.png", "C:\\\\photos\\\\cat.png", "<script>alert(1)</script>.png", "x" * 500 + ".png"]
    images = client.send(*((name, good) for name in names)).json["images"]
    assert [image["name"] for image in images[:3]] == ["passwd.png", "cat.png", "script>.png"]
    assert len(images[3]["name"]) == 200


def test_a_defect_shows_an_id_that_is_in_the_log_and_no_traceback(client, photos, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("secret of the code")

    monkeypatch.setattr(Predictor, "judge", broken)
    answer = client.send(*list(photos.items())[:1])
    assert (answer.status, answer.json["error"]["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    name = re.search("id ([0-9a-f]+)", answer.json["error"]["detail"]).group(1)
    assert f"Request {name} to '/predict' failed" in caplog.text
    assert "secret of the code" in caplog.text
    monkeypatch.undo()
    assert client.send(*list(photos.items())[:1]).status == 200


def test_explains_one_image(client, photos):
    answer = client.send(*list(photos.items())[:1], path="/explain")
    assert answer.status == 200
    Explanation.model_validate(answer.json)
    assert answer.json["class"] == client.send(*list(photos.items())[:1]).json["images"][0]["predicted"]
    assert answer.json["map"].startswith("data:image/png;base64,")
    assert client.send(*list(photos.items())[:2], path="/explain").json["error"]["code"] == "too_many_files"
    assert client.send(("a.png", b"text"), path="/explain").json["images"][0]["error"]["code"] == "not_an_image"


def test_tells_of_its_model_and_its_health(client, release_folder):
    model = client.get("/model").json
    assert model["version"] == VERSION
    assert model["facts"]["card"]["architecture"] == "tiny"
    assert model["comparison"]["statement"] == "There is no release of another network before this one."
    assert model["limits"] == {"most_files": 4, "most_file_mb": 1.0, "most_request_mb": 1.5}
    assert client.get("/model-card").body == (release_folder / "README.md").read_bytes()
    assert client.get("/model-card").headers["content-type"].startswith("text/markdown")
    assert client.get("/live").status == client.get("/ready").status == 200
    assert client.get("/ready").json["version"] == VERSION


def test_says_no_at_ready_when_it_stops_and_still_answers(client, photos):
    client.service.stopping = True
    try:
        assert (client.get("/ready").status, client.get("/live").status) == (503, 200)
        assert client.send(*list(photos.items())[:1]).status == 200
    finally:
        client.service.stopping = False


def test_a_request_that_the_server_no_longer_waits_for_is_told_so(client, photos, monkeypatch):
    async def cancelled(*_):
        raise asyncio.CancelledError("Task cancelled, timeout graceful shutdown exceeded")  # as uvicorn does

    monkeypatch.setattr("cnn_transfer.serving.app.read_uploads", cancelled)
    answer = client.send(*list(photos.items())[:1])
    assert (answer.status, answer.json["error"]["code"]) == (503, "stopping")
    assert client.metric('cnn_transfer_requests_total{code="503",path="/predict"}')


def test_other_addresses_and_methods_are_refused_in_the_same_form(client):
    for method, path, status, code in [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/static/../app.py", 404, "not_found"),
        ("GET", "/static/%2e%2e/app.py", 404, "not_found"),
        ("GET", "/swagger-ui/../../__init__.py", 404, "not_found"),
        ("GET", "/swagger-ui/%2e%2e/%2e%2e/__init__.py", 404, "not_found"),
        ("GET", "/predict", 405, "wrong_method"),
        ("GET", "/training-images/one", 400, "bad_request"),
    ]:
        answer = client.ask(method, path)
        assert (answer.status, answer.json["error"]["code"]) == (status, code), path


def test_every_answer_has_safe_headers(client, photos):
    answers = {path: client.get(path) for path in ("/docs", "/model", "/nothing", "/metrics")}
    answers["/predict"] = client.send(*list(photos.items())[:1])
    for path, answer in answers.items():
        policy = API_PAGE_POLICY if path == "/docs" else POLICY  # a browser obeys all that it gets
        assert answer.headers["content-security-policy"] == policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_need_no_other_server(client, path):
    page = client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    addresses = re.findall('(?:src|href)="([^"#:]+)"', page.body.decode())
    assert len(addresses) > 1
    for address in addresses:
        assert client.get("/" + address.removeprefix("/")).status == 200


def test_the_addresses_are_described(client):
    document = client.get("/openapi.json").json
    assert {"/predict", "/explain", "/model", "/ready", "/metrics"} <= set(document["paths"])
    predict = document["paths"]["/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    statuses = {str(SERVICE_CODES[code][0]) for code in ("no_file", "too_slow", "overloaded", "malformed")}
    assert statuses | {"200", "413", "415"} <= set(predict["responses"])


def test_counts_what_it_did(client, photos):
    def figures():
        return [
            client.metric(f"cnn_transfer_{line}")
            for line in (
                'requests_total{code="200",path="/predict"}',
                'rejected_images_total{reason="empty_file"}',
                'refused_requests_total{code="empty_file"}',
                'requests_total{code="404",path="other"}',
                'request_seconds_count{path="/predict"}',
            )
        ]

    before = figures()
    client.send(*list(photos.items())[:2])
    client.send(("a.png", b""))
    client.get("/not/here")
    assert [after - earlier for after, earlier in zip(figures(), before, strict=True)] == [1, 1, 1, 1, 2]
    assert client.metric(f'cnn_transfer_model_info{{runtime="onnx",version="{VERSION}"}}') == 1
    assert client.metric("cnn_transfer_waiting_images") == 0


def test_what_alerts_ask_for_is_there_before_it_happens(release_folder):
    """Prometheus's increase() is 0 where a counter appears with its first event."""
    with serving(release_folder) as client:
        lines = {
            line.rpartition(" ")[0]: line.rpartition(" ")[2]
            for line in client.get("/metrics").body.decode().splitlines()
        }
    for alert in (
        'model_loads_total{result="failed"}',
        'requests_total{code="500",path="/predict"}',
        'requests_total{code="503",path="/predict"}',
        *(f'images_total{{outcome="{outcome}"}}' for outcome in ("answered", *WITHHELD, "rejected")),
    ):
        assert lines[f"cnn_transfer_{alert}"] == "0.0"
    assert lines['cnn_transfer_model_loads_total{result="served"}'] == "1.0"


@pytest.mark.parametrize("quick_images", [0, 64])
def test_requests_at_once_are_labelled_together_and_get_their_own_answers(client, photos, monkeypatch, quick_images):
    labels_quickly(client, monkeypatch, quick_images)
    expected = {name: client.send((name, content)).json["images"][0] for name, content in photos.items()}
    before = client.metric("cnn_transfer_batch_images_count")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(client.send, [*photos.items()] * 4))
    for answer in answers:
        image = answer.json["images"][0]
        assert image["predicted"] == expected[image["name"]]["predicted"]
        assert image["confidence"] == pytest.approx(expected[image["name"]]["confidence"], abs=1e-5)
    if not quick_images:
        assert client.metric("cnn_transfer_batch_images_count") - before < len(answers)


def test_a_batch_waits_for_requests_that_have_arrived_and_are_being_read(monkeypatch):
    batches, model = [], SimpleNamespace(quick_images=64)
    monkeypatch.setattr(labelling, "_label", lambda _, images: batches.append(images) or [dict.fromkeys(NOTED, "")])
    labeller = labelling.Labeller(Settings(), Metrics())

    async def label(image, rounds):
        for _ in range(rounds):
            await asyncio.sleep(0)
        await labeller._together(model, [image])

    async def label_all():
        async with labeller.running():
            await asyncio.gather(label("first", 0), label("being read", 1), label("much later", 20))

    asyncio.run(label_all())
    assert batches == [["first", "being read"], ["much later"]]


def test_a_small_file_of_many_pixels_is_decoded_in_a_thread(client, photos, monkeypatch):
    stream, decode, threads = io.BytesIO(), labelling._decode, []
    Image.new("L", (3000, 3000)).save(stream, "WEBP", lossless=True)
    assert len(stream.getvalue()) < labelling.SMALL_BYTES

    def watched(*arguments):
        threads.append(threading.current_thread().name)
        found = decode(*arguments)
        threads.append(type(found).__name__)
        return found

    monkeypatch.setattr(labelling, "_decode", watched)
    assert client.send(("a.webp", stream.getvalue())).status == 200
    small, refused, large, decoded = threads
    assert (small.startswith("decode"), refused, large.startswith("decode"), decoded) == (
        False, "Rejected", True, "Decoded",
    )  # fmt: skip
    threads.clear()
    assert client.send(("a.png", next(iter(photos.values())))).status == 200
    assert threads == [small, "Decoded"]


def test_images_decoded_at_once_have_few_pixels_together_however_many_cores_there_are(monkeypatch):
    stream, guard, pixels, most = io.BytesIO(), threading.Lock(), [0], [0]
    Image.new("L", (4000, 3000)).save(stream, "PNG")

    def watched(upload, *_):
        declared = 12 * 10**6 if upload.name.isdigit() else 0
        with guard:
            pixels[0] += declared
            most[0] = max(most[0], pixels[0])
        time.sleep(0.05)
        with guard:
            pixels[0] -= declared
        return labelling.Rejected(upload.name, "")

    monkeypatch.setattr(labelling, "_decode", watched)
    monkeypatch.setattr(labelling.os, "cpu_count", lambda: 16)
    uploads = [Upload(f"{number}", stream.getvalue(), 10_000) for number in range(12)]
    uploads.append(Upload("no image", b"text" * 2500, 10_000))
    labeller, image_format = labelling.Labeller(Settings(), Metrics()), ImageFormat(image_size_px=28, channels=1)
    decoded = asyncio.run(labeller._decode_all(uploads, image_format))
    assert [image.reason for image in decoded] == [upload.name for upload in uploads]
    assert most[0] == 48 * 10**6


def test_an_image_larger_than_the_room_is_decoded_alone():
    room = labelling.DecodingRoom(10)
    with room.share(100):
        assert room._used == 10
    assert room._used == 0


def test_a_large_image_is_not_overtaken_by_small_ones_that_come_later():
    room, order = labelling.DecodingRoom(10), []

    def decode(pixels):
        with room.share(pixels):
            order.append(pixels)

    with ThreadPoolExecutor(2) as pool, room.share(4):
        pool.submit(decode, 8)
        while not room._first.locked():
            time.sleep(0.001)
        pool.submit(decode, 3)
        time.sleep(0.05)
        assert order == []
    assert order == [8, 3]


def test_only_what_takes_long_is_labelled_in_a_thread(client, photos, monkeypatch):
    files, label, threads = list(photos.items())[:2], labelling._label, []

    def watched(*arguments):
        threads.append(threading.current_thread().name)
        return label(*arguments)

    monkeypatch.setattr(labelling, "_label", watched)
    labels_quickly(client, monkeypatch, 1)
    assert client.send(files[0]).status == client.send(*files).status == 200
    assert [name.startswith("label") for name in threads] == [False, True]


@pytest.mark.parametrize(
    ("processor_ms", "wall_ms", "quick_images"),
    [(0, 0, 6), (8, 8, 2), (30, 30, 0), (0, 8 * releases.MOST_WAITING, 2), (8, 8 * releases.MOST_WAITING, 2)],
)
def test_how_many_images_are_labelled_quickly_is_measured(
    release_folder, monkeypatch, processor_ms, wall_ms, quick_images
):
    """A batch may take 20 ms of the processor, or four times as long beside other work; batches double up to 6."""
    judge, labelled = Predictor.judge, []

    def counted(self, pixels, *digests):
        labelled.extend(pixels)
        return judge(self, pixels, *digests)

    def clock(milliseconds):
        return lambda: len(labelled) * milliseconds / 1000

    monkeypatch.setattr(Predictor, "judge", counted)
    times = SimpleNamespace(perf_counter=clock(wall_ms), thread_time=clock(processor_ms))
    monkeypatch.setattr(releases, "time", times)
    with serving(release_folder, most_batch=6) as client:
        assert client.service.slot.current.quick_images == quick_images


def test_more_than_can_wait_is_refused_at_once(release_folder, photos):
    content = next(iter(photos.values()))
    with serving(release_folder, most_waiting_images=4) as client:
        client.service.labeller.check_load(1000)  # alone a request may be as large as it likes
        client.service.labeller._images = 4
        answer = client.send(("a.png", content))
        assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        client.service.labeller._images = 0
        client.service.labeller._explanations = 8
        assert client.send(("a.png", content), path="/explain").json["error"]["code"] == "overloaded"
        assert client.send(("a.png", content)).status == 200
        client.service.memory.most = 10
        assert client.send(("a.png", content)).json["error"]["code"] == "overloaded"
        assert client.service.memory.used == 0


def test_memory_of_uploads_is_given_back():
    memory = UploadMemory(10)
    with memory.share() as one:
        one.take(6)
        with memory.share() as other:
            other.take(4)
            assert memory.used == 10
        assert memory.used == 6
    assert memory.used == 0


def test_a_client_that_goes_away_harms_nobody(client, photos):
    body, kind = form(*list(photos.items())[:2])
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    before = client.metric('cnn_transfer_requests_total{code="499",path="/predict"}')
    for sent in (len(head) + 10, len(head) + len(body) // 2):
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.sendall((head + body)[:sent])
    assert client.send(*list(photos.items())[:1]).status == 200
    deadline = time.monotonic() + 10
    while client.metric('cnn_transfer_requests_total{code="499",path="/predict"}') < before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
