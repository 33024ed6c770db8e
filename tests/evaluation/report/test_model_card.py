"""The card of the delivered model: front matter for programs, text for people, and nothing that breaks either."""

import pandas as pd
import pytest
import yaml

from cnn_transfer.evaluation import limits_of_use, write_model_card
from cnn_transfer.images import ImageFormat

CARD = {
    "architecture": "compact_cnn",
    "image_shape": [28, 28, 1],
    "class_names": ["a|b", "<i>", "c"],
    "trained_on": "parts",
    "training_fingerprint": "f00d",
    "training_images": 60,
    "precision": "float32",
    "initialised_from": "fashion_mnist up to block3",
    "strategy": "lp_ft",
    "licence": "MIT",
}
METRICS = {
    "accuracy": 0.9666666,
    "accuracy_low": 0.91,
    "accuracy_high": 0.99,
    "macro_f1": 0.95,
    "macro_f1_low": 0.9,
    "macro_f1_high": 0.98,
}
PER_CLASS = pd.DataFrame(
    {"label": ["a|b", "<i>", "c"], "images": [20, 20, 0], "recall": [1.0, 0.5, None], "precision": [0.7, 1.0, None]}
)
SUMMARY = {
    "n_train": 60,
    "n_validation": 30,
    "n_test": 40,
    "plan": "A ridge.",
    "sentence": "Transfer is *better*.",
    "statements": ["No test image is of class c: averages over classes leave it out."],
}


@pytest.fixture
def written():
    return write_model_card(CARD, METRICS, PER_CLASS, SUMMARY)


def front_matter(text):
    assert text.startswith("---\n")
    head, _, body = text[4:].partition("\n---\n")
    return yaml.safe_load(head), body


