import base64
import io
import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib import _pylab_helpers
from PIL import Image

from cnn_transfer.evaluation import (
    confusion_table,
    draw_accuracies,
    draw_confusion,
    draw_depths,
    draw_mistakes,
    draw_ranking,
    draw_training_curves,
    no_predictions,
)
from cnn_transfer.evaluation.figures import (
    MOST_SHOWN_PX,
    as_svg,
    draw_sheet,
    from_to,
    new_figure,
    short_name,
    show_images,
)


def render(figure):
    """The figure as an image; a warning on the way, such as a missing glyph, would be an error."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    image = Image.open(stream)
    image.load()
    assert image.format == "PNG"
    assert len(np.unique(np.asarray(image.convert("L")))) > 1
    assert not _pylab_helpers.Gcf.get_all_fig_managers()  # nothing that pyplot would have to close
    return image


def shown(figure):
    """The pictures in the axes of a figure, in order."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def training_log(images, accuracy, **columns):
    return pd.DataFrame({"images_processed": images, "validation_accuracy": accuracy, "phase": "a phase", **columns})


SOURCE_LOG = training_log([0, 100, 200], [0.1, 0.5, 0.8])
TARGET_LOG = training_log([0, 50, 100], [0.2, 0.8, 0.9], learning_rate=0.002, trial=0, delivered=True)
BASELINE_LOG = pd.concat(
    [
        training_log([0, 50, 100], [0.1, 0.3, 0.5], learning_rate=0.001, trial=0, delivered=False),
        training_log([0, 100, 200], [0.1, 0.6, 0.7], learning_rate=0.01, trial=1, delivered=True),
    ],
    ignore_index=True,
)


def test_curves_draw_every_log_and_name_the_delivered_trial():
    figure = draw_training_curves(SOURCE_LOG, TARGET_LOG, BASELINE_LOG)
    render(figure)
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [0.1, 0.5, 0.8]
    curves = {line.get_label(): line.get_ydata().tolist() for line in right.lines}
    assert curves == {
        "from scratch, rate 0.001": [0.1, 0.3, 0.5],
        "from scratch, rate 0.01": [0.1, 0.6, 0.7],
        "transfer, rate 0.002": [0.2, 0.8, 0.9],
    }


def test_the_best_accuracies_are_always_within_the_axes():
    for best in (0.05, 0.5, 0.99, 1.0):
        figure = draw_training_curves(
            SOURCE_LOG,
            training_log([0, 1], [0.02, best], learning_rate=0.1, trial=0, delivered=True),
            BASELINE_LOG.iloc[:0],
        )
        low, high = figure.axes[1].get_ylim()
        assert low <= best <= 1 < high
        assert ("lower part cut off" in figure.axes[1].get_title()) == (low > 0)


def test_the_best_from_scratch_is_within_the_axes_beside_a_transfer_without_mistakes():
    logs = (training_log([0, 1], [0.3, best], learning_rate=0.1, trial=0, delivered=True) for best in (1.0, 0.9))
    low, _ = draw_training_curves(SOURCE_LOG, *logs).axes[1].get_ylim()
    assert 0.3 < low < 0.8


@pytest.mark.parametrize("low", [0.893, 0.962, 0.992])
def test_marks_of_accuracies_say_where_they_stand(low):
    axes = draw_accuracies({"transfer": {"accuracy": 1.0, "accuracy_low": low, "accuracy_high": 1.0}}).axes[0]
    places = axes.get_xticks()
    texts = axes.xaxis.get_major_formatter().format_ticks(places)
    said = [float(text.rstrip("%")) / 100 for text in texts if text]
    np.testing.assert_allclose(said, places[places <= 1])


def test_curves_without_a_baseline_show_the_transfer_alone():
    figure = draw_training_curves(SOURCE_LOG, TARGET_LOG, BASELINE_LOG.iloc[:0])
    render(figure)
    assert [line.get_label() for line in figure.axes[1].lines] == ["transfer, rate 0.002"]


def test_a_network_that_was_judged_without_training_is_a_point_with_its_name():
    probe = training_log([30], [0.7], learning_rate=0.0, trial=0, delivered=False, phase="probe")
    figure = draw_training_curves(SOURCE_LOG, pd.concat([probe, TARGET_LOG.assign(trial=1)]), BASELINE_LOG.iloc[:0])
    render(figure)
    labels = [line.get_label() for line in figure.axes[1].lines]
    assert labels == ["transfer, probe", "transfer, rate 0.002"]
    assert figure.axes[1].lines[0].get_marker() == "o"


