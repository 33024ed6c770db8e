"""Images that are asked for are unlabelled, of different groups, and those that the network knows least about."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cnn_transfer.images import UnusableSetError
from cnn_transfer.prediction.label_next import (
    choose_images_to_label,
    describe_images_to_label,
    draw_images_to_label,
    write_page_to_label,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table(predictor, shapes, shape_splits):
    return choose_images_to_label(predictor, shapes, shape_splits, 12)


def test_they_are_without_a_label_and_to_be_filled_in(table, shape_splits):
    unlabelled = set(shape_splits["id"][shape_splits["split"] == "unlabelled"])
    assert len(table) == 12
    assert set(table["id"]) <= unlabelled
    assert table["id"].is_unique
    assert table["label"].isna().all()
    assert (table["split"] == "training_only").all()


def test_they_say_what_the_predictor_says(table, predictor, shapes):
    said = predictor.judge(shapes.pixels(shapes.rows_of(table["id"])))
    assert table["suggested"].tolist() == said.predicted.tolist()
    np.testing.assert_allclose(table["probability_of_suggested"], said.confidence, atol=1e-6)
    assert (table["suggested"] != table["other"]).all()
    assert (table["probability_of_other"] <= table["probability_of_suggested"]).all()


def test_what_a_head_has_learnt_from_is_suggested_as_it_would_be_without(table, predictor, shapes, shape_splits):
    names = shapes.class_names
    learnt = shapes.table.iloc[shapes.rows(shape_splits, "unlabelled")][["pixel_digest"]].reset_index(drop=True)
    said = learnt.assign(**{f"probability_{name}": p for name, p in zip(names, (0.1, 0.2, 0.3, 0.4), strict=True)})
    of_head = replace(predictor, references=replace(predictor.references, unlabelled=said))
    found = choose_images_to_label(of_head, shapes, shape_splits, 12)
    assert found["id"].tolist() == table["id"].tolist()  # chosen by what the network knows with them
    assert set(zip(found["suggested"], found["other"], strict=True)) == {(names[3], names[2])}
    np.testing.assert_allclose(found["probability_of_suggested"], 0.4, atol=1e-6)


def test_the_network_is_less_sure_of_them_than_of_others(table, predictor, shapes, shape_splits):
    rows = shapes.rows(shape_splits, "unlabelled")
    everyone = predictor.judge(shapes.pixels(rows)).confidence
    assert table["probability_of_suggested"].mean() < everyone.mean()


def test_the_same_images_are_chosen_again_and_fewer_are_the_first_of_more(table, predictor, shapes, shape_splits):
    fewer = choose_images_to_label(predictor, shapes, shape_splits.sample(frac=1, random_state=0), 5)
    assert set(fewer["id"]) == set(table["id"][:5])


def test_of_a_group_one_is_enough(predictor, shapes, shape_splits):
    hidden = shape_splits["split"] == "unlabelled"
    grouped = shape_splits.assign(
        group=shape_splits["group"].mask(hidden, "of " + shape_splits["id"].str.split("/").str[0])
    )
    found = choose_images_to_label(predictor, shapes, grouped, 12)
    assert sorted(found["id"].str.split("/").str[0]) == ["blob", "column", "diagonal", "row"]


def test_what_is_unlike_the_training_images_is_seldom_asked_for(predictor, shapes, shape_splits):
    """Every second unlabelled image is noise: where that counted as much, all twelve would be."""
    noise = shapes.rows(shape_splits, "unlabelled")[::2]
    pixels = shapes.pixels(np.arange(len(shapes)))
    pixels[noise] = np.random.default_rng(0).integers(0, 256, (len(noise), *shapes.image_shape))
    found = choose_images_to_label(predictor, replace(shapes, shards=(pixels,)), shape_splits, 12)
    assert found["id"].isin(shapes.table["id"].iloc[noise]).sum() <= 4


def test_without_unlabelled_images_it_says_where_they_come_from(predictor, shapes, shape_splits):
    known = shape_splits[shape_splits["split"] != "unlabelled"]
    with pytest.raises(UnusableSetError, match=r"folder _unlabelled/ .*labels_per_class"):
        choose_images_to_label(predictor, shapes, known, 5)


def test_as_the_catalog_keeps_it_a_class_may_be_called_na_and_what_is_missing_is(table, tmp_path):
    entries = yaml.safe_load((ROOT / "conf/base/catalog_label_next.yml").read_text(encoding="utf-8"))
    odd = table.assign(suggested="NA", other="null", unfamiliar=pd.array([None, True] * 6, "boolean"))
    odd.to_csv(tmp_path / "asked.csv", index=False)
    read = pd.read_csv(tmp_path / "asked.csv", **entries["images_to_label"]["load_args"])
    pd.testing.assert_frame_equal(read, odd)


def test_the_page_asks_for_all_of_them(table, shapes, predictor):
    page = write_page_to_label(shapes, table, predictor.facts.class_names)
    assert page.count('<li class="card"') == 12
    assert '"split": "training_only", "split_of_none": "unused"' in page
    assert page.count("Unlike the training images") == table["unfamiliar"].sum()


def test_the_sheet_shows_them(table, shapes):
    figure = draw_images_to_label(shapes, table, shown=5)
    titles = [text.get_text() for axes in figure.axes for text in axes.texts]
    first = table.iloc[0]
    assert len(titles) == 5
    assert titles[0].startswith(f"{first['suggested']} {first['probability_of_suggested']:.0%}")
    assert figure.get_suptitle() == "Images to label: the 5 most informative of 12"
    assert draw_images_to_label(shapes, table).get_suptitle() == "Images to label: 12, the most informative first"


def test_the_end_of_the_run_says_what_to_do(table):
    lines = " ".join(
        describe_images_to_label(table.assign(unfamiliar=[True, pd.NA] + [False] * 10), "kedro run --env x")
    )
    assert f"12 of the images without a label, first {table['id'][0]}" in lines
    assert "1 is unlike the training images" in lines
    assert "with the other parameters of this run" in lines  # the terminal breaks the line where its width ends
    assert "kedro run --env x … --params target_labels=FILE" in lines
    assert "are unlike" not in " ".join(describe_images_to_label(table.assign(unfamiliar=pd.NA), "kedro run"))
