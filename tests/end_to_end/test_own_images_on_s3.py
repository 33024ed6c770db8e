"""Users' own images on an S3 server through the real command line."""

import io
import json
import zipfile

import pandas as pd
import pytest
import s3fs
from test_own_images import class_folders, photo

from proxies import cutting_proxy

pytestmark = pytest.mark.slow


def test_prepares_images_of_a_bucket(project, kedro, bucket):
    s3 = s3fs.S3FileSystem()

    def put(name, content):
        s3.pipe_file(f"{bucket}/{name}", content)

    class_folders(put, "photos", 20)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        class_folders(archive.writestr, "photos of 2019", 12, first=50_000)
    put("old=2019 photos.zip", packed.getvalue())
    put("photos/dark/cut.jpg", photo("dark", 1)[:700])
    put("photos/dark/.DS_Store", b"")
    paths = f"target_images=s3://{bucket}/photos,source_images=s3://{bucket}/old=2019 photos.zip"
    result = kedro(project, "run", "--env", "folders", "--pipelines", "preprocess", "--params", paths)
    assert result.returncode == 0, result.stdout
    assert "Warning" not in result.stdout
    counts = json.loads(max((project / "data/02_intermediate/target_intake.json").glob("*/*")).read_text())
    assert (counts["listed"], counts["used"], counts["set_aside"]) == (62, 60, {"hidden_file": 1, "truncated": 1})
    rejected = pd.read_parquet(max((project / "data/08_reporting/target_rejected_images.parquet").glob("*/*")))
    assert dict(zip(rejected["id"], rejected["reason"], strict=True)) == {
        "dark/.DS_Store": "hidden_file",
        "dark/cut.jpg": "truncated",
    }
    splits = pd.read_parquet(max((project / "data/03_primary/source_splits.parquet").glob("*/*")))
    assert len(splits) == 36


def test_an_empty_address_stops_the_run_before_it_starts(project, kedro, bucket):
    paths = f"target_images=s3://{bucket}/none"
    result = kedro(project, "run", "--env", "folders", "--pipelines", "preprocess", "--params", paths)
    assert result.returncode != 0
    assert f"nothing at s3://{bucket}/none. Check the parameter target_images" in result.stdout
    assert "Traceback" not in result.stdout


def test_a_server_that_falls_silent_ends_the_run_which_goes_on_once_it_answers(
    project, kedro, bucket, s3_server, monkeypatch
):
    s3 = s3fs.S3FileSystem()
    class_folders(lambda name, content: s3.pipe_file(f"{bucket}/{name}", content), "photos", 20)
    monkeypatch.setenv("TRANSFER_RUN_ID", "night")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy = cutting_proxy(s3_server["AWS_ENDPOINT_URL"], f"/{bucket}/photos/".encode(), whole=30, share=0)
    path = f"target_images=s3://{bucket}/photos"
    with proxy as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        silent = kedro(project, "run", "--env", "folders", "--pipelines", "preprocess", "--params", path)
        assert silent.returncode == 1, silent.stdout
        assert "images could not be read since the store or disk that holds them does not answer" in silent.stdout
        assert "TRANSFER_RUN_ID=night" in silent.stdout
        assert "Traceback" not in silent.stdout
        assert not (project / "data/02_intermediate/target_images/night/target_images").exists()
        proxy.path = b""
        answered = kedro(project, "run", "--env", "folders", "--pipelines", "preprocess", "--params", path)
    assert answered.returncode == 0, answered.stdout
    counts = json.loads(max((project / "data/02_intermediate/target_intake.json").glob("night/*")).read_text())
    assert (counts["listed"], counts["used"], counts["set_aside"]) == (60, 60, {})
