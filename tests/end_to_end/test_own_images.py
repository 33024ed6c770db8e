"""Users' own images through the real command line: every form of input, what is set aside, what stops a run."""

import io
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cnn_transfer.exit_codes import REFUSED

pytestmark = pytest.mark.slow

LEVELS = {"dark": 50, "light": 200, "middle": 120}


def photo(label, seed, kind="JPEG"):
    """Encoded: a picture whose brightness tells its class, never twice the same."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(LEVELS[label] + rng.integers(-45, 45, (6, 8, 3)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def put(project):
    """Write a file below the project's data folder and return its path relative to the project."""

    def write(name, content):
        file = project / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return f"data/{name}"

    return write


def class_folders(put, root, per_class=30, first=0):
    for offset, label in enumerate(LEVELS):
        for index in range(per_class):
            put(f"{root}/{label}/{index:02d}.jpg", photo(label, first + 1000 * offset + index))
    return f"data/{root}"


def table(project, name, folder="08_reporting"):
    return pd.read_parquet(max((project / "data" / folder / f"{name}.parquet").glob("*/*")))


def intake(project, role):
    return json.loads(max((project / f"data/02_intermediate/{role}_intake.json").glob("*/*")).read_text())


def run(kedro, project, *arguments, **parameters):
    values = ",".join(f"{key}={value}" for key, value in parameters.items())
    return kedro(project, "run", "--env", "folders", *arguments, "--params", values)


def test_given_splits_and_a_csv_manifest(project, fresh_kedro, put):
    for first, (split, per_class) in enumerate({"train": 12, "val": 4, "test": 5}.items()):
        class_folders(put, f"mine/{split}", per_class, first=10_000 * first)
    put("mine/train/dark/copy of a test image.png", photo("dark", 20_000, "PNG"))
    put("mine/test/dark/00.png", photo("dark", 20_000, "PNG"))
    rows = [(f"{label}/{index:02d}.jpg", label) for label in LEVELS for index in range(15)]
    class_folders(put, "pool", 15, first=50_000)
    frame = pd.DataFrame(rows, columns=["path", "label"]).assign(group=[name[:-5] for name, _ in rows])
    frame.loc[frame.index[::5], "label"] = ""
    manifest = put("pool/manifest.csv", frame.to_csv(index=False).encode())
    result = run(fresh_kedro, project, "--pipelines", "preprocess", target_images="data/mine", source_images=manifest)
    assert result.returncode == 0, result.stdout
    counts = table(project, "target_image_counts").set_index("label")
    assert counts.loc["light", ["training", "validation", "test"]].tolist() == [12, 4, 5]
    assert counts.loc["dark", ["training", "validation", "test"]].tolist() == [12, 4, 6]
    rejected = table(project, "target_rejected_images")
    assert rejected[["id", "reason"]].to_numpy().tolist() == [["train/dark/copy of a test image.png", "leak"]]
    assert "target: 65 listed, 64 used, of 3 classes; set aside: 1 leak" in result.stdout
    source = table(project, "source_splits", "03_primary")
    assert source["label"].isna().sum() == 9
    assert set(source["split"][source["label"].isna()]) <= {"unlabelled", "unused"}
    sides = source["split"].replace({"unlabelled": "training", "unused": "validation"})
    assert (sides.groupby(source["id"].str[:-5]).nunique() == 1).all()


def test_files_that_a_table_does_not_know_whole_are_looked_for(project, fresh_kedro, put):
    rows = [(f"{label}-{index}", label) for label in LEVELS for index in range(12)]
    for index, (key, label) in enumerate(rows):
        put(f"mine/part {index % 2}/{key}.jpg", photo(label, index))
    put("mine/meta.csv", pd.DataFrame(rows, columns=["key", "dx"]).to_csv(index=False).encode())
    named = {"target_images": "data/mine/meta.csv", "target_columns.label": "dx"}
    before = sorted((project / "data").rglob("*"))
    result = run(fresh_kedro, project, "--pipelines", "preprocess", **named, **{"target_columns.file": "key"})
    assert result.returncode == 1
    assert "nothing was run" in result.stdout
    assert "None of the 36 files that " in result.stdout
    said = re.search(r"say so with target_columns\.file=(\S+) \(", result.stdout)[1]
    assert said == "./**/{key}.jpg"
    assert sorted((project / "data").rglob("*")) == before
    result = run(fresh_kedro, project, "--pipelines", "preprocess", **named, **{"target_columns.file": said})
    assert result.returncode == 0, result.stdout
    assert intake(project, "target")["used"] == 36
    assert table(project, "target_splits", "03_primary")["id"].str.fullmatch(r"part [01]/\w+-\d+\.jpg").all()


