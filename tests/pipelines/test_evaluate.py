"""The stage `evaluate` where there is no honest figure: it says so in the summary and on the page, or it stops.

The stages before it run once, from a small network that was trained on nothing; each case changes a few of their
products and runs what depends on these, without the dear nodes that the case is not about.
"""

import csv
import html
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from matplotlib.figure import Figure

from cnn_transfer.datasets import EnvironmentDataset, FeaturesDataset, ImageSetDataset
from cnn_transfer.evaluation import as_svg, calibrate, describe_summary, predictions_without_labels
from cnn_transfer.images import count_splits, list_images
from cnn_transfer.models import copy_network, reinitialise
from cnn_transfer.pipeline_registry import register_pipelines
from cnn_transfer.settings import CONFIG_LOADER_ARGS
from cnn_transfer.training import LOG_COLUMNS
from cnn_transfer.training.checkpoints import NoCheckpoints

ROOT = Path(__file__).parents[2]
PIPELINES = register_pipelines()
EVALUATE = PIPELINES["evaluate"]
BEFORE = PIPELINES["transfer"].from_inputs("target_raw_images", "source_model") - EVALUATE
FINETUNE = PIPELINES["finetune_target"]
# What takes long, mostly drawing: a case that is not about it has it from the usual run.
ASIDE = frozenset(
    {
        "compare_representations",
        "damage_test_images",
        "draw_damaged_images",
        "draw_familiarity",
        "draw_probabilities",
        "draw_results",
        "exchange_backgrounds",
        "explain",
        "find_confusions",
        "pack_predictor",
        "suspect_labels",
        "write_page_of_suspects",
    }
)
# Names that HTML, Markdown, mathtext or a font could choke on, in the order of the classes.
NAMES = {"blob": "$x$", "column": "<b>", "diagonal": "a|b", "row": "犬"}
PLACEHOLDERS = re.compile(r"\b(nan|NaN|NaT|None|inf)\b|<NA>")


class Kept(MemoryDataset):
    """Data in memory that a runner does not throw away, in the form that the catalog gives it: no number is NaN."""

    def __init__(self, **data):
        super().__init__(**data, copy_mode="assign")

    def save(self, data):
        match data:
            case Figure():
                data = as_svg(data)
            case dict():
                data = json.loads(json.dumps(data, allow_nan=False))
            case pd.DataFrame():
                stream = io.BytesIO()
                data.to_parquet(stream)
                data = pd.read_parquet(stream)
        super().save(data)

    def _release(self):
        pass


def catalog_of(pipeline, known, folder=None):
    """Everything in memory but image sets and features, which are folders by nature."""
    catalog = DataCatalog()
    for name in sorted(pipeline.datasets() | {*known}):
        if name in known:
            catalog[name] = Kept(data=known[name])
        elif name.endswith("_checkpoints"):
            catalog[name] = Kept(data=NoCheckpoints())
        elif name == "target_images":
            catalog[name] = ImageSetDataset(filepath=str(folder / name))
        elif name in {"target_features", "random_features"}:
            catalog[name] = FeaturesDataset(filepath=str(folder / name))
        else:
            catalog[name] = Kept()
    return catalog


def named_parameters(parameters, names):
    found = {"parameters": parameters}
    for name in names:
        if name.startswith("params:"):
            value = parameters
            for part in name.removeprefix("params:").split("."):
                value = value[part]
            found[name] = value
    return found


@pytest.fixture(scope="module")
def manifest(class_folder, tmp_path_factory):
    """The shapes under other names, each taken by one of two cameras; one label in eight is wrong.

    Paths are relative: they decide on the splits, which are not to depend on where the tests run.
    """
    file = tmp_path_factory.mktemp("manifest") / "shapes.csv"
    names = list(NAMES.values())
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "camera"])
        for place, folder in enumerate(NAMES):
            for number, path in enumerate(sorted((class_folder / folder).iterdir())[:60]):
                label = names[(place + (number % 8 == 7)) % len(names)]
                table.writerow([os.path.relpath(path, file.parent), label, ("left", "right")[number % 2]])
    return file


