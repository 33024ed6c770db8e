"""The page of the service in a browser without a network: on a desk and on a phone, by day and by night."""

import re
import shutil

import pytest
from canned_service import FACTS, MOST_MB, NAMES, PAGE, SIDE, canned_service, picture
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from services import VERSION, serving

from browsers import SCREENS, chromium, faults, open_page
from cnn_transfer.images.reasons import NOTES, REASONS
from cnn_transfer.prediction import WITHHELD
from cnn_transfer.prediction.predictor import LEFT_OUT_IMAGE, TRAINING_IMAGE, UNFAMILIAR, UNLABELLED_IMAGE
from cnn_transfer.serving.uploads import SERVICE_CODES

pytestmark = pytest.mark.slow

# Of the intake, about sets of images and not about one that is uploaded.
OF_SETS = {
    "not_sampled", "stray_file", "link_outside", "link_loop", "broken_link", "listed_twice", "missing_path",
    "duplicate", "conflicting_labels", "leak", "unlabelled_test", "small_class",
}  # fmt: skip
NOTES_OF_SETS = {"near_duplicate", "near_duplicate_other_label", "similar_labels", "corrected_label", "empty_class"}
# Of the service, about requests that the page does not make.
OF_OTHER_CLIENTS = {
    "wrong_content_type", "malformed", "no_file", "too_many_files", "not_found", "wrong_method", "bad_request",
    "no_usable_image",
}  # fmt: skip
CARD_TEXT = f"""---
license: mit
---
# Shapes
## Use
```python
import keras
```
| {" | ".join(f"figure {number}" for number in range(12))} |
{"|---" * 12}|
| a long name of a class {"| 99% " * 11}|
"""
WITHOUT_NETWORK = ("host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "no-proxy-server")


@pytest.fixture(scope="module")
def browser():
    with chromium(*WITHOUT_NETWORK) as driver:
        yield driver


@pytest.fixture
def service(browser):
    with canned_service() as service:
        open_page(browser, service.url, 1280, "light")
        yield service


@pytest.fixture
def files(tmp_path):
    def make(*names):
        for place, name in enumerate(names):
            (tmp_path / name).write_bytes(picture(place))
        return [str(tmp_path / name) for name in names]

    return make


def wait(browser, condition):
    return WebDriverWait(browser, 30, 0.05).until(lambda _: condition())


def shown(browser, selector):
    """Texts of the elements that can be seen."""
    return [found.text for found in browser.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]


def text(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector).text


def give(browser, paths):
    browser.find_element(By.ID, "files").send_keys("\n".join(paths))
    wait(browser, lambda: "…" not in browser.find_element(By.ID, "status").get_attribute("textContent"))


def loaded(browser, selector):
    """How many of the pictures have come, and all."""
    return browser.execute_script(
        "const all = [...document.querySelectorAll(arguments[0])];"
        "return [all.filter((it) => it.complete && it.naturalWidth).length, all.length]",
        selector,
    )


def not_wider_than(browser, width):
    return browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_an_image_gets_its_answer_its_map_and_its_neighbours(browser, service, files, screen, scheme):
    open_page(browser, service.url, SCREENS[screen], scheme)
    wait(browser, lambda: "12 classes" in text(browser, "#about"))
    assert not_wider_than(browser, SCREENS[screen])
    give(browser, files("photo.png"))
    assert text(browser, ".verdict.positive strong") == "circle"
    assert "99.9% sure" in text(browser, ".verdict p")
    assert "at least 98% are right" in text(browser, ".verdict p")
    rows = shown(browser, ".bars tbody tr")
    assert rows[0].split() == ["circle", "99.9%"]
    assert len(rows) == 5
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.bars .bar')]"
        ".map((bar) => parseFloat(getComputedStyle(bar, '::before').width) / bar.clientWidth)"
    )
    assert widths[0] == pytest.approx(0.9994, abs=5e-3)
    assert max(widths[1:5]) < 0.02
    wait(browser, lambda: loaded(browser, ".network img") == [2, 2])
    wait(browser, lambda: loaded(browser, ".own, .nearest img") == [4, 4])
    assert shown(browser, ".nearest .label") == ["circle", "circle", "star"]
    assert text(browser, ".same") == "2 of them are of the class circle."
    assert text(browser, ".seen-size").endswith(f"{SIDE} × {SIDE}")
    assert "Each place was covered." in text(browser, ".explanation")
    assert "it answers from 85% on" in text(browser, ".tiles li:nth-child(1)")
    assert shown(browser, ".tiles .value") == ["99.9%", "circle", "Yes"]
    assert "2026-01-01T00.00.00.000Z" in text(browser, "footer")
    assert not_wider_than(browser, SCREENS[screen])
    assert faults(browser) == []
    assert browser.get_log("browser") == []  # the policy allows all that the page does
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((it) => it.name)")
    assert [name for name in asked if not name.startswith((service.url, "blob:", "data:"))] == []


