"""The stage `import_source` by itself."""

import numpy as np
import pytest
from kedro.io.core import DatasetError

from cnn_transfer.datasets import PretrainedNetworksDataset
from cnn_transfer.models import ImportedNetwork, ModelCard, read_network
from cnn_transfer.parameters import ParameterError
from cnn_transfer.pipelines.import_source.nodes import import_network
from cnn_transfer.training import LOG_COLUMNS

IMAGES = {"image_size_px": 28, "channels": 1}


def block(**changes):
    nothing = {"weights": None, "pixel_range": None, "trained_on": None, "licence": None}
    return {"network": "mine.keras"} | nothing | changes


@pytest.fixture
def read(tiny_network):
    def reader(source, image_shape):
        assert source.network == "mine.keras"
        assert image_shape == (28, 28, 1)
        return ImportedNetwork(tiny_network(), "tiny", "mine.keras, sha256 of its weights f00", "mine", "unknown")

    return reader


def test_the_card_says_what_is_known_and_what_is_not(read):
    network, card, log = import_network(read, block(), IMAGES)
    card = ModelCard.model_validate(card)
    assert network.name == "tiny"
    assert (card.class_names, card.training_images, card.metrics) == ((), None, {})
    assert (card.trained_on, card.licence) == ("mine", "unknown")
    assert (card.training_fingerprint, card.precision) == ("unknown", "unknown")
    assert card.initialised_from == "mine.keras, sha256 of its weights f00"
    assert (len(log), log.columns.tolist()) == (0, LOG_COLUMNS)


def test_what_the_user_knows_stands_in_the_card(read):
    _, card, _ = import_network(read, block(trained_on="tiles", licence="CC0"), IMAGES)
    assert (card["trained_on"], card["licence"]) == ("tiles", "CC0")


def test_a_mistyped_parameter_is_refused(read):
    with pytest.raises(ParameterError, match=r"import_source\.netwrk is not a parameter\. Did you mean network\?"):
        import_network(read, block() | {"netwrk": "x"}, IMAGES)


def test_the_catalogs_reader_reads_and_is_never_written(tiny_network, tmp_path):
    path = tmp_path / "mine.keras"
    network = tiny_network()
    network.save(path)
    dataset = PretrainedNetworksDataset()
    imported, card, _ = import_network(dataset.load(), block(network=str(path)), IMAGES)
    pixels = np.zeros((1, 28, 28, 1), np.uint8)
    assert imported(pixels).shape == (1, 6, 6, 16)
    assert card["architecture"] == "tiny"
    with pytest.raises(DatasetError, match="never written"):
        dataset.save(network)


@pytest.mark.parametrize("network", ["efficientnet_lite0", "file"])
def test_the_same_source_gives_the_same_outputs(tiny_network, tmp_path, network):
    tiny_network(image_shape=(32, 32, 3)).save(tmp_path / "mine.keras")
    parameters = block(network=str(tmp_path / "mine.keras") if network == "file" else network)
    images = {"image_size_px": 32, "channels": 3}
    (first, *rest), (second, *same) = (import_network(read_network, parameters, images) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert [weights.tobytes() for weights in first.get_weights()] == [w.tobytes() for w in second.get_weights()]
    assert rest[0] == same[0]
