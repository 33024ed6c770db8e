"""The image: built from its Dockerfile on a clean Debian, run with a read-only root as a user without rights, stopped.

No registry of images is needed: debootstrap makes the base from the machine's own package sources, buildah executes the
Dockerfile without a daemon. The image is run by chroot in namespaces of its own, as the first process there, as in a
container.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from projects import ROOT

DOCKERFILE = ROOT / "deploy/container/Dockerfile"
STORE = ROOT / ".container"  # kept between runs: the base
NEEDED = [program for program in ("buildah", "debootstrap", "unshare", "chroot") if shutil.which(program) is None]

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or bool(NEEDED), reason=f"needs root and {', '.join(NEEDED) or 'nothing else'}"
    ),
    pytest.mark.timeout(900),
    pytest.mark.nightly,
]
BUILDAH = ["buildah", "--storage-driver", "overlay", "--root", str(STORE / "images"), "--runroot", str(STORE / "state")]
IN_THE_IMAGE = """
set -e
mount --bind "$ROOT" "$ROOT" && cd "$ROOT"
mount --bind "$DATA" data && mount -t tmpfs tmpfs tmp && mount -t proc proc proc && mount --rbind /dev dev
mount -o remount,bind,ro "$ROOT"
exec chroot --userspec="$USER_OF_IMAGE" . /usr/bin/env -C "$FOLDER" "$@"
"""


def buildah(*arguments):
    done = subprocess.run([*BUILDAH, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


def make_base():
    """Debian with Python, and nothing else, as an image."""
    if "localhost/base" in buildah("images", "--format", "{{.Name}}"):
        return
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    source = subprocess.check_output(["apt-get", "indextargets", "--format", "$(SITE)"], text=True).splitlines()[0]
    root = STORE / "debian"
    packages = "--include=python3,python3-venv,ca-certificates"
    suite = release["VERSION_CODENAME"].strip('"')
    shutil.rmtree(root, ignore_errors=True)  # of a test that was killed
    # What debootstrap mounts there is gone with its namespace.
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase", packages, suite, str(root), source]
    subprocess.run(command, check=True, capture_output=True)
    container = buildah("from", "scratch")
    buildah("copy", "--quiet", container, str(root), "/")
    buildah("commit", "--quiet", "--rm", container, "localhost/base")
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def image():
    """The image's configuration and a mounted container of it."""
    STORE.mkdir(exist_ok=True)
    os.environ["BUILDAH_ISOLATION"] = "chroot"
    make_base()
    options = []
    for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        most = resource.getrlimit(limit)[1]  # buildah asks for more, which not every root may
        options += ["--ulimit", f"{name}={most}:{most}"] if most != resource.RLIM_INFINITY else []
    for path in ("/etc/pip.conf", "/etc/ssl/certs"):  # how this machine reaches its package index
        if os.path.exists(path):
            options += ["--volume", f"{path}:{path}:ro"]
    ignore = ["--ignorefile", f"{DOCKERFILE}.dockerignore", "--file", str(DOCKERFILE)]
    options += ["--network", "host", "--pull-never", "--build-arg", "BASE=localhost/base"]
    buildah("build", *options, *ignore, "--tag", "localhost/cnn-transfer", ".")
    container = buildah("from", "--pull-never", "localhost/cnn-transfer")
    try:
        root = buildah("mount", container)
        yield json.loads(buildah("inspect", "--type", "image", "localhost/cnn-transfer"))["OCIv1"]["config"], root
    finally:
        buildah("rm", container)


def start(image, data, *arguments, entrypoint=None, **variables):
    """The image's entrypoint with other arguments, as its user, in its folder, with its variables, root read-only."""
    configuration, root = image
    environment = {"ROOT": root, "DATA": str(data), "USER_OF_IMAGE": configuration["User"]}
    environment["FOLDER"] = configuration["WorkingDir"]
    settings = [*configuration["Env"], *(f"{key}={value}" for key, value in variables.items())]
    command = ["env", "-i", *settings, *(entrypoint or configuration["Entrypoint"]), *arguments]
    return subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", IN_THE_IMAGE, "bash", *command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def small_run():
    """The parameters of conf/test on the command line, for the image's production environment."""

    def leaves(block, prefix=""):
        for key, value in block.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{key}.")
            elif not isinstance(value, list):
                yield f"{prefix}{key}={'null' if value is None else value}"

    parameters = yaml.safe_load((ROOT / "conf/test/parameters.yml").read_text())
    del parameters["learning_curve"]  # lists, which the command line cannot say; no part of this graph
    return ",".join(leaves(parameters))


@pytest.fixture
def data(tmp_path, image):
    """A volume that belongs to the image's user."""
    folder = tmp_path / "data"
    folder.mkdir()
    user, group = image[0]["User"].split(":")
    os.chown(folder, int(user), int(group))
    return folder


def test_the_image_runs_as_a_user_without_rights_and_stops_its_process_itself(image):
    configuration, root = image
    assert configuration["User"] == "10001:10001"
    assert configuration["Entrypoint"] == ["kedro"]  # no shell that keeps signals to itself
    assert configuration["StopSignal"] == "SIGTERM"
    assert not [name for name in configuration["Env"] if "SECRET" in name or "PASSWORD" in name]
    (packages,) = Path(root).glob("opt/venv/lib/python3.*/site-packages")
    assert not {"pytest", "mypy", "ruff", "pip"} & set(os.listdir(packages))
    assert sorted(os.listdir(f"{root}/app")) == [".telemetry", "conf", "data", "pyproject.toml", "src"]


def test_the_image_exports_and_serves(image, data):
    imports = "import ai_edge_litert.interpreter, onnx, onnxruntime, tf2onnx"
    looks = start(image, data, "-c", imports, entrypoint=["python"])
    printed, _ = looks.communicate(timeout=120)
    assert looks.returncode == 0, printed
    serves = start(image, data, "-m", "cnn_transfer.serving", entrypoint=["python"], CNN_TRANSFER_RELEASE="/data/none")
    printed, _ = serves.communicate(timeout=120)
    assert serves.returncode == 1
    assert printed.startswith(
        "There is no release in /data/none. Make one: kedro run, then kedro run --pipelines export"
    )


def test_the_image_has_imagenets_weights_and_writes_them_to_its_volume_in_any_environment(image, data):
    imports = start(image, data, "run", "--env", "imagenet", "--pipelines", "import_source")
    printed, _ = imports.communicate(timeout=200)
    assert imports.returncode == 0, printed
    assert list(data.glob("06_models/source_model.keras/*/source_model.keras"))


def test_sigterm_reaches_the_run_and_the_next_container_goes_on(image, data):
    command = ["run", "--env", "production", "--params", small_run()]
    stopped = start(image, data, *command, TRANSFER_RUN_ID="nightly")
    printed = ""
    while "target.check_images" not in printed:
        line = stopped.stdout.readline()
        assert line, printed
        printed += line
    begun = time.monotonic()
    first_process = int(subprocess.check_output(["pgrep", "--parent", str(stopped.pid)], text=True))
    os.kill(first_process, signal.SIGTERM)
    stopped.communicate(timeout=30)
    assert stopped.returncode == 75
    assert time.monotonic() - begun < 10

    goes_on = start(image, data, *command, TRANSFER_RUN_ID="nightly")
    printed, _ = goes_on.communicate(timeout=500)
    assert goes_on.returncode == 0, printed
    assert "done already in this run" in printed
    assert "Verdict" in printed
    assert (data / "08_reporting/report.html/nightly/report.html").exists()
    assert {file.stat().st_uid for file in data.rglob("*")} == {10001}
