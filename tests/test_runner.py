"""What a run does again, what it skips, and what it takes over from another one."""

import json
import logging
import shutil
from contextlib import nullcontext

import click
import numpy as np
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, DatasetError, MemoryDataset, Version
from kedro.pipeline import Node, Pipeline
from PIL import Image

from cnn_transfer.datasets import (
    CheckpointsDataset,
    ChosenPredictorDataset,
    ImageSetDataset,
    JSONDataset,
    NewImagesDataset,
    OfModelDataset,
    RawImagesDataset,
    RunRecordsDataset,
    TextDataset,
)
from cnn_transfer.exit_codes import STOPPED
from cnn_transfer.hooks import CheckHooks, RecordHooks, take_over_inputs
from cnn_transfer.images import DecodedImages, ImageFormat, decoding
from cnn_transfer.runner import ResumingRunner
from cnn_transfer.termination import Terminated
from cnn_transfer.training.checkpoints import FitState

CALLS: list[str] = []


def double(x):
    CALLS.append("double")
    return 2 * x


def halve(x):
    CALLS.append("halve")
    return x / 2


def parity(x):
    CALLS.append("parity")
    return x % 2


def fail(x):
    raise ValueError(f"{x} is no good")


def describe(x, y):
    CALLS.append("describe")
    return {"x": x, "y": y}


def node(function, inputs, outputs):
    return Node(function, inputs, outputs, name=function.__name__)


def stage(*nodes):
    return Pipeline(nodes, namespace="stage", prefix_datasets_with_namespace=False)


GRAPH = stage(
    node(parity, "params:number", "odd"),
    node(double, "odd", "doubled"),
    node(describe, ["doubled", "params:word"], "text"),
)


@pytest.fixture
def catalog(tmp_path):
    """The catalog of one run, with its parameters."""

    def make(run, number=3, word="a", reuse=True, names=("odd", "doubled", "text", "halved")):
        version = Version(run, run)
        entries = {name: JSONDataset(filepath=str(tmp_path / f"{name}.json"), version=version) for name in names}
        parameters = {"params:number": number, "params:word": word, "params:reuse": reuse}
        return DataCatalog(
            {
                **entries,
                **{name: MemoryDataset(value) for name, value in parameters.items()},
                "run_records": RunRecordsDataset(filepath=str(tmp_path / "records"), version=version),
            }
        )

    return make


@pytest.fixture
def run():
    """Run a pipeline as a session does; gives the names of the functions that were called."""

    def run_pipeline(pipeline, catalog, **options):
        hooks = _create_hook_manager()
        hooks.register(RecordHooks())
        hooks.hook.after_catalog_created(
            catalog=catalog, conf_catalog={}, conf_creds={}, parameters={}, save_version="", load_versions={}
        )
        CALLS.clear()
        ResumingRunner().run(pipeline, catalog, hook_manager=hooks, run_id="session", **options)
        return list(CALLS)

    return run_pipeline


def test_a_run_that_is_done_does_nothing_again(catalog, run, tmp_path):
    assert run(GRAPH, catalog("a")) == ["parity", "double", "describe"]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run(GRAPH, catalog("a")) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files


def test_a_run_goes_on_where_it_failed(catalog, run):
    broken = stage(node(parity, "params:number", "odd"), node(fail, "odd", "doubled"))
    with pytest.raises(ValueError, match="1 is no good"):
        run(broken, catalog("a"))
    assert run(GRAPH, catalog("a")) == ["double", "describe"]
    assert catalog("a").load("text") == {"x": 2, "y": "a"}


def test_what_is_gone_from_a_run_is_made_again(catalog, run, tmp_path):
    run(GRAPH, catalog("a"))
    shutil.rmtree(tmp_path / "doubled.json/a")
    assert run(GRAPH, catalog("a")) == ["double"]
    assert catalog("a").load("doubled") == 2


def test_what_another_process_has_done_meanwhile_is_not_done_again(catalog, run, monkeypatch):
    asked = []

    def be_overtaken():
        asked.append(None)
        if len(asked) == 2:  # the run has read what was done, and has made the first node
            run(GRAPH, catalog("a"))

    monkeypatch.setattr(ResumingRunner, "before_node", staticmethod(be_overtaken))
    assert run(GRAPH, catalog("a")) == ["double", "describe"], "by the other process only"


