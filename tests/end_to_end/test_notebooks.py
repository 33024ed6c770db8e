"""The notebooks as a reader runs them: each executed in a kernel of its own, from the first cell to the last."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WALKTHROUGH = NOTEBOOKS / "01_walkthrough_of_a_run.ipynb"
LIBRARY = NOTEBOOKS / "02_library_without_kedro.ipynb"
NEW_IMAGES = NOTEBOOKS / "03_label_new_images.ipynb"


def read(notebook: Path) -> NotebookNode:
    return nbformat.read(notebook, as_version=4)


def execute(notebook: NotebookNode, working_folder: Path) -> None:
    """Execute all cells in place; a cell that raises is a CellExecutionError here."""
    place = {"metadata": {"path": str(working_folder)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=place).execute()


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook: NotebookNode) -> str:
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def pictures(notebook: NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def tables(notebook: NotebookNode) -> str:
    return "".join(output.data.get("text/html", "") for output in outputs(notebook) if "data" in output)


def assert_quiet(notebook: NotebookNode) -> None:
    noise = [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert noise == []
    assert "warning" not in printed(notebook).lower()


def test_walkthrough_shows_the_finished_run(finished_project, monkeypatch):
    monkeypatch.setenv("KEDRO_ENV", "test")
    folder = finished_project / "below"  # its folder notebooks may be a link to the repository's
    folder.mkdir()
    notebook = read(WALKTHROUGH)
    elsewhere = (
        "from cnn_transfer.datasets import NewImagesDataset; catalog['mine'] = NewImagesDataset('/elsewhere/mine')"
    )
    notebook.cells.insert(-2, nbformat.v4.new_code_cell(elsewhere))
    execute(notebook, folder)
    (summary_file,) = (finished_project / "data/08_reporting/summary.json").glob("*/summary.json")
    summary = json.loads(summary_file.read_text())
    assert f"Verdict in a word: {summary['verdict']}" in printed(notebook)
    assert f"{summary['target_accuracy']:.1%}" in printed(notebook)
    assert pictures(notebook) == 8
    plan = json.loads(max((finished_project / "data/06_models/transfer_plan.json").glob("*/*.json")).read_text())
    assert f"Why         {plan['sentence']}" in printed(notebook)
    assert all(f"<td>{tap}</td>" in tables(notebook) for tap in plan["cut_layers"][:1])  # the choice of depths
    assert "<td>probe</td>" in tables(notebook)
    assert summary_file.relative_to(finished_project).as_posix() in tables(notebook)
    assert "<td>/elsewhere/mine</td>" in tables(notebook)
    assert_quiet(notebook)


def test_walkthrough_without_a_run_says_what_to_run(project):
    notebook = read(WALKTHROUGH)
    with pytest.raises(CellExecutionError, match=r"No finished run in .*\bkedro run"):
        execute(notebook, project)
    executed = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count]
    assert len(executed) == 1


def test_library_notebook_measures_a_toy_run_and_never_imports_kedro():
    notebook = read(LIBRARY)
    notebook.cells.append(nbformat.v4.new_code_cell("import sys; print('kedro' in sys.modules)"))
    execute(notebook, NOTEBOOKS)
    accuracy, low, high = re.search(r"accuracy +([\d.]+)% \(([\d.]+)% to ([\d.]+)%\)", printed(notebook)).groups()
    assert 20 < float(low) < float(accuracy) < float(high) <= 100  # 10% is chance
    assert "toy run" in printed(notebook)
    closed_form = float(re.search(r"closed form ([\d.]+)%", printed(notebook))[1])
    assert closed_form > 50
    assert pictures(notebook) == 3
    assert notebook.cells[-1].outputs[0].text.strip() == "False"
    assert_quiet(notebook)


def test_new_images_are_labelled_without_kedro(finished_project):
    notebook = read(NEW_IMAGES)
    notebook.cells.append(nbformat.v4.new_code_cell("import sys; print('kedro' in sys.modules)"))
    folder = finished_project / "beside"
    folder.mkdir()
    execute(notebook, folder)
    new, everything = (
        int(count.replace(",", "")) for count in re.search(r"([\d,]+) of ([\d,]+) images", printed(notebook)).groups()
    )
    assert 0 < new < everything == 10_000
    assert "1 image could be used" in printed(notebook)
    assert "<td>empty_file</td>" in tables(notebook)
    assert pictures(notebook) == 1
    assert notebook.cells[-1].outputs[0].text.strip() == "False"
    assert_quiet(notebook)


@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda file: file.stem)
def test_notebook_is_stored_without_outputs(file):
    notebook = read(file)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
