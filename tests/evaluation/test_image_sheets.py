import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cnn_transfer.evaluation import draw_examples, draw_groups, draw_image_histograms, draw_rejected
from cnn_transfer.evaluation.image_sheets import SPLIT_COLOURS
from cnn_transfer.images import SPLITS
from cnn_transfer.images.reasons import rejected_table

NOTHING = rejected_table([])


def render(figure):
    """The figure as an image; a warning on the way, such as a missing glyph, would be an error."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    image = Image.open(stream)
    image.load()
    assert len(np.unique(np.asarray(image.convert("L")))) > 1
    return image


def shown(figure):
    """The pictures in the axes of a figure, in order."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_examples_show_training_images_of_each_class_in_a_row(shapes, shape_splits):
    figure = draw_examples(shapes, shape_splits, per_class=3)
    render(figure)
    pictures = shown(figure)
    training = shapes.rows(shape_splits, "training")
    expected = np.concatenate([training[shapes.classes[training] == index][:3] for index in range(4)])
    np.testing.assert_array_equal(pictures, shapes.pixels(expected)[..., 0])
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == list(shapes.class_names)


def test_examples_fill_their_sheet_whatever_the_length_of_the_names(shapes, shape_splits):
    names = {name: f"{name}_capital_letter_{name}" for name in shapes.class_names}
    table = shapes.table.assign(label=shapes.table["label"].map(names))
    renamed = replace(shapes, table=table, class_names=tuple(names.values()))
    figures = [
        draw_examples(shapes, shape_splits, per_class=8),
        draw_examples(renamed, shape_splits.assign(label=shape_splits["label"].map(names)), per_class=8),
    ]
    for figure in figures:
        figure.draw_without_rendering()
    short, long = (figure.axes[0].get_window_extent().height for figure in figures)
    assert long >= short


def test_groups_of_several_images_are_shown_from_the_largest_to_the_smallest(shapes, shape_splits):
    ids = shape_splits["id"]
    group = ids.where(
        ids.index >= 24, "series Regular-Tomato of Vegetables " + pd.Series(ids.index // 8, ids.index).astype(str)
    )
    group = group.where(ids.index != 23, "image a/b.png").where(ids.index != 30, "image a/b.png")
    figure = draw_groups(shapes, shape_splits.assign(group=group), most_groups=3, per_group=5)
    render(figure)
    assert texts(figure) == ["Regular-To…getables 0\n8 images", "Regular-To…getables 1\n8 images", "b.png\n2 images"]
    assert min(text.get_window_extent().x0 for text in figure.axes[0].texts) >= 0
    assert figure.get_suptitle() == "25 images in 4 groups"
    expected = shapes.pixels(shapes.rows_of(ids.iloc[[0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 23, 30]]))[..., 0]
    np.testing.assert_array_equal(shown(figure), expected)


def test_where_every_image_stands_alone_there_is_no_group_to_show(shapes, shape_splits):
    figure = draw_groups(shapes, shape_splits.assign(group=shape_splits["id"]))
    render(figure)
    assert figure.get_suptitle() == "Every image stands alone"


def test_examples_leave_out_classes_beyond_the_most_and_say_so(shapes, shape_splits):
    figure = draw_examples(shapes, shape_splits, per_class=2, most_classes=3)
    assert len(shown(figure)) == 6
    assert figure.get_suptitle() == "Training images, 3 of 4 classes"


def test_a_class_with_fewer_training_images_than_places_has_empty_places(shapes, shape_splits):
    few = shape_splits["split"].where(shape_splits.groupby("label").cumcount() < 10, "test")
    figure = draw_examples(shapes, shape_splits.assign(split=few), per_class=12)
    render(figure)
    assert 0 < len(shown(figure)) < 4 * 12


def test_examples_leave_out_a_class_that_is_not_trained(shapes, shape_splits):
    figure = draw_examples(shapes, shape_splits[shape_splits["label"] != "row"], per_class=2)
    render(figure)
    assert texts(figure) == ["blob", "column", "diagonal"]
    assert figure.get_suptitle() == "Training images, 3 of 3 classes"


def test_bars_of_the_histogram_are_the_numbers_of_images_by_class_and_split(shapes, shape_splits):
    figure = draw_image_histograms(shapes, shape_splits, NOTHING)
    render(figure)
    by_class = figure.axes[0]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in by_class.containers}
    assert heights == {"training": [40] * 4, "validation": [20] * 4, "test": [20] * 4, "unlabelled": [20] * 4}
    tops = [bar.get_y() + bar.get_height() for bar in by_class.containers[-1]]
    assert tops == [100] * 4
    assert len(figure.axes) == 1  # no reasons, and originals of one size
    assert by_class.get_xlabel() == "shorter side of every original: 28 px; stored: 28 px"


def test_histograms_show_unlabelled_images_in_no_class_and_the_most_frequent_classes_only(shapes, shape_splits):
    labels = shape_splits["label"].mask((shape_splits["split"] == "unlabelled") & (shape_splits["label"] != "row"))
    figure = draw_image_histograms(shapes, shape_splits.assign(label=labels), NOTHING, most_classes=1)
    render(figure)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["row"]
    assert sum(bar.get_height() for bars in figure.axes[0].containers for bar in bars) == 100