def test_front_matter_is_what_the_hub_reads(written):
    head, _ = front_matter(written)
    assert head["license"] == "mit"
    assert head["library_name"] == "keras"
    assert head["pipeline_tag"] == "image-classification"
    (entry,) = head["model-index"]
    (result,) = entry["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"name": "parts", "type": "parts", "split": "test"}
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {"accuracy": 0.966667, "f1": 0.95}


def test_body_names_figures_classes_and_limits(written):
    _, body = front_matter(written)
    assert "| Accuracy | 96.7% | 91.0% to 99.0% |" in body
    assert "f00d" in body
    assert "A ridge." in body
    assert "60 labelled training images" in body
    assert r"Classes recognised least well: \<i\> (50.0%)." in body
    assert "- No test image is of class c: averages over classes leave it out." in body
    use = body[body.index("## Use") : body.index("## Training")]
    assert 'load_model("model.keras")' in use
    assert 'outputs["probabilities"]  # (n, 3), in the order of the classes' in use
    assert "`delivered_model.keras`, too, which returns probabilities alone; their order" in use


def test_names_cannot_break_the_markdown(written):
    _, body = front_matter(written)
    assert r"| a\|b | 20 | 100.0% | 70.0% |" in body
    assert "<i>" not in body.replace(r"\<i\>", "")
    assert r"Transfer is \*better\*." in body
    formula = write_model_card(CARD, METRICS, PER_CLASS, SUMMARY | {"sentence": "Costs $2$, ~3~ &amp; more."})
    assert r"Costs \$2\$, \~3\~ \&amp; more." in formula  # no formula, not struck out


def test_no_class_is_called_the_weakest_where_all_images_are_right():
    text = write_model_card(CARD, METRICS, PER_CLASS.assign(recall=[1.0, 1.0, None]), SUMMARY)
    assert "- No test image is mistaken: none says which class is recognised least well." in text
    assert "Classes recognised least well" not in text


def test_one_image_is_no_images():
    few = SUMMARY | {"n_train": 1, "n_validation": 1, "n_test": 1}
    text = write_model_card(CARD, METRICS, PER_CLASS, few)
    assert "- 1 labelled training image, 1 validation image of parts" in text
    assert "On 1 test image that nothing" in text
    assert "Trained on 1 labelled image;" in text


def test_class_without_test_images_has_no_figures(written):
    assert "| c | 0 | – | – |" in written


def test_calibration_is_told_when_there_is_one():
    nothing = {"method": "none", "statement": "They are left as they are."}
    text = write_model_card(CARD, METRICS, PER_CLASS, SUMMARY, nothing)
    assert "**Its probabilities**: They are left as they are." in text
    assert "not calibrated" not in text
    assert "Its probabilities" not in write_model_card(CARD, METRICS, PER_CLASS, SUMMARY)


@pytest.mark.parametrize("method", ["temperature", "temperature_and_bias"])
def test_file_whose_outputs_are_not_calibrated_says_so_and_what_is(method):
    calibration = {"method": method, "statement": "They are made surer."}
    text = write_model_card(CARD, METRICS, PER_CLASS, SUMMARY, calibration)
    assert "**Its probabilities**: They are made surer.\n\n## Training" in text
    assert "(n, 3), calibrated, in the order of the classes" in text
    assert (
        "`delivered_model.keras`, too, which returns probabilities alone, and these are not calibrated (by hand:"
        in text
    )
    assert "`softmax(log(probabilities) / temperature + bias)`" in text


@pytest.mark.parametrize(
    ("origin", "made"),
    [
        ("random weights", "trained from scratch"),
        ("random weights up to block3", "made from random weights by the method of transfer learning"),
    ],
)
def test_network_that_was_not_transferred_is_described_as_what_it_is(origin, made):
    head, body = front_matter(write_model_card(CARD | {"initialised_from": origin}, METRICS, PER_CLASS, SUMMARY))
    assert head["tags"] == ["image-classification", "cnn-transfer"]
    assert f"{made}\nwith CNN Transfer." in body
    assert "A ridge." not in body
    assert "No weights of a source are in it." in body
    assert r"which is not this one, the run found: Transfer is \*better\*." in body


def test_transferred_network_has_its_plan_and_its_verdict(written):
    head, body = front_matter(written)
    assert "transfer-learning" in head["tags"]
    assert "made by transfer learning\nwith CNN Transfer." in body
    assert "\n- A ridge.\n\n## Evaluation" in body
    assert "\n\nTransfer is \\*better\\*.\n\n|" in body
    assert "not this one" not in body


THRESHOLD = {"judged_on": "validation images", "threshold": 0.85, "wished_accuracy": 0.98, "promised_accuracy": 0.95}
FAMILIARITY = {"limit": 2.4, "false_alarm_rate": 0.01}


def test_out_of_scope_is_what_the_code_enforces():
    image_format = ImageFormat(image_size_px=28, channels=1, smallest_side_px=12, most_megapixels=50)
    limits = limits_of_use(image_format, THRESHOLD, FAMILIARITY)
    _, body = front_matter(write_model_card(CARD, METRICS, PER_CLASS, SUMMARY, out_of_scope=limits))
    scope = body.partition("## Out of scope")[2].partition("## Limitations")[0]
    assert "a side below 12 px, or of more than 50 megapixels, are rejected" in scope
    assert "than all but 1% of ordinary images are." in scope
    assert "less than 0.85 sure get no answer (`unsure`); above it an accuracy of 95% is promised" in scope
    assert scope.count("\n- ") == len(limits)


@pytest.mark.parametrize("threshold", [0.85, 0.0])
def test_promise_below_everything_is_not_rounded_to_everything(threshold):
    high = THRESHOLD | {"threshold": threshold, "promised_accuracy": 0.998}
    limits = " ".join(limits_of_use(None, high, FAMILIARITY | {"false_alarm_rate": 0.0004}))
    assert "an accuracy of 99.8% is promised" in limits
    assert "all but 0.04% of ordinary images" in limits
    few = " ".join(limits_of_use(None, high, FAMILIARITY | {"false_alarm_rate": 1 / 24}))
    assert "all but 4.17% of ordinary images" in few  # as the report says it
    nothing = THRESHOLD | {"threshold": None, "wished_accuracy": 0.9999}
    assert "an accuracy of 99.99%, or one" in " ".join(limits_of_use(None, nothing, FAMILIARITY))


def test_out_of_scope_says_what_cannot_be_told():
    text = "\n".join(limits_of_use(None, THRESHOLD | {"threshold": None}, FAMILIARITY | {"limit": None}))
    assert (
        "No image gets an answer (`no_threshold`): the validation images show for no confidence that an accuracy of 98%"
        in text
    )
    every = limits_of_use(None, THRESHOLD | {"threshold": 0.0}, FAMILIARITY)
    assert (
        "No image is withheld because the model is unsure of it: over all images an accuracy of 95% is promised."
        in every
    )
    left_out = THRESHOLD | {"threshold": None, "judged_on": "left-out training images"}
    assert "the left-out training images show for no confidence" in limits_of_use(None, left_out, FAMILIARITY)[2]
    assert "none is withheld for that" in text
    assert "megapixels" not in text
    assert "Out of scope" not in write_model_card(CARD, METRICS, PER_CLASS, SUMMARY)
