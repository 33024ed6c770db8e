import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from odd_images import encode, photograph, write

from cnn_transfer.images import DecodedImages, ImageFormat, list_images, open_image_set, write_image_set

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FORMAT = ImageFormat(image_size_px=16, channels=3)
PICTURES = [encode(photograph(seed, 24, 20)) for seed in range(6)]


def save(table, file, form="parquet", **options):
    """Write an Arrow table as a Parquet file, an Arrow file or an Arrow stream."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        pq.write_table(table, file, **options)
        return file
    file = file.with_suffix(".arrow")
    writer = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with writer(str(file), table.schema) as sink:
        sink.write_table(table, max_chunksize=2)
    return file


def decode(listing, rows=None):
    rows = np.arange(len(listing.table)) if rows is None else np.asarray(rows)
    (chunk,) = DecodedImages(listing, FORMAT, rows).chunks()
    return chunk


def manifest(folder, text, images=3, encoding="utf-8"):
    for index in range(images):
        write(folder / f"images/{index}.png", PICTURES[index])
    write(folder / "list.csv", text.encode(encoding))
    return folder / "list.csv"


def rejected(listing):
    return dict(zip(listing.rejected["id"], listing.rejected["reason"], strict=True))


def test_paths_of_a_manifest_are_relative_to_it_or_absolute(tmp_path):
    write(tmp_path / "elsewhere/x.png", PICTURES[0])
    text = "path,label\nimages/0.png,cat\n./images/1.png,dog\nimages/../images/2.png,dog\n"
    text += f"{tmp_path}/elsewhere/x.png,cat\n"
    listing = list_images(manifest(tmp_path / "set", text))
    assert listing.table["label"].tolist() == ["cat", "dog", "dog", "cat"]
    assert len(decode(listing).table) == 4
    assert listing.name == "list"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_labels_of_a_csv_file_are_taken_as_they_are_spelt(tmp_path, encoding):
    text = 'path,label\nimages/0.png,NA\nimages/1.png,007\nimages/2.png,1.0\n"a,b.png","großer ""Hund"", nan"\n'
    listing = list_images(manifest(tmp_path, text, encoding=encoding))
    assert listing.table["label"].tolist() == ["NA", "007", "1.0", 'großer "Hund", nan']
    assert listing.table["id"].iloc[3] == "a,b.png"


def test_optional_columns_are_the_given_side_and_the_group(tmp_path):
    text = """label,group,note,split,path
