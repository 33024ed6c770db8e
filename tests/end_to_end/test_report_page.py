"""The report as people meet it: in a browser, on a desk and on a phone, by day and by night; and its numbers."""

import json

import pandas as pd
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browsers import SCREENS, faults, open_page
from projects import latest

pytestmark = pytest.mark.slow

MOST_BYTES = 5_000_000
PAPER = 718  # of a page of A4 between margins of 1 cm, in pixels
SMALLEST_TEXT, LARGEST_TEXT = 6.0, 17.0  # of figures, in pixels; the page's own text has 15 or 16


@pytest.fixture(scope="module")
def reporting(finished_project):
    return finished_project / "data/08_reporting"


@pytest.fixture(scope="module")
def file(reporting):
    return latest(reporting / "report.html")


def open_details(browser):
    browser.execute_script("for (const fold of document.querySelectorAll('details')) fold.open = true")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_is_accessible_fits_and_is_silent(browser, file, screen, scheme):
    open_page(browser, file.as_uri(), SCREENS[screen], scheme)
    open_details(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= SCREENS[screen]
    assert faults(browser) == []
    assert browser.get_log("browser") == []


def test_a_command_that_is_wider_than_a_phone_is_broken(browser, file):
    open_page(browser, file.as_uri(), SCREENS["phone"], "light")
    browser.execute_script("for (const text of document.querySelectorAll('p, .notice li')) text.append('a'.repeat(90))")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= SCREENS["phone"]


def test_a_long_parameter_is_broken_rather_than_scrolled(browser, file):
    open_page(browser, file.as_uri(), SCREENS["desk"], "light")
    open_details(browser)
    wide = "const text = document.querySelector('pre'); text.append('a'.repeat(900));"
    assert browser.execute_script(wide + "return text.scrollWidth - text.clientWidth") <= 0


def test_the_page_is_one_file_that_asks_for_nothing(browser, file):
    open_page(browser, file.as_uri(), 1280, "light")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert file.stat().st_size < MOST_BYTES


def test_light_and_dark_differ(browser, file):
    def ground(scheme):
        open_page(browser, file.as_uri(), 1280, scheme)
        return browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")

    assert ground("light") != ground("dark")


def test_the_key_figures_are_those_of_the_summary(browser, file, reporting):
    open_page(browser, file.as_uri(), 1280, "light")
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
    open_page(browser, file.as_uri(), 1280, "light")
    open_details(browser)
    stored = pd.read_parquet(latest(reporting / "per_class_metrics.parquet"))
    rows = browser.find_elements(By.CSS_SELECTOR, "#per-class tbody tr")
    shown = [[cell.get_attribute("data-value") for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
    assert [float(row[1]) for row in shown] == stored["images"].tolist()
    assert [float(row[2]) for row in shown] == stored["recall"].tolist()


def test_every_number_is_to_the_last_digit_in_the_data_set_that_its_place_names(browser, file, reporting):
    open_page(browser, file.as_uri(), 1280, "light")
    tables = browser.execute_script(
        "return [...document.querySelectorAll('table')].map((table) => [table.id, table.dataset.source])"
    )
    assert len(tables) > 20
    assert [name for name, source in tables if not source] == []
    places = browser.execute_script(
        "return [...document.querySelectorAll('[data-value]')].map((place) => ["
        "place.closest('[data-source]')?.dataset.source ?? '', place.closest('table')?.id ?? place.dataset.key ?? '',"
        "[place.dataset.value, place.dataset.low, place.dataset.high].filter((value) => value).map(Number)])"
    )
    assert sum(len(numbers) for _, _, numbers in places) > 500
    stored = {}
    missing = []
    for sources, name, numbers in places:
        for source in sources.split(", "):
            if source not in stored:
                stored[source] = numbers_in(reporting.parent, source)
        held = set().union(*(stored[source] for source in sources.split(", ")))
        missing += [(sources, name, number) for number in numbers if number not in held]
    assert missing == []


def numbers_in(data, name):
    """Every number of a data set, and the sums by stage of the times of the nodes."""
    (path,) = (
        path
        for path in data.glob("0*/*")
        if path.name.partition(".")[0] == name and path.suffix in {".json", ".parquet", ".csv"}
    )
    file = latest(path) if path.is_dir() else path
    if path.suffix != ".json":
        table = pd.read_parquet(file) if path.suffix == ".parquet" else pd.read_csv(file)
        return {float(value) for values in table.select_dtypes("number").items() for value in values[1]}
    held = json.loads(file.read_text())
    numbers = set(numbers_within(held))
    if name == "summary":
        seconds = pd.Series(held["seconds"])
        numbers |= set(seconds.groupby(seconds.index.str.split(".").str[0]).sum())
    return numbers


def numbers_within(value):
    """The numbers of nested lists and dicts."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers_within(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


@pytest.mark.parametrize("screen", SCREENS)
def test_figures_cut_no_text_off_and_their_text_can_be_read(browser, file, screen):
    open_page(browser, file.as_uri(), SCREENS[screen], "light")
    open_details(browser)
    texts = browser.execute_script(
        "return [...document.querySelectorAll('.plot svg text')].map((text) => {"
        "  const svg = text.ownerSVGElement;"
        "  const own = text.getBoundingClientRect(), all = svg.getBoundingClientRect();"
        "  const out = Math.max("
        "    all.left - own.left, own.right - all.right, all.top - own.top, own.bottom - all.bottom);"
        "  const size = parseFloat(getComputedStyle(text).fontSize) * all.width / svg.viewBox.baseVal.width;"
        "  return [svg.closest('.plot').ariaLabel, text.textContent.trim(), out, size];"
        "})"
    )
    assert len(texts) > 100
    assert [text for text in texts if text[2] > 3] == []
    assert [text for text in texts if not SMALLEST_TEXT <= text[3] <= LARGEST_TEXT] == []


def column(browser, place):
    cells = browser.find_elements(By.CSS_SELECTOR, f"#per-class tbody td:nth-child({place})")
    return [cell.get_attribute("data-value") or cell.text for cell in cells]


def test_tables_sort_by_the_heading_that_is_pressed_with_the_keyboard_as_well(browser, file):
    open_page(browser, file.as_uri(), 1280, "light")

    def heading(place):
        return browser.find_element(By.CSS_SELECTOR, f"#per-class th:nth-child({place})")

    recalls = sorted((float(value) for value in column(browser, 3)), reverse=True)
    labels = column(browser, 1)
    button = heading(3).find_element(By.TAG_NAME, "button")
    browser.execute_script("arguments[0].click()", button)
    assert [float(value) for value in column(browser, 3)] == recalls
    assert heading(3).get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    assert [float(value) for value in column(browser, 3)] == recalls[::-1]
    assert heading(3).get_attribute("aria-sort") == "ascending"
    assert column(browser, 1) != labels
    heading(1).find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert column(browser, 1) == labels  # text from a to z
    assert heading(1).get_attribute("aria-sort") == "ascending"
    assert heading(3).get_attribute("aria-sort") is None


def test_the_keyboard_skips_to_the_content(browser, file):
    open_page(browser, file.as_uri(), 390, "light")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    link = browser.switch_to.active_element
    assert link.text == "Skip to the content"
    assert link.location["x"] >= 0
    link.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.tag_name == "main"


def test_paper_is_wide_enough_for_all_of_it(browser, file):
    open_page(browser, file.as_uri(), PAPER, "light")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    open_details(browser)
    too_wide = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter((it) => !it.closest('svg'))"
        ".filter((it) => it.getBoundingClientRect().right > innerWidth + 1).map((it) => it.outerHTML.slice(0, 200))"
    )
    # What is a box of its own within a heading is missing where the heading is repeated on the next page.
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('thead button')].filter((it) => it.getClientRects().length).length"
    )
    cut_off = browser.execute_script(
        "return [...document.querySelectorAll('details, .tiles li')]"
        ".filter((it) => it.getBoundingClientRect().right > document.documentElement.clientWidth - 0.5).length"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert too_wide == []
    assert (boxes, cut_off) == (0, 0)


def test_printing_opens_what_is_folded(browser, file):
    open_page(browser, file.as_uri(), 1280, "light")
    folds = "return document.querySelectorAll('details:not([open])').length"
    assert browser.execute_script(folds) > 0
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(folds) == 0
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(folds) > 0


def test_on_paper_no_caption_is_larger_than_the_text(browser, file):
    open_page(browser, file.as_uri(), SCREENS["desk"], "light")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    sizes = """return ["main p:not([class])", "figcaption", ".tiles .name", "pre"].map((part) =>
        Math.max(...[...document.querySelectorAll(part)].map((each) => parseFloat(getComputedStyle(each).fontSize))))"""
    text, *smaller = browser.execute_script(sizes)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert text == pytest.approx(10 * 96 / 72, abs=0.1)
    assert max(smaller) < text


def test_on_paper_no_line_of_a_table_stands_alone(browser, file):
    open_page(browser, file.as_uri(), SCREENS["desk"], "light")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    kept = browser.execute_script("""return [...document.querySelectorAll("tbody")].flatMap((body) => {
        const [first, last] = [body.rows[0], body.rows[body.rows.length - 1]].map((row) => getComputedStyle(row));
        return [first.breakAfter, last.breakBefore];
    })""")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert set(kept) == {"avoid"}