@pytest.mark.parametrize(
    ("threshold", "promise", "tile"),
    [
        (None, "It gives its best guess and how sure it is", "calibrated"),
        (0.0, "However sure it is, it answers all images that are like the training images", "calibrated"),
        (0.85, "It answers when it is at least 85% sure", "calibrated; it answers from 85% on"),
        (0.99986, "It answers when it is at least 99.99% sure", "calibrated; it answers from 99.99% on"),
    ],
)
def test_what_is_promised_is_said_by_the_threshold(browser, service, files, threshold, promise, tile):
    familiarity = FACTS["familiarity"] | {"held_out": threshold is None}
    service.facts = FACTS | {"threshold": threshold, "familiarity": familiarity, "promised_accuracy": 0.985}
    open_page(browser, service.url, 1280, "light")
    wait(browser, lambda: text(browser, "#promise").startswith(promise))
    assert threshold is None or "which keeps 98.5% of its answers right" in text(browser, "#promise")
    give(browser, files("photo.png"))
    assert "at least 98.5% are right (with 95% confidence)" in text(browser, ".verdict p")
    assert tile in text(browser, ".tiles li:nth-child(1)").splitlines()
    known = "validation images" if threshold is None else "left-out training images"
    assert f"41% of {known} are more like them" in text(browser, ".tiles li:nth-child(3)")


