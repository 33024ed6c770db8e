"""The documentation names every setting, code and metric that there is."""

from pathlib import Path

from cnn_transfer.serving import Settings
from cnn_transfer.serving.metrics import Metrics
from cnn_transfer.serving.uploads import SERVICE_CODES

TEXT = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")


def test_every_setting_stands_with_its_default():
    for name, field in Settings.model_fields.items():
        [row] = [line for line in TEXT.splitlines() if line.startswith("| `") and f"`{name}`" in line.split("|")[1]]
        names = [part.strip(" `") for part in row.split("|")[1].split(",")]
        defaults = [part.strip(" `") for part in row.split("|")[2].split(",")]
        assert defaults[names.index(name)] == str(field.default)


def test_every_code_stands_with_its_status():
    for code, (status, _) in SERVICE_CODES.items():
        [row] = [line for line in TEXT.splitlines() if line.startswith("| `") and f"`{code}`" in line.split("|")[1]]
        assert str(status) in row.split("|")[2]


def test_every_metric_stands():
    for metric in Metrics().registry.collect():
        assert metric.name in TEXT or metric.name.startswith("process_")