def test_curves_without_validation_images_say_so():
    probe = training_log([30], [np.nan], learning_rate=0.0, trial=0, delivered=True, phase="probe")
    figure = draw_training_curves(SOURCE_LOG, probe, BASELINE_LOG.iloc[:0])
    render(figure)
    assert figure.axes[1].get_title().startswith("No validation images")
    assert not figure.axes[1].axison  # no scale of nothing
    figure = draw_training_curves(SOURCE_LOG.iloc[:0], probe, BASELINE_LOG.iloc[:0])
    render(figure)
    assert figure.get_suptitle().startswith("No validation images")
    assert not figure.axes


def test_curves_of_an_imported_source_have_no_empty_side():
    figure = draw_training_curves(SOURCE_LOG.iloc[:0], TARGET_LOG, BASELINE_LOG)
    render(figure)
    (only,) = figure.axes
    assert only.get_title() == "Training on the target"
    assert len(only.lines) == 3


@pytest.mark.parametrize(
    ("names", "question", "legend"),
    [
        (["lite", "mine"], "Which source helps most", "as good as the best"),
        (["lite"], "Whether the source helps", "better than random weights"),
    ],
)
def test_a_ranking_of_one_source_asks_whether_it_helps(names, question, legend):
    figures = ["loss", "gain", "behind_error", "accuracy", "standard_error", "accuracy_gain", "neighbours"]
    ranking = pd.DataFrame({name: [0.1] * len(names) for name in figures}).assign(
        rank=range(1, len(names) + 1), candidate=names, verdict="as good as the best"
    )
    figure = draw_ranking(ranking)
    assert figure.get_suptitle().startswith(question)
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == legend


def test_the_confusion_shows_counts_other_than_zero():
    predictions = pd.DataFrame({"label": list("aaabbc"), "predicted": list("aabbbc")})
    figure = draw_confusion(confusion_table(predictions, ["a", "b", "c"]))
    render(figure)
    (axes,) = figure.axes
    counts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "2", (0, 1): "1", (1, 1): "2", (2, 2): "1"}
    assert axes.get_title() == "Confusion on 6 test images"
    (alone,) = draw_confusion(confusion_table(predictions.head(1), ["a", "b", "c"])).axes
    assert alone.get_title() == "Confusion on 1 test image"
    np.testing.assert_allclose(axes.images[0].get_array() ** 2, [[2 / 3, 1 / 3, 0], [0, 1, 0], [0, 0, 1]])


def test_depths_stand_beside_what_they_reach_together_on_the_same_images():
    decided = json.loads(json.dumps(plan()))
    for head, accuracy in (("transferred", 0.75), ("random_weights", 0.35)):
        decided["evidence"][head]["images"] = 2904
        decided["evidence"][head]["depths_chosen_on"]["accuracy"] = accuracy
    (axes,) = draw_depths(depths(["block1", "block2"]), decided).axes
    labels = [line.get_label() for line in axes.lines]
    assert "all chosen depths: 75.0%" in labels
    assert "the same on random weights: 35.0%" in labels


def test_depths_are_not_drawn_where_every_class_has_one_training_image():
    decided = plan()
    decided["evidence"]["transferred"] |= {"images": 10, "lone_images": 10}
    figure = draw_depths(depths(["block1", "block2"]), decided)
    assert not figure.axes
    assert "no image can be left out" in figure.get_suptitle()


def test_depths_that_get_nearly_all_right_together_are_not_said_to_get_all():
    decided = plan()
    decided["evidence"]["transferred"]["accuracy"] = 0.9975
    (axes,) = draw_depths(depths(["block1", "block2"]), decided).axes
    assert "all chosen depths: 99.8%" in [line.get_label() for line in axes.lines]


@pytest.mark.parametrize("n_classes", [100, 101, 242])
def test_the_confusion_names_classes_evenly_apart_where_there_is_no_room_for_all(n_classes):
    names = [f"class {n}" for n in range(n_classes)]
    figure = draw_confusion(confusion_table(pd.DataFrame({"label": names, "predicted": names}), names))
    render(figure)
    (axes,) = figure.axes
    step = 1 if n_classes <= 100 else 2 if n_classes <= 200 else 3
    for axis in (axes.xaxis, axes.yaxis):
        assert axis.get_ticklocs().tolist() == list(range(0, n_classes, step))
        assert [tick.get_text() for tick in axis.get_ticklabels()] == names[::step]
        assert min(tick.get_fontsize() for tick in axis.get_ticklabels()) > 6


def test_the_confusion_of_many_classes_leaves_the_counts_out():
    names = [f"class {n}" for n in range(30)]
    figure = draw_confusion(confusion_table(pd.DataFrame({"label": names, "predicted": names}), names))
    render(figure)
    assert not figure.axes[0].texts


