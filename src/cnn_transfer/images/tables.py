"""Tables of images: manifests that name files, and Parquet or Arrow files that hold the images themselves.

Columns: `label`, and optionally `split` and `group`, beside either `path` (relative to the manifest, absolute, or an
address) or one column of images, as bytes or as the struct of `bytes` and `path` of Hugging Face `datasets`.
An empty label is an unlabelled image. Any other column of text or numbers is kept as an attribute of the images.
Columns of other names take these places where somebody says so.
"""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections.abc import Hashable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from posixpath import split
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cnn_transfer.images.decoding import is_image
from cnn_transfer.images.listing import (
    ARROW_SUFFIXES,
    LISTING_COLUMNS,
    SPLIT_NAMES,
    TABLE_SUFFIXES,
    TEXT_SUFFIXES,
    TRAINING_ONLY,
    UNUSED,
    Encoded,
    ImageListing,
    listing_table,
    rank_sides,
    read_split,
)
from cnn_transfer.images.locations import is_local
from cnn_transfer.images.named_files import find_files, open_files
from cnn_transfer.images.reasons import UnusableSetError, rejected_table
from cnn_transfer.parameters import did_you_mean

FILE, COLUMN_OF_FILE = "file", "path"  # configurations of Kedro make what is called path absolute
CSV_SEPARATORS = (",", ";", "\t")
UNNAMED = re.compile(r"Unnamed: \d+")  # what pandas calls a column without a name
READ_AT_ONCE = 64  # images in memory, encoded as they are


_PART = re.compile(r"{([^{}]*)}")  # a column, in a value that is made of several


def is_table(filesystem: Any, path: str) -> bool:
    """Whether there is a file that is read as a table."""
    return Path(path).suffix.lower() in TABLE_SUFFIXES and bool(filesystem.isfile(path))


def fitting_tables(filesystem: Any, pattern: str) -> list[str]:
    """The tables of a folder whose names fit one with `*` in it, such as `set/*.csv`; none where it is no such name."""
    folder, name = split(pattern)
    if "*" not in name or filesystem.exists(pattern) or not filesystem.isdir(folder):
        return []
    inside = [path for path in filesystem.ls(folder, detail=False) if not split(path)[1].startswith(".")]
    return sorted(path for path in inside if fnmatchcase(split(path)[1], name) and is_table(filesystem, path))


def list_table(
    filesystem: Any, path: str, labelled: bool = True, columns: Mapping[str, str] | None = None
) -> ImageListing:
    """List a CSV, Parquet or Arrow file.

    Args:
        filesystem: Where it is.
        path: Of the file.
        labelled: Whether there must be a column of labels.
        columns: What stands for `path` (by `file`), `label`, `split` and `group` under another name; see `list_images`.

    Raises:
        ValueError: When a needed column is missing, naming those found, or a split is none.
    """
    names = columns or {}
    if not _is_text(path):
        reader = _open_table(filesystem, path)
        if (image_column := _image_column(reader)) is not None:
            return _list_images(filesystem, path, reader.schema, image_column, labelled, names)
    return list_manifest(read_manifest(filesystem, path, names), filesystem, path, labelled, names)