def test_parquet_and_arrow_files_with_the_images_in_them(project, fresh_kedro, put):
    images = [(photo(label, index), label) for index, label in enumerate([*LEVELS] * 12)]
    plain = pa.table({"picture": [image for image, _ in images], "label": [label for _, label in images]})
    with pa.ipc.new_file(str(project / "data/plain.arrow"), plain.schema) as writer:
        writer.write_table(plain)
    structs = [{"bytes": image, "path": f"{index}.jpg"} for index, (image, _) in enumerate(images)]
    split = ["test" if index >= 27 else "train" for index in range(36)]
    hugging_face = pa.table({"image": structs, "label": plain["label"], "split": split})
    pq.write_table(hugging_face, project / "data/hub.parquet")
    result = run(
        fresh_kedro,
        project,
        "--pipelines",
        "preprocess",
        target_images="data/hub.parquet",
        source_images="data/plain.arrow",
    )
    assert result.returncode == 0, result.stdout
    counts = table(project, "target_image_counts").set_index("label")
    assert counts["test"].tolist() == [3, 3, 3]
    assert (counts["training"] + counts["validation"]).tolist() == [9, 9, 9]
    assert intake(project, "source")["used"] == 36


def test_a_folder_of_tables_with_given_sides_and_what_is_wrong_with_it(project, fresh_kedro, put):
    for first, (name, count) in enumerate({"train-00000-of-00002": 24, "train-00001-of-00002": 24, "test": 12}.items()):
        labels = [*LEVELS] * (count // 3)
        images = [photo(label, 100 * first + index) for index, label in enumerate(labels)]
        (project / "data/hub/data").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"img": images, "fine_label": labels}), project / f"data/hub/data/{name}.parquet")
    put("hub/README.md", b"# A set")
    result = run(fresh_kedro, project, "--pipelines", "preprocess", target_images="data/hub")
    assert result.returncode == 1
    assert "nothing was run" in result.stdout
    assert "has no column label. Did you mean fine_label? Found: img, fine_label." in result.stdout
    named = {"target_images": "data/hub", "target_columns.label": "fine_label"}
    result = run(fresh_kedro, project, "--pipelines", "preprocess", **named)
    assert result.returncode == 0, result.stdout
    assert intake(project, "target")["used"] == 60
    splits = table(project, "target_splits", "03_primary")
    assert (splits["id"].str.contains("/test") == (splits["split"] == "test")).all()


def test_whole_transfer_on_folders_with_damaged_and_unlabelled_images(project, fresh_kedro, put):
    class_folders(put, "mine", 30)
    put("mine/dark/broken.jpg", photo("dark", 1)[:300])
    put("mine/dark/.DS_Store", b"finder")
    put("mine/light/a dark one.jpg", photo("dark", 3))
    put("mine/readme.txt", b"taken in May")
    for index in range(4):
        put(f"mine/_unlabelled/{index}.jpg", photo("middle", 9000 + index))
    rows = [(f"{label}/{index:02d}.jpg", label) for label in LEVELS for index in range(20)]
    class_folders(put, "pool", 20, first=70_000)
    pd.DataFrame(rows, columns=["path", "label"]).to_parquet(project / "data/pool/manifest.parquet")
    quick = {
        "pretrain_source.optimisation.steps": 1,
        "migrate_model.copies": 2,
        "finetune_target.fine_tuning.steps": 20,
        "finetune_target.fine_tuning.most_doublings": 0,
        "finetune_target.baseline.steps": 20,
        "finetune_target.baseline.most_doublings": 0,
    }
    result = run(fresh_kedro, project, target_images="data/mine", source_images="data/pool/manifest.parquet", **quick)
    assert result.returncode == 0, result.stdout
    rejected = table(project, "target_rejected_images").set_index("id")["reason"].to_dict()
    assert rejected == {
        "dark/broken.jpg": "truncated",
        "dark/.DS_Store": "hidden_file",
        "dark/03.jpg": "conflicting_labels",
        "light/a dark one.jpg": "conflicting_labels",
        "readme.txt": "other_file",
    }
    splits = table(project, "target_splits", "03_primary")
    assert (splits["split"] == "unlabelled").sum() == 4
    assert len(splits) + len(rejected) == intake(project, "target")["listed"] == 98
    summary = json.loads(max((project / "data/08_reporting/summary.json").glob("*/*")).read_text())
    assert summary["n_train"] + summary["n_validation"] + summary["n_test"] == 89
    card = json.loads(max((project / "data/06_models/target_model_card.json").glob("*/*")).read_text())
    assert card["class_names"] == ["dark", "light", "middle"]
    assert card["trained_on"] == "mine"
    plan = json.loads(max((project / "data/06_models/transfer_plan.json").glob("*/*")).read_text())
    assert plan["source"] == "manifest"
    assert "4 images without a label" in plan["sentence"]


