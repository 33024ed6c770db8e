"""The drift plot shows each figure on both sides, and marks where drift is called."""

import io

import numpy as np
import pytest
from drift_samples import draw_predictions, make_facts, make_references
from PIL import Image

from cnn_transfer.prediction.drift import DriftCounts, drift_report
from cnn_transfer.prediction.drift_figure import MOST_CLASSES, drift_plot

FIGURES = ["width, px", "height, px", "brightness", "sharpness", "confidence", "distance to training"]


def report_on(new, references, class_names=tuple("abcdefghij")):
    facts = make_facts(class_names)
    return drift_report(DriftCounts.empty(facts, references).add(new), references, facts)


def draw(report):
    """The figure, which can be drawn as it is."""
    figure = drift_plot(report)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert Image.open(stream).width > 1000
    return figure


def words_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_names_each_figure_and_marks_drift():
    figure = draw(report_on(draw_predictions(300, 1, brightness=0.02), make_references()))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[1:] == [
        "brightness: drift" if name == "brightness" else name for name in [*FIGURES, "classes predicted"]
    ]
    assert "drift in brightness" in figure.get_suptitle()
    assert words_of(figure).count("drift") == 1


def test_bars_are_shares_of_the_images():
    references = make_references()
    brightness = draw(report_on(draw_predictions(300, 1), references)).axes[3]
    reference, new = (patch.get_data() for patch in brightness.patches)
    assert reference.values.sum() == pytest.approx(1)
    assert new.values.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        reference.values, np.histogram(references.training["brightness"], reference.edges)[0] / 200, atol=1e-12
    )


@pytest.mark.parametrize(
    ("new", "validation", "words"), [(0, 200, "no new images"), (50, 0, "no images to compare with")]
)
def test_says_where_a_side_is_empty(new, validation, words):
    figure = draw(report_on(draw_predictions(new, 1), make_references(validation=validation)))
    assert words in words_of(figure)
    assert "not judged" in words_of(figure)
    assert "no drift found" in figure.get_suptitle()


def test_one_image_can_be_drawn():
    figure = draw(report_on(draw_predictions(1, 1, width_px=60_000, sharpness=0.0, brightness=1.0), make_references()))
    assert words_of(figure).count("not judged") == 6


def test_of_many_classes_those_that_differ_most_are_shown_whatever_they_are_called():
    names = (*(f"${n}_{{" for n in range(38)), "犬\x07", "x" * 200)
    references = make_references(class_names=names)
    predicted = np.array(["犬\x07"] * 100 + [names[0]] * 200, object)
    figure = draw(report_on(draw_predictions(300, 1, names, predicted=predicted), references, names))
    axes = figure.axes[-1]
    assert axes.get_title() == f"classes predicted: {MOST_CLASSES} of 40: drift"
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(shown) == MOST_CLASSES
    assert shown[0] == "$0_{"