def test_mistakes_are_shown_with_the_most_confident_first(shapes, predictions_table):
    table = predictions_table(
        ["row", "row", "blob", "blob"],
        ["row", "blob", "row", "column"],
        shapes.class_names,
        confidences=[0.99, 0.5, 0.997, 0.6],
    ).assign(id=shapes.table["id"].iloc[[350, 351, 1, 2]].tolist())
    figure = draw_mistakes(shapes, table, shown=2)
    render(figure)
    np.testing.assert_array_equal(shown(figure), shapes.pixels(np.array([1, 2]))[..., 0])
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles == ["blob → row\n> 99% sure", "blob → column\n60% sure"]
    assert figure.get_suptitle() == "The 2 most confident mistakes (true → predicted)"
    assert draw_mistakes(shapes, table, shown=1).get_suptitle() == "The most confident mistake (true → predicted)"


def test_no_mistakes_are_a_sheet_that_says_so(shapes, predictions_table):
    right = predictions_table(["row"], ["row"], shapes.class_names)
    for table in (right, no_predictions(shapes)):
        figure = draw_mistakes(shapes, table, shown=8)
        render(figure)
        assert figure.get_suptitle() == "No mistakes"
        assert not shown(figure)


def test_titles_of_three_lines_have_room_below_the_pictures_above(shapes):
    figure = draw_sheet(shapes, shapes.table["id"].iloc[:10], ["fray?\nrather break\n97.2%"] * 10, "")
    render(figure)
    boxes = [image.get_window_extent() for image in figure.axes[0].images]
    title = figure.axes[0].texts[8].get_window_extent()
    assert boxes[8].y1 < title.y0 < title.y1 < boxes[0].y0


@pytest.mark.parametrize("name", ["a_b", "100%", "a$b$c", "rock & roll", "Ø"])
def test_class_names_are_drawn_as_they_are_spelt(name):
    names = ["plain", name]
    render(draw_confusion(confusion_table(pd.DataFrame({"label": names, "predicted": names}), names)))


def test_a_class_name_that_looks_like_a_formula_is_text():
    names = ["plain", "$\\oops$"]
    render(draw_confusion(confusion_table(pd.DataFrame({"label": names, "predicted": names}), names)))


def depths(names, random=True):
    table = pd.DataFrame({"tap": names, "weight": [(0.2, 0.0, 0.8)[place % 3] for place in range(len(names))]})
    table["accuracy"] = np.linspace(0.3, 0.8, len(names))
    return table.assign(random_accuracy=np.linspace(0.2, 0.5, len(names)) if random else np.nan)


def plan(random=True):
    on_all = {"images": 200, "depths_chosen_on": {"images": 200, "classes": 10, "accuracy": 0.85}}
    evidence = {"transferred": {"accuracy": 0.9, "permuted_labels": 0.1} | on_all}
    return {"evidence": evidence | ({"random_weights": {"accuracy": 0.6} | on_all} if random else {})}


def test_depths_are_bars_and_the_paler_the_less_they_weigh_in_the_head():
    figure = draw_depths(depths(["block1", "block2", "block3"]), plan())
    render(figure)
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.3, 0.55, 0.8])
    assert [bar.get_alpha() for bar in axes.patches] == pytest.approx([0.6, 0.2, 1.0])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["block1", "block2", "block3"]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert lines["random weights, alone"].tolist() == pytest.approx([0.2, 0.35, 0.5])
    assert set(lines) == {
        "random weights, alone",
        "all chosen depths: 90.0%",
        "the same on random weights: 60.0%",
        "permuted labels: 10.0%",
    }


def test_depths_without_random_weights_say_nothing_about_them():
    figure = draw_depths(depths(["block1", "block2"], random=False), plan(random=False))
    render(figure)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels[0] == "all chosen depths: 90.0%"
    assert not any("random" in label for label in labels)


def test_many_depths_with_long_names_stay_readable():
    figure = draw_depths(depths([f"conv5_block{number}_out_$x_1" for number in range(20)]), plan())
    render(figure)
    assert {tick.get_rotation() for tick in figure.axes[0].get_xticklabels()} == {45}


def test_a_name_that_is_too_long_keeps_its_beginning_and_its_end():
    assert short_name("a short name") == "a short name"
    assert short_name("chrysanthemum_leucanthemum_014", 15) == "chrysan…mum_014"
    assert all(len(short_name("x" * n, most)) <= most for n in range(30) for most in (5, 8, 22))


def test_what_no_font_of_the_settings_draws_is_not_cut_through_and_browsers_draw_it():
    assert [short_name("北京动物园 01", most) for most in (12, 22)] == [r"\u5317… 01", r"\u5317…\u56ed 01"]
    assert short_name("\U0002f800\ud800" * 9, 22) == r"\U0002f800…\ud800"
    figure = new_figure(2, 1)
    figure.suptitle(short_name("北 \ud800 \x07" + r" \u0041 \Uffffffff", 60), parse_math=False)
    assert r">北 \ud800 \x07 \u0041 \Uffffffff<" in as_svg(figure)