def read_manifest(filesystem: Any, path: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """A manifest with its columns called as they are here; arguments as for `list_table`.

    Raises:
        ValueError: When it cannot be read, or lacks a column that is said to be there.
    """
    if _is_text(path):
        return _renamed(_read_csv(filesystem, path), columns, path)
    reader = _open_table(filesystem, path)
    return _renamed(reader.frame(reader.schema.names), columns, path)


def read_labels(filesystem: Any, path: str) -> pd.DataFrame:
    """Labels by id, of a CSV, Parquet or Arrow file, or of all such files in a folder.

    Returns:
        `id` and `label` as text, an empty label is a missing value; `training_only` and `unused`, whether the column
        `split`, where there is one, says so.

    Raises:
        ValueError: When a column is missing, an id is empty, or a folder has no such file.
    """
    if not filesystem.isdir(path):
        return _read_label_table(filesystem, path)
    inside = [name for name in filesystem.ls(path, detail=False) if not Path(name).name.startswith(".")]
    names = sorted(name for name in inside if Path(name).suffix.lower() in TABLE_SUFFIXES)
    if not names:
        raise UnusableSetError(
            f"A folder of labels must have tables of them, {', '.join(sorted(TABLE_SUFFIXES))}. Received: {path}, "
            "which has none."
        )
    return pd.concat([_read_label_table(filesystem, name) for name in names], ignore_index=True)


def _read_label_table(filesystem: Any, path: str) -> pd.DataFrame:
    if _is_text(path):
        frame = _read_csv(filesystem, path)
    else:
        reader = _open_table(filesystem, path)
        frame = reader.frame([name for name in ("id", "label", "split") if name in reader.schema.names])
    for column in ("id", "label"):
        if column not in frame:
            found = list(frame.columns)
            raise UnusableSetError(
                f"{path} has no column {column}. {did_you_mean(column, found)}Found: {', '.join(found)}. Needed: id "
                "and label."
            )
    table = pd.DataFrame({name: texts_of(frame[name]) for name in ("id", "label")})
    if table["id"].isna().any():
        row = int(table["id"].isna().to_numpy().argmax()) + 1
        raise UnusableSetError(f"{path} has no id in row {row}, counted from 1 below the names of the columns.")
    return table.assign(
        **{split: frame["split"].eq(split) if "split" in frame else False for split in (TRAINING_ONLY, UNUSED)}
    )


def holds_images(filesystem: Any, path: str) -> bool:
    """Whether a file holds the images themselves; a manifest names them, and so does a damaged file."""
    try:
        return not _is_text(path) and has_image_column(filesystem, path)
    except (UnusableSetError, OSError):
        return False


def has_image_column(filesystem: Any, path: str) -> bool:
    """Whether a Parquet or Arrow file holds the images themselves.

    Raises:
        ValueError: When it is damaged.
    """
    return _image_column(_open_table(filesystem, path)) is not None


def _is_text(path: str) -> bool:
    return Path(path).suffix.lower() in TEXT_SUFFIXES


def _read_csv(filesystem: Any, path: str) -> pd.DataFrame:
    """The table as text, without conversion: a class may be called "NA", "007" or "1.0".

    Spreadsheets write semicolons where the comma is in numbers: what separates the names of the columns separates all.
    """
    try:
        with filesystem.open(path, "rb") as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
            head = next((line for line in text if line.strip()), "")  # pandas passes over empty lines, too
            separator = max(CSV_SEPARATORS, key=head.count)
            _need_different([name.strip() for name in next(csv.reader([head], delimiter=separator), [])], path)
            text.seek(0)
            with warnings.catch_warnings():  # of a first row with too many values the rest would be left out
                warnings.simplefilter("error", pd.errors.ParserWarning)
                return pd.read_csv(
                    text, sep=separator, dtype="str", keep_default_na=False, na_values=[""], index_col=False
                )
    except UnusableSetError:
        raise
    except UnicodeDecodeError as error:
        raise UnusableSetError(
            f"{path} must be a CSV file in UTF-8. Received: other bytes ({error}). Save it anew in UTF-8; spreadsheets "
            "call that form CSV UTF-8."
        ) from error
    except pd.errors.ParserWarning as error:
        raise UnusableSetError(
            f"{path} must be a CSV file with a line of column names and rows of as many values. Its first row has "
            "more: put values that hold the separator into quotation marks."
        ) from error
    except (ValueError, csv.Error) as error:  # no column, rows of several lengths
        raise UnusableSetError(
            f"{path} must be a CSV file with a line of column names and rows of as many values. {error}"
        ) from error


def _need_different(names: list[str], path: str) -> None:
    """Of two columns of one name the first would count, and nobody would know."""
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise UnusableSetError(
            f"{path} must give each column a name of its own. More than one is called: {', '.join(twice)}. Rename or "
            "remove all but one."
        )


def list_manifest(
    frame: pd.DataFrame, filesystem: Any, manifest: str, labelled: bool, columns: Mapping[str, str]
) -> ImageListing:
    """List the files that a manifest names.

    Args:
        frame: See `read_manifest`.
        filesystem: Where the manifest is.
        manifest: Its path, or of several in one folder what their names have in common.
        labelled: Whether there must be a column of labels.
        columns: As for `list_table`.

    Raises:
        ValueError: When a needed column is missing, a split is none, or none of the files is there.
    """
    file_column = columns.get(FILE, COLUMN_OF_FILE)
    _need(["path", "label"] if labelled else ["path"], list(frame.columns), manifest)
    names = texts_of(frame["path"])
    if "*" in file_column:
        names = find_files(filesystem, manifest, names)
    table = _common_columns(frame, manifest).assign(id=names)
    others = [name for name in frame.columns if name not in {"path", *LISTING_COLUMNS}]
    pairs = table.groupby("id", dropna=False)["label"]
    conflicting = table["id"].notna() & (pairs.transform("nunique") > 1)
    ranked = table.assign(side=rank_sides(table["split"]), nameless=table["label"].isna())
    ranked = ranked.sort_values(["side", "nameless"], kind="stable")  # a test image stays one, a label is kept
    repeated = table["id"].notna() & ~conflicting & ranked["id"].duplicated().sort_index()
    rejected = [
        *((f"row {row}", label, "missing_path", "") for row, label in table["label"][table["id"].isna()].items()),
        *((*found, "conflicting_labels", "one path, two labels") for found in _rows(table[conflicting])),
        *((*found, "listed_twice", "") for found in _rows(table[repeated])),
    ]
    kept = table["id"].notna() & ~conflicting & ~repeated
    attributes = as_attributes(table["id"][kept], frame[others][kept])
    table = table[kept].reset_index(drop=True)
    files = open_files(filesystem, manifest, list(table["id"]), file_column)
    return ImageListing(table, partial(_read_files, files), rejected=rejected_table(rejected), attributes=attributes)


def _renamed(frame: pd.DataFrame, names: Mapping[str, str], origin: str) -> pd.DataFrame:
    """With the columns that stand for others under the names of these; what they were made of is left out."""
    made: dict[str, pd.Series] = {}
    for role, source in names.items():
        name, parts = COLUMN_OF_FILE if role == FILE else role, _parts(role, source)
        for part in parts:
            if part not in frame:
                found = list(frame.columns)
                raise UnusableSetError(
                    f"{origin} has no column {part}, which was to say the {role}. {did_you_mean(part, found)}Found: "
                    f"{', '.join(found)}."
                )
        if parts == [source]:
            made[name] = frame[source]
            continue
        if role == "label":
            made[name] = _marked(frame[parts], origin)
            continue
        texts = frame[parts].apply(texts_of)
        joined = [_filled(source, row) for row in texts.fillna("").to_dict("records")]
        made[name] = pd.Series(joined, frame.index, dtype="str").where(texts.notna().all(axis=1))
    taken = {*made} | {part for role, source in names.items() for part in _parts(role, source)}
    return frame.drop(columns=[column for column in frame if column in taken]).assign(**made)


def _filled(source: str, row: Mapping[Hashable, str]) -> str:
    """What a row makes of a value in braces."""
    return _PART.sub(lambda part: row[part[1]], source).removeprefix("./")


def _parts(role: str, source: str) -> list[str]:
    """The columns that are to say something: of a file and a label it may be several, in braces."""
    return (_PART.findall(source) if role in {FILE, "label"} else []) or [source]


def _marked(frame: pd.DataFrame, origin: str) -> pd.Series:
    """The name of the column that is above 0 in each row; missing where none is."""
    texts = frame.apply(texts_of)
    numbers = frame.apply(pd.to_numeric, errors="coerce")
    if (wrong := texts.notna() & numbers.isna()).to_numpy().any():
        column = wrong.columns[wrong.any()][0]
        raise UnusableSetError(
            f"Columns that mark classes must hold numbers. {origin} has {texts[column][wrong[column]].iloc[0]!r} in "
            f"{column}."
        )
    marks = numbers.fillna(0) > 0
    if (several := marks.sum(axis=1) > 1).any():
        row = int(several.to_numpy().argmax())
        raise UnusableSetError(
            f"An image must be of one class. {origin} marks several in {int(several.sum()):,} of {len(frame):,} rows: "
            f"row {row + 1}, counted from 1 below the names of the columns, has "
            f"{' and '.join(marks.columns[marks.iloc[row]])}."
        )
    found: pd.Series = marks.idxmax(axis=1).where(marks.any(axis=1)).astype("str")
    return found


def _rows(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(table["id"], table["label"], strict=True)


def _read_files(files: tuple[Encoded, ...], rows: np.ndarray) -> Iterator[Encoded]:
    return (files[row] for row in rows)


def _list_images(
    filesystem: Any, path: str, schema: pa.Schema, column: str, labelled: bool, names: Mapping[str, str]
) -> ImageListing:
    label = names.get("label", "label")
    if labelled and "label" not in names:
        _need(["label"], schema.names, path)
    kind = schema.field(column).type
    has_paths = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
    said = {label, "split", "group"} | {part for role, source in names.items() for part in _parts(role, source)}
    wanted = [
        field.name
        for field in schema
        if field.name in said or (_is_plain(field) and field.name not in {column, "path", *LISTING_COLUMNS})
    ]
    frame = _Reader(filesystem, path).frame([*wanted, *([f"{column}.path"] if has_paths else [])])
    if label in frame:
        frame[label] = _class_names(frame[label], schema, label)
    frame = _renamed(frame, names, path)
    paths = texts_of(frame["path"]) if "path" in frame else pd.Series(pd.NA, frame.index, dtype="str")
    nameless = paths.isna() | paths.duplicated(keep=False)
    numbered = pd.Series([f"row {row:08d}" for row in range(len(frame))], frame.index, dtype="str")
    table = _common_columns(frame, path).assign(id=paths.where(~nameless, numbered))
    attributes = as_attributes(table["id"], frame.drop(columns=["path", *LISTING_COLUMNS], errors="ignore"))
    return ImageListing(table, partial(_read_images, filesystem, path, column), attributes=attributes)


def _read_images(filesystem: Any, path: str, column: str, rows: np.ndarray) -> Iterator[bytes]:
    """Read a few rows at a time, so that memory does not grow with the file, nor with its groups of rows."""
    reader = _Reader(filesystem, path)
    start = 0
    for group, length in enumerate(reader.group_lengths):
        wanted = rows[(rows >= start) & (rows < start + length)] - start
        first = 0
        for images in reader.parts(group, column) if len(wanted) else ():
            encoded = _bytes_of(images)
            here = wanted[(wanted >= first) & (wanted < first + len(encoded))] - first
            yield from (encoded[row].as_py() or b"" for row in here.tolist())
            first += len(encoded)
        start += length


def _open_table(filesystem: Any, path: str) -> _Reader:
    try:
        return _Reader(filesystem, path)
    except pa.ArrowInvalid as error:
        raise UnusableSetError(f"{path} is damaged, or neither a Parquet nor an Arrow file. {error}") from error


class _Reader:
    """A Parquet or Arrow file, local or remote, read by groups of rows."""

    def __init__(self, filesystem: Any, path: str) -> None:
        local = is_local(filesystem)
        self._parquet = not any(path.lower().endswith(suffix) for suffix in ARROW_SUFFIXES)
        if self._parquet:
            source = path if local else filesystem.open(path, "rb")
            self._file = pq.ParquetFile(source, memory_map=local)
            self.schema = self._file.schema_arrow
            groups = range(self._file.num_row_groups)
            self.group_lengths = [self._file.metadata.row_group(group).num_rows for group in groups]
            return
        source = pa.memory_map(path) if local else filesystem.open(path, "rb")
        try:
            self._file = pa.ipc.open_file(source)
            batches = [self._file.get_batch(index) for index in range(self._file.num_record_batches)]
        except pa.ArrowInvalid:  # the stream format, which Hugging Face datasets save
            source.seek(0)
            self._file = pa.ipc.open_stream(source)
            batches = list(self._file)
        self._batches, self.schema = batches, self._file.schema
        self.group_lengths = [len(batch) for batch in batches]

    def frame(self, columns: list[str]) -> pd.DataFrame:
        """The small columns of all rows; `image.path` becomes `path`."""
        if self._parquet:
            table = self._file.read(columns)
        else:
            plain = pa.Table.from_batches(self._batches, self.schema)
            table = pa.table({name: _nested(plain, name) for name in columns})
        frame: pd.DataFrame = table.flatten().to_pandas(ignore_metadata=True)
        return frame.rename(
            columns={name: name.rsplit(".", 1)[-1] for name in columns if name not in self.schema.names}
        )

    def parts(self, group: int, column: str) -> Iterator[pa.Array]:
        """One column of one group of rows, a few rows after the other."""
        if self._parquet:
            for batch in self._file.iter_batches(READ_AT_ONCE, row_groups=[group], columns=[column]):
                yield batch.column(column)
        else:
            yield self._batches[group].column(column)  # lies in the file, or was read with it


def _nested(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in table.schema.names:  # which may have a dot
        return table[name]
    column, _, field = name.rpartition(".")
    return pa.compute.struct_field(table[column], field)


def _is_plain(column: pa.Field) -> bool:
    """Whether a column holds one text, number or truth value a row."""
    kinds, kind = pa.types, column.type
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    texts = (kinds.is_string, kinds.is_large_string, kinds.is_string_view)
    return any(test(kind) for test in (*texts, kinds.is_integer, kinds.is_floating, kinds.is_boolean))


def as_attributes(names: pd.Series, others: pd.DataFrame) -> pd.DataFrame:
    """`id`, and columns of numbers, or of text where something is none; an empty text is missing.

    Columns without a name are left out, such as the numbers of rows that pandas writes.
    """
    columns = {"id": names.astype("str")}
    for name, values in others.items():
        if UNNAMED.fullmatch(str(name)):
            continue
        text = texts_of(values)
        numbers = pd.to_numeric(text, errors="coerce")
        columns[str(name)] = numbers if numbers.notna().equals(text.notna()) else text
    return pd.DataFrame(columns).reset_index(drop=True)


def _image_column(table: _Reader) -> str | None:
    """The column `image`, or the only one that holds bytes; beside paths these must begin as an image does."""
    holding = [field.name for field in table.schema if _holds_bytes(field.type)]
    if "image" in holding:
        return "image"
    if len(holding) != 1:
        return None
    return holding[0] if COLUMN_OF_FILE not in table.schema.names or _begins_as_image(table, holding[0]) else None


def _begins_as_image(table: _Reader, column: str) -> bool:
    """Whether the first value that is there does."""
    for group in range(len(table.group_lengths)):
        for part in table.parts(group, column):
            if len(values := _bytes_of(part).drop_null()):
                return is_image(values[0].as_py())
    return False


def _bytes_of(images: pa.Array) -> pa.Array:
    return pa.compute.struct_field(images, "bytes") if pa.types.is_struct(images.type) else images


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _class_names(labels: pd.Series, schema: pa.Schema, column: str) -> pd.Series:
    """Names of class numbers where Hugging Face `datasets` wrote them into the file."""
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    names = features.get(column, {}).get("names")
    if not names:
        return labels
    return labels.map(lambda number: names[int(number)] if pd.notna(number) and number >= 0 else None)


def _common_columns(frame: pd.DataFrame, origin: str) -> pd.DataFrame:
    """`LISTING_COLUMNS` with `id` still missing; empty strings are missing values."""
    table = pd.DataFrame({name: texts_of(frame[name]) for name in LISTING_COLUMNS[1:] if name in frame}, frame.index)
    table = listing_table(table)
    splits = table["split"].map(read_split, na_action="ignore")
    if (unknown := table["split"].notna() & splits.isna()).any():
        found = ", ".join(repr(value) for value in table["split"][unknown].unique()[:10])
        raise UnusableSetError(
            f"Unknown values in the column split of {origin}: {found}. Allowed: {', '.join(SPLIT_NAMES)}."
        )
    return table.assign(split=splits.astype("str"))


def texts_of(column: pd.Series) -> pd.Series:
    """The values as text, whole numbers without a point; missing where they are empty."""
    text = column.map(_text, na_action="ignore").astype("str")
    return text.where(text.str.strip() != "")


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _need(columns: list[str], found: list[str], origin: str) -> None:
    for column in columns:
        if column not in found:
            raise UnusableSetError(
                f"{origin} has no column {column}. {did_you_mean(column, found)}Found: {', '.join(found)}. Needed: "
                "label, and path or one column of images. Columns of other names are told so: "
                f"target_columns.{FILE if column == COLUMN_OF_FILE else column}=NAME (of a "
                "source: source_columns, of new images: images_columns)."
            )
