import io

import numpy as np
import pandas as pd
import pytest
from matplotlib import _pylab_helpers
from PIL import Image

from cnn_transfer.evaluation import (
    confusion_table,
    draw_confusion,
    draw_mistakes,
    draw_training_curves,
    no_predictions,
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
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def training_log(images, accuracy, **columns):
    return pd.DataFrame({"images_processed": images, "validation_accuracy": accuracy, **columns})


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
        "from scratch, rate 0.01, delivered": [0.1, 0.6, 0.7],
        "transfer, rate 0.002, delivered": [0.2, 0.8, 0.9],
    }


def test_the_best_accuracies_are_always_within_the_axes():
    for best in (0.05, 0.5, 0.99, 1.0):
        figure = draw_training_curves(
            SOURCE_LOG,
            training_log([0, 1], [0.02, best], learning_rate=0.1, trial=0, delivered=True),
            BASELINE_LOG.iloc[:0],
        )
        low, high = figure.axes[1].get_ylim()
        assert low <= best <= high


def test_curves_without_a_baseline_show_the_transfer_alone():
    figure = draw_training_curves(SOURCE_LOG, TARGET_LOG, BASELINE_LOG.iloc[:0])
    render(figure)
    assert [line.get_label() for line in figure.axes[1].lines] == ["transfer, rate 0.002, delivered"]


def test_curves_of_an_imported_source_have_no_empty_side():
    figure = draw_training_curves(SOURCE_LOG.iloc[:0], TARGET_LOG, BASELINE_LOG)
    render(figure)
    (only,) = figure.axes
    assert only.get_title() == "Training on the target (lower part cut off)"
    assert len(only.lines) == 3


def test_the_confusion_shows_counts_other_than_zero():
    predictions = pd.DataFrame({"label": list("aaabbc"), "predicted": list("aabbbc")})
    figure = draw_confusion(confusion_table(predictions, ["a", "b", "c"]))
    render(figure)
    (axes,) = figure.axes
    counts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "2", (0, 1): "1", (1, 1): "2", (2, 2): "1"}
    assert axes.get_title() == "Confusion on 6 test images"
    np.testing.assert_allclose(axes.images[0].get_array() ** 2, [[2 / 3, 1 / 3, 0], [0, 1, 0], [0, 0, 1]])


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
        confidences=[0.99, 0.5, 0.9, 0.6],
    ).assign(id=shapes.table["id"].iloc[[350, 351, 1, 2]].tolist())
    figure = draw_mistakes(shapes, table, shown=2)
    render(figure)
    np.testing.assert_array_equal(shown(figure), shapes.pixels(np.array([1, 2]))[..., 0])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["blob → row\n90% sure", "blob → column\n60% sure"]


def test_no_mistakes_are_a_sheet_that_says_so(shapes, predictions_table):
    right = predictions_table(["row"], ["row"], shapes.class_names)
    for table in (right, no_predictions(shapes)):
        figure = draw_mistakes(shapes, table, shown=8)
        render(figure)
        assert figure.get_suptitle() == "No mistakes"
        assert not shown(figure)


@pytest.mark.parametrize("name", ["a_b", "100%", "a$b$c", "rock & roll", "Ø"])
def test_class_names_are_drawn_as_they_are_spelt(name):
    names = ["plain", name]
    render(draw_confusion(confusion_table(pd.DataFrame({"label": names, "predicted": names}), names)))


def test_a_class_name_that_looks_like_a_formula_is_text():
    names = ["plain", "$\\oops$"]
    render(draw_confusion(confusion_table(pd.DataFrame({"label": names, "predicted": names}), names)))
