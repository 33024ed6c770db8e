"""Logs for collectors: every line is a JSON object that says where it comes from."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
import logging, logging.config, sys, warnings
import yaml
logging.config.dictConfig(yaml.safe_load(open(sys.argv[1])))
from cnn_transfer.log_origin import current_node
logger = logging.getLogger("cnn_transfer.images")
logger.info("%s listed\\nin two lines, é", 3)
current_node.set("preprocess.source.check_images")
logger.warning("one set aside", extra={"code": "truncated"})
warnings.warn("old")
raise ValueError("no images")
"""


def test_every_line_is_json_with_run_and_node_also_warnings_and_uncaught_errors():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT / "conf/logging_json.yml")],
        env=os.environ | {"TRANSFER_RUN_ID": "nightly-7"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 1
    assert not ended.stdout
    assert [line["level"] for line in lines] == ["INFO", "WARNING", "WARNING", "CRITICAL"]
    assert list(lines[0]) == ["time", "level", "logger", "message", "run_id", "node"]
    assert lines[0] | {"time": ""} == {
        "time": "",
        "level": "INFO",
        "logger": "cnn_transfer.images",
        "message": "3 listed\nin two lines, é",
        "run_id": "nightly-7",
        "node": None,
    }
    assert lines[1]["node"] == "preprocess.source.check_images"
    assert lines[1]["code"] == "truncated"
    assert lines[2]["logger"] == "py.warnings"
    assert "ValueError: no images" in lines[3]["traceback"]