@pytest.fixture(scope="module")
def parameters():
    values = OmegaConfigLoader(str(ROOT / "conf"), env="test", **CONFIG_LOADER_ARGS)["parameters"]
    values["precision"] = "float32"
    values["migrate_model"] |= {"copies": 0, "most_unlabelled": 0, "grids": [2]}
    values["finetune_target"]["fine_tuning"] |= {"steps": 50, "validations": 2, "strategy": "full", "mixtures": 0}
    values["finetune_target"]["fine_tuning"] |= {"most_doublings": 0, "learning_rates": [0.01]}
    values["finetune_target"]["baseline"] |= {"steps": 60, "validations": 2, "most_doublings": 0}
    values["finetune_target"]["baseline"]["learning_rates"] = [0.01]
    values["evaluate"] |= {"bootstrap_samples": 100, "mistakes_shown": 2, "least_accuracy": 1, "most_false_alarms": 0}
    values["evaluate"]["explanations"] |= {"images_shown": 2, "images_judged": 4, "curve_steps": 2, "path_steps": 2}
    values["evaluate"]["explanations"]["methods"] = ["grad_cam"]
    return values


def run(pipeline, data, folder=None):
    """The data with what a pipeline makes of them."""
    catalog = catalog_of(pipeline, {name: data[name] for name in pipeline.inputs() & data.keys()}, folder)
    SequentialRunner().run(pipeline, catalog)
    return data | {name: catalog.load(name) for name in pipeline.datasets()}


@pytest.fixture(scope="module")
def usual(parameters, manifest, tiny_network, card, tmp_path_factory):
    """All data of a run in which nothing is amiss and the transferred network is delivered.

    Random weights get a head and no training, which saves one. Of networks as small, chance can make that from scratch
    the best: which is delivered is not left to it.
    """
    data = named_parameters(parameters, BEFORE.inputs() | EVALUATE.inputs()) | {
        "source_model": tiny_network(),
        "source_model_card": card,
        "source_training_log": pd.DataFrame([["pretraining", 0, 0, None, None, 2.3, 0.1]], columns=LOG_COLUMNS),
        "target_raw_images": list_images(manifest),
        "run_records": {
            "a.node": {"seconds": 1.0, "peak_memory_mb": 900.0, "images_per_second": None, "reused_from": None}
        },
        "environment": EnvironmentDataset().load(),
    }
    random, deliver = (FINETUNE.only_nodes(f"finetune_target.{name}") for name in ("finetune_random", "deliver"))
    data = run(BEFORE - random - deliver, data, tmp_path_factory.mktemp("run"))
    tuning = "params:finetune_target.fine_tuning"
    made = run(random, data | {tuning: data[tuning] | {"strategy": "probe"}})
    data |= {name: made[name] for name in random.all_outputs()}
    data |= {f"delivered_{name}": data[f"target_{name}"] for name in ("model", "model_card")}
    return run(EVALUATE, data)


def run_again(usual, pipeline=EVALUATE, also=(), **changed):
    """The data of the run with changed inputs (`params__x` for `params:x`): what depends on them is made again.

    Of what is aside, only what `also` names.
    """
    changed = {name.replace("__", ":"): value for name, value in changed.items()}
    left = ASIDE - {*also}
    pipeline = Pipeline([node for node in pipeline.nodes if node.name.rpartition(".")[2] not in left])
    return run(pipeline.from_inputs(*pipeline.datasets() & changed.keys()), usual | changed)


def seen(data):
    """What a reader sees of the page, and what a picture says; parameters and cards are no results."""
    page = re.sub(r"<(style|script|pre)\b.*?</\1>|data:[^\"]*", "", data["report"], flags=re.DOTALL)
    pictured = " ".join(re.findall(r'aria-label="([^"]*)"', page))
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page) + pictured))


def check_honest(data):
    """No placeholder anywhere that a reader or a program looks."""
    for text in (seen(data), data["model_card"], "\n".join(describe_summary(data["summary"]))):
        found = PLACEHOLDERS.search(text)
        assert found is None, text[max(0, found.start() - 100) : found.end() + 100]
    svg = re.sub(r"data:[^\"]*", "", data["report"])
    assert not re.search(r'[ "]-?nan\b', svg)


def constant(network):
    """The same network, to which all images look the same."""
    copy = copy_network(network)
    copy.set_weights([np.zeros_like(weight) for weight in copy.get_weights()])
    return copy


def without(splits, drop):
    """The splits in which some of the test images are not used."""
    return splits.assign(split=splits["split"].mask(splits["split"].eq("test") & drop, "unused"))


def with_splits(usual, splits, **changed):
    return run_again(usual, target_splits=splits, target_image_counts=count_splits(splits), **changed)


