"""The network of a predictor for other programs: written, compared with Keras and with the release before, released."""

from cnn_transfer.exporting.card import card_of_release
from cnn_transfer.exporting.challenge import (
    Rule,
    WorseReleaseError,
    changed_images,
    compare_with_champion,
    describe_champion,
)
from cnn_transfer.exporting.challenge_figures import draw_champion, draw_lost
from cnn_transfer.exporting.champion import Candidate, Champion, choose_champion, judge_both
from cnn_transfer.exporting.conversion import FORMATS, Files, Format, check_formats, export
from cnn_transfer.exporting.figure import draw_exports
from cnn_transfer.exporting.parity import Compared, calibration_pixels, check_same_images, compare, images_to_compare
from cnn_transfer.exporting.release import Release, ToleranceError, read_files, write_files, write_release
from cnn_transfer.exporting.speed import time_exports
from cnn_transfer.exporting.table import describe_exports, export_table

__all__ = [
    "FORMATS",
    "Candidate",
    "Champion",
    "Compared",
    "Files",
    "Format",
    "Release",
    "Rule",
    "ToleranceError",
    "WorseReleaseError",
    "calibration_pixels",
    "card_of_release",
    "changed_images",
    "check_formats",
    "check_same_images",
    "choose_champion",
    "compare",
    "compare_with_champion",
    "describe_champion",
    "describe_exports",
    "draw_champion",
    "draw_exports",
    "draw_lost",
    "export",
    "export_table",
    "images_to_compare",
    "judge_both",
    "read_files",
    "time_exports",
    "write_files",
    "write_release",
]