def test_how_to_go_on_is_told_when_a_run_fails(catalog, run, caplog):
    with pytest.raises(ValueError, match="no good"):
        run(stage(node(fail, "params:number", "odd")), catalog("nightly-3"))
    assert "the same command with TRANSFER_RUN_ID=nightly-3" in caplog.text


def test_a_run_that_was_stopped_says_by_what_and_how_to_go_on(catalog, run, caplog, monkeypatch):
    def stop():
        raise Terminated(STOPPED)

    monkeypatch.setattr(ResumingRunner, "before_node", staticmethod(stop))
    with pytest.raises(Terminated):
        run(GRAPH, catalog("nightly-3"))
    assert "Stopped by SIGTERM. What is done is kept." in caplog.text


def test_a_run_asks_before_each_node_whether_it_is_to_end(catalog):
    runner, asked = ResumingRunner(), []

    def end_after_one():
        asked.append(len(CALLS))
        if len(asked) == 2:
            raise SystemExit(75)

    CALLS.clear()
    runner.before_node = end_after_one
    with pytest.raises(SystemExit):
        runner.run(GRAPH, catalog("a"), _create_hook_manager())
    assert asked == [0, 1]


def test_another_run_takes_over_what_has_not_changed(catalog, run, tmp_path, caplog):
    run(GRAPH, catalog("a"))
    caplog.set_level(logging.INFO)
    assert run(GRAPH, catalog("b", word="other")) == ["describe"]
    assert "2 nodes are unchanged since an earlier run, whose results are taken over" in caplog.text
    assert "stage (2)" in caplog.text
    assert catalog("b").load("doubled") == 2
    told = catalog("b").load("run_records")
    assert {name: record["reused_from"] for name, record in told.items()} == {
        "stage.parity": "a",
        "stage.double": "a",
        "stage.describe": None,
    }


def test_a_change_that_changes_nothing_ends_there(catalog, run):
    run(GRAPH, catalog("a", number=3))
    assert run(GRAPH, catalog("b", number=5)) == ["parity"], "3 and 5 are both odd"


def test_what_was_taken_over_stays_when_its_origin_is_deleted(catalog, run, tmp_path):
    run(GRAPH, catalog("a"))
    run(GRAPH, catalog("b"))
    for name in ("odd", "doubled", "text"):
        (tmp_path / f"{name}.json/a/{name}.json").unlink()
    assert catalog("b").load("text") == {"x": 2, "y": "a"}
    assert run(GRAPH, catalog("c")) == [], "the run that took it over has it"
    assert catalog("c").load("run_records")["stage.parity"]["reused_from"] == "a", "which has made it"


@pytest.mark.parametrize("deleted", ["records/b", "odd.json/b"])
def test_when_the_latest_run_is_deleted_an_earlier_one_serves(catalog, run, tmp_path, deleted):
    run(GRAPH, catalog("a"))
    run(GRAPH, catalog("b"))
    shutil.rmtree(tmp_path / deleted)
    assert run(GRAPH, catalog("c")) == []
    assert catalog("c").load("run_records")["stage.parity"]["reused_from"] == "a"


def test_a_file_that_goes_while_it_is_taken_over_is_made_anew(catalog, run, monkeypatch):
    run(GRAPH, catalog("a"))

    def gone(*_):
        raise FileNotFoundError

    monkeypatch.setattr("cnn_transfer.datasets.versions.adopt", gone)
    assert len(run(GRAPH, catalog("b"))) == 3


def tell(x):
    CALLS.append("tell")
    return f"number {x}"


def test_what_somebody_has_written_in_is_not_taken_over(catalog, run, tmp_path, caplog):
    def entries(name):
        made = catalog(name)
        made["page"] = TextDataset(filepath=str(tmp_path / "page.html"), version=Version(name, name))
        return made

    graph = stage(node(tell, "params:number", "page"))
    assert [run(graph, entries(name)) for name in ("a", "b")] == [["tell"], []]
    (tmp_path / "page.html/b/page.html").write_text("number 3, and a remark")
    caplog.set_level(logging.INFO)
    assert run(graph, entries("c")) == [], "a has it as it was made"
    assert "page of the run b was edited since it was made, and is not taken over." in caplog.text
    assert [entries(name).load("page") for name in "abc"] == ["number 3", "number 3, and a remark", "number 3"]
    for name in "ac":
        (tmp_path / f"page.html/{name}/page.html").write_text("number 3!")
    assert run(graph, entries("d")) == ["tell"]


