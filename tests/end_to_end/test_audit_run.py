"""An audit through the real command line: images drawn, looked at on their page in a browser, and measured."""

import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from selenium.webdriver.common.by import By

from browsers import SCREENS, faults, forget_labels, open_page, press, save_labels
from cnn_transfer.exit_codes import REFUSED
from projects import ROOT

pytestmark = pytest.mark.slow

RUN = ("run", "--env", "test")
DIGITS = ROOT / "data/01_raw/mnist_digits.parquet"
ANSWERED, WITHHELD = 8, 4
CHOSEN = f"audit.answered={ANSWERED},audit.withheld={WITHHELD}"


def of(project, name):
    path = project / "data/08_reporting" / name
    return max(path.glob(f"*/{path.name}"))


@pytest.fixture(scope="module")
def drawn(finished_project, tmp_path_factory, kedro):
    """A project in which digits were labelled and some of them drawn, and what was printed."""
    project = tmp_path_factory.mktemp("audit") / "project"
    shutil.copytree(finished_project, project, symlinks=True)
    result = kedro(project, *RUN, "--pipelines", "predict,audit_sample", "--params", f"images={DIGITS},{CHOSEN}")
    assert result.returncode == 0, result.stdout
    return project, " ".join(result.stdout.split())


@pytest.fixture(scope="module")
def truth():
    table = pq.read_table(DIGITS).to_pandas()
    return dict(zip((image["path"] for image in table["image"]), table["label"], strict=True))


def test_images_of_both_kinds_are_drawn_and_the_end_says_what_to_do(drawn):
    project, printed = drawn
    sample = pd.read_parquet(of(project, "audit_sample.parquet"))
    counts = json.loads(of(project, "prediction_counts.json").read_text())
    population = json.loads(of(project, "audit_population.json").read_text())
    assert len(sample) <= ANSWERED + WITHHELD
    assert population["images"]["answered"] + population["images"]["withheld"] + population["training_images"] == 10_000
    assert 0 < population["training_images"] == counts["notes"]["training_image"]
    assert f"of {population['images']['withheld']:,} withheld images" in printed
    assert "kedro run --env test --pipelines audit --params audit_labels=FILE" in printed


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_is_accessible_fits_and_shows_no_prediction(drawn, browser, screen, scheme):
    open_page(browser, of(drawn[0], "images_to_audit.html").as_uri(), SCREENS[screen], scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= SCREENS[screen]
    assert browser.find_elements(By.CSS_SELECTOR, ".sure, .likely") == []
    assert faults(browser) == []
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(
    ("pipeline", "parameters", "code", "expected"),
    [
        ("audit", (), REFUSED, "audit_labels: a table of labels is needed. Received: nothing. Label the images on"),
        ("audit", ("audit_labels=none.csv",), 1, "Labels were expected at"),
        (
            "audit_sample",
            (),
            REFUSED,
            "images must be a folder, a manifest, a table of images or one image. Received: nothing",
        ),
        (
            "predict",
            ("audit_labels=none.csv", f"images={DIGITS}"),
            REFUSED,
            "nothing of this run measures answers by it",
        ),
        (
            "audit_sample",
            ("audit.answered=0", f"images={DIGITS}"),
            REFUSED,
            "audit.answered: Input should be greater than or equal to 1",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_told_before_the_first_node(drawn, kedro, pipeline, parameters, code, expected):
    more = ("--params", ",".join(parameters)) if parameters else ()
    result = kedro(drawn[0], *RUN, "--pipelines", pipeline, *more)
    assert result.returncode == code
    assert expected in " ".join(result.stdout.split())
    assert "Traceback" not in result.stdout


def test_what_was_said_on_the_page_is_measured(drawn, browser, truth, kedro, tmp_path):
    project, _ = drawn
    open_page(browser, of(project, "images_to_audit.html").as_uri(), SCREENS["desk"], "light")
    forget_labels(browser)
    sample = pd.read_parquet(of(project, "audit_sample.parquet"))
    ids = [one.get_attribute("data-id") for one in browser.find_elements(By.CLASS_NAME, "card")]
    assert ids == sample["id"].tolist()
    for number, name in enumerate(ids):
        press(browser, number, str(truth[name]))
    file = save_labels(browser, tmp_path / "audit_labels.csv")
    result = kedro(project, *RUN, "--pipelines", "audit", "--params", f"audit_labels={file}")
    assert result.returncode == 0, result.stdout
    found = json.loads(of(project, "audit.json").read_text())
    right = sample["predicted"] == sample["id"].map(truth).astype(str)
    for stratum in ("answered", "withheld"):
        assert found[stratum]["right"] == right[sample["stratum"] == stratum].sum()
        assert found[stratum]["looked_at"] == (sample["stratum"] == stratum).sum()
    assert found["statement"] in " ".join(result.stdout.split())
    answers = pd.read_parquet(of(project, "audit_answers.parquet"))
    assert answers["right"].tolist() == right.tolist()
    assert of(project, "audit_mistakes_sheet.png").stat().st_size > 1000


def test_what_was_said_once_is_not_asked_again(drawn, truth, kedro, tmp_path):
    """The same sample, then a larger one."""
    project = tmp_path / "project"
    shutil.copytree(drawn[0], project, symlinks=True)
    sample = pd.read_parquet(of(project, "audit_sample.parquet"))
    told = pd.DataFrame({"id": sample["id"], "label": sample["id"].map(truth)})
    told.to_csv(tmp_path / "labels.csv", index=False)
    said = kedro(project, *RUN, "--pipelines", "audit", "--params", f"audit_labels={tmp_path / 'labels.csv'}")
    assert said.returncode == 0, said.stdout
    first = json.loads(of(project, "audit.json").read_text())
    images = f"images={DIGITS}"
    again = kedro(project, *RUN, "--pipelines", "audit_sample,audit", "--params", f"{images},{CHOSEN}")
    assert again.returncode == 0, again.stdout
    second = json.loads(of(project, "audit.json").read_text())
    assert "Nothing is left to say: kedro run --env test --pipelines audit" in " ".join(again.stdout.split())
    for stratum in ("answered", "withheld"):
        assert second[stratum] == first[stratum] | {"known": first[stratum]["looked_at"]}
    assert second["all_audits"] == first["all_audits"]
    more = kedro(project, *RUN, "--pipelines", "audit_sample,audit", "--params", f"{images},audit.answered=30")
    assert more.returncode == REFUSED
    looked_at = sum(first[stratum]["looked_at"] for stratum in ("answered", "withheld"))
    told = " ".join(more.stdout.split())
    asked = len(pd.read_parquet(of(project, "audit_sample.parquet"))) - looked_at
    assert f"{asked} of the {asked + looked_at} were looked at in no earlier audit" in told
    assert of(project, "images_to_audit.html").read_text().count('<li class="card"') == asked
    assert "Traceback" not in told
