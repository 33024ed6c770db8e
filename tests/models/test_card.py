import pytest
from pydantic import ValidationError

from cnn_transfer.models import ModelCard

CARD = {
    "architecture": "compact_cnn",
    "image_shape": (28, 28, 1),
    "class_names": ("a", "b"),
    "trained_on": "shapes",
    "training_fingerprint": "f00",
    "training_images": 12,
    "precision": "float32",
    "initialised_from": "random",
    "strategy": "from scratch",
    "metrics": {"validation_accuracy": 0.5},
    "licence": "MIT",
}


def test_a_card_survives_json():
    card = ModelCard(**CARD)
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


def test_what_is_not_known_of_an_imported_network_is_none():
    card = ModelCard(**CARD | {"class_names": (), "training_images": None, "training_fingerprint": "unknown"})
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


@pytest.mark.parametrize("change", [{"licence": None}, {"image_shape": (28, 28)}, {"colour": "red"}])
def test_a_card_with_a_wrong_or_unknown_entry_is_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        ModelCard(**CARD | change)