def test_usual_run_is_honest(usual):
    check_honest(usual)
    summary = usual["summary"]
    assert summary["strategy"] == "full"
    assert summary["target_accuracy"] > 0.5
    assert not usual["transfer_verdict"]["baseline_failed"]
    assert "THE BASELINE" not in seen(usual)


def test_unknown_threshold_answers_an_unknown_share(usual):
    assert usual["summary"]["threshold"] is None
    assert usual["summary"]["answered_share"] is None
    assert "Sure enough to answer – no threshold is known to reach an accuracy of 98%" in seen(usual)


def test_unknown_familiarity_counts_nothing(usual):
    assert usual["familiarity"]["limit"] is None
    assert usual["familiarity_of_test_images"]["unfamiliar"].isna().all()
    assert usual["unfamiliar_images"]["unfamiliar"] is None
    assert usual["unfamiliar_images"]["unfamiliar_share"] is None
    assert "none can be called unfamiliar" in usual["unfamiliar_sheet"]
    assert ">familiar" not in usual["unfamiliar_sheet"]
    assert seen(usual).count("No image can be called unfamiliar") == 1


def test_class_without_test_images_is_named_and_has_no_figures(usual):
    splits = usual["target_splits"]
    data = with_splits(usual, without(splits, splits["label"] == "犬"), also={"draw_results", "find_confusions"})
    check_honest(data)
    statement = "No test image is of class 犬: averages over classes leave it out."
    assert statement in data["summary"]["statements"]
    assert statement in seen(data)
    assert data["per_class_metrics"].set_index("label").loc["犬", ["recall", "auroc"]].isna().all()
    assert re.search(r"犬 0 – ", seen(data))


def test_test_images_of_one_class_have_no_auroc(usual):
    splits = usual["target_splits"]
    data = with_splits(usual, without(splits, splits["label"] != "a|b"), also={"draw_results", "draw_probabilities"})
    check_honest(data)
    statement = "All test images are of class a|b: there is no AUROC."
    assert statement in data["summary"]["statements"]
    assert statement in seen(data)
    assert data["target_metrics"]["auroc"] is None


@pytest.mark.parametrize(("images", "also"), [(1, ASIDE), (3, {"compare_representations"})])
def test_few_test_images_have_wide_intervals_and_say_so(usual, images, also):
    splits = usual["target_splits"]
    kept = splits[splits["split"] == "test"].groupby("label").head(1).index[:images]
    data = with_splits(usual, without(splits, ~splits.index.isin(kept)), also=also)
    check_honest(data)
    summary = data["summary"]
    assert summary["n_test"] == images
    assert summary["target_accuracy_high"] - summary["target_accuracy_low"] > 0.5
    few = f"{images} test image{'s are' if images > 1 else ' is'} few for calibration errors: they say next to nothing."
    for text in (" ".join(summary["statements"]), seen(data)):
        assert few in text
    assert f"What the fine-tuning changed cannot be said: it takes at least 5 test images, not {images}." in seen(data)
    assert "No kind of image is recognised clearly worse" not in seen(data)


def test_no_test_image_is_an_error_with_its_remedy(usual):
    with pytest.raises(ValueError, match="test has no images to predict"):
        with_splits(usual, without(usual["target_splits"], True))


@pytest.mark.parametrize("name", ["target", "baseline", "random", "delivered"])
def test_network_that_predicts_nan_is_named_in_an_error(usual, name):
    broken = copy_network(usual[f"{name}_model"])
    broken.set_weights([np.full_like(weight, np.nan) for weight in broken.get_weights()])
    card = usual[f"{name}_model_card"]
    with pytest.raises(ValueError, match="must be finite") as error:
        run_again(usual, **{f"{name}_model": broken})
    message = str(error.value)
    named = broken.name if "Features" in message else f"({card['strategy']}, from {card['initialised_from']})"
    for part in (
        named,
        " images, such as ../",
        ".png. Its weights have diverged: train it again at a lower learning rate",
    ):
        assert part in message


@pytest.fixture(scope="module")
def dense_network():
    """Without any convolution."""
    inputs = keras.Input((28, 28, 1), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255, dtype="float32")(inputs)
    hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(scaled))
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(hidden), name="dense")