def test_too_many_damaged_images_stop_the_run_with_the_table_already_written(project, kedro, put):
    class_folders(put, "mine", 12)
    for index in range(10):
        put(f"mine/dark/empty{index}.jpg", b"")
    result = run(kedro, project, "--pipelines", "preprocess", target_images="data/mine", source_images="data/mine")
    assert result.returncode == REFUSED
    assert "Traceback" not in result.stdout
    assert "21.7% of the images were set aside, more than most_set_aside (20%) allows: 10 empty_file" in result.stdout
    assert (table(project, "target_rejected_images")["reason"] == "empty_file").all()
    assert not (project / "data/03_primary/target_splits.parquet").exists()
    allowed = run(
        kedro,
        project,
        "--pipelines",
        "preprocess",
        target_images="data/mine",
        source_images="data/mine",
        **{"preprocess.target.check.most_set_aside": 0.3, "preprocess.source.check.most_set_aside": 0.3},
    )
    assert allowed.returncode == 0, allowed.stdout


@pytest.mark.parametrize(
    ("path", "code", "expected"),
    [
        ("data/nowhere", 1, ["data/nowhere. Check the parameter target_images.", "nothing was run"]),
        ("data/one_class", REFUSED, ["at least two classes. Found: dark."]),
        ("data/bad.csv", 1, ["has no column path. Did you mean paths?", "Found: paths, label"]),
        (
            "data/empty",
            REFUSED,
            ["Error: No image in ", "/data/empty. Expected one folder a class with image files in it"],
        ),
    ],
)
def test_sets_that_cannot_be_used_are_refused_before_any_training(project, kedro, put, path, code, expected):
    for index in range(10):
        put(f"one_class/dark/{index}.jpg", photo("dark", index))
    put("bad.csv", b"paths,label\na.jpg,x\n")
    (project / "data/empty").mkdir()
    result = run(kedro, project, target_images=path, **{"preprocess.source.max_images_per_class": 20})
    assert result.returncode == code
    assert all(text in result.stdout for text in expected), result.stdout
    assert "Traceback" not in result.stdout
    assert "TRANSFER_RUN_ID" not in result.stdout, "the same command would end in the same way"
    assert not (project / "data/06_models").exists()


def test_labels_that_were_looked_at_again_go_back_in(project, kedro, put):
    mine = class_folders(put, "mine")
    for index in range(6):
        put(f"mine/dark/slip {index}.jpg", photo("light", 90_000 + index))
    quick = {
        "target_images": mine,
        "source_images": mine,
        "pretrain_source.optimisation.steps": 60,
        "finetune_target.fine_tuning.strategy": "probe",
        "finetune_target.baseline.enabled": "false",
        "preprocess.target.image_format.image_size_px": 32,
        "preprocess.source.image_format.image_size_px": 32,
    }
    first = run(kedro, project, **quick)
    assert first.returncode == 0, first.stdout
    assert "to look at again" in first.stdout
    file = max((project / "data/08_reporting/suspected_labels.csv").glob("*/*"))
    suspected = pd.read_csv(file)
    found = suspected["id"].str.contains("slip") & (suspected["suggested"] == "light")
    assert found.sum() >= 1
    put("looked_at.csv", suspected[found].assign(label="light").to_csv(index=False).encode())
    second = run(kedro, project, "--pipelines", "preprocess", **quick | {"target_labels": "data/looked_at.csv"})
    assert second.returncode == 0, second.stdout
    assert f"noted: {found.sum()} corrected_label" in second.stdout
    notes = table(project, "target_image_notes")
    assert notes["detail"][notes["note"] == "corrected_label"].unique().tolist() == ["was dark"]
    counts = table(project, "target_splits", "03_primary")["label"].value_counts()
    assert counts.to_dict() == {"light": 30 + found.sum(), "dark": 36 - found.sum(), "middle": 30}
    put("wrong.csv", b"id,label\nmine/none.jpg,light\n")
    for labels, code, said in (
        ("none", 1, "no labels at "),
        ("wrong", REFUSED, "a label for mine/none.jpg, which is not among"),
    ):
        refused = run(kedro, project, **quick | {"target_labels": f"data/{labels}.csv"})
        assert refused.returncode == code
        assert said in refused.stdout
        assert "Traceback" not in refused.stdout


