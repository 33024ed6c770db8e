"""The page on which images are labelled: what stands in it. What it does is tested in a browser, end to end."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from browsers import chromium, open_page
from cnn_transfer.evaluation.report import label_page
from cnn_transfer.evaluation.report.label_page import Question, keys_of, write_label_page
from cnn_transfer.evaluation.report.suspected_page import write_suspected_page


@pytest.fixture
def page_of(shapes):
    def write(questions, classes=("blob", "column", "diagonal", "row"), **more):
        return write_label_page(questions, shapes, classes, "Look", "Because.", "told.csv", **more)

    return write


@pytest.fixture
def questions(shapes):
    return [Question(name, "", [("row", 0.61), ("blob", 0.3)]) for name in shapes.table["id"][:3]]


def cards(page):
    return re.findall(r'<li class="card" data-id="([^"]*)"', page)


def test_every_image_has_its_picture_and_all_classes(page_of, questions, shapes):
    page = page_of(questions)
    assert cards(page) == [question.id for question in questions]
    pictures = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    for encoded, pixels in zip(pictures, shapes.pixels(np.arange(3)), strict=True):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
        assert (picture == pixels).all()  # grey, without loss
    names = re.findall(r'<button type="button" data-label="([^"]*)"', page)
    assert names == ["blob", "column", "diagonal", "row", ""] * 3
    assert re.findall(r'<span class="sure">([^<]+)', page) == ["30%", "61%"] * 3


def test_of_many_classes_the_probable_ones_are_buttons_and_all_are_listed(page_of, questions):
    classes = [f"kind {n}" for n in range(30)]
    page = page_of([question._replace(likely=[("kind 7", 0.5), ("kind 3", 0.2)]) for question in questions], classes)
    assert re.findall(r'<button type="button" data-label="([^"]*)"', page) == ["kind 7", "kind 3", ""] * 3
    assert page.count("<option") == 30
    assert page.count('<input list="classes"') == 3


@pytest.mark.parametrize(("count", "buttons"), [(30, 31), (31, 1)])
def test_where_none_is_more_probable_more_classes_are_buttons(page_of, questions, count, buttons):
    page = page_of([questions[0]._replace(likely=[])], [f"kind {n}" for n in range(count)])
    assert page.count('<button type="button" data-label=') == buttons
    assert page.count('<input list="classes"') == (count > 30)


def test_where_no_class_is_offered_the_list_is_not_of_others(page_of, questions):
    classes = [f"kind {n}" for n in range(30)]
    asked = [
        question._replace(likely=likely) for question, likely in zip(questions, ([], [("kind 7", 0.5)]), strict=False)
    ]
    assert re.findall(r'placeholder="([^"]*)" aria-label="([^"]*)"', page_of(asked, classes)) == [
        ("class", "Class of image 1"),
        ("another class", "Another class for image 2"),
    ]


def test_names_are_text_whatever_they_hold(page_of, questions):
    name = '<script>alert("x")</script>'
    page = page_of([questions[0]._replace(text=name, likely=[(name, 0.5)])], [name, "b"])
    assert name not in page
    assert "&lt;script&gt;" in page
    names = json.loads(re.search(r'id="names">(.*?)</script>', page)[1])
    assert names == [name, "b"]


def test_what_lies_beyond_the_room_is_told(page_of, questions, monkeypatch):
    monkeypatch.setattr(label_page, "MOST_PICTURES", 2)
    page = page_of(questions)
    assert len(cards(page)) == 2
    assert "1 more are in the table alone" in page
    assert "in the table alone" not in page_of(questions[:2])


def test_what_was_pressed_belongs_to_one_list_of_images(page_of, questions):
    keys = [re.search(r'"key": "(\w+)"', page_of(part))[1] for part in (questions, questions, questions[:2])]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("classes", "keys"),
    [
        (["0", "1", "7"], ["0", "1", "7"]),
        (["Ants", "Bees"], ["a", "b"]),
        (["Ants", "Apes"], ["1", "2"]),
        (["-", "+"], ["1", "2"]),
        ([f"a{n}" for n in range(10)], []),
    ],
)
def test_keys_are_what_names_begin_with_or_numbers(classes, keys):
    assert list(keys_of(classes).values()) == keys


def test_suspected_labels_are_asked_about_with_what_they_are_called(shapes, shape_splits):
    suspected = pd.DataFrame(
        {
            "id": shapes.table["id"][:2],
            "label": ["blob", "row"],
            "suggested": ["row", "blob"],
            "probability_of_label": [0.001, 0.2],
            "probability_of_suggested": [0.999, 0.7],
        }
    )
    page = write_suspected_page(shapes, suspected, shape_splits)
    assert cards(page) == suspected["id"].tolist()
    assert re.findall(r'class="question">([^<]+)<', page) == ["Its label is blob.", "Its label is row."]
    assert re.findall(r'<span class="sure">([^<]+)', page) == ["&lt; 1%", "&gt; 99%", "70%", "20%"]
    assert '"split": ""' in page  # test images stay test images
    assert cards(write_suspected_page(shapes, suspected[:0], shape_splits)) == []


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


def test_the_current_image_stands_out_where_the_system_sets_the_colours(browser, page_of, questions, tmp_path):
    (tmp_path / "page.html").write_text(page_of(questions), encoding="utf-8")
    open_page(browser, (tmp_path / "page.html").as_uri(), 1280, "dark")
    forced = {"name": "forced-colors", "value": "active"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [forced]})
    assert browser.execute_script("return matchMedia('(forced-colors: active)').matches")
    WebDriverWait(browser, 10).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".card.current"))
    look = """return [...document.querySelectorAll(".card")].map((card) => {
      const style = getComputedStyle(card);
      return [style.borderColor, style.boxShadow, style.outlineStyle, style.outlineColor].join();
    });"""
    current, *others = browser.execute_script(look)
    assert len(others) == 2
    assert current not in others


def test_a_key_is_for_the_image_that_has_the_focus(browser, page_of, questions, tmp_path):
    (tmp_path / "page.html").write_text(page_of(questions), encoding="utf-8")
    open_page(browser, (tmp_path / "page.html").as_uri(), 1280, "light")
    WebDriverWait(browser, 10).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".card.current"))
    button = browser.find_element(By.CSS_SELECTOR, ".card:last-child button")
    browser.execute_script("arguments[0].focus()", button)
    button.send_keys(button.get_attribute("data-key"))
    chosen = browser.find_elements(By.CSS_SELECTOR, ".card.done")
    assert [card.get_attribute("data-id") for card in chosen] == [questions[2].id]
    browser.switch_to.active_element.send_keys(Keys.ARROW_UP)
    assert browser.execute_script("return document.activeElement.dataset.id") == questions[1].id


@pytest.mark.parametrize("width", [1280, 390])
def test_a_long_name_that_was_written_can_be_read(browser, page_of, questions, tmp_path, width):
    name = "Convallaria_majalis_lily_of_the_valley_A1"
    (tmp_path / "page.html").write_text(page_of(questions, [f"kind {n}" for n in range(20)] + [name]), encoding="utf-8")
    open_page(browser, (tmp_path / "page.html").as_uri(), width, "light")
    field = browser.find_element(By.CSS_SELECTOR, ".card input")
    field.send_keys(name, Keys.TAB)
    hidden, beyond = browser.execute_script(
        "const f = arguments[0], page = document.documentElement;"
        "return [f.scrollWidth - f.clientWidth, page.scrollWidth - page.clientWidth]",
        field,
    )
    assert beyond <= 0
    assert hidden <= (1 if width > 600 else 40)  # a telephone has no more room
    field.clear()


def test_where_an_image_lies_is_not_shown_to_whom_it_would_lead(page_of, questions):
    def texts(page):
        return re.findall(r'alt="([^"]*)"', page) + re.findall(r'class="name soft">([^<]*)<', page)

    ids = [question.id for question in questions]
    assert texts(page_of(questions)) == [f"Image {name}" for name in ids] + ids
    assert texts(page_of(questions, named=False)) == ["Image 1", "Image 2", "Image 3"] * 2
    assert cards(page_of(questions, named=False)) == ids  # by which what is pressed is saved
