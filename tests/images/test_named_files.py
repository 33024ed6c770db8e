import pytest
from odd_images import encode, photograph, write

from cnn_transfer.images import list_images, list_unlabelled

PICTURE = encode(photograph(0, 24, 20))


def table_of(folder, text, *files):
    for file in files:
        write(folder / file, PICTURE)
    write(folder / "table.csv", text.encode())
    return folder / "table.csv"


@pytest.mark.parametrize(
    ("file", "files"),
    [
        ("./**/{key}.jpg", ["part_1/a.jpg", "part_2/x/b.jpg", "c.jpg"]),
        ("part_*/{key}.jpg", ["part_1/a.jpg", "part_2/b.jpg", "part_/c.jpg"]),
        ("images/{key}.*", ["images/a.jpg", "images/b.png", "images/c.tar.gif"]),
        ("./**/{key}.*", ["a [1].jpg", "x.y/b.png", "z/c.webp"]),
    ],
)
def test_wildcards_find_what_the_table_does_not_know(tmp_path, file, files):
    keys = [name.rpartition("/")[2].rpartition(".")[0] for name in files]
    text = "key,label\n" + "".join(f"{key},{label}\n" for key, label in zip(keys, ["cat", "dog", "cat"], strict=True))
    others = ["elsewhere/d.jpg", "._a.jpg", "part_1/aa.jpg", "images/bb.png"]
    listing = list_images(table_of(tmp_path, text, *files, *others), columns={"file": file})
    assert listing.table["id"].tolist() == files
    assert listing.table["label"].tolist() == ["cat", "dog", "cat"]
    assert [str(found) for found in listing.read([0, 1, 2])] == [str(tmp_path / name) for name in files]


def test_a_root_outside_of_the_tables_folder_gives_absolute_names(tmp_path):
    write(tmp_path / "store/1/a.jpg", PICTURE)
    text = "key,label\na,cat\n"
    listing = list_images(table_of(tmp_path / "tables", text), columns={"file": f"{tmp_path}/store/**/{{key}}.jpg"})
    assert listing.table["id"].tolist() == [f"{tmp_path}/store/1/a.jpg"]


def test_what_nothing_fits_is_missing_by_the_name_it_was_looked_for(tmp_path):
    listing = list_images(
        table_of(tmp_path, "key,label\na,cat\nb,dog\n,dog\n", "1/a.jpg"), columns={"file": "./**/{key}.jpg"}
    )
    assert listing.table["id"].tolist() == ["1/a.jpg", "**/b.jpg"]
    assert listing.rejected["reason"].tolist() == ["missing_path"]


def test_two_files_that_fit_one_name_are_an_error(tmp_path):
    table = table_of(tmp_path, "key,label\na,cat\n", "1/a.jpg", "2/a.jpg")
    with pytest.raises(ValueError, match=r"must fit one file. \*\*/a.jpg fits .*/1/a.jpg and .*/2/a.jpg: say more of"):
        list_images(table, columns={"file": "./**/{key}.jpg"})


def test_a_link_that_loops_does_no_harm(tmp_path):
    table = table_of(tmp_path, "key,label\na,cat\n", "1/a.jpg")
    (tmp_path / "1/loop").symlink_to(tmp_path)
    assert list_images(table, columns={"file": "./**/{key}.jpg"}).table["id"].tolist() == ["1/a.jpg"]


def test_a_star_in_the_table_itself_is_no_wildcard(tmp_path):
    table = table_of(tmp_path, "path,label\n*.jpg,cat\nb.jpg,dog\n", "a.jpg", "b.jpg")
    assert list_images(table).table["id"].tolist() == ["*.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("names", "files", "columns", "remedy"),
    [
        (["a.jpg", "b.jpg"], ["images/a.jpg", "images/b.jpg"], {"file": "key"}, "images/{key} (of a source:"),
        (["a", "b"], ["images/a.jpg", "images/b.jpg"], {"file": "key"}, "images/{key}.jpg (of a source:"),
        (["a", "b"], ["a.jpg", "b.jpg"], {"file": "key"}, "./{key}.jpg (of a source:"),
        (["a", "b"], ["x/a.jpg", "y/b.png"], {"file": "key"}, "./**/{key}.* (of a source:"),
        (["a.jpg", "b.jpg"], ["x/a.jpg", "y/b.jpg"], {"file": "key"}, "./**/{key} (of a source:"),
        (["a", "b"], ["1/a.jpg", "1/b.jpg"], {"file": "./{key}.jpg"}, "1/{key}.jpg (of a source:"),
        (["gone.jpg", "b.jpg"], ["images/b.jpg"], {"file": "key"}, "images/{key} (of a source:"),
    ],
)
def test_when_no_file_is_there_the_error_says_how_to_name_them(tmp_path, names, files, columns, remedy):
    text = "key,label\n" + "".join(f"{name},cat\n" for name in names)
    table = table_of(tmp_path, text, *files)
    with pytest.raises(ValueError, match=r"None of the 2 files that .*table\.csv names is there") as raised:
        list_images(table, columns=columns)
    assert f"There is {files[0]}: say so with target_columns.file={remedy}" in str(raised.value)
    said = remedy.partition(" ")[0]
    assert list_images(table, columns={"file": said}).table["id"].tolist()[-len(files) :] == files  # it helps


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/kaggle/input/train/a.jpg", "There is images/a.jpg: paths must be relative to "),
        ("C:\\photos\\a.jpg", "There is images/a.jpg: paths must be relative to "),
        ("z.jpg", "no file of that name is below it"),
    ],
)
def test_names_of_another_machine_are_told_from_names_of_nothing(tmp_path, name, message):
    table = table_of(tmp_path, f"path,label\n{name},cat\n", "images/a.jpg")
    for read in (list_images, list_unlabelled):
        with pytest.raises(ValueError, match=message):
            read(table)


def test_what_is_said_of_an_image_may_lie_beside_it(tmp_path):
    text = "key,label\n1,cat\n"
    table = table_of(tmp_path, text, "images/1.png", "images/1.json")
    assert list_images(table, columns={"file": "images/{key}.*"}).table["id"].tolist() == ["images/1.png"]
    write(tmp_path / "images/1.jpg", PICTURE)
    with pytest.raises(ValueError, match=r"fits .*1.jpg and .*1.png: say more of its folder or its extension"):
        list_images(table, columns={"file": "images/{key}.*"})


def test_the_remedy_has_one_extension(tmp_path):
    table = table_of(tmp_path, "key,label\n1,cat\n2,dog\n", "images/1.png", "images/2.jpg")
    with pytest.raises(ValueError, match=r"say so with target_columns.file=images/{key}\.\* \("):
        list_images(table, columns={"file": "./{key}.*"})


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("images/1", r"say so with target_columns.file=\./{path}\.png \("),
        ("a/1", r"say so with target_columns.file=images/{path}\.png \("),
        ("elsewhere/1.png", "paths must be relative to"),
    ],
)
def test_paths_without_extension_or_beginning_come_with_the_rest(tmp_path, path, remedy):
    file = "images/a/1.png" if path == "a/1" else "images/1.png"
    with pytest.raises(ValueError, match=remedy):
        list_images(table_of(tmp_path, f"path,label\n{path},cat\n", file))