def test_nothing_is_taken_over_when_that_is_not_wanted(catalog, run):
    run(GRAPH, catalog("a"))
    assert run(GRAPH, catalog("b", reuse=False)) == ["parity", "double", "describe"]


@pytest.mark.parametrize("only_missing", [False, True])
def test_a_run_refuses_to_change_what_it_has_made(catalog, run, only_missing):
    run(GRAPH, catalog("a"))
    with pytest.raises(click.ClickException) as refused:
        run(GRAPH, catalog("a", word="other"), only_missing_outputs=only_missing)
    assert "The run a has made text with other word." in refused.value.message
    assert catalog("a").load("text")["y"] == "a"


def count(images):
    CALLS.append("count")
    return len(images.table)


@pytest.fixture
def labels(catalog, run, tmp_path):
    """Run a node that reads new images from a place."""
    for place, images in (("A", 1), ("B", 2)):
        (tmp_path / place).mkdir()
        for number in range(images):
            Image.new("L", (8, 8), number).save(tmp_path / place / f"{number}.png")

    def run_with(name, place):
        entries = catalog(name, names=("counted",))
        entries["new_images"] = NewImagesDataset(filepath=str(tmp_path / place))
        return run(stage(node(count, "new_images", "counted")), entries), entries.load("counted")

    return run_with


def test_a_run_refuses_images_of_another_place_and_does_not_say_that_it_could_go_on(labels, caplog):
    assert labels("a", "A") == (["count"], 1)
    with pytest.raises(click.ClickException, match=r"The run a has made counted with other new_images\.filepath"):
        labels("a", "B")
    assert "To go on from here" not in caplog.text


def test_what_lies_at_a_place_may_change_while_a_run_goes_on(labels, tmp_path):
    labels("a", "A")
    Image.new("L", (8, 8), 9).save(tmp_path / "A/9.png")
    assert labels("a", "A") == ([], 1)
    assert labels("b", "A") == (["count"], 2)


def test_what_is_taken_over_from_the_same_images_elsewhere_keeps_to_where_they_lie_now(labels, tmp_path):
    labels("a", "A")
    (tmp_path / "link").symlink_to(tmp_path / "A")
    assert labels("b", "link") == ([], 1)
    assert labels("b", "link") == ([], 1)
    with pytest.raises(click.ClickException, match=r"with other new_images\.filepath"):
        labels("b", "A")