def test_network_without_convolution_says_why_nothing_can_be_shown(usual, parameters, dense_network):
    trained = reinitialise(dense_network, seed=1)
    block = parameters["evaluate"]
    both = block | {"explanations": block["explanations"] | {"methods": ["grad_cam", "integrated_gradients"]}}
    networks = {"migrated_model": dense_network, "target_model": trained, "delivered_model": trained}
    data = run_again(usual, also={"explain", "compare_representations"}, params__evaluate=both, **networks)
    check_honest(data)
    scores = {row["method"]: row for row in data["explanations"]["methods"]}
    assert "Grad-CAM weighs the activations of a convolutional layer" in scores["grad_cam"]["statement"]
    assert scores["integrated_gradients"]["images"] == 4
    assert "Grad-CAM weighs the activations of a convolutional layer" in seen(data)
    assert data["map_similarity"]["correlation"] is None
    assert data["representation_similarity"].empty
    assert "no convolution" in data["map_similarity"]["statement"]
    assert data["map_similarity"]["statement"] in seen(data)


def test_baseline_that_learnt_nothing_is_called_failed(usual):
    data = run_again(usual, baseline_model=constant(usual["baseline_model"]))
    check_honest(data)
    assert data["transfer_verdict"]["baseline_failed"]
    for text in (data["summary"]["sentence"], seen(data), "\n".join(describe_summary(data["summary"]))):
        assert re.search("THE BASELINE (FAILED|IS NOT SHOWN TO HAVE LEARNT ANYTHING): ", text)
        assert "A comparison with it proves little." in text
    assert "Give training from scratch a fair chance" in seen(data)


def test_without_baseline_nothing_is_compared(usual, parameters):
    block = parameters["finetune_target"]
    off = block["baseline"] | {"enabled": False}
    scratch = FINETUNE.only_nodes("finetune_target.train_from_scratch")
    made = run_again(usual, scratch, **{"params:finetune_target.baseline": off})
    data = run_again(usual, also={"draw_results"}, **{name: made[name] for name in scratch.all_outputs()})
    check_honest(data)
    summary = data["summary"]
    assert summary["verdict"] is None
    assert summary["baseline_accuracy"] is None
    assert summary["training_cost_ratio"] is None
    for text in (summary["sentence"], seen(data), "\n".join(describe_summary(summary))):
        assert "No baseline was trained: nothing to compare with." in text
    assert "No verdict" in seen(data)
    assert "not reached" not in seen(data)
    assert "From scratch" not in "\n".join(describe_summary(summary))


def test_without_random_weights_the_origin_is_not_claimed(usual):
    made = run_again(usual, FINETUNE.only_nodes("finetune_target.finetune_random"), random_plan={})
    plan = usual["transfer_plan"]
    evidence = {"transferred": plan["evidence"]["transferred"]}
    data = run_again(
        usual,
        also={"draw_results"},
        **{name: made[name] for name in ("random_model", "random_model_card", "random_trials")},
        transfer_plan=plan | {"evidence": evidence, "source_helps": None, "sentence": "A ridge."},
        depth_scores=usual["depth_scores"].assign(random_accuracy=np.nan),
    )
    check_honest(data)
    summary = data["summary"]
    assert summary["random_accuracy"] is None
    assert summary["knowledge"] is None
    assert summary["method"] is None
    assert "The source's weights bring" not in seen(data)
    for text in (summary["sentence"], seen(data)):
        assert "Random weights were not tried: what the source's weights bring by themselves is not known." in text


def test_without_validation_images_left_out_training_images_stand_for_them(usual, parameters):
    splits = usual["target_splits"].replace({"split": {"validation": "unused"}})
    block = parameters["finetune_target"]
    auto = block["fine_tuning"] | {"strategy": "auto"}
    made = run_again(usual, FINETUNE, target_splits=splits, **{"params:finetune_target.fine_tuning": auto})
    changed = {name: made[name] for name in FINETUNE.all_outputs() & EVALUATE.inputs()}
    data = with_splits(usual, splits, also={"draw_probabilities", "suspect_labels"}, **changed)
    check_honest(data)
    judged, training = data["calibration_predictions"], splits[splits["split"] == "training"]
    assert judged["left_out"].all()
    assert judged["id"].tolist() == training["id"].tolist()
    for fitted in ("calibration", "conformal_sets", "familiarity"):
        assert data[fitted]["images"] == len(training)
    chosen, summary = data["abstention"]["chosen"], data["summary"]
    assert (chosen["images"], chosen["judged_on"]) == (len(training), "left-out training images")
    assert (summary["n_validation"], summary["verdict"]) == (0, None)
    assert "chosen on left-out training images" in seen(data)
    missing = "There are no validation images: no baseline was tuned"
    for text in (" ".join(summary["statements"]), seen(data), data["model_card"]):
        assert missing in text
    assert "left-out training images" in data["model_card"]
    assert set(data["suspected_labels"]["split"]) <= {"training", "test"}


