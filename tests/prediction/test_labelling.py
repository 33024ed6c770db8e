"""Images are labelled part by part; whoever goes on after some parts writes the same files."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.images import list_unlabelled, preparation
from cnn_transfer.images.reasons import rejected_table
from cnn_transfer.prediction import labelling
from cnn_transfer.prediction.labelling import (
    CONTENTS,
    REJECTED,
    ImagesToLabel,
    count_labels,
    describe_labels,
    open_labels,
    write_labels,
)

NO_DRIFT = {"images": 0, "training_images": 0, "aspects": []}


def without_threshold(facts):
    return facts.model_copy(update={"threshold": None, "promised_accuracy": None})


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 64 images, decoded 16 at once."""
    monkeypatch.setattr(preparation, "MOST_CHUNK_IMAGES", 16)
    monkeypatch.setattr(labelling, "PART_IMAGES", 70)


@pytest.fixture(scope="module")
def listing(class_folder, tmp_path_factory):
    """200 shapes, and what is none."""
    folder = tmp_path_factory.mktemp("new")
    for path in sorted(class_folder.glob("*/*.png"))[::2]:
        (folder / f"{path.parent.name} {path.name}").write_bytes(path.read_bytes())
    (folder / "a.png").write_bytes(b"")
    (folder / "row 1.png").write_bytes((class_folder / "row/001.png").read_bytes()[:100])
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden").write_text("")
    return replace(list_unlabelled(folder), fingerprint="f")


@pytest.fixture(scope="module")
def images(predictor, listing):
    return ImagesToLabel(replace(predictor, version="7"), listing)


def written(images, done=0):
    files = {}
    write_labels(images, done, files.__setitem__)
    return files


def stored(files, folder):
    import fsspec

    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return open_labels(fsspec.filesystem("file"), str(folder))


def test_parts_hold_what_the_predictor_says_of_all_images(images, predictor, listing, tmp_path):
    labelled = stored(written(images), tmp_path / "labels")
    expected = predictor(listing)
    sizes = [len(part) for part in labelled.parts()]
    assert len(sizes) == 4
    assert sum(sizes) == 200
    together = pd.concat(labelled.parts(), ignore_index=True)
    assert together["id"].tolist() == expected["id"].tolist()
    pd.testing.assert_frame_equal(together, expected, check_exact=False, atol=1e-4)
    rejected = labelled.rejected().set_index("id")["reason"].to_dict()
    assert rejected == {
        ".hidden": "hidden_file", "a.png": "empty_file", "notes.txt": "other_file", "row 1.png": "truncated",
    }  # fmt: skip


def test_the_folder_is_one_table_for_readers_of_parquet(images, tmp_path):
    labelled = stored(written(images), tmp_path / "labels.parquet")
    read = pd.read_parquet(tmp_path / "labels.parquet")
    pd.testing.assert_frame_equal(read, pd.concat(labelled.parts(), ignore_index=True))


@pytest.mark.parametrize("done", [0, 1, 3, 4])
def test_going_on_after_some_parts_writes_the_same_bytes(images, done):
    whole, rest = written(images), written(images, done)
    there = {f"{start}{name}" for name in images.part_names[:done] for start in ("", REJECTED)}
    assert rest == {name: content for name, content in whole.items() if name not in there}
    assert list(whole)[-1] == CONTENTS


def test_rejected_images_of_a_part_are_there_before_it(images):
    names = list(written(images))[:-1]
    assert names[::2] == [REJECTED + name for name in names[1::2]]


@pytest.mark.parametrize("changed", ["predictor", "fingerprint", "ids"])
def test_parts_of_something_else_have_other_names(images, listing, changed):
    other = {
        "predictor": replace(images, predictor=replace(images.predictor, digest="another")),
        "fingerprint": replace(images, listing=replace(listing, fingerprint="g")),
        "ids": replace(images, listing=replace(listing, table=listing.table.assign(id=listing.table["id"] + "x"))),
    }[changed]
    assert set(other.part_names).isdisjoint(images.part_names)
    assert replace(images).part_names == images.part_names