def test_images_that_could_not_be_read_are_tried_again_by_the_next_run(catalog, run, tmp_path, monkeypatch, caplog):
    for number in range(4):
        (tmp_path / f"set/{number % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), 9 * number).save(tmp_path / f"set/{number % 2}/{number}.png")
    image_format = ImageFormat(image_size_px=28, channels=1)

    def prepare(listing):
        CALLS.append("prepare")
        return DecodedImages(listing, image_format, np.arange(len(listing.table)))

    def images(name):
        entries = catalog(name, names=("counted",))
        entries["raw"] = RawImagesDataset(filepath=str(tmp_path / "set"))
        entries["images"] = ImageSetDataset(filepath=str(tmp_path / "images"), version=Version(name, name))
        called = run(stage(node(prepare, "raw", "images"), node(count, "images", "counted")), entries)
        return called, entries.load("counted")

    def read(image):
        return decoding._why_not_fetched(TimeoutError("no answer")) if "3.png" in str(image) else read_local(image)

    read_local = decoding._read_local
    with monkeypatch.context() as store:
        store.setattr(decoding, "_read_local", read)
        assert images("a") == (["prepare", "count"], 3)
    assert images("a") == ([], 3)
    caplog.set_level(logging.INFO)
    assert images("b") == (["prepare", "count"], 4)
    assert "The run a could not read 1 image; they are tried again." in caplog.text
    assert images("c") == ([], 4)


def test_records_without_what_was_chosen_are_still_taken(labels, tmp_path):
    labels("a", "A")
    file = tmp_path / "records/a/stage.count.json"
    record = json.loads(file.read_text())
    assert record.pop("identities") == {"new_images": {"filepath": str(tmp_path / "A"), "columns": {}}}
    file.write_text(json.dumps(record))
    assert labels("a", "B") == ([], 1)


def test_other_code_makes_other_fingerprints(catalog, run, monkeypatch):
    run(GRAPH, catalog("a"))
    monkeypatch.setattr("cnn_transfer.fingerprints._source", lambda module: f"{module} changed")
    assert run(GRAPH, catalog("b")) == ["parity", "double", "describe"]
    monkeypatch.undo()
    with pytest.raises(click.ClickException, match="with other code"):
        run(GRAPH, catalog("b"))


def test_two_functions_of_the_same_inputs_make_different_things(catalog, run):
    run(stage(node(parity, "params:number", "odd")), catalog("a"))
    assert run(stage(node(double, "params:number", "odd")), catalog("b")) == ["double"]


def test_what_is_made_from_something_unknown_is_not_taken_over(catalog, run):
    def entries(name, value):
        made = catalog(name)
        made["thing"] = MemoryDataset(value)
        return made

    graph = stage(node(double, "thing", "doubled"))
    assert [run(graph, entries(*given)) for given in (("a", 4), ("b", 5))] == [["double"], ["double"]]


def test_leftovers_of_a_killed_node_are_replaced(catalog, run, tmp_path):
    folder = tmp_path / "doubled.json/a"
    folder.mkdir(parents=True)
    (folder / "doubled.json").write_text("whole, but of unknown origin")
    (folder / ".partial-doubled.json").write_text("half")
    assert run(GRAPH, catalog("a")) == ["parity", "double", "describe"]
    assert [path.name for path in folder.iterdir()] == ["doubled.json"]
    assert json.loads((folder / "doubled.json").read_text()) == 2
    shutil.copytree(folder, tmp_path / "text.json/b")
    (tmp_path / "text.json/b/doubled.json").rename(tmp_path / "text.json/b/text.json")
    assert run(GRAPH, catalog("b")) == [], "taken over from a"
    assert catalog("b").load("text") == {"x": 2, "y": "a"}


def test_a_node_that_another_process_works_on_stops_the_run(catalog, run):
    with (
        catalog("a").get("run_records").claim("stage.double"),
        pytest.raises(click.ClickException, match=r"stage\.double of the run a is being worked on by process"),
    ):
        run(GRAPH, catalog("a"))
    assert run(GRAPH, catalog("a")) == ["double", "describe"]


@pytest.mark.parametrize("ends", [True, False])
def test_checkpoints_are_kept_until_their_node_is_done(catalog, run, tmp_path, ends):
    def train(checkpoints, x):
        checkpoints.write("fit", FitState([], [], 1.0))
        return x if ends else fail(x)

    entries = catalog("a")
    entries["checkpoints"] = CheckpointsDataset(filepath=str(tmp_path / "checkpoints"), version=Version("a", "a"))
    with nullcontext() if ends else pytest.raises(ValueError, match="no good"):
        run(stage(node(train, ["checkpoints", "params:number"], "odd")), entries)
    assert (tmp_path / "checkpoints/a/fit.npz").exists() != ends


def test_records_say_time_and_memory(catalog, run):
    run(GRAPH, catalog("a"))
    record = catalog("a").load("run_records")["stage.double"]
    assert record["seconds"] >= 0
    assert 10 < record["peak_memory_mb"] < 100_000
    assert record["inputs"]["odd"] == catalog("a").load("run_records")["stage.parity"]["outputs"]["odd"]


def test_a_run_of_its_own_takes_its_inputs_from_the_latest_run_that_has_them_all(catalog, run, caplog):
    rest = stage(node(describe, ["doubled", "odd"], "text"))
    run(GRAPH, catalog("a", number=2))
    run(GRAPH, catalog("b", number=3))
    run(stage(node(parity, "params:number", "odd")), catalog("c", number=2))  # has only one of them
    caplog.set_level(logging.INFO)
    new = catalog("d")
    take_over_inputs(rest, new)
    assert "Takes doubled, odd from the run b." in caplog.text
    assert run(rest, new) == ["describe"]
    assert catalog("d").load("text") == {"x": 2, "y": 1}
    assert catalog("d").load("run_records")["stage.double"]["reused_from"] == "b", "with what it cost"


def test_a_latest_run_of_a_time_to_come_is_told_of(catalog, run, caplog):
    rest = stage(node(describe, ["doubled", "odd"], "text"))
    for latest, told in (("2026-01-31T01.02.03.004Z", False), ("2926-01-31T01.02.03.004Z", True)):
        run(GRAPH, catalog(latest, number=2))
        take_over_inputs(rest, catalog(f"after {latest}"))
        assert (f"The run {latest} is named after a time to come: a clock was wrong" in caplog.text) is told


def test_inputs_that_no_single_run_has_come_from_the_latest_that_has_each(catalog, run):
    run(stage(node(parity, "params:number", "odd")), catalog("a"))
    only_doubled = catalog("b")
    only_doubled.save("doubled", 8)
    new = catalog("c")
    take_over_inputs(stage(node(describe, ["doubled", "odd"], "text")), new)
    assert (new.load("doubled"), new.load("odd")) == (8, 1)


def test_a_run_that_was_named_takes_nothing_by_itself_and_says_what_is_there(catalog, run):
    for name in ("a", "b"):
        run(GRAPH, catalog(name, reuse=False))
    hooks = CheckHooks()
    hooks._run_is_given = True
    told = hooks._missing("doubled", catalog("c"))
    assert "There is no version c of" in told
    assert "There are, the newest first: b, a. Run the stages before this one" in told
    hooks._run_is_given = False
    assert hooks._missing("doubled", catalog("c")) == "", "a run that begins takes it over"
    assert hooks._missing("halved", catalog("c")).startswith("halved: no version in")


def load_another(catalog, name, run):
    """As --load-versions does."""
    dataset = catalog.get(name)
    dataset._version = Version(run, dataset._version.save)


def test_what_was_loaded_from_another_run_counts_and_not_what_this_one_made_of_the_same_name(catalog, run):
    run(GRAPH, catalog("a", number=2))
    run(stage(node(parity, "params:number", "odd")), catalog("b", number=3))
    mixed = catalog("b", number=3)
    load_another(mixed, "odd", "a")
    rest = stage(node(double, "odd", "doubled"))
    assert run(rest, mixed) == []
    assert mixed.load("doubled") == 0, "of a"
    assert run(GRAPH, catalog("c", number=3)) == ["double", "describe"], "parity is taken from b, which doubled another"
    assert catalog("c").load("doubled") == 2


class PredictorByName(ChosenPredictorDataset):
    """Loads the name of the version that is chosen."""

    def load(self):
        self.check_kept()
        return self.version()


def test_a_run_keeps_to_the_predictor_that_was_the_newest_when_it_began(catalog, run, tmp_path):
    def deliver(version):
        for place in ("predictor/{}/predictor/predictor.json", "facts.json/{}/facts.json"):
            file = tmp_path / place.format(version)
            file.parent.mkdir(parents=True)
            file.write_text(f'"{version}"')

    def begin(model):
        deliver(int(model) + 1)  # by another run, meanwhile
        return model

    def of(run):
        entries, predictor = catalog(run), str(tmp_path / "predictor")
        entries["chosen_predictor"] = PredictorByName(predictor)
        facts = {"type": "cnn_transfer.datasets.JSONDataset", "filepath": str(tmp_path / "facts.json")}
        entries["model_images"] = OfModelDataset(facts, {"filepath": predictor})
        return entries

    begins = node(begin, "chosen_predictor", "odd")
    ends = node(describe, ["chosen_predictor", "model_images"], "text")
    deliver(1)
    run(stage(begins), of("a"))
    run(stage(begins, ends), of("a"))
    assert catalog("a").load("text") == {"x": "1", "y": "1"}, "when it goes on"
    run(stage(begins, ends), of("b"))
    assert catalog("b").load("text") == {"x": "2", "y": "2"}, "in one process"
    shutil.rmtree(tmp_path / "predictor/2")
    with pytest.raises(DatasetError, match=r"that this run has begun with is not in .* any more"):
        run(stage(begins, ends, node(parity, "model_images", "halved")), of("b"))


def test_a_catalog_without_records_runs_as_kedro_runs_it():
    for _ in range(2):
        CALLS.clear()
        plain = DataCatalog({"params:number": MemoryDataset(3), "odd": MemoryDataset()})
        ResumingRunner().run(stage(*[node(parity, "params:number", "odd")]), plain)
        assert CALLS == ["parity"]
