"""Network architectures, pretrained weights, what a saved model says about itself, surgery and taps.

Every network takes uint8 images (height, width, channels) in 0-255, normalises inside, and returns class probabilities
in float32.
"""

from cnn_transfer.models.architectures import ARCHITECTURES, SMALLEST_IMAGE_PX, build_network
from cnn_transfer.models.card import ModelCard
from cnn_transfer.models.efficientnet_lite import build_efficientnet_lite, load_imagenet_weights
from cnn_transfer.models.flat_graph import flatten
from cnn_transfer.models.inference import frozen
from cnn_transfer.models.keras_applications import keras_applications
from cnn_transfer.models.keras_file import load_keras_file, write_keras_file
from cnn_transfer.models.network import Network
from cnn_transfer.models.pretrained import (
    PRETRAINED_NETWORKS,
    ImportedNetwork,
    NetworkReader,
    NetworkSource,
    read_network,
)
from cnn_transfer.models.pytorch_weights import read_pytorch_weights
from cnn_transfer.models.surgery import (
    add_head,
    copy_network,
    cut_layers,
    cut_network,
    for_training,
    head_layers,
    randomise_head,
    reinitialise,
    synchronised,
    unfreeze,
    with_precision,
)
from cnn_transfer.models.taps import add_linear_head, blocks_above, tap_layers, tap_network, tap_widths
from cnn_transfer.models.tracing import predict_batches, traced
from cnn_transfer.models.unusable import UnusableNetworkError
from cnn_transfer.models.weight_files import load_weights

__all__ = [
    "ARCHITECTURES",
    "PRETRAINED_NETWORKS",
    "SMALLEST_IMAGE_PX",
    "ImportedNetwork",
    "ModelCard",
    "Network",
    "NetworkReader",
    "NetworkSource",
    "UnusableNetworkError",
    "add_head",
    "add_linear_head",
    "blocks_above",
    "build_efficientnet_lite",
    "build_network",
    "copy_network",
    "cut_layers",
    "cut_network",
    "flatten",
    "for_training",
    "frozen",
    "head_layers",
    "keras_applications",
    "load_imagenet_weights",
    "load_keras_file",
    "load_weights",
    "predict_batches",
    "randomise_head",
    "read_network",
    "read_pytorch_weights",
    "reinitialise",
    "synchronised",
    "tap_layers",
    "tap_network",
    "tap_widths",
    "traced",
    "unfreeze",
    "with_precision",
    "write_keras_file",
]