def test_counts_add_up(images, listing, tmp_path):
    labelled = stored(written(images), tmp_path / "labels")
    rejected, counts = count_labels(labelled)
    table = pd.concat(labelled.parts())
    assert counts["listed"] == counts["labelled"] + counts["rejected"] == len(listing.table) + len(listing.rejected)
    assert counts["answered"] + sum(counts["withheld"].values()) == counts["labelled"] == 200
    assert counts["answered"] == sum(counts["answers"].values()) == table["answer"].notna().sum()
    assert counts["predicted"] == table["predicted"].value_counts().sort_index().to_dict()
    assert sum(counts["unlike"].values()) == table["unfamiliar"].sum() > 0
    assert (
        counts["unlike"]
        == table.loc[table["unfamiliar"], "unlike"]
        .value_counts()
        .sort_index()
        .sort_values(ascending=False, kind="stable")
        .to_dict()
    )
    assert counts["rejected_for"] == {"empty_file": 1, "hidden_file": 1, "other_file": 1, "truncated": 1}
    assert counts["notes"]["training_image"] == table["notes"].str.contains("training_image").sum()
    assert counts["model_version"] == "7"
    assert len(rejected) == 4
    assert json.loads(json.dumps(counts)) == counts


def test_only_bad_images_are_a_result_too(images, tmp_path):
    (tmp_path / "bad").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "bad" / name).write_bytes(b"")
    bad = replace(images, listing=list_unlabelled(tmp_path / "bad"))
    labelled = stored(written(bad), tmp_path / "labels")
    _, counts = count_labels(labelled)
    assert (counts["listed"], counts["labelled"], counts["answered_share"]) == (2, 0, None)
    assert describe_labels(counts, NO_DRIFT)[1] == "Answered        0"


def test_end_of_a_run_says_why_nothing_is_answered(images, tmp_path):
    unsure = replace(images, predictor=replace(images.predictor, facts=without_threshold(images.predictor.facts)))
    _, counts = count_labels(stored(written(unsure), tmp_path / "labels"))
    said = describe_labels(counts, NO_DRIFT)
    assert said[1].startswith("Answered        0 (0.0%); withheld: ")
    assert any(line.startswith("Note            no answer can be promised") for line in said)


def test_end_of_a_run_says_what_became_of_the_images(images, tmp_path):
    _, counts = count_labels(stored(written(images), tmp_path / "labels"))
    aspects = [{"aspect": "size", "drift": True, "statement": "Larger."}, {"aspect": "sharpness", "drift": False}]
    drift = NO_DRIFT | {"images": 7, "aspects": aspects}
    said = describe_labels(counts | {"unlike": {"noise": 1200, "content": 3}}, drift)
    said_of_left_out = describe_labels(counts | {"unlike": {}, "notes": {"left_out_image": 1200}}, drift)[2]
    assert "learnt from 1,200 of these very pictures without a label; they are judged as it would" in said_of_left_out
    first, second, unfamiliar, third, fourth, *last = said
    assert unfamiliar == "Unfamiliar      1,200 in noise, 3 in content"
    assert first == (
        "Images          204 listed, 200 labelled by 7, 4 rejected: "
        "1 empty_file, 1 hidden_file, 1 other_file, 1 truncated"
    )
    assert second.startswith(f"Answered        {counts['answered']} ({counts['answered_share']:.1%}); withheld: ")
    assert f"trained on {counts['notes']['training_image']} of these" in third
    assert (
        f"{counts['notes']['unlabelled_image']} of these very pictures were in the training without a label" in fourth
    )
    assert last == ["Drift           Drift in 1 of 2 aspects of 7 new images.", "                Size: Larger."]


def test_images_that_are_listed_but_none_of_the_listing_stand_in_the_first_part_only(images):
    listing = replace(images.listing, rejected=rejected_table([("x", None, "broken_link", "")]))
    parts = list(replace(images, listing=listing).parts(0, lambda _: None))
    assert ["x" in set(part.rejected["id"]) for part in parts] == [True, False, False, False]


def test_progress_counts_every_image(images, listing):
    seen = []
    assert sum(1 for _ in images.parts(1, seen.append)) == 3
    assert sum(seen) == len(listing.table) - images.part_images
    assert np.array(seen).max() <= 16