def test_a_fine_tuned_network_without_validation_images_is_judged_by_nothing(usual):
    splits = usual["target_splits"].replace({"split": {"validation": "unused"}})
    card = usual["delivered_model_card"] | {"strategy": "lp_ft"}
    also = {"draw_probabilities", "draw_familiarity", "pack_predictor", "damage_test_images", "draw_damaged_images"}
    data = with_splits(usual, splits, also=also, delivered_model_card=card, target_model_card=card)
    check_honest(data)
    assert data["calibration_predictions"].empty
    assert data["summary"]["threshold"] is None
    for statement in (
        "The probabilities are left as they are: no validation images.",
        "No threshold reaches an accuracy of 0.98 with 95% confidence: there are 0 validation images",
        "Every set holds all 4 classes: a coverage of 95% needs at least 19 validation images, there are 0.",
    ):
        assert statement in seen(data), statement


def test_a_head_of_other_weights_is_not_judged_by_what_the_transferred_head_said(usual):
    splits = usual["target_splits"].replace({"split": {"validation": "unused"}})
    card = usual["delivered_model_card"] | {"strategy": "probe"}
    other = card | {"initialised_from": "another network"}
    node = EVALUATE.only_nodes("evaluate.predict_for_calibration")
    data = run_again(usual, node, target_splits=splits, delivered_model_card=other, target_model_card=card)
    assert data["calibration_predictions"].empty


@pytest.fixture(scope="module")
def of_probe(usual):
    """The data of the run in which the head as it was fitted is the best."""
    probe, card = usual["migrated_model"], usual["target_model_card"] | {"strategy": "probe"}
    cards = {"target_model_card": card, "delivered_model_card": card}
    also = {"compare_representations", "suspect_labels", "draw_probabilities"}
    return run_again(usual, also=also, target_model=probe, delivered_model=probe, **cards)


def test_left_out_training_images_join_the_validation_images_of_a_head_as_it_was_fitted(usual, of_probe):
    data, splits = of_probe, usual["target_splits"]
    check_honest(data)
    judged = data["calibration_predictions"]
    expected = [splits["id"][splits["split"] == split].tolist() for split in ("validation", "training")]
    assert judged["id"][~judged["left_out"]].tolist() == expected[0]
    assert judged["id"][judged["left_out"]].tolist() == expected[1]
    columns = [name for name in judged if name.startswith("probability_")]
    left_out = usual["left_out_predictions"]
    np.testing.assert_array_equal(judged[columns][judged["left_out"]], left_out[columns])
    chosen = data["abstention"]["chosen"]
    assert chosen["judged_on"] == "validation and left-out training images"
    assert chosen["images"] == sum(map(len, expected))
    assert data["familiarity"]["held_out"]
    assert data["familiarity"]["images"] == len(expected[0])
    assert "chosen on validation and left-out training images" in seen(data)


def test_the_predictor_of_a_head_knows_what_it_would_say_of_its_unlabelled_images_without_them(usual):
    images = usual["target_images"]
    ids = images.table["id"].iloc[4::-1]
    said = predictions_without_labels(ids, np.resize(np.eye(4), (5, 4)), images.class_names)
    node = EVALUATE.only_nodes("evaluate.pack_predictor")
    other = usual["target_model_card"] | {"strategy": "lp_ft"}
    probe = other | {"strategy": "probe"}
    kept = {}
    scratch = other | {"strategy": "from scratch", "initialised_from": "random weights"}
    for delivered, target in ((probe, probe), (other, other), (other, probe), (scratch, probe)):
        cards = {"delivered_model_card": delivered, "target_model_card": target}
        data = run_again(usual, node, {"pack_predictor"}, unlabelled_predictions=said, **cards)
        kept[delivered["strategy"], target["strategy"]] = data["predictor"].references.unlabelled
    of_head, *of_others, of_scratch = kept.values()
    assert of_scratch.empty
    assert of_head["pixel_digest"].tolist() == images.table["pixel_digest"].iloc[4::-1].tolist()
    columns = [f"probability_{name}" for name in images.class_names]
    expected = calibrate(said, usual["calibration"])[columns]
    np.testing.assert_allclose(of_head[columns], expected, atol=1e-6)
    for table in of_others:
        assert table.columns.tolist() == ["pixel_digest"]
        assert table["pixel_digest"].tolist() == of_head["pixel_digest"].tolist()


