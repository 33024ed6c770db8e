"""A predictor says of new images what the pipeline says of test images, and holds its promises in words and codes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cnn_transfer.evaluation import (
    calibrate,
    choose_threshold,
    embed_images,
    familiarity_table,
    fit_calibration,
    predict,
    predictions_without_labels,
)
from cnn_transfer.evaluation.tried_damage import NAMES
from cnn_transfer.prediction import Predictor, build_predictor
from cnn_transfer.prediction.drift import DriftCounts, drift_report
from cnn_transfer.prediction.predictor import KNOWN

UNTRIED = pd.DataFrame(columns=[*NAMES, "wrong"])
NONE_LEARNT = pd.DataFrame({"id": pd.Series(dtype="str")})


@pytest.fixture(scope="module")
def loaded(predictor_folder):
    return Predictor.load(predictor_folder)


@pytest.fixture(scope="module")
def labelled(loaded, class_folder):
    return loaded(class_folder)


def test_says_of_files_what_the_pipeline_says_of_their_pixels(
    labelled, predictor, shapes_network, shapes, shape_splits
):
    expected = calibrate(predict(shapes_network, shapes, shape_splits, "test"), predictor.facts.calibration)
    found = labelled.set_index("id").loc[expected["id"]].reset_index()
    columns = [name for name in expected if name.startswith("probability_")]
    np.testing.assert_allclose(found[columns], expected[columns], atol=1e-5)
    assert (found["predicted"] == expected["predicted"]).all()


def test_measures_familiarity_as_the_pipeline_does(labelled, predictor, shapes_network, shapes, shape_splits):
    training, test = (embed_images(shapes_network, shapes, shapes.rows(shape_splits, s)) for s in ("training", "test"))
    expected = familiarity_table(training, test, predictor.facts.familiarity, tried=predictor.references.tried)
    found = labelled.set_index("id").loc[expected["id"]].reset_index()
    np.testing.assert_allclose(found["distance"], expected["distance"], atol=1e-4)
    assert (found["nearest_1"] == expected["nearest_1"]).mean() > 0.95  # ties may fall otherwise


def test_answers_are_the_sure_and_familiar_ones(labelled, loaded):
    threshold = loaded.facts.threshold
    assert threshold is not None
    answered = labelled["answer"].notna()
    assert answered.any()
    assert (labelled["answer"] == labelled["predicted"])[answered].all()
    assert (labelled["confidence"][answered] >= threshold).all()
    assert not labelled["unfamiliar"][answered].any()
    assert (labelled["withheld"][answered] == "").all()
    assert (labelled["confidence"][labelled["withheld"] == "unsure"] < threshold).all()
    assert set(labelled["withheld"][~answered]) <= {"unsure", "unfamiliar"}


def test_promised_accuracy_is_kept_on_images_that_it_was_not_trained_on(labelled, loaded):
    new = labelled[(labelled["notes"] != "training_image") & labelled["answer"].notna()]
    right = new["answer"] == new["id"].str.split("/").str[0]
    assert right.mean() >= loaded.facts.promised_accuracy - 0.03


def test_foreign_images_have_no_answer_but_a_reason(loaded):
    rng = np.random.default_rng(0)
    noise = loaded([rng.integers(0, 256, (28, 28, 1), np.uint8) for _ in range(20)])
    assert (noise["withheld"] == "unfamiliar").mean() > 0.8
    assert noise["answer"][noise["withheld"] == "unfamiliar"].isna().all()


def test_without_a_threshold_nothing_is_answered(predictor, class_folder):
    none = replace(predictor, facts=predictor.facts.model_copy(update={"threshold": None}))
    table = none(class_folder / "blob")
    assert table["answer"].isna().all()
    assert set(table["withheld"]) <= {"no_threshold", "unfamiliar"}
    assert table["predicted"].notna().all()


def test_pictures_of_the_training_are_marked(labelled, shapes, shape_splits):
    marked = set(labelled["id"][labelled["notes"].str.contains("training_image")])
    assert marked == set(shape_splits["id"][shape_splits["split"] == "training"])
    marked = set(labelled["id"][labelled["notes"].str.contains("unlabelled_image")])
    assert marked == set(shape_splits["id"][shape_splits["split"] == "unlabelled"]) != set()


@pytest.fixture(scope="module")
def of_head(predictor, shapes_network, shapes, shape_splits):
    """Of a head that says of its own unlabelled images, without them, that they are blobs with .3, other classes less.

    Calibrated at the temperature .5, which makes .3, .25, .25, .2 of four classes .353, .245, .245, .157.
    """
    ids = shape_splits["id"][shape_splits["split"] == "unlabelled"]
    said = predictions_without_labels(ids, np.tile([0.3, 0.25, 0.25, 0.2], (len(ids), 1)), shapes.class_names)
    judged = predict(shapes_network, shapes, shape_splits, "validation")
    card = predictor.facts.card.model_copy(update={"strategy": "probe"}).model_dump(mode="json")
    facts = predictor.facts
    threshold = {"threshold": 0.5, "promised_accuracy": 0.9, "confidence": 0.9, "statement": "Most are right."}
    calibration = facts.calibration | {"method": "temperature", "temperature": 0.5, "bias": None}
    return build_predictor(
        shapes_network, card, "# Shapes", shapes, shape_splits, judged, calibration, threshold, facts.sets,
        facts.familiarity, UNTRIED, said, 0,
    )  # fmt: skip


def test_what_a_head_learnt_from_without_a_label_is_judged_as_without_it(
    of_head, class_folder, shapes, shape_splits, tmp_path
):
    of_head.save(tmp_path / "predictor")
    table = Predictor.load(tmp_path / "predictor")(class_folder)
    own = table["id"].isin(shape_splits["id"][shape_splits["split"] == "unlabelled"])
    assert own.any()
    assert (table["notes"].str.contains("left_out_image") == own).all()
    assert not table["notes"].str.contains("unlabelled_image").any()
    columns = ["probability_" + name for name in of_head.facts.class_names]
    expected = np.array([0.3, 0.25, 0.25, 0.2]) ** 2
    np.testing.assert_allclose(table.loc[own, columns], np.tile(expected / expected.sum(), (own.sum(), 1)), atol=1e-6)
    assert set(table["predicted"][own]) == {of_head.facts.class_names[0]}
    assert table["answer"][own].isna().all()  # below the threshold of .5, whatever the network says itself
    assert set(table["withheld"][own]) <= {"unsure", "unfamiliar"}
    pixels = shapes.pixels(shapes.rows(shape_splits, "test"))
    others = table[~own].set_index("id").loc[shapes.table["id"].iloc[shapes.rows(shape_splits, "test")]]
    np.testing.assert_allclose(others[columns], of_head.judge(pixels).probabilities, atol=1e-5)
    assert (others["confidence"] > 0.5).any()


def test_pixels_of_unknown_origin_are_judged_by_what_the_network_says(of_head, shapes, shape_splits):
    rows = shapes.rows(shape_splits, "unlabelled")
    pixels, digests = shapes.pixels(rows), shapes.table["pixel_digest"].iloc[rows]
    said, without = of_head.judge(pixels), of_head.judge(pixels, digests)
    np.testing.assert_array_equal(said.probabilities, of_head.compute(pixels).probabilities)
    assert (without.confidence < 0.36).all()
    assert (said.confidence > 0.36).any()
    np.testing.assert_array_equal(of_head.judge(pixels[:0], []).probabilities, np.empty((0, 4)))


def test_pictures_of_a_large_training_are_marked_though_few_are_kept(
    predictor, shapes_network, shapes, shape_splits, familiarity_of, monkeypatch
):
    monkeypatch.setattr("cnn_transfer.evaluation.embedding.MOST_IMAGES", 20)
    judged = predict(shapes_network, shapes, shape_splits, "validation")
    calibration, card = fit_calibration(judged), predictor.facts.card.model_dump(mode="json")
    threshold = choose_threshold(calibrate(judged, calibration), 0.9, 0.9)
    made = build_predictor(
        shapes_network,
        card,
        "# Shapes",
        shapes,
        shape_splits,
        judged,
        calibration,
        threshold,
        {},
        familiarity_of(shapes_network, shapes, shape_splits, threshold, UNTRIED),
        UNTRIED,
        NONE_LEARNT,
        0,
    )
    assert len(made.references.training) == 20
    rows = shapes.rows(shape_splits, "training")
    assert made(list(shapes.pixels(rows)))["notes"].str.contains("training_image").all()


def test_one_picture_is_the_same_in_every_form(loaded, class_folder, encode_png):
    path = class_folder / "blob" / "000.png"
    picture = Image.open(path)
    forms = [path, str(path), path.read_bytes(), np.asarray(picture)[..., None], np.asarray(picture), picture]
    table = loaded(forms)
    assert len(table) == len(forms)
    assert table["confidence"].nunique() == 1


def test_bad_images_are_rejected_with_the_codes_of_the_intake(loaded, class_folder, tmp_path):
    good = (class_folder / "row" / "001.png").read_bytes()
    table = loaded([good, b"", b"no image", good[:60], tmp_path / "nowhere.png"])
    assert table["id"].tolist() == ["image 0"]
    assert [(row["id"], row["reason"]) for row in table.attrs["rejected"]] == [
        ("image 1", "empty_file"),
        ("image 2", "not_an_image"),
        ("image 3", "truncated"),
        (str(tmp_path / "nowhere.png"), "missing_file"),
    ]


def test_only_bad_images_give_an_empty_table(loaded):
    table = loaded([b"", b""])
    assert table.empty
    assert len(table.attrs["rejected"]) == 2
    assert {"answer", "probability_row", "nearest_1"} <= set(table.columns)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "list is empty"),
        (b"bytes", "Put it into a list"),
        (np.zeros((28, 28, 1), np.uint8), "Put it into a list"),
        ([np.zeros((28, 28, 3))], "must be uint8 of the shape.*float64"),
        ([np.zeros((1, 28, 28, 3), np.uint8)], "one array an image"),
        ([np.zeros((28, 28, 3), np.uint8), None], "NoneType at position 1"),
    ],
)
def test_what_is_no_image_is_refused_with_a_remedy(loaded, images, message):
    with pytest.raises(ValueError, match=message):
        loaded(images)


def test_folder_without_images_and_path_to_nothing_are_errors(loaded, tmp_path):
    with pytest.raises(ValueError, match="no image in"):
        loaded(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing is there"):
        loaded(tmp_path / "nowhere")


def test_pixels_of_another_size_are_refused(loaded):
    with pytest.raises(ValueError, match=r"uint8 of the shape \(n, 28, 28, 1\)"):
        loaded.compute(np.zeros((1, 32, 32, 1), np.uint8))
    with pytest.raises(ValueError, match="Received: float32"):
        loaded.compute(np.zeros((1, 28, 28, 1), np.float32))


def test_saved_and_loaded_is_the_same(predictor, predictor_folder, tmp_path):
    again = Predictor.load(predictor_folder)
    assert again.facts == predictor.facts
    assert again.version == predictor_folder.parent.name
    again.save(tmp_path / "predictor")
    for file in predictor_folder.iterdir():
        assert (tmp_path / "predictor" / file.name).read_bytes() == file.read_bytes()


def test_a_predictor_that_was_made_before_promises_could_be_less_than_the_wish_is_read(predictor_folder, tmp_path):
    old = shutil.copytree(predictor_folder, tmp_path / "old")
    facts = json.loads((old / "predictor.json").read_text())
    (old / "predictor.json").write_text(json.dumps(facts | {"wished_accuracy": facts.pop("promised_accuracy")}))
    assert Predictor.load(old).facts == Predictor.load(predictor_folder).facts


def test_network_with_code_of_others_is_refused_by_name(predictor_folder, tmp_path):
    import keras

    shutil.copytree(predictor_folder, tmp_path / "copy")
    inputs = keras.Input((28, 28, 1), dtype="uint8", name="pixels")
    outputs = keras.layers.Lambda(lambda pixels: pixels)(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "copy" / "model.keras")
    with pytest.raises(ValueError, match="Lambda layer"):
        Predictor.load(tmp_path / "copy")


def test_damaged_or_missing_facts_are_errors_that_say_what_to_do(predictor_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"predictor\.json is missing"):
        Predictor.load(tmp_path)
    shutil.copytree(predictor_folder, tmp_path / "copy")
    (tmp_path / "copy" / "predictor.json").write_text('{"form": 99}')
    with pytest.raises(ValueError, match="its form is 99"):
        Predictor.load(tmp_path / "copy")
    (tmp_path / "copy" / "predictor.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        Predictor.load(tmp_path / "copy")


def test_unknown_runtime_and_missing_export_list_what_is_there(predictor_folder):
    with pytest.raises(ValueError, match="Did you mean onnx"):
        Predictor.load(predictor_folder, runtime="onxx")
    with pytest.raises(FileNotFoundError, match="files of: keras"):
        Predictor.load(predictor_folder, runtime="onnx")


def test_diverged_weights_are_an_error_not_an_answer(predictor):
    def nothing(pixels):
        outputs = predictor.runtime(pixels)
        return outputs._replace(probabilities=np.full_like(outputs.probabilities, np.nan))

    with pytest.raises(ValueError, match="NaN or infinity"):
        replace(predictor, runtime=nothing).compute(np.zeros((1, 28, 28, 1), np.uint8))


def test_thumbnails_show_the_training_images(loaded, shapes):
    import io

    row = loaded.references.training.iloc[0]
    picture = np.asarray(Image.open(io.BytesIO(row["thumbnail"])).convert("L"))
    np.testing.assert_array_equal(picture, shapes.pixels(shapes.rows_of([row["id"]]))[0, ..., 0])


def test_thumbnails_of_photographs_are_small_and_look_alike():
    import io

    from cnn_transfer.images.thumbnails import THUMBNAIL_PX, thumbnail

    x, y = np.meshgrid(np.arange(120), np.arange(200))
    photograph = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)
    encoded = thumbnail(photograph)
    picture = Image.open(io.BytesIO(encoded))
    assert (picture.format, max(picture.size)) == ("WEBP", THUMBNAIL_PX)
    expected = np.asarray(Image.fromarray(photograph).resize(picture.size), float)
    assert np.abs(np.asarray(picture.convert("RGB"), float) - expected).mean() < 4
    assert len(encoded) < 2_000


def test_without_validation_images_new_ones_are_compared_with_left_out_training_images(
    predictor, shapes_network, shapes, shape_splits, familiarity_of
):
    splits = shape_splits.replace({"split": {"validation": "unused"}})
    judged = predict(shapes_network, shapes, splits, "training").assign(left_out=True)
    calibration = fit_calibration(judged)
    threshold = choose_threshold(calibrate(judged, calibration), 0.9, 0.9)
    card = predictor.facts.card.model_copy(update={"strategy": "probe"}).model_dump(mode="json")
    made = build_predictor(
        shapes_network,
        card,
        "# Shapes",
        shapes,
        splits,
        judged.iloc[::-1],
        calibration,
        threshold,
        {},
        familiarity_of(shapes_network, shapes, splits, threshold, UNTRIED, learnt=False),
        UNTRIED,
        NONE_LEARNT,
        0,
    )
    rows = shapes.rows(splits, "training")
    known = made.references.validation
    assert len(known) == len(rows) == 160
    expected = calibrate(judged, calibration).set_index("id").loc[shapes.table["id"].iloc[rows]]
    assert known["predicted"].tolist() == expected["predicted"].tolist()
    np.testing.assert_allclose(known["confidence"], expected.filter(like="probability_").max(axis=1), atol=1e-6)
    training = made.references.embedded()
    left_out = familiarity_table(training, training, made.facts.familiarity)
    assert known["distance"].tolist() == pytest.approx(left_out["distance"].tolist())
    assert sorted(left_out["strangeness"]) == pytest.approx(made.facts.familiarity["strangeness"], abs=1e-3)
    assert "more new images" not in " ".join(made.facts.statements)
    empty = DriftCounts.empty(made.facts, made.references)
    pixels = shapes.pixels(shapes.rows(splits, "test"))
    report = drift_report(empty.add(made(list(pixels))), made.references, made.facts)
    statements = {row["aspect"]: row["statement"] for row in report["aspects"]}
    assert "left-out training images" in statements["features"]
    assert "Not judged" not in " ".join(statements.values())


def test_table_can_be_written_and_read(labelled, tmp_path):
    labelled.drop(columns=[]).to_parquet(tmp_path / "table.parquet")
    read = pd.read_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(read, labelled)


def test_columns_are_those_of_the_table(loaded, shapes):
    pixels = shapes.pixels(np.arange(6))
    images = shapes.table.iloc[:6]
    table = loaded.label(pixels, images)
    columns = loaded.columns(pixels, {name: images[name].tolist() for name in KNOWN})
    assert list(columns) == list(table)
    for name, values in columns.items():
        assert [None if pd.isna(value) else value for value in table[name]] == list(values)
