"""Networks of which only the head learns."""

from cnn_transfer.models import head_layers


def freeze(network):
    """Freeze all layers but the head, batch statistics included."""
    head = head_layers(network)
    for layer in network.layers:
        layer.trainable = layer in head
