"""The learning curve through the real command line: killed between points, it goes on where it was."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from selenium.webdriver.common.by import By

from browsers import SCREENS, faults, open_page

pytestmark = pytest.mark.slow

KEDRO = Path(sys.executable).with_name("kedro")
RUN = ("run", "--env", "test", "--pipelines", "learning_curve")
POINTS = 6  # 1 transfer and 2 scratch, 2 seeds each


def latest(path):
    return max(path.glob(f"*/{path.name}"))


def of(project, name):
    return latest(project / "data" / name)


def kept(project):
    """Points on disk, finished or not."""
    folder = project / "data/07_model_output/learning_curve_points"
    return {file.name for file in folder.glob("*/*/*.parquet") if not file.name.startswith(".")}


def computed(project):
    return json.loads((of(project, "07_model_output/learning_curve_points") / "written.json").read_text())["computed"]


@pytest.fixture(scope="module")
def projects(finished_project, tmp_path_factory):
    """Two copies of a project in which a run has finished."""
    folder = tmp_path_factory.mktemp("curves")
    for name in ("whole", "killed"):
        shutil.copytree(finished_project, folder / name, symlinks=True)
    return folder / "whole", folder / "killed"


@pytest.fixture(scope="module")
def whole(projects, kedro):
    """A project in which the curve was made without a break, and what was printed."""
    result = kedro(projects[0], *RUN)
    assert result.returncode == 0, result.stdout
    return projects[0], result.stdout


def test_both_sides_are_measured_and_the_headline_is_said(whole):
    project, printed = whole
    table = pd.read_parquet(of(project, "08_reporting/learning_curve.parquet"))
    assert table.groupby("side").size().to_dict() == {"scratch": 4, "transfer": 2}
    saved = json.loads(of(project, "08_reporting/labels_saved.json").read_text())
    assert saved["sentence"] in " ".join(printed.split())
    assert "learning_curve_report.html" in printed
    assert f"point {POINTS} of {POINTS}: scratch, 5 labels a class, seed 1" in printed
    assert of(project, "08_reporting/learning_curve_plot.png").stat().st_size > 10_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_its_page_is_accessible_fits_and_is_silent(whole, browser, screen, scheme):
    page = of(whole[0], "08_reporting/learning_curve_report.html")
    open_page(browser, page.as_uri(), SCREENS[screen], scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= SCREENS[screen]
    assert faults(browser) == []
    assert browser.get_log("browser") == []


def test_its_page_says_what_the_data_sets_hold(whole, browser):
    project, _ = whole
    saved = json.loads(of(project, "08_reporting/labels_saved.json").read_text())
    stored = pd.read_parquet(of(project, "08_reporting/learning_curve.parquet"))
    open_page(browser, of(project, "08_reporting/learning_curve_report.html").as_uri(), 1280, "light")
    assert browser.find_element(By.CSS_SELECTOR, ".verdict p").text == saved["sentence"]
    assert (
        browser.find_element(By.TAG_NAME, "h1").text
        == "Labels of mnist_digits that a transfer from fashion_mnist saves"
    )
    cells = browser.find_elements(By.CSS_SELECTOR, "#points tbody td:nth-child(4)")
    assert [float(cell.get_attribute("data-value")) for cell in cells] == stored["accuracy"].tolist()


def test_a_run_that_is_killed_between_points_goes_on_with_the_missing_ones(whole, projects, kedro):
    project = projects[1]
    process = subprocess.Popen(
        [str(KEDRO), *RUN],
        cwd=project,
        env=os.environ | {"DO_NOT_TRACK": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while len(kept(project)) < 3 and process.poll() is None:
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = kept(project)
    assert 3 <= len(before) < POINTS
    reporting = project / "data/08_reporting"
    assert not list(reporting.glob("labels_saved.json/*/*"))
    result = kedro(project, *RUN)
    assert result.returncode == 0, result.stdout
    assert computed(project).count(False) == len(before)
    for name in ("labels_saved.json", "learning_curve.parquet"):
        mine, theirs = (of(folder, f"08_reporting/{name}") for folder in (project, whole[0]))
        if name.endswith("json"):
            assert json.loads(mine.read_text()) == json.loads(theirs.read_text())
        else:
            pd.testing.assert_frame_equal(pd.read_parquet(mine), pd.read_parquet(theirs))


def test_another_parameter_measures_only_what_depends_on_it(whole, kedro):
    project, _ = whole
    result = kedro(project, *RUN, "--params", "learning_curve.seeds=3,finetune_target.fine_tuning.steps=41")
    assert result.returncode == 0, result.stdout
    assert computed(project) == [False] * 2 + [True] + [False] * 4 + [True] * 2


def test_without_a_run_before_it_says_what_to_do(project, kedro):
    result = kedro(project, *RUN)
    assert result.returncode == 1
    assert "nothing was run" in result.stdout
    assert "Run the stages before this one first, in this run, or all: kedro run" in result.stdout
