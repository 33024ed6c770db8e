"""Labels that people gave: read from a table or a folder of them, and refused early when there are none."""

import pandas as pd
import pytest
from kedro.io import DatasetError

from cnn_transfer.datasets import LabelTableDataset


def test_a_table_and_a_folder_of_tables_are_read(tmp_path):
    (tmp_path / "one.csv").write_text("id,label,split\na.png,cat,\nb.png,,\n")
    (tmp_path / "two.csv").write_text("id,label\nNA,NA\n")
    dataset = LabelTableDataset(filepath=str(tmp_path / "one.csv"))
    dataset.check()
    assert dataset.exists()
    table = dataset.load()
    assert table["id"].tolist() == ["a.png", "b.png"]
    assert table["label"].isna().tolist() == [False, True]
    both = LabelTableDataset(filepath=str(tmp_path)).load()
    assert both["id"].tolist() == ["a.png", "b.png", "NA"]
    assert both["label"].iloc[2] == "NA"


def test_a_path_has_to_be_given():
    dataset = LabelTableDataset(how_to_name="Say which.")
    assert not dataset.exists()
    with pytest.raises(ValueError, match=r"Received: nothing\. Say which\."):
        dataset.check()


def test_beside_earlier_labels_none_need_to_be_given(tmp_path):
    earlier = tmp_path / "answers.parquet"
    dataset = LabelTableDataset(how_to_name="Say which.", optional_with={"filepath": str(earlier)})
    with pytest.raises(ValueError, match=r"Received: nothing\. Say which\."):
        dataset.check()
    (earlier / "1").mkdir(parents=True)
    (earlier / "1" / earlier.name).touch()
    dataset.check()
    assert dataset.load().columns.tolist() == ["id", "label"]
    assert dataset.load().empty
    named = LabelTableDataset(filepath=str(tmp_path / "none.csv"), optional_with={"filepath": str(earlier)})
    with pytest.raises(FileNotFoundError):
        named.check()


def test_what_is_not_there_or_no_table_of_labels_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected at .*none\.csv, but nothing is there"):
        LabelTableDataset(filepath=str(tmp_path / "none.csv")).check()
    (tmp_path / "other.csv").write_text("id,lable\na,b\n")
    with pytest.raises(ValueError, match=r"no column label\. Did you mean lable\?"):
        LabelTableDataset(filepath=str(tmp_path / "other.csv")).check()


def test_a_run_keeps_to_what_a_table_says_in_whatever_form(tmp_path):
    file = tmp_path / "labels.csv"
    said = []
    for text in ("id,label\na.png,cat\n", "\ufefflabel;id\r\ncat;a.png\r\n", "id,label\na.png,cat\nb.png,cat\n"):
        file.write_text(text, encoding="utf-8")
        said.append(LabelTableDataset(filepath=str(file)).identity())
    assert said[0] == said[1] != said[2]
    other = file.rename(tmp_path / "other.csv")
    assert LabelTableDataset(filepath=str(other)).identity() == said[2] | {"filepath": str(other)}


def test_they_are_never_written(tmp_path):
    with pytest.raises(DatasetError, match="never written"):
        LabelTableDataset(filepath=str(tmp_path / "labels.csv")).save(pd.DataFrame())