def test_reasons_are_counted_and_the_most_frequent_one_is_on_top(shapes, shape_splits):
    rejected = rejected_table([(f"{n}", "blob", "duplicate" if n < 5 else "truncated", "") for n in range(7)])
    figure = draw_image_histograms(shapes, shape_splits, rejected)
    render(figure)
    by_reason = figure.axes[1]
    assert by_reason.get_title() == "Set aside: 7"
    assert [label.get_text() for label in by_reason.get_yticklabels()] == ["truncated", "duplicate"]
    assert [bar.get_width() for bar in by_reason.containers[0]] == [2, 5]


def test_sizes_of_originals_that_hardly_differ_are_bars_that_can_be_seen(shapes, shape_splits):
    sides = [500] * (len(shapes) - 1) + [501]
    alike = replace(shapes, table=shapes.table.assign(width_px=sides, height_px=sides))
    figure = draw_image_histograms(alike, shape_splits, NOTHING)
    render(figure)
    by_size = figure.axes[1]
    low, high = by_size.get_xlim()
    (highest,) = [bar for bar in by_size.containers[0] if bar.get_height()]
    assert highest.get_width() > 0.03 * (high - low)


def test_sizes_are_those_of_used_images_before_resizing(shapes, shape_splits):
    wide = shapes.table.assign(width_px=range(28, 28 + len(shapes)), height_px=range(28, 28 + len(shapes)))
    figure = draw_image_histograms(replace(shapes, table=wide), shape_splits.iloc[:60], NOTHING)
    render(figure)
    counts = [bar.get_height() for bar in figure.axes[1].containers[0]]
    assert sum(counts) == 60


def test_rejected_pictures_are_shown_by_reason_with_their_names(shapes):
    names = shapes.table["id"]
    rows = [(name, "blob", "duplicate", "") for name in names[:3]]
    rows += [("blob/torn.png", "blob", "truncated", "half")]
    figure = draw_rejected(shapes, rejected_table(rows), per_reason=4)
    render(figure)
    np.testing.assert_array_equal(shown(figure), shapes.pixels(np.arange(3))[..., 0])
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["000.png", "001.png", "002.png"]
    assert texts(figure) == ["duplicate\n3", "truncated (1): torn.png"]
    assert figure.get_suptitle() == "Set aside: 4 files"


def test_files_without_a_picture_are_named_in_a_line_a_reason(shapes):
    rows = [(f"blob/{n}.png", "blob", "truncated", "") for n in range(6)] + [("a/b", None, "hidden_file", "")]
    figure = draw_rejected(shapes, rejected_table(rows))
    render(figure)
    assert shown(figure) == []
    assert texts(figure) == ["hidden_file (1): b\ntruncated (6): 0.png, 1.png, 2.png, 3.png and 2 more"]


def test_a_reason_shows_some_examples_and_counts_all(shapes):
    rows = [(name, "blob", "duplicate", "") for name in shapes.table["id"][:40]]
    figure = draw_rejected(shapes, rejected_table(rows), per_reason=2)
    render(figure)
    assert len(shown(figure)) == 2
    assert texts(figure) == ["duplicate\n40"]


def test_nothing_set_aside_is_a_sheet_that_says_so(shapes):
    figure = draw_rejected(shapes, NOTHING)
    render(figure)
    assert figure.get_suptitle() == "Nothing was set aside"


@pytest.mark.parametrize(
    "name",
    ["blob/$x_1$.png", "blob/a\nb.png", "blob/\\xff\\x00.png", "blob/" + 300 * "x", "blob/\u202e\x07", "犬/犬🐕.png"],
)
def test_odd_names_are_drawn_without_a_warning_and_short(shapes, name):
    images = replace(shapes, table=shapes.table.assign(id=[name, *shapes.table["id"][1:]]))
    rows = [(name, None, "duplicate", ""), (f"{name}x", None, "truncated", "")]
    figure = draw_rejected(images, rejected_table(rows))
    render(figure)
    assert len(figure.axes[0].get_title()) <= 22
    assert len(texts(figure)[1]) <= 22 + len("truncated (1): ")


def test_class_names_in_any_script_are_drawn_and_stay_apart(shapes, shape_splits):
    names = {"blob": "犬", "column": "猫", "diagonal": "été", "row": "100 $"}
    images = replace(shapes, table=shapes.table.assign(label=shapes.table["label"].map(names)))
    splits = shape_splits.assign(label=shape_splits["label"].map(names))
    render(draw_examples(images, splits, per_class=1))
    figure = draw_image_histograms(images, splits, NOTHING)
    render(figure)
    assert len({label.get_text() for label in figure.axes[0].get_xticklabels()}) == 4


def test_a_set_without_an_image_has_a_sheet(shapes):
    empty = replace(shapes, table=shapes.table.iloc[:0], shards=())
    render(draw_rejected(empty, rejected_table([("blob/a.png", "blob", "empty_file", "0 bytes")])))


def test_colours_of_the_splits_are_one_each():
    assert len(set(SPLIT_COLOURS)) == len(SPLITS)