@pytest.mark.parametrize("screen", SCREENS)
def test_on_the_service_itself(browser, release_folder, predictor, class_folder, tmp_path, screen):
    """Nothing canned: ONNX Runtime, the intake, occlusion and the training images of the release."""
    known = class_folder / predictor.references.training["id"].iloc[0]
    names = predictor.facts.class_names
    noise, broken = tmp_path / "noise.png", tmp_path / "broken.png"
    noise.write_bytes(picture(mode="RGBA"))
    broken.write_bytes(known.read_bytes()[:60])
    with serving(release_folder.parents[1]) as client:
        open_page(browser, f"http://127.0.0.1:{client.port}/", SCREENS[screen], "light")
        wait(browser, lambda: VERSION in text(browser, "footer"))
        give(browser, [str(known)])
        assert len(shown(browser, ".bars tbody tr")) == len(names)
        wait(browser, lambda: loaded(browser, ".network img") == [2, 2])
        wait(browser, lambda: loaded(browser, ".own, .nearest img") == [4, 4])
        assert set(shown(browser, ".nearest .label")) <= set(names)
        assert "trained on this very picture" in " ".join(shown(browser, ".notes"))
        assert browser.get_log("browser") == []
        give(browser, [str(noise), str(broken)])
        assert text(browser, ".verdict.withheld strong") == "No answer"
        assert WITHHELD[UNFAMILIAR] in text(browser, ".verdict p")
        assert "transparent" in text(browser, ".notes")
        browser.find_elements(By.CSS_SELECTOR, "#list button")[2].click()
        assert "The end of the image is missing" in text(browser, ".verdict.negative .why")
        assert not_wider_than(browser, SCREENS[screen])
        assert faults(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_model_card_is_a_page(browser, release_folder, tmp_path, screen, scheme):
    release = shutil.copytree(release_folder, tmp_path / "releases" / VERSION / "release")
    (release / "README.md").write_text(CARD_TEXT)
    with serving(tmp_path / "releases") as client:
        open_page(browser, f"http://127.0.0.1:{client.port}/", SCREENS[screen], scheme)
        browser.find_element(By.LINK_TEXT, "Model card").click()
        wait(browser, lambda: shown(browser, ".card h2"))
        assert shown(browser, ".card td")[0] == "a long name of a class"
        assert shown(browser, ".card pre") == ["import keras"]
        browser.find_element(By.TAG_NAME, "summary").click()
        assert shown(browser, ".card details pre") == ["license: mit"]
        assert not_wider_than(browser, SCREENS[screen])
        assert faults(browser) == []
        assert browser.get_log("browser") == []


def test_the_addresses_can_be_read_and_tried(browser, release_folder):
    with serving(release_folder.parents[1]) as client:
        open_page(browser, f"http://127.0.0.1:{client.port}/docs", 1280, "light")
        wait(browser, lambda: len(shown(browser, ".opblock")) == len(client.get("/openapi.json").json["paths"]))
        browser.find_element(By.CSS_SELECTOR, "[id$=live_live_get] button").click()
        for button in ("try-out__btn", "execute"):
            wait(browser, lambda name=button: browser.find_elements(By.CSS_SELECTOR, f".{name}"))[0].click()
        wait(browser, lambda: shown(browser, ".live-responses-table .response-col_status"))
        assert '"live": true' in text(browser, ".live-responses-table")
        assert browser.get_log("browser") == []


def test_light_and_dark_differ(browser, service):
    def ground(scheme):
        open_page(browser, service.url, 1280, scheme)
        return browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")

    assert ground("light") != ground("dark")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_images_can_be_dropped_and_pasted(browser, service, way):
    browser.execute_script(
        "const data = new DataTransfer();"
        "data.items.add(new File([Uint8Array.from(arguments[1])], 'given.png', {type: 'image/png'}));"
        "const event = arguments[0] === 'drop'"
        "  ? new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})"
        "  : new ClipboardEvent('paste', {clipboardData: data, bubbles: true});"
        "document.body.dispatchEvent(event);",
        way,
        list(picture()),
    )
    wait(browser, lambda: shown(browser, ".verdict.positive strong") == ["circle"])
    assert "given.png" in text(browser, "figcaption")


@pytest.mark.parametrize(
    ("name", "why", "tiles"),
    [
        (
            "unsure",
            "less sure than the threshold. The best guess would be <b>bold</b>, 40.0% sure",
            "<b>bold</b> · star",
        ),
        (
            "unfamiliar",
            "unlike the training images. The best guess would be circle, 99.9% sure",
            "No, unlike them in noise",
        ),
    ],
)
def test_says_why_there_is_no_answer(browser, service, files, name, why, tiles):
    give(browser, files(f"{name}.png"))
    assert text(browser, ".verdict.withheld strong") == "No answer"
    assert why in text(browser, ".verdict p")
    assert tiles in shown(browser, ".tiles .value")
    said = "such sets hold the true class of 95%" if name == "unsure" else "as probable as the true one is in 95%"
    assert said in text(browser, ".tiles li:nth-child(2) .note")


def test_says_what_was_done_to_the_image(browser, service, files):
    give(browser, files("unsure.png"))
    transparent, trained = shown(browser, ".notes li")
    assert "transparent" in transparent
    assert "trained on this very picture" in trained


def test_what_is_not_known_is_not_shown(browser, service, files):
    give(browser, files("bare.png"))
    assert shown(browser, ".tiles .value") == ["99.9%", "Not known"]
    assert shown(browser, ".like") == []
    assert shown(browser, ".notes") == []


def test_all_classes_are_shown_on_request(browser, service, files):
    give(browser, files("unsure.png"))
    browser.find_element(By.CSS_SELECTOR, ".more").click()
    rows = shown(browser, ".bars tbody tr")
    assert len(rows) == len(NAMES)
    assert rows[0].split() == ["<b>bold</b>", "40.0%"]  # a class is text, whatever it is called
    assert rows[1].split() == ["star", "30.0%"]


def test_the_map_can_be_faded_out(browser, service, files):
    give(browser, files("photo.png"))
    wait(browser, lambda: loaded(browser, ".map") == [1, 1])
    assert browser.find_element(By.CSS_SELECTOR, ".map").value_of_css_property("opacity") == "0.75"
    slider = browser.find_element(By.ID, "strength")
    slider.send_keys(Keys.HOME)
    assert browser.find_element(By.CSS_SELECTOR, ".map").value_of_css_property("opacity") == "0"
    slider.send_keys(Keys.END)
    assert browser.find_element(By.CSS_SELECTOR, ".map").value_of_css_property("opacity") == "1"


def words(block):
    """The words of the page for codes."""
    (found,) = re.findall(rf"const {block} = {{(.*?)\n}};", (PAGE / "page.js").read_text(encoding="utf-8"), re.DOTALL)
    return dict(re.findall(r'^  (\w+): "(.*)",$', found, re.MULTILINE))


def test_every_code_of_the_intake_has_words():
    assert set(REASONS) - OF_SETS <= set(words("REASONS"))
    assert set(NOTES) - NOTES_OF_SETS | {TRAINING_IMAGE, UNLABELLED_IMAGE, LEFT_OUT_IMAGE} == set(words("NOTES"))


def test_every_code_of_the_service_that_one_file_can_get_has_words():
    assert set(SERVICE_CODES) - OF_OTHER_CLIENTS <= set(words("REASONS"))


def test_several_images_make_a_list_and_bad_ones_give_their_reason(browser, service, files):
    codes = ["truncated", "too_small", "file_too_large", "unheard_of"]
    give(browser, files("photo.png", "unsure.png", *(f"bad-{code}.png" for code in codes)))
    assert text(browser, "#status") == "6 images: 1 answered, 1 without an answer, 4 not usable."
    buttons = browser.find_elements(By.CSS_SELECTOR, "#list button")
    assert [button.text.split("\n")[0] for button in buttons] == [
        "photo.png",
        "unsure.png",
        *(f"bad-{code}.png" for code in codes),
    ]
    assert "No answer (<b>bold</b>?)" in buttons[1].text
    for code, button in zip(codes, buttons[2:], strict=True):
        assert "Not usable" in button.text
        button.send_keys(Keys.ENTER)
        assert button.get_attribute("aria-current") == "true"
        assert text(browser, ".verdict.negative strong") == "This file cannot be used"
        assert words("REASONS").get(code, f"the detail of bad-{code}") in text(browser, ".verdict .why")
        assert code in text(browser, ".verdict .detail-words")
    buttons[0].send_keys(Keys.SPACE)
    assert text(browser, ".verdict.positive strong") == "circle"
    assert faults(browser) == []
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    assert not_wider_than(browser, 390)


def test_a_file_that_is_too_large_is_not_sent(browser, service, tmp_path):
    wait(browser, lambda: "12 classes" in text(browser, "#about"))
    (tmp_path / "photo.png").write_bytes(bytes(MOST_MB * 10**6 + 1))
    give(browser, [str(tmp_path / "photo.png")])
    assert "more bytes than the service takes" in text(browser, ".verdict.negative .why")
    assert "a file may have 1 MB" in text(browser, ".verdict .detail-words")
    assert [asked for asked in service.asked if asked.startswith("/predict")] == []


def test_says_when_an_answer_is_of_a_model_that_is_replaced(browser, service, files):
    first, second = files("photo.png", "bare.png")
    give(browser, [first])
    assert shown(browser, ".made") == []
    service.version = "2026-02-02T00.00.00.000Z"
    give(browser, [second])
    wait(browser, lambda: service.version in text(browser, "footer"))
    assert shown(browser, ".made") == []
    browser.find_element(By.CSS_SELECTOR, "#list button").click()
    assert "version 2026-01-01T00.00.00.000Z; the service now has 2026-02-02T" in text(browser, ".made")


def test_a_busy_service_is_asked_again_on_request(browser, service, files):
    service.overloaded = True
    give(browser, files("photo.png"))
    assert text(browser, ".verdict.negative strong") == "No answer from the service"
    assert "busy" in text(browser, ".verdict .why")
    service.overloaded = False
    browser.find_element(By.CSS_SELECTOR, ".again").click()
    wait(browser, lambda: shown(browser, ".verdict.positive strong") == ["circle"])


def test_says_that_the_service_cannot_be_reached(browser, service, files):
    wait(browser, lambda: "12 classes" in text(browser, "#about"))
    service.shutdown()
    service.server_close()
    give(browser, files("photo.png"))
    assert "cannot be reached" in text(browser, ".verdict.negative .why")
    assert shown(browser, ".again") == ["Try again"]


def test_an_image_is_explained_once_and_only_when_it_is_looked_at(browser, service, files):
    give(browser, files("photo.png", "bare.png", "unsure.png"))
    wait(browser, lambda: loaded(browser, ".map") == [1, 1])
    first, second, _ = browser.find_elements(By.CSS_SELECTOR, "#list button")
    second.click()
    wait(browser, lambda: loaded(browser, ".map") == [1, 1])
    first.click()
    wait(browser, lambda: loaded(browser, ".map") == [1, 1])
    explained = [asked for asked in service.asked if asked.startswith("/explain")]
    assert explained == ["/explain photo.png", "/explain bare.png"]


def test_a_folder_full_is_left_to_the_batch_command(browser, service):
    browser.execute_script(
        "const data = new DataTransfer();"
        "for (let n = 0; n < 203; n++) data.items.add(new File([Uint8Array.from(arguments[0])], `${n}.png`));"
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}));",
        list(picture()),
    )
    wait(browser, lambda: "…" not in text(browser, "#status"))
    assert "200 images: 200 answered" in text(browser, "#status")
    assert "3 more files were left out" in text(browser, "#status")
    assert "kedro run --pipelines predict" in text(browser, "#status")


def test_the_keyboard_reaches_the_file_chooser(browser, service):
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "files"
    assert browser.find_element(By.ID, "drop").value_of_css_property("outline-style") == "solid"


def test_the_page_has_nothing_inline_and_no_foreign_address():
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*src=)", html)
    for file in PAGE.iterdir():
        content = file.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|url\((?!#)|@import", content), file.name