def test_probe_changed_nothing(of_probe):
    statement = "Nothing: the transferred network keeps the head in closed form as it is, on the weights of the source."
    assert of_probe["map_similarity"]["statement"] == statement
    assert statement in seen(of_probe)
    assert of_probe["representation_similarity"].empty


def test_a_delivered_network_that_was_not_transferred_is_described_as_what_it_is(usual):
    about_another = "This is about the transferred network; another one is delivered."
    assert about_another not in seen(usual)
    assert "made by transfer learning" in usual["model_card"]
    card = usual["baseline_model_card"]
    data = run_again(usual, delivered_model=usual["baseline_model"], delivered_model_card=card)
    check_honest(data)
    assert about_another in seen(data)
    assert "trained from scratch\nwith CNN Transfer" in data["model_card"]
    assert "transfer learning" not in data["model_card"]


def test_negative_transfer_is_loud_and_advises_before_any_figure(usual):
    networks = {"baseline_model": usual["migrated_model"], "target_model": constant(usual["target_model"])}
    data = run_again(usual, also={"compare_representations", "draw_results"}, **networks)
    check_honest(data)
    summary = data["summary"]
    assert summary["verdict"] == "negative"
    assert summary["difference_high"] < 0
    assert summary["advice"]
    lines = describe_summary(summary)
    assert any(line.startswith("Verdict") and "NEGATIVE TRANSFER" in line for line in lines)
    assert sum(line.startswith("To try") for line in lines) == len(summary["advice"])
    page = data["report"]
    assert 'class="verdict negative"' in page
    text = seen(data)
    assert "▼ Negative transfer" in text
    first_figure = text.index("Accuracy after transfer")
    assert text.index("NEGATIVE TRANSFER") < first_figure
    for advice in summary["advice"]:
        assert text.index(re.sub(r"\s+", " ", advice)) < first_figure
    notice = re.search(r'<div class="notice".*?</div>', page, re.DOTALL)
    assert notice
    assert html.escape(summary["advice"][0], quote=False)[:40] in notice[0]


def test_tables_are_of_the_answers_that_calibration_changed(usual):
    bias = {"method": "temperature_and_bias", "temperature": 2.0, "bias": [2.0, 0.0, 0.0, 0.0]}
    calibration, before = usual["calibration"] | bias, usual["delivered_predictions"]
    answers = calibrate(before, calibration)
    assert (answers["predicted"] != before["predicted"]).any()
    changed = {"calibration": calibration, "calibrated_predictions": answers}
    data = run_again(usual, also={"find_confusions"}, **changed)
    check_honest(data)
    right = answers["predicted"] == answers["label"]
    recall = data["per_class_metrics"].set_index("label")["recall"]
    np.testing.assert_allclose(recall, right.groupby(answers["label"]).mean()[recall.index])
    counts = data["confusion_matrix"].set_index("label")
    assert np.trace(counts.to_numpy()) == right.sum()
    for pair in data["confused_pairs"].itertuples():
        assert counts.loc[pair.label, f"predicted_{pair.predicted}"] == pair.images
    cameras = data["slices"][data["slices"]["attribute"] == "camera"]
    assert np.average(cameras["accuracy"], weights=cameras["images"]) == pytest.approx(right.mean())
    assert (
        "`delivered_model.keras`, too, which returns probabilities alone, and these are not calibrated"
        in data["model_card"]
    )


def test_explanations_and_sets_can_be_left_out(usual, parameters):
    block = parameters["evaluate"]
    off = block | {"explanations": block["explanations"] | {"methods": []}, "set_coverage": None}
    nodes = [f"evaluate.{name}" for name in ("explain", "predict_sets", "pack_predictor", "summarise", "write_report")]
    data = run_again(usual, EVALUATE.only_nodes(*nodes), {"explain", "pack_predictor"}, params__evaluate=off)
    check_honest(data)
    assert data["explanations"]["methods"] == []
    assert "No method was asked for: there is nothing to explain." in seen(data)
    assert data["prediction_sets"].empty
    assert "Sets of classes instead of one" not in seen(data)


