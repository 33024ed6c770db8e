"""Chromium without a window, for tests of pages."""

import importlib.resources
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver

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