def test_two_long_names_stand_on_two_lines():
    assert from_to("cat", "dog") == "cat → dog"
    assert from_to("chrysanthemum_001", "chrysanthemum_014").splitlines() == ["chrysa…um_001", "→ chrysa…um_014"]


def test_the_legend_of_the_curves_names_the_delivered_trials_and_the_others_once():
    many = [training_log([0, 100], [0.1, 0.2], learning_rate=0.1, trial=n, delivered=n == 3) for n in range(12)]
    low = TARGET_LOG.assign(validation_accuracy=[0.1, 0.2, 0.3])
    figure = draw_training_curves(SOURCE_LOG, low, pd.concat(many))
    render(figure)
    axes = figure.axes[1]
    assert not axes.get_legend().get_window_extent().contains(*axes.transData.transform((100, 0.2)))
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["from scratch, rate 0.1", "transfer, rate 0.002", "pale: the other trials"]


def test_the_names_of_many_classes_stay_apart_in_the_confusion():
    names = [f"chrysanthemum_leucanthemum_{n:03d}" for n in range(100)]
    figure = draw_confusion(confusion_table(pd.DataFrame({"label": names, "predicted": names}), names))
    render(figure)
    for ticks, across in ((figure.axes[0].get_xticklabels(), "x"), (figure.axes[0].get_yticklabels(), "y")):
        boxes = [tick.get_window_extent() for tick in ticks]
        ends = sorted((getattr(box, f"{across}0"), getattr(box, f"{across}1")) for box in boxes)
        assert all(after[0] > before[1] - 1.5 for before, after in itertools.pairwise(ends))


@pytest.mark.parametrize(("height", "width", "channels"), [(300, 200, 3), (90, 300, 1), (MOST_SHOWN_PX, 64, 3)])
def test_large_pictures_are_shown_small_and_small_ones_as_they_are(height, width, channels):
    axes = [new_figure(2, 2).subplots()]
    pixels = np.random.default_rng(0).integers(0, 256, (1, height, width, channels), np.uint8)
    show_images(axes, pixels)
    shown = axes[0].images[0].get_array()
    if max(height, width) > MOST_SHOWN_PX:
        assert max(shown.shape[:2]) == MOST_SHOWN_PX
        assert shown.shape[0] / shown.shape[1] == pytest.approx(height / width, rel=0.02)
        assert shown.mean() == pytest.approx(pixels.mean(), abs=2)
    else:
        np.testing.assert_array_equal(shown, pixels[0])


def embedded_pictures(side):
    axes = [new_figure(2, 2).subplots()]
    down, across = np.mgrid[:side, :side] * 255 / (side - 1)
    noise = np.random.default_rng(0).normal(0, 8, (side, side))
    pixels = np.stack([down, across, (down + across) / 2], axis=-1) + noise[..., None]
    show_images(axes, pixels.clip(0, 255).astype(np.uint8)[None])
    found = re.findall(r"data:image/(\w+);base64,([^\"]+)", as_svg(axes[0].figure))
    return [(kind, Image.open(io.BytesIO(base64.b64decode(content)))) for kind, content in found]


def test_a_large_picture_of_an_svg_is_webp_and_looks_the_same():
    [(kind, picture)] = embedded_pictures(96)
    assert (kind, picture.format) == ("webp", "WEBP")
    shown = np.asarray(picture.convert("RGB"), float)
    ends = shown[:: len(shown) - 1, :: len(shown[0]) - 1]
    np.testing.assert_allclose(shown.mean((0, 1)), 127.5, atol=3)
    assert ends[0, 0, 0] < 40
    assert ends[1, 0, 0] > 215
    assert ends[0, 1, 1] > 215


def test_cells_of_one_colour_stay_exact():
    axes = new_figure(3, 3).subplots()
    axes.imshow(np.eye(3), cmap="Blues")
    [content] = re.findall(r"data:image/webp;base64,([^\"]+)", as_svg(axes.figure))
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert {colour for _, colour in picture.convert("RGB").getcolors()} == {(247, 251, 255), (8, 48, 107)}


def test_a_small_picture_of_an_svg_loses_nothing(monkeypatch):
    monkeypatch.setattr("cnn_transfer.evaluation.figures.EXACT_PX", 10_000)
    [(kind, picture)] = embedded_pictures(96)
    assert (kind, picture.format) == ("png", "PNG")


def test_a_figure_is_drawn_once_for_each_file(monkeypatch):
    figure, drawn = new_figure(2, 1), []
    axes = figure.subplots()
    monkeypatch.setattr(axes, "draw", drawn.append)
    as_svg(figure)
    figure.savefig(io.BytesIO(), format="png")
    assert len(drawn) == 2
