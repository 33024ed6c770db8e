"""The report as people meet it: in a browser, on a desk and on a phone, by day and by night; and its numbers."""

import importlib.resources
import json

import pandas as pd
import pytest
from selenium.webdriver.common.by import By

from conftest import latest

MOST_BYTES = 5_000_000
SCREENS = {"desk": 1280, "phone": 390}


@pytest.fixture(scope="module")
def reporting(finished_project):
    return finished_project / "data/08_reporting"


@pytest.fixture(scope="module")
def file(reporting):
    return latest(reporting / "report.html")


def open_page(browser, file, width, scheme):
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get_log("browser")  # what earlier pages wrote
    browser.get(file.as_uri())


def open_details(browser):
    browser.execute_script("for (const fold of document.querySelectorAll('details')) fold.open = true")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_is_accessible_fits_and_is_silent(browser, file, screen, scheme):
    open_page(browser, file, SCREENS[screen], scheme)
    open_details(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= SCREENS[screen]
    axe = (importlib.resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    browser.execute_script(axe)
    found = browser.execute_async_script("const done = arguments[0]; axe.run().then((found) => done(found))")
    grave = [rule for rule in found["violations"] if rule["impact"] in {"serious", "critical"}]
    assert not [(rule["id"], [node["html"][:200] for node in rule["nodes"][:3]]) for rule in grave]
    assert len(found["passes"]) > 10  # it did look
    assert browser.get_log("browser") == []


def test_the_page_is_one_file_that_asks_for_nothing(browser, file):
    open_page(browser, file, 1280, "light")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert file.stat().st_size < MOST_BYTES


def test_light_and_dark_differ(browser, file):
    def ground(scheme):
        open_page(browser, file, 1280, scheme)
        return browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")

    assert ground("light") != ground("dark")


def test_the_key_figures_are_those_of_the_summary(browser, file, reporting):
    open_page(browser, file, 1280, "light")
    summary = json.loads(latest(reporting / "summary.json").read_text())
    shown = browser.find_elements(By.CSS_SELECTOR, "[data-key]")
    assert {"target_accuracy", "baseline_accuracy", "random_accuracy", "difference"} <= {
        element.get_attribute("data-key") for element in shown
    }
    for element in shown:
        value = summary[element.get_attribute("data-key")]
        if value is None:
            assert element.get_attribute("data-value") is None
        else:
            assert float(element.get_attribute("data-value")) == value
    assert browser.find_element(By.CSS_SELECTOR, ".verdict p").text == summary["sentence"]
    assert summary["verdict"] in browser.find_element(By.CSS_SELECTOR, ".verdict").get_attribute("class")


def test_the_tables_hold_what_the_data_sets_hold(browser, file, reporting):
    open_page(browser, file, 1280, "light")
    open_details(browser)
    stored = pd.read_parquet(latest(reporting / "per_class_metrics.parquet"))
    rows = browser.find_elements(By.CSS_SELECTOR, "#per-class tbody tr")
    shown = [[cell.get_attribute("data-value") for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
    assert [float(row[1]) for row in shown] == stored["images"].tolist()
    assert [float(row[2]) for row in shown] == stored["recall"].tolist()
    sources = {table.get_attribute("data-source") for table in browser.find_elements(By.CSS_SELECTOR, "table")}
    for source in ", ".join(sources - {None, ""}).split(", "):
        found = [path for path in reporting.parent.glob("*/*") if path.name.partition(".")[0] == source]
        assert found, source


def test_tables_sort_by_the_heading_that_is_pressed(browser, file):
    open_page(browser, file, 1280, "light")

    def recalls():
        cells = browser.find_elements(By.CSS_SELECTOR, "#per-class tbody td:nth-child(3)")
        return [float(cell.get_attribute("data-value")) for cell in cells]

    before = recalls()
    button = browser.find_element(By.CSS_SELECTOR, "#per-class th:nth-child(3) button")
    browser.execute_script("arguments[0].click()", button)
    assert recalls() == sorted(before, reverse=True)
    heading = browser.find_element(By.CSS_SELECTOR, "#per-class th:nth-child(3)")
    assert heading.get_attribute("aria-sort") == "descending"
    browser.execute_script("arguments[0].click()", button)
    assert recalls() == sorted(before)


def test_printing_opens_what_is_folded(browser, file):
    open_page(browser, file, 1280, "light")
    folds = "return document.querySelectorAll('details:not([open])').length"
    assert browser.execute_script(folds) > 0
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(folds) == 0
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(folds) > 0