cat,p1,x,Train,images/0.png
dog,,y,valid,images/1.png
cat,p2,,TEST ,images/2.png
,,,,d.png
"""
    table = list_images(manifest(tmp_path, text)).table
    assert table["split"].fillna("").tolist() == ["training", "validation", "test", ""]
    assert table["group"].fillna("").tolist() == ["p1", "", "p2", ""]
    assert table["label"].isna().tolist() == [False, False, False, True]
    assert table.columns.tolist() == ["id", "label", "split", "group"]


def test_an_empty_label_is_an_unlabelled_image(tmp_path):
    listing = list_images(manifest(tmp_path, "path,label\nimages/0.png,cat\nimages/1.png,\nimages/2.png,  \n"))
    assert listing.table["label"].isna().tolist() == [False, True, True]


def test_rows_without_a_path_twice_and_with_two_labels_are_set_aside(tmp_path):
    text = (
        "path,label\nimages/0.png,cat\n,dog\nimages/1.png,dog\nimages/0.png,cat\nimages/2.png,cat\nimages/2.png,dog\n"
    )
    listing = list_images(manifest(tmp_path, text))
    assert listing.table["id"].tolist() == ["images/0.png", "images/1.png"]
    assert sorted(listing.rejected["reason"]) == [
        "conflicting_labels",
        "conflicting_labels",
        "listed_twice",
        "missing_path",
    ]
    assert rejected(listing)["row 1"] == "missing_path"


def test_of_a_path_on_two_sides_the_test_image_is_kept_and_a_label_before_none(tmp_path):
    text = (
        "path,label,split\nimages/0.png,cat,train\nimages/0.png,cat,test\nimages/1.png,,train\nimages/1.png,dog,train\n"
    )
    listing = list_images(manifest(tmp_path, text))
    assert listing.table[["id", "label", "split"]].to_numpy().tolist() == [
        ["images/0.png", "cat", "test"],
        ["images/1.png", "dog", "training"],
    ]
    assert listing.rejected["reason"].tolist() == ["listed_twice", "listed_twice"]


def test_paths_written_on_windows_are_found(tmp_path):
    write(tmp_path / "odd\\name.png", PICTURES[5])
    listing = list_images(manifest(tmp_path, "path,label\nimages\\0.png,cat\nimages\\1.png,dog\nodd\\name.png,dog\n"))
    assert listing.table["id"].tolist() == ["images\\0.png", "images\\1.png", "odd\\name.png"]
    assert len(decode(listing).table) == 3


def test_a_path_that_is_not_there_or_is_a_folder_or_no_path_is_set_aside(tmp_path):
    text = "path,label\nimages/0.png,cat\nimages/gone.png,dog\nimages,dog\nimages/\0.png,dog\n"
    listing = list_images(manifest(tmp_path, text))
    chunk = decode(listing)
    assert dict(zip(chunk.rejected["id"], chunk.rejected["reason"], strict=True)) == {
        "images/gone.png": "missing_file",
        "images": "unreadable",
        "images/\0.png": "unreadable",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class\na.png,cat\n", r"list\.csv has no column label\. .*Found: path, class"),
        ("Path,label\na.png,cat\n", r"has no column path\. Did you mean Path\? Found: Path, label"),
        ("path,label\nfoo://a.png,cat\n", r"^foo://a\.png must be a path, or an address .*Protocol not known: foo\.$"),
        ("path;class\na.png;cat\n", r"has no column label\. .*Found: path, class"),
        ("path|label\na.png|cat\n", r"has no column path\. .*Found: path\|label"),
        ("", r"list\.csv must be a CSV file with a line of column names"),
        ("path,label\na.png,cat\nb.png,c,d,e\n", r"list\.csv must be a CSV file with a line of column names"),
        ("path;label\na.png;cat\nb.png;c;d;e\n", r"list\.csv must be a CSV file with a line of column names"),
        (
            "path,label,split\na.png,cat,trian\n",
            r"Unknown values in the column split of .*list\.csv: 'trian'\. Allowed: train",
        ),
        ("path,label\nimages/0.png,\n", r"list\.csv lists no labelled image"),
        ("path,label\n", r"list\.csv lists no labelled image"),
    ],
)
def test_a_manifest_of_another_form_is_refused_with_what_was_found(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        list_images(manifest(tmp_path, text))


def test_a_manifest_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"list\.csv must be a CSV file in UTF-8\..*Save it anew in UTF-8"):
        list_images(manifest(tmp_path, "path,label\nimages/0.png,Käfer\n", encoding="latin-1"))


@pytest.mark.parametrize(("encoding", "above"), [("utf-8", ""), ("utf-8-sig", ""), ("utf-8", " \r\n\r\n")])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_separates_the_names_of_the_columns_separates_all(tmp_path, separator, encoding, above):
    rows = ["path", "label", "note"], ["images/0.png", '"a,b;c\td"', '"two\nlines"'], ["images/1.png", "Käfer", "1,5"]
    rows = [[f'"{cell}"' if cell == "1,5" else cell for cell in row] for row in rows]
    text = above + "".join(separator.join(row) + "\r\n" for row in rows)
    listing = list_images(manifest(tmp_path, text, encoding=encoding))
    assert listing.table["id"].tolist() == ["images/0.png", "images/1.png"]
    assert listing.table["label"].tolist() == ["a,b;c\td", "Käfer"]
    assert listing.attributes["note"].tolist() == ["two\nlines", "1,5"]


@pytest.mark.parametrize("form", ["parquet", "file", "stream"])
def test_a_manifest_may_be_parquet_or_arrow(tmp_path, form):
    manifest(tmp_path, "")
    table = pa.table({"path": ["images/0.png", "images/1.png"], "label": ["cat", None], "split": [None, None]})
    listing = list_images(save(table, tmp_path / "list.parquet", form))
    assert listing.table["id"].tolist() == ["images/0.png", "images/1.png"]
    assert listing.table["label"].isna().tolist() == [False, True]
    assert len(decode(listing).table) == 2


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array([3, 1, None], pa.int64()), ["3", "1", None]),
        (pa.array([3.0, float("nan"), None]), ["3", None, None]),
        (pa.array([0.5, 1.5, 2.0]), ["0.5", "1.5", "2"]),
        (pa.array(["b", None, "a"]).dictionary_encode(), ["b", None, "a"]),
        (pa.array(["b", "", "a"], pa.large_string()), ["b", None, "a"]),
        (pa.array([True, False, None]), ["True", "False", None]),
        (pa.array([7, 7, 8], pa.uint8()).dictionary_encode(), ["7", "7", "8"]),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "file"])
def test_labels_of_any_type_become_names(tmp_path, labels, expected, form):
    write(tmp_path / "a.png", PICTURES[0])
    table = pa.table({"path": ["a.png", "b.png", "c.png"], "label": labels})
    found = list_images(save(table, tmp_path / "list.parquet", form)).table["label"]
    assert [None if pd.isna(name) else name for name in found] == expected


def test_a_manifest_of_pandas_with_categories_is_read(tmp_path):
    frame = pd.DataFrame(
        {"path": ["a.png", "b.png"], "label": pd.Categorical(["cat", None]), "split": pd.Categorical(["test", None])}
    )
    frame.index = [7, 3]
    write(tmp_path / "a.png", PICTURES[0])
    frame.to_parquet(tmp_path / "list.parquet")
    table = list_images(tmp_path / "list.parquet").table
    assert table["label"].fillna("").tolist() == ["cat", ""]
    assert table["split"].fillna("").tolist() == ["test", ""]


@pytest.mark.parametrize("form", ["parquet", "file", "stream"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), STRUCT, pa.struct([("bytes", pa.binary())])])
def test_images_in_a_table_are_read_from_every_form(tmp_path, form, kind):
    values = (
        [{"bytes": p, "path": f"{n}.png"} for n, p in enumerate(PICTURES)] if pa.types.is_struct(kind) else PICTURES
    )
    if kind.num_fields == 1:
        values = [{"bytes": picture} for picture in PICTURES]
    table = pa.table({"label": list("aabbcc"), "image": pa.array(values, kind)})
    options = {"row_group_size": 2} if form == "parquet" else {}
    listing = list_images(save(table, tmp_path / "images.parquet", form, **options))
    names = [f"{n}.png" for n in range(6)] if kind == STRUCT else [f"row {n:08d}" for n in range(6)]
    assert listing.table["id"].tolist() == names
    assert list(listing.read(np.array([0, 1, 4]))) == [PICTURES[0], PICTURES[1], PICTURES[4]]
    assert len(decode(listing).table) == 6


@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_wanted_rows_are_read_over_row_groups(tmp_path, row_group_size):
    encoded = [bytes([n]) * n for n in range(10)]
    table = pa.table({"image": pa.array(encoded), "label": ["c"] * 10})
    listing = list_images(save(table, tmp_path / "images.parquet", row_group_size=row_group_size))
    rows = np.array([0, 2, 3, 8, 9])
    assert list(listing.read(rows)) == [encoded[row] for row in rows]


def test_the_only_column_of_bytes_holds_the_images_whatever_its_name(tmp_path):
    table = pa.table({"picture": pa.array(PICTURES), "label": list("aabbcc")})
    assert len(decode(list_images(save(table, tmp_path / "images.parquet"))).table) == 6


def test_of_two_columns_of_bytes_the_one_called_image_is_taken(tmp_path):
    table = pa.table({"thumbnail": pa.array([b""] * 6), "image": pa.array(PICTURES), "label": list("aabbcc")})
    assert len(decode(list_images(save(table, tmp_path / "images.parquet"))).table) == 6
    with pytest.raises(ValueError, match=r"has no column path\..*Found: thumbnail, picture, label"):
        list_images(save(table.rename_columns(["thumbnail", "picture", "label"]), tmp_path / "two.parquet"))


@pytest.mark.parametrize("kind", [pa.binary(), STRUCT])
@pytest.mark.parametrize("form", ["parquet", "stream"])
def test_rows_without_an_image_are_set_aside_as_empty(tmp_path, kind, form):
    values = [PICTURES[0], None, PICTURES[2], b""]
    if kind == STRUCT:
        values = [{"bytes": p, "path": f"{n}.png"} for n, p in enumerate(values)]
        values[1] = None
    listing = list_images(
        save(pa.table({"image": pa.array(values, kind), "label": list("abab")}), tmp_path / "i.parquet", form)
    )
    chunk = decode(listing)
    assert chunk.rejected["reason"].tolist() == ["empty_file", "empty_file"]
    assert len(chunk.table) == 2


def test_images_without_a_name_of_their_own_are_called_by_their_row(tmp_path):
    images = [{"bytes": p, "path": name} for p, name in zip(PICTURES, ["a", "b", "a", None, "", "c"], strict=True)]
    table = pa.table({"image": pa.array(images, STRUCT), "label": list("aabbcc")})
    listing = list_images(save(table, tmp_path / "images.parquet"))
    assert listing.table["id"].tolist() == ["row 00000000", "b", "row 00000002", "row 00000003", "row 00000004", "c"]


def test_class_numbers_of_hugging_face_become_their_names(tmp_path):
    label = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    info = json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": label}}})
    table = pa.table({"image": pa.array(PICTURES), "label": [1, 0, 1, 0, -1, None]})
    listing = list_images(save(table.replace_schema_metadata({"huggingface": info}), tmp_path / "images.parquet"))
    assert listing.table["label"].fillna("").tolist() == ["dog", "cat", "dog", "cat", "", ""]


def test_sides_and_groups_stand_beside_the_images(tmp_path):
    columns = {"image": pa.array(PICTURES), "label": list("aabbcc")}
    columns |= {"split": ["train", "test"] * 3, "group": [1, 1, 2, 2, None, 3]}
    found = list_images(save(pa.table(columns), tmp_path / "images.parquet")).table
    assert found["split"].tolist() == ["training", "test"] * 3
    assert found["group"].fillna("").tolist() == ["1", "1", "2", "2", "", "3"]


def test_unlabelled_images_alone_are_refused(tmp_path):
    table = pa.table({"image": pa.array(PICTURES), "label": pa.nulls(6, pa.string())})
    with pytest.raises(ValueError, match=r"images\.parquet lists no labelled image"):
        list_images(save(table, tmp_path / "images.parquet"))


def test_other_columns_of_a_manifest_are_attributes_as_numbers_or_text(tmp_path):
    text = "path,label,camera,iso,dose\nimages/0.png,cat,left,100,1\nimages/1.png,dog,,200,high\nimages/2.png,dog,b,,\n"
    attributes = list_images(manifest(tmp_path, text)).attributes
    assert attributes["id"].tolist() == ["images/0.png", "images/1.png", "images/2.png"]
    assert attributes["camera"].fillna("-").tolist() == ["left", "-", "b"]
    assert attributes["iso"].fillna(-1).tolist() == [100, 200, -1]
    assert attributes["dose"].fillna("-").tolist() == ["1", "high", "-"]  # a text is among them


def test_other_plain_columns_beside_images_are_attributes_and_outlive_the_storing(tmp_path):
    columns = {"image": pa.array(PICTURES, pa.binary()), "label": ["a", "b"] * 3, "site.code": [1, 2, 3, 1, 2, 3]}
    columns["boxes"] = [[1, 2]] * 6  # more than one number a row
    listing = list_images(save(pa.table(columns), tmp_path / "set.parquet"))
    write_image_set(DecodedImages(listing, FORMAT, np.arange(6)), tmp_path / "stored")
    attributes = open_image_set(tmp_path / "stored").attributes
    assert attributes.columns.tolist() == ["id", "site.code"]
    assert attributes["site.code"].tolist() == [1, 2, 3, 1, 2, 3]


def test_images_without_labels_are_refused_with_the_columns_found(tmp_path):
    table = pa.table({"image": pa.array(PICTURES), "labels": list("aabbcc")})
    with pytest.raises(ValueError, match=r"has no column label\. Did you mean labels\? Found: image, labels"):
        list_images(save(table, tmp_path / "images.parquet"))


@pytest.mark.parametrize("name", ["images.parquet", "images.arrow", "images.feather"])
def test_a_damaged_table_is_refused_by_name(tmp_path, name):
    table = pa.table({"image": pa.array(PICTURES), "label": list("aabbcc")})
    pq.write_table(table, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:300])
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        list_images(tmp_path / name)


def test_a_feather_file_is_an_arrow_file(tmp_path):
    pyarrow.feather.write_feather(
        pa.table({"image": pa.array(PICTURES), "label": list("aabbcc")}), str(tmp_path / "i.feather")
    )
    assert len(decode(list_images(tmp_path / "i.feather")).table) == 6


def test_a_folder_named_like_a_table_is_a_folder(tmp_path):
    for name in ("cat/1.png", "dog/1.png"):
        write(tmp_path / "photos.parquet" / name, PICTURES[0])
    assert list_images(tmp_path / "photos.parquet").table["label"].tolist() == ["cat", "dog"]


def test_columns_of_other_names_take_the_places_that_somebody_says(tmp_path):
    text = "image_id,dx,lesion_id,side,age\n0,mel,L1,train,50\n1,nev,L1,train,60\n2,nev,,test,\n,mel,L3,test,1\n"
    listing = list_images(
        manifest(tmp_path, text),
        columns={"file": "images/{image_id}.png", "label": "dx", "group": "lesion_id", "split": "side"},
    )
    assert listing.table["id"].tolist() == ["images/0.png", "images/1.png", "images/2.png"]
    assert listing.table["label"].tolist() == ["mel", "nev", "nev"]
    assert listing.table["group"].fillna("").tolist() == ["L1", "L1", ""]
    assert listing.table["split"].tolist() == ["training", "training", "test"]
    assert listing.attributes.columns.tolist() == ["id", "age"]  # what names the class is not to be one
    assert rejected(listing) == {"row 3": "missing_path"}
    assert len(decode(listing).table) == 3


def test_a_column_that_was_there_gives_way_to_the_one_that_is_named(tmp_path):
    text = "path,label,breed\nimages/0.png,pet,cat\nimages/1.png,pet,dog\n"
    listing = list_images(manifest(tmp_path, text), columns={"label": "breed"})
    assert listing.table["label"].tolist() == ["cat", "dog"]
    assert listing.attributes.columns.tolist() == ["id"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_classes_may_be_columns_of_marks(tmp_path, form):
    marks = {"mel": [1.0, 0.0, 0.0], "nv": [0.0, 1.0, 0.0], "age": [30, 40, 50]}
    names = pd.DataFrame({"image": ["0", "1", "2"]} | marks)
    file = manifest(tmp_path, names.to_csv(index=False))
    if form == "parquet":
        file = save(pa.table({"picture": pa.array(PICTURES[:3])} | marks), tmp_path / "set.parquet")
    columns = {"label": "{mel}{nv}"} | ({"file": "images/{image}.png"} if form == "csv" else {})
    listing = list_images(file, columns=columns)
    assert listing.table["label"].fillna("").tolist() == ["mel", "nv", ""]
    assert listing.attributes.columns.tolist() == ["id", "age"]  # the marks are the class


def test_an_image_of_several_classes_is_an_error(tmp_path):
    text = "path,a,b,c\nimages/0.png,1,0,0\nimages/1.png,0,1,1\nimages/2.png,1,1,0\n"
    with pytest.raises(ValueError, match=r"must be of one class.*several in 2 of 3 rows: row 2, .* has b and c\."):
        list_images(manifest(tmp_path, text), columns={"label": "{a}{b}{c}"})
    with pytest.raises(ValueError, match=r"must hold numbers\. .*list\.csv has 'yes' in b\."):
        list_images(manifest(tmp_path, "path,a,b\nimages/0.png,1,\nimages/1.png,,yes\n"), columns={"label": "{a}{b}"})
    with pytest.raises(ValueError, match="has no column d, which was to say the label"):
        list_images(manifest(tmp_path, text), columns={"label": "{a}{d}"})


def test_a_path_may_begin_with_a_column(tmp_path):
    text = "folder,label,name\nimages,cat,0\nimages,dog,1\n"
    listing = list_images(manifest(tmp_path, text), columns={"file": "./{folder}/{name}.png"})
    assert listing.table["id"].tolist() == ["images/0.png", "images/1.png"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": "dxx"}, r"has no column dxx, which was to say the label. Did you mean dx\? Found: path, dx."),
        ({"label": "dx", "file": "{ids}.png"}, "has no column ids, which was to say the file. Found: path, dx."),
        ({}, r"has no column label.*told so: target_columns.label=NAME \(of a source: source_columns, of"),
    ],
)
def test_a_named_column_that_is_not_there_is_an_error(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        list_images(manifest(tmp_path, "path,dx\nimages/0.png,cat\n"), columns=columns)


@pytest.mark.parametrize("form", ["parquet", "file", "stream"])
def test_columns_of_images_in_a_table_may_have_other_names(tmp_path, form):
    features = {"info": {"features": {"fine": {"names": ["cat", "dog"]}}}}
    table = pa.table(
        {
            "img": pa.array([{"bytes": picture, "path": None} for picture in PICTURES[:3]], STRUCT),
            "fine": [1, 0, 1],
            "label": ["x", "y", "z"],
            "key": ["a", "b", "c"],
            "age": [1, 2, 3],
        }
    ).replace_schema_metadata({"huggingface": json.dumps(features)})
    listing = list_images(save(table, tmp_path / "t.parquet", form), columns={"label": "fine", "file": "{key}.png"})
    assert listing.table["label"].tolist() == ["dog", "cat", "dog"]
    assert listing.table["id"].tolist() == ["a.png", "b.png", "c.png"]
    assert listing.attributes.columns.tolist() == ["id", "age"]
    assert len(decode(listing).table) == 3


def test_a_pattern_of_names_is_for_folders(tmp_path):
    with pytest.raises(ValueError, match=r"A pattern of names is for folders of images; .*list\.csv is a table, whose"):
        list_images(manifest(tmp_path, "path,label\nimages/0.png,cat\n"), name_pattern="(cat)")


def test_a_large_group_of_rows_is_read_a_few_rows_at_a_time(tmp_path, monkeypatch):
    images = [{"bytes": PICTURES[index % 6], "path": f"{index}.png"} for index in range(150)]
    table = pa.table({"image": pa.array(images, STRUCT), "label": ["a", "b"] * 75})
    listing = list_images(save(table, tmp_path / "all.parquet", row_group_size=150))
    monkeypatch.setattr("cnn_transfer.images.tables.READ_AT_ONCE", 7)
    sizes = []
    batches = pq.ParquetFile.iter_batches

    def counted(self, *arguments, **options):
        for batch in batches(self, *arguments, **options):
            sizes.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    wanted = [0, 6, 7, 8, 100, 149]
    assert list(listing.read(np.array(wanted))) == [PICTURES[row % 6] for row in wanted]
    assert max(sizes) == 7


@pytest.mark.parametrize("first", ["a.png,tree, oak\nb.png,stone", "a.png,stone\nb.png,tree, oak"])
def test_a_row_of_a_csv_file_with_too_many_values_is_refused_wherever_it_is(tmp_path, first):
    with pytest.raises(ValueError, match="and rows of as many values"):
        list_images(manifest(tmp_path, f"path,label\n{first}\n"))


@pytest.mark.parametrize("names", ["path;label;label", 'path,label," label"'])
def test_columns_of_one_name_are_refused(tmp_path, names):
    separator = ";" if ";" in names else ","
    with pytest.raises(ValueError, match=r"^\S*list\.csv must give each column a name of its own\. .*called: label\."):
        list_images(manifest(tmp_path, f"{names}\n{separator.join(['images/0.png', 'cat', 'dog'])}\n"))


def test_columns_without_a_name_are_no_value_too_many_and_no_attributes(tmp_path):
    text = ",path,label,,sex\n0,images/0.png,cat,,f\n1,images/1.png,dog,,m\n"
    listing = list_images(manifest(tmp_path, text))
    assert listing.table["label"].tolist() == ["cat", "dog"]
    assert listing.attributes.columns.tolist() == ["id", "sex"]


def test_an_empty_last_value_is_no_value_too_many(tmp_path):
    text = "path,label\nimages/0.png,cat,\nimages/1.png,dog,\n"
    assert list_images(manifest(tmp_path, text)).table["label"].tolist() == ["cat", "dog"]


def test_tables_with_tabs_may_be_called_so(tmp_path):
    file = manifest(tmp_path, "path\tlabel\nimages/0.png\tcat, grey\n")
    assert list_images(file.rename(tmp_path / "list.tsv")).table["label"].tolist() == ["cat, grey"]


@pytest.mark.parametrize("form", ["parquet", "file"])
def test_names_of_columns_may_have_dots_and_be_numbers(tmp_path, form):
    for index in range(2):
        write(tmp_path / f"images/{index}.png", PICTURES[index])
    table = pa.table({"image.id": ["0", "1"], "0": ["images"] * 2, "label": ["cat", "dog"], "meta.age": [3, 4]})
    listing = list_images(save(table, tmp_path / "list.parquet", form), columns={"file": "./{0}/{image.id}.png"})
    assert listing.table["id"].tolist() == ["images/0.png", "images/1.png"]
    assert listing.attributes["meta.age"].tolist() == [3, 4]


@pytest.mark.parametrize("form", ["parquet", "file"])
def test_categories_and_views_of_text_are_attributes_like_any_text(tmp_path, form):
    if form == "parquet":
        site = pa.array(["north", "south"]).dictionary_encode()
        image = pa.array(PICTURES[:2])
    else:
        site = pa.array(["north", "south"], pa.string_view())
        image = pa.array(PICTURES[:2], pa.binary_view())
    listing = list_images(
        save(pa.table({"image": image, "label": ["a", "b"], "site": site}), tmp_path / "t.parquet", form)
    )
    assert listing.attributes["site"].tolist() == ["north", "south"]
    assert list(listing.read(np.arange(2))) == PICTURES[:2]


def test_bytes_beside_paths_are_images_where_they_begin_like_some(tmp_path):
    write(tmp_path / "images/0.png", PICTURES[0])
    columns = {"path": ["images/0.png"], "label": ["cat"]}
    hashes = save(pa.table(columns | {"hash": [b"\x00\x01"]}), tmp_path / "hashes.parquet")
    assert [str(file) for file in list_images(hashes).read(np.arange(1))] == [str(tmp_path / "images/0.png")]
    pictures = save(pa.table(columns | {"picture": [PICTURES[1]]}), tmp_path / "pictures.parquet")
    assert list(list_images(pictures).read(np.arange(1))) == [PICTURES[1]]