@pytest.mark.parametrize("name", NAMES.values())
def test_class_names_survive_pages_cards_and_figures(usual, name):
    page, card = usual["report"], usual["model_card"]
    assert f">{html.escape(name)}<" in page
    assert name in seen(usual)
    assert "<b>" not in page
    drawn = usual["confusion_plot"]
    assert drawn.count(html.escape(name)) >= 2
    row = {"$x$": r"\$x\$", "<b>": r"\<b\>", "a|b": r"a\|b"}.get(name, name)
    line = next(line for line in card.splitlines() if line.startswith(f"| {row} |"))
    assert len(re.findall(r"(?<!\\)\|", line)) == 5


def test_classes_may_be_called_like_columns(usual):
    names = dict(zip(NAMES.values(), ["id", "label", "predicted", "split"], strict=True))  # in the same order
    images, splits, left_out = (usual[name] for name in ("target_images", "target_splits", "left_out_predictions"))
    splits = splits.assign(label=splits["label"].map(names))
    said = {name: left_out[name].map(names) for name in ("label", "predicted")}
    cards = [f"{network}_model_card" for network in ("target", "baseline", "random", "delivered")]
    data = with_splits(
        usual,
        splits,
        also=ASIDE - {"compare_representations", "damage_test_images", "draw_damaged_images"},
        target_images=replace(
            images,
            table=images.table.assign(label=images.table["label"].map(names)),
            class_names=tuple(names.values()),
        ),
        left_out_predictions=left_out.assign(**said).rename(
            columns={f"probability_{old}": f"probability_{new}" for old, new in names.items()}
        ),
        **{card: usual[card] | {"class_names": list(names.values())} for card in cards},
    )
    check_honest(data)
    assert data["confusion_matrix"]["label"].tolist() == list(names.values())
    pd.testing.assert_frame_equal(
        data["confusion_matrix"].iloc[:, 1:].set_axis(range(4), axis=1),
        usual["confusion_matrix"].iloc[:, 1:].set_axis(range(4), axis=1),
    )
    assert data["per_class_metrics"]["recall"].tolist() == usual["per_class_metrics"]["recall"].tolist()
    assert data["summary"]["delivered_accuracy"] == usual["summary"]["delivered_accuracy"]
    for name in names.values():
        assert data["confusion_plot"].count(f">{name}<") >= 2
        assert f"\n| {name} |" in data["model_card"]


def test_names_of_sources_survive_pages_cards_and_figures(usual):
    name = "$x_1$ <b>| 犬"
    card = usual["delivered_model_card"] | {"trained_on": name, "initialised_from": f"{name} up to block1"}
    log = usual["target_training_log"].assign(phase=f"from {name}", learning_rate=0.0)
    plan = usual["transfer_plan"] | {"source": name}
    changed = {"target_training_log": log, "delivered_model_card": card, "transfer_plan": plan}
    data = run_again(usual, also={"draw_results"}, **changed)
    check_honest(data)
    assert "<b>" not in data["report"]
    assert f"Transfer from {name} to {name}" in seen(data)
    assert "from $x_1$ &lt;b&gt;| " in data["training_curves"]
    _, _, body = data["model_card"][4:].partition("\n---\n")
    assert r"\$x\_1\$ \<b\>\| 犬 up to block1" in body
    assert "<b>" not in body.replace(r"\<b\>", "")


def test_columns_of_the_manifest_are_slices(usual):
    slices = usual["slices"].set_index(["attribute", "slice"])
    assert {"left", "right"} <= set(slices.loc["camera"].index)
    assert re.search(r"camera left \d+ \d", seen(usual))


def test_groups_widen_the_intervals_and_are_named(usual):
    splits = usual["target_splits"]
    numbers = pd.Series(np.arange(len(splits)) // 6, splits.index).astype("str")
    grouped = splits.assign(group=numbers.radd("patient "))
    data = with_splits(usual, grouped)
    check_honest(data)
    of_test = grouped["group"][grouped["split"] == "test"].nunique()
    statement = f"The 72 test images are of {of_test} groups, which the intervals take into account."
    assert any(line.startswith(statement) for line in data["summary"]["statements"])
    assert statement in seen(data)

    def width(metrics):
        return metrics["accuracy_high"] - metrics["accuracy_low"]

    assert data["target_metrics"]["groups"] == of_test
    assert width(data["target_metrics"]) > width(usual["target_metrics"])
    assert (data["slices"]["groups"] < data["slices"]["images"]).any()
