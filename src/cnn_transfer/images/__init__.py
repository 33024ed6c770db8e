"""Listing, checking, storing, splitting and feeding images.

Pixels are uint8 in 0-255 with shape (height, width, channels), channels last, everywhere in this package. The way of an
image: `listing` (with `folders`, `tables`, `cifar10`, `corrections`) → `decoding` in `preparation` → `image_set` →
`checking` (with `duplicates`, `series`, `shortcuts`) → `splits` → `feeding` (with `augmentation`). `reasons` explains
the codes that it may meet.
"""

from cnn_transfer.images.augmentation import DRAWS, Augmentation, augment, middle_of, move_copies
from cnn_transfer.images.checking import CheckedImages, CheckRule, check_image_set, check_share
from cnn_transfer.images.cifar10 import list_cifar10
from cnn_transfer.images.corrections import correct_labels
from cnn_transfer.images.decoding import ImageFormat, UnusableImageError, decode_image
from cnn_transfer.images.duplicates import NearDuplicates
from cnn_transfer.images.feeding import (
    Examples,
    image_batches,
    images_a_batch,
    ordered_batches,
    split_examples,
    training_batches,
)
from cnn_transfer.images.image_set import ImageSet, class_names, open_image_set, write_image_set
from cnn_transfer.images.listing import (
    TRAINING_ONLY,
    UNUSED,
    ImageListing,
    about_wildcards,
    fingerprint_of,
    is_there,
    list_images,
    list_unlabelled,
    open_images,
)
from cnn_transfer.images.locations import open_location
from cnn_transfer.images.preparation import DecodedImages, Workers
from cnn_transfer.images.reasons import NoAnswerError, NoRoomError, UnusableSetError
from cnn_transfer.images.shards import holds_tables
from cnn_transfer.images.shortcuts import POINT_TO, shortcut_guesses
from cnn_transfer.images.splits import SPLITS, UNLABELLED, SplitRule, assign_splits, check_test_images, count_splits
from cnn_transfer.images.thumbnails import thumbnail

__all__ = [
    "DRAWS",
    "POINT_TO",
    "SPLITS",
    "TRAINING_ONLY",
    "UNLABELLED",
    "UNUSED",
    "Augmentation",
    "CheckRule",
    "CheckedImages",
    "DecodedImages",
    "Examples",
    "ImageFormat",
    "ImageListing",
    "ImageSet",
    "NearDuplicates",
    "NoAnswerError",
    "NoRoomError",
    "SplitRule",
    "UnusableImageError",
    "UnusableSetError",
    "Workers",
    "about_wildcards",
    "assign_splits",
    "augment",
    "check_image_set",
    "check_share",
    "check_test_images",
    "class_names",
    "correct_labels",
    "count_splits",
    "decode_image",
    "fingerprint_of",
    "holds_tables",
    "image_batches",
    "images_a_batch",
    "is_there",
    "list_cifar10",
    "list_images",
    "list_unlabelled",
    "middle_of",
    "move_copies",
    "open_image_set",
    "open_images",
    "open_location",
    "ordered_batches",
    "shortcut_guesses",
    "split_examples",
    "thumbnail",
    "training_batches",
    "write_image_set",
]
