"""The network of a predictor for other programs: written, compared with Keras by its own runtime, released."""

from cnn_transfer.exporting.card import card_of_release
from cnn_transfer.exporting.conversion import FORMATS, Files, Format, check_formats, export
from cnn_transfer.exporting.figure import draw_exports
from cnn_transfer.exporting.parity import Compared, calibration_pixels, check_same_images, compare, images_to_compare
from cnn_transfer.exporting.release import Release, ToleranceError, read_files, write_files, write_release
from cnn_transfer.exporting.speed import time_exports
from cnn_transfer.exporting.table import describe_exports, export_table

__all__ = [
    "FORMATS",
    "Compared",
    "Files",
    "Format",
    "Release",
    "ToleranceError",
    "calibration_pixels",
    "card_of_release",
    "check_formats",
    "check_same_images",
    "compare",
    "describe_exports",
    "draw_exports",
    "export",
    "export_table",
    "images_to_compare",
    "read_files",
    "time_exports",
    "write_files",
    "write_release",
]