def test_names_that_tell_the_class_and_columns_of_other_names(project, kedro, put):
    """As of cats and dogs in one folder, and of lesions in a table whose ids are no paths."""
    rows = []
    for offset, label in enumerate(LEVELS):
        for index in range(20):
            put(f"flat/{label}.{index}.jpg", photo(label, 1000 * offset + index))
            put(f"lesions/part_1/ISIC_{offset}{index:02}.jpg", photo(label, 50_000 + 1000 * offset + index))
            rows.append((f"ISIC_{offset}{index:02}", label, f"L{offset}{index // 2}", 40 + index))
    meta = pd.DataFrame(rows, columns=["image_id", "dx", "lesion_id", "age"])
    manifest = put("lesions/meta.csv", meta.to_csv(index=False).encode())
    reading = {
        "target_images": "data/flat",
        "target_name_pattern": r"([a-z]+)\.\d",
        "source_images": manifest,
        "source_columns.file": "part_1/{image_id}.jpg",
        "source_columns.label": "dx",
        "source_columns.group": "lesion_id",
    }
    result = run(kedro, project, "--pipelines", "preprocess", **reading)
    assert result.returncode == 0, result.stdout
    assert "target: 60 listed, 60 used, of 3 classes" in result.stdout
    for role in ("source", "target"):
        splits = table(project, f"{role}_splits", "03_primary")
        assert splits["label"].value_counts().to_dict() == dict.fromkeys(LEVELS, 20)
    groups = table(project, "source_splits", "03_primary").groupby("group")["split"].nunique()
    assert len(groups) == 30
    assert (groups == 1).all()


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"target_name_pattern": "cat"}, ["target_name_pattern: needs a group in parentheses", "nothing was run"]),
        ({"target_columns.labels": "dx"}, ["target_columns.labels is not a parameter. Did you mean label?"]),
        ({"target_name_pattern": "^(bird)"}, ["has a name that ^(bird) matches. Found: 2 others, such as cat.1.jpg"]),
        ({}, ["Where names tell the class instead, as in cat.1.png, say how: target_name_pattern='^([a-z]+)'"]),
    ],
)
def test_ways_to_read_a_set_that_say_nothing_are_refused(project, kedro, put, parameters, expected):
    for name in ("cat.1.jpg", "dog.1.jpg"):
        put(f"flat/{name}", photo("dark", 0))
    result = run(
        kedro, project, "--to-nodes", "preprocess.target.split_images", target_images="data/flat", **parameters
    )
    assert result.returncode == REFUSED
    told = " ".join(result.stdout.split())
    assert all(text in told for text in expected), result.stdout
    assert "Traceback" not in result.stdout


def test_a_path_that_the_environment_does_not_read_is_refused(project, kedro):
    result = kedro(project, "run", "--env", "cifar10", "--params", "source_images=data/elsewhere")
    assert result.returncode == REFUSED
    assert "source_images: data/elsewhere was asked for, but the catalog of this environment reads" in result.stdout


def test_labels_that_the_environment_does_not_read_are_refused(project, kedro, put):
    digits = {"type": "cnn_transfer.datasets.RawImagesDataset", "filepath": "data/01_raw/mnist_digits.parquet"}
    (project / "conf/local").mkdir(exist_ok=True)
    (project / "conf/local/catalog.yml").write_text(json.dumps({"target_raw_images": digits}), encoding="utf-8")
    put("told.csv", b"id,label\n")
    result = kedro(project, "run", "--env", "local", "--params", "target_labels=data/told.csv")
    assert result.returncode == REFUSED
    assert "target_labels: data/told.csv was asked for, but the catalog of this environment reads" in result.stdout
    assert "put ${runtime_params:target_labels} into the entry target_raw_images" in result.stdout
    pattern = kedro(project, "run", "--env", "local", "--params", "target_name_pattern=(cat)")
    assert "target_name_pattern: (cat) was asked for, but the catalog of this environment reads" in pattern.stdout
    columns = kedro(project, "run", "--env", "local", "--params", "target_columns.label=dx")
    assert "target_columns: {'label': 'dx'} was asked for, but the catalog" in columns.stdout
