"""Reading, splitting, storing and feeding images.

Pixels are uint8 in 0-255 with shape (height, width, channels), channels last, everywhere in this package.
"""

from cnn_transfer.images.augmentation import Augmentation
from cnn_transfer.images.cifar10 import list_cifar10
from cnn_transfer.images.decoding import DecodedImages, ImageFormat, decode_image
from cnn_transfer.images.feeding import ordered_batches, training_batches
from cnn_transfer.images.image_set import ImageSet, open_image_set, write_image_set
from cnn_transfer.images.listing import ImageListing, list_class_folders, list_images, list_parquet
from cnn_transfer.images.splits import SplitRule, assign_splits, count_splits

__all__ = [
    "Augmentation",
    "DecodedImages",
    "ImageFormat",
    "ImageListing",
    "ImageSet",
    "SplitRule",
    "assign_splits",
    "count_splits",
    "decode_image",
    "list_cifar10",
    "list_class_folders",
    "list_images",
    "list_parquet",
    "open_image_set",
    "ordered_batches",
    "training_batches",
    "write_image_set",
]
