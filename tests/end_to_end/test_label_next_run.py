"""Images to label through the real command line: asked for, labelled on their page in a browser, and learnt from."""

import json
import shutil

import pandas as pd
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browsers import SCREENS, card, faults, forget_labels, open_page, press, progress, save_labels
from cnn_transfer.evaluation.report.label_page import Question, write_label_page
from cnn_transfer.images import open_image_set

pytestmark = pytest.mark.slow

RUN = ("run", "--env", "test")
ASKED = 12


def of(project, name):
    path = project / "data" / name
    return max(path.glob(f"*/{path.name}"))


def splits_of(project):
    return pd.read_parquet(of(project, "03_primary/target_splits.parquet")).set_index("id")


@pytest.fixture(scope="module")
def asked(finished_project, tmp_path_factory, kedro):
    """A project in which images were asked for, and what was printed."""
    project = tmp_path_factory.mktemp("label_next") / "project"
    shutil.copytree(finished_project, project, symlinks=True)
    result = kedro(project, *RUN, "--pipelines", "label_next", "--params", f"label_next.images={ASKED}")
    assert result.returncode == 0, result.stdout
    return project, " ".join(result.stdout.split())


@pytest.fixture
def page(asked, browser):
    """Its page, opened in a browser that has kept nothing."""
    project, _ = asked
    open_page(browser, of(project, "08_reporting/images_to_label.html").as_uri(), SCREENS["desk"], "light")
    forget_labels(browser)
    return browser


def test_images_without_a_label_are_asked_for(asked):
    project, printed = asked
    table = pd.read_csv(of(project, "08_reporting/images_to_label.csv"), dtype={"id": str})
    assert len(table) == ASKED
    assert table["label"].isna().all()
    assert (splits_of(project).loc[table["id"], "split"] == "unlabelled").all()
    assert f"To label {ASKED} of the images without a label, first {table['id'][0]}" in printed
    assert "kedro run --env test … --params target_labels=FILE" in printed
    assert "images_to_label.html" in printed
    assert of(project, "08_reporting/images_to_label_sheet.png").stat().st_size > 10_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_is_accessible_fits_and_is_silent(asked, browser, screen, scheme):
    open_page(browser, of(asked[0], "08_reporting/images_to_label.html").as_uri(), SCREENS[screen], scheme)
    press(browser, 0, "3")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= SCREENS[screen]
    assert faults(browser) == []
    assert browser.get_log("browser") == []


def test_a_press_labels_a_second_one_takes_it_back_and_the_browser_remembers(page):
    assert progress(page) == f"0 of {ASKED} labelled"
    assert not page.find_element(By.ID, "save").is_enabled()
    press(page, 0, "3")
    press(page, 2, "")
    assert progress(page) == f"2 of {ASKED} labelled"
    page.refresh()
    assert progress(page) == f"2 of {ASKED} labelled"
    pressed = card(page, 0).find_element(By.CSS_SELECTOR, 'button[aria-pressed="true"]')
    assert pressed.get_attribute("data-label") == "3"
    press(page, 0, "3")
    assert progress(page) == f"1 of {ASKED} labelled"
    page.find_element(By.ID, "clear").click()
    page.switch_to.alert.accept()
    assert progress(page) == f"0 of {ASKED} labelled"


def test_who_leaves_the_page_right_after_a_press_loses_nothing(page):
    for number in range(ASKED):
        press(page, number, "3")
        page.refresh()
        assert progress(page) == f"{number + 1} of {ASKED} labelled"


def test_keys_label_the_framed_image_and_go_on_to_the_next(page):
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys("5", "-", Keys.ARROW_DOWN, "0")
    labels = [
        [button.get_attribute("data-label") for button in one.find_elements(By.CSS_SELECTOR, '[aria-pressed="true"]')]
        for one in page.find_elements(By.CLASS_NAME, "card")[:4]
    ]
    assert labels == [["5"], [""], [], ["0"]]
    assert "current" in card(page, 4).get_attribute("class")


def test_paper_shows_what_was_chosen_and_what_is_probable_and_cuts_no_image_in_two(page):
    press(page, 0, "")
    likely = len(card(page, 0).find_elements(By.CLASS_NAME, "likely"))
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = [it.text for it in card(page, 0).find_elements(By.TAG_NAME, "button") if it.is_displayed()]
    cut = page.execute_script("return getComputedStyle(document.querySelector('.card')).breakInside")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(shown) == likely + 1
    assert all("%" in text for text in shown[:-1])
    assert "none of these" in shown[-1]
    assert cut == "avoid"


def test_what_is_saved_is_learnt_from_and_spoils_no_other_split(asked, page, kedro, tmp_path):
    project, _ = asked
    before = splits_of(project)
    ids = [one.get_attribute("data-id") for one in page.find_elements(By.CLASS_NAME, "card")]
    for number, name in enumerate(ids[:-1]):
        press(page, number, before.loc[name, "label"])
    press(page, ASKED - 1, "")  # nobody can tell
    file = save_labels(page, tmp_path / "images_labelled.csv")
    saved = pd.read_csv(file, dtype=str, keep_default_na=False)
    assert saved["id"].tolist() == ids
    assert saved["label"].tolist() == [*before.loc[ids[:-1], "label"], ""]
    assert saved["split"].tolist() == [*["training_only"] * (ASKED - 1), "unused"]

    labels = project / "labels"
    labels.mkdir()
    shutil.copy(file, labels / "first.csv")
    result = kedro(project, *RUN, "--params", "target_labels=labels")
    assert result.returncode == 0, result.stdout
    after = splits_of(project)
    assert (after.loc[ids[:-1], "split"] == "training").all()
    assert after.loc[ids[-1], "split"] == "unused"
    others = before.index.difference(ids)
    pd.testing.assert_series_equal(after.loc[others, "split"], before.loc[others, "split"])
    summary = json.loads(of(project, "08_reporting/summary.json").read_text())
    assert summary["n_train"] == (before["split"] == "training").sum() + ASKED - 1


def test_a_model_that_is_not_there_is_told_before_the_first_node(asked, kedro):
    result = kedro(asked[0], *RUN, "--pipelines", "label_next", "--params", "model_version=yesterday")
    assert result.returncode == 1
    assert "There is no version yesterday of" in " ".join(result.stdout.split())
    assert "Traceback" not in result.stdout


def test_of_many_classes_any_can_be_typed_and_no_other_is_taken(asked, browser, tmp_path):
    images = open_image_set(of(asked[0], "02_intermediate/target_images"))
    classes = [f"kind {number}" for number in range(30)]
    questions = [Question(name, "", [("kind 3", 0.6), ("kind 5", 0.2)]) for name in images.table["id"][:3]]
    page = tmp_path / "page.html"
    page.write_text(write_label_page(questions, images, classes, "Look", "Because.", "told.csv"), encoding="utf-8")
    open_page(browser, page.as_uri(), SCREENS["phone"], "light")
    typed = card(browser, 0).find_element(By.TAG_NAME, "input")
    typed.send_keys("kind 7", Keys.ENTER)
    assert progress(browser) == "1 of 3 labelled"
    card(browser, 1).find_element(By.TAG_NAME, "input").send_keys("kind 70", Keys.ENTER)
    assert progress(browser) == "1 of 3 labelled"
    press(browser, 0, "kind 3")  # in the place of what was typed
    assert typed.get_attribute("value") == ""
    assert progress(browser) == "1 of 3 labelled"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= SCREENS["phone"]
    assert faults(browser) == []
