"""Commands that only look must not pay for heavy libraries; every spelling of the main command runs the same graph."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOKING = (
    "registry list",
    "registry describe transfer",
    "catalog list-patterns",
    "catalog describe-datasets",
    "--version",
)
WATCH = """
import sys
from kedro.framework.cli.cli import main
heavy = ("tensorflow", "keras", "matplotlib.pyplot", "sklearn", "onnxruntime", "mlflow", "ray")
heavy += tuple(f"scipy.{part}" for part in ("linalg", "ndimage", "optimize", "sparse", "special", "stats"))
for command in sys.argv[1:]:
    sys.argv = ["kedro", *command.split()]
    code = 0
    try:
        main()
    except SystemExit as error:
        code = error.code
    print("\\nafter", command, "loaded:", sorted(name for name in heavy if name in sys.modules), "exit:", code)
"""


def test_commands_that_only_look_import_nothing_heavy():
    result = subprocess.run(
        [sys.executable, "-c", WATCH, *LOOKING],
        cwd=ROOT,
        env=os.environ | {"DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in result.stdout.splitlines() if line.startswith("after ")] == [
        f"after {command} loaded: [] exit: 0" for command in LOOKING
    ], result.stdout + result.stderr


def test_registry_lists_the_stages_and_what_they_add_up_to():
    from cnn_transfer.pipeline_registry import ALTERNATIVES, FURTHER, STAGES, register_pipelines

    pipelines, whole = register_pipelines(), {"transfer", "transfer_pretrained", "release", "release_pretrained"}
    assert set(pipelines) == {*STAGES, *ALTERNATIVES, *FURTHER, *whole, "audit_sample", "__default__"}
    assert pipelines["transfer"] == pipelines["__default__"]
    assert sum(len(pipelines[stage].nodes) for stage in STAGES) == len(pipelines["transfer"].nodes)


def test_an_audit_is_two_pipelines_between_which_people_label():
    from cnn_transfer.pipeline_registry import register_pipelines
    from cnn_transfer.pipelines import audit

    sample, result = (register_pipelines()[name] for name in ("audit_sample", "audit"))
    assert {node.name for node in sample.nodes} | {node.name for node in result.nodes} == {
        node.name for node in audit.create_pipeline().nodes
    }
    assert "audit_labels" in result.inputs() - sample.datasets()
    assert sample.outputs() == {"audit_known", "audit_page"}


@pytest.mark.parametrize("whole", ["transfer", "transfer_pretrained"])
def test_release_is_a_whole_run_and_the_export_of_its_own_network(whole):
    from cnn_transfer.pipeline_registry import register_pipelines

    pipelines = register_pipelines()
    release = pipelines[whole.replace("transfer", "release")]
    assert {node.name for node in release.nodes} == {
        node.name for part in (whole, "export") for node in pipelines[part].nodes
    }
    read = {name for name in release.inputs() - pipelines[whole].inputs() if not name.startswith("params:")}
    assert read == {"published_releases"}  # nothing of another run but what was released before


def test_an_imported_source_takes_the_place_of_source_images_and_pretraining():
    from cnn_transfer.pipeline_registry import register_pipelines

    pipelines = register_pipelines()
    pretrained = pipelines["transfer_pretrained"]
    namespaces = {node.namespace for node in pretrained.nodes}
    assert namespaces == {"preprocess.target", "import_source", "migrate_model", "finetune_target", "evaluate"}
    assert pipelines["import_source"].outputs() == pipelines["pretrain_source"].outputs()
    read = {name for name in pretrained.inputs() if not name.startswith("params:")}
    states = {f"{node}_checkpoints" for node in ("finetune", "finetune_random", "train_from_scratch")}
    assert read == {"pretrained_networks", "target_raw_images", "run_records", "parameters", "environment"} | states
