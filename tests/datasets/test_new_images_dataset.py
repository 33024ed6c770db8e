"""Images to be labelled: listed once, and refused early when there are none."""

import os
import time

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from cnn_transfer.datasets import NewImagesDataset


def test_all_images_below_a_folder_are_listed_whatever_its_folders_are_called(class_folder):
    dataset = NewImagesDataset(filepath=str(class_folder))
    dataset.check()
    listing = dataset.load()
    assert dataset.exists()
    assert len(listing.table) == 400
    assert listing.table["label"].isna().all()
    assert listing.fingerprint == dataset.fingerprint() is not None


def test_fingerprint_changes_with_the_images(class_folder, tmp_path):
    for name in ("0", "1"):
        (tmp_path / f"{name}.png").write_bytes((class_folder / f"row/00{name}.png").read_bytes())
    before, again = (NewImagesDataset(filepath=str(tmp_path)).fingerprint() for _ in range(2))
    (tmp_path / "2.png").write_bytes(b"more")
    assert before == again != NewImagesDataset(filepath=str(tmp_path)).fingerprint()


def test_fingerprint_changes_with_a_content_of_the_same_size_and_time(class_folder, tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(next((class_folder / "row").glob("*.png")).read_bytes())
    before, times = NewImagesDataset(filepath=str(tmp_path)).fingerprint(), file.stat()
    time.sleep(0.02)  # file systems tell times apart by a few milliseconds
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert NewImagesDataset(filepath=str(tmp_path)).fingerprint() != before


def test_fingerprint_changes_with_what_links_lead_to_and_with_whether_they_are_followed(class_folder, tmp_path):
    (tmp_path / "mount").mkdir()
    image = next((class_folder / "row").glob("*.png")).read_bytes()
    (tmp_path / "mount/1.png").write_bytes(image)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/0.png").write_bytes(image)
    (tmp_path / "set/cat").symlink_to(tmp_path / "mount")

    def prints():
        return [NewImagesDataset(str(tmp_path / "set"), follow_links=follow).fingerprint() for follow in (False, True)]

    left, followed = prints()
    assert left != followed
    (tmp_path / "mount/2.png").write_bytes(image)
    assert prints()[1] != followed


def test_a_name_that_is_not_utf_8_has_a_fingerprint(tmp_path, class_folder):
    image = next((class_folder / "row").glob("*.png")).read_bytes()
    (tmp_path / os.fsdecode(b"Gr\xf6\xdfe.png")).write_bytes(image)
    dataset = NewImagesDataset(str(tmp_path))
    assert dataset.fingerprint() is not None
    assert dataset.load().table["id"].tolist() == [r"Gr\xf6\xdfe.png"]


def test_of_a_manifest_it_is_not_known_whether_its_images_changed(class_folder, tmp_path):
    pd.DataFrame({"path": [str(class_folder / "row/000.png")]}).to_csv(tmp_path / "images.csv", index=False)
    listing = NewImagesDataset(filepath=str(tmp_path / "images.csv")).load()
    assert listing.fingerprint is None
    assert len(list(listing.read(np.arange(1)))) == 1


def test_columns_of_a_table_may_have_other_names(class_folder, tmp_path):
    pd.DataFrame({"file": ["000", "001"], "age": [1, 2]}).to_csv(tmp_path / "images.csv", index=False)
    columns = {"file": f"{class_folder}/row/{{file}}.png"}
    listing = NewImagesDataset(filepath=str(tmp_path / "images.csv"), columns=columns).load()
    assert listing.table["id"].tolist() == [f"{class_folder}/row/{number}.png" for number in ("000", "001")]
    assert len(list(listing.read(np.arange(2)))) == 2
    with pytest.raises(ValueError, match=r"Names of columns are for tables; .* is a folder"):
        NewImagesDataset(filepath=str(class_folder), columns=columns).check()
    frame = pd.DataFrame({"image": [b"1", b"2"], "name": ["a", "b"]})
    frame.to_parquet(tmp_path / "images.parquet")
    named, numbered = (
        NewImagesDataset(filepath=str(tmp_path / "images.parquet"), columns=names) for names in ({"file": "name"}, None)
    )
    assert named.load().table["id"].tolist() == ["a", "b"]
    assert numbered.load().table["id"].tolist() == ["row 00000000", "row 00000001"]
    assert named.fingerprint() != numbered.fingerprint()


def test_what_comes_after_the_listing_is_left_for_the_next_run(class_folder, tmp_path):
    (tmp_path / "0.png").write_bytes((class_folder / "row/000.png").read_bytes())
    dataset = NewImagesDataset(filepath=str(tmp_path))
    dataset.check()
    (tmp_path / "1.png").write_bytes(b"late")
    assert len(dataset.load().table) == 1


def test_a_path_has_to_be_given():
    dataset = NewImagesDataset()
    assert not dataset.exists()
    with pytest.raises(ValueError, match=r"Received: nothing.*--params images=PATH"):
        dataset.check()


def test_nothing_at_a_path_and_no_image_in_it_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing is there"):
        NewImagesDataset(filepath=str(tmp_path / "nowhere")).check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no image in .*empty"):
        NewImagesDataset(filepath=str(tmp_path / "empty")).check()
    (tmp_path / "none.csv").write_text("path\n")
    with pytest.raises(ValueError, match=r"no image in .*none\.csv"):
        NewImagesDataset(filepath=str(tmp_path / "none.csv")).check()


def test_they_are_never_written(tmp_path):
    with pytest.raises(DatasetError, match="never written"):
        NewImagesDataset(filepath=str(tmp_path)).save("anything")


@pytest.mark.parametrize("name", ["images.tar", "labels.xlsx"])
def test_what_is_neither_image_table_nor_folder_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(ValueError, match=r"must be a folder, a table .* or an image. Received: .* Archives other"):
        NewImagesDataset(str(tmp_path / name)).check()


def test_an_image_under_any_name_is_one(class_folder, tmp_path):
    file = tmp_path / "upload.tmp"
    file.write_bytes(next((class_folder / "row").glob("*.png")).read_bytes())
    assert NewImagesDataset(str(file)).load().table["id"].tolist() == ["upload.tmp"]


def test_a_folder_without_any_image_is_refused_and_one_of_images_without_suffix_is_not(class_folder, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "more.doc").write_bytes(b"")
    with pytest.raises(ValueError, match=r"There is no image in .* Found: 2 others, such as more.doc"):
        NewImagesDataset(str(tmp_path)).check()
    (tmp_path / "0001.dcm").write_bytes(next((class_folder / "row").glob("*.png")).read_bytes())
    assert len(NewImagesDataset(str(tmp_path)).load().table) == 3
