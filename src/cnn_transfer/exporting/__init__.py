"""The network of a predictor for other programs: written, compared with Keras by its own runtime, released."""

from cnn_transfer.exporting.conversion import FORMATS, Files, Format, check_formats, export
from cnn_transfer.exporting.release import Release, ToleranceError, read_files, write_files, write_release

__all__ = [
    "FORMATS",
    "Files",
    "Format",
    "Release",
    "ToleranceError",
    "check_formats",
    "export",
    "read_files",
    "write_files",
    "write_release",
]
