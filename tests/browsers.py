"""Chromium without a window, for tests of pages."""

import importlib.resources
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SCREENS = {"desk": 1280, "phone": 390}


@contextmanager
def chromium(*arguments: str) -> Iterator[webdriver.Chrome]:
    """A browser; what its pages write to the console is kept."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    own = ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync")
    for argument in (*own, "window-size=1600,1000", *arguments):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def open_page(browser: webdriver.Chrome, address: str, width: int, scheme: str) -> None:
    """Open a page on a screen of a width, by day ("light") or night ("dark")."""
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get_log("browser")  # what earlier pages wrote
    browser.get(address)


def faults(browser: webdriver.Chrome) -> list[tuple[str, list[str]]]:
    """Serious faults of accessibility: the rule, and where."""
    axe = (importlib.resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    browser.execute_script(axe)
    found = browser.execute_async_script("const done = arguments[0]; axe.run().then((found) => done(found))")
    assert len(found["passes"]) > 10  # it did look
    grave = [rule for rule in found["violations"] if rule["impact"] in {"serious", "critical"}]
    return [(rule["id"], [node["html"][:200] for node in rule["nodes"][:3]]) for rule in grave]


def forget_labels(browser: webdriver.Chrome) -> None:
    """Open a page to label on anew, in a browser that has kept nothing of it."""
    clear = "const done = arguments[0]; stored('readwrite', (labels) => labels.clear()).then(() => done())"
    browser.execute_async_script(clear)
    browser.refresh()
    progress(browser)


def progress(browser: webdriver.Chrome) -> str:
    """How many images such a page says are labelled, once it has looked at what the browser kept."""
    return WebDriverWait(browser, 10).until(lambda _: browser.find_element(By.ID, "progress").text)


def card(browser: webdriver.Chrome, number: int) -> WebElement:
    """Of an image on a page to label on, counted from 0."""
    return browser.find_elements(By.CLASS_NAME, "card")[number]


def press(browser: webdriver.Chrome, number: int, label: str) -> None:
    """Give an image on such a page a label; none: of none of the classes."""
    button = card(browser, number).find_element(By.CSS_SELECTOR, f'button[data-label="{label}"]')
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", button)
    button.click()


def save_labels(browser: webdriver.Chrome, file: Path) -> Path:
    """Press the button that saves the labels; returns the file, which has the name that the page gives it."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(file.parent)})
    browser.find_element(By.ID, "save").click()
    for _ in range(100):
        if file.exists():
            break
        time.sleep(0.1)
    return file
