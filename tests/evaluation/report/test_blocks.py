"""Blocks to a page: what a person reads, what a program reads back, and nothing that a name could break."""

import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from browsers import SCREENS, chromium, open_page
from cnn_transfer.evaluation.figures import as_svg
from cnn_transfer.evaluation.report.blocks import (
    Beside,
    Code,
    Column,
    Details,
    Heading,
    Notice,
    Section,
    Text,
    Tile,
    Tiles,
    count,
    decimal,
    gain,
    picture,
    points,
    render,
    share,
    table,
    truth,
    words,
)

LETTERS = """
    const walker = document.createTreeWalker(document.querySelector("#t td"), NodeFilter.SHOW_TEXT);
    const range = document.createRange();
    const letters = [];
    while (walker.nextNode()) {
      for (let at = 0; at < walker.currentNode.length; at++) {
        range.setStart(walker.currentNode, at);
        range.setEnd(walker.currentNode, at + 1);
        letters.push([range.toString(), Math.round(range.getBoundingClientRect().top)]);
      }
    }
    return letters;
"""  # each letter of a cell, and how far down it is
VERDICT = {"kind": "neutral", "title": "Neutral", "sentence": "Neither."}
VOID = {"meta", "link", "br", "wbr", "use", "path", "image"}


class Page(HTMLParser):
    """Counts elements, collects cells, and checks that every element is closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.values, self.ids = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if "data-value" in attrs:
            self.values.append(attrs["data-value"])
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def page(*blocks):
    return render("A title", "A subtitle", VERDICT, [Section("one", "Section one", blocks)], "The end.")


def drawn():
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o-", label="line")
    axes.set_title("Title & more")
    axes.legend()
    return figure


@pytest.mark.parametrize(
    ("cell", "text", "value", "ends"),
    [
        (share(0.96666), "96.7%", 0.96666, ""),
        (share(0.5, 0.25, 1.0), "50.0%", 0.5, "25.0% to 100.0%"),
        (share(np.float32(0.5), None, np.nan), "50.0%", 0.5, ""),
        (share(0.99967, 0.998, 1 - 1e-12), "> 99.9%", 0.99967, "99.8% to 100.0%"),  # one of 3,000 is wrong
        (points(-0.0123), "-1.2", -0.0123, ""),
        (count(12345), "12,345", 12345, ""),
        (decimal(0.12345), "0.123", 0.12345, ""),
        (share(None), "–", None, ""),
        (share(float("nan")), "–", None, ""),
        (count(pd.NA), "–", None, ""),
        (words(None), "–", None, ""),
        (truth(True), "yes", None, ""),
        (truth(np.False_), "no", None, ""),
        (truth(None), "–", None, ""),
    ],
)
def test_a_value_is_written_for_people_and_kept_in_full(cell, text, value, ends):
    assert (cell.text, cell.value, cell.range) == (text, value, ends)


def test_short_text_is_not_broken_and_long_text_is_where_names_are():
    frame = pd.DataFrame({"name": ["2/3 of the resolution", "Siberian_Husky_adult", "a/folder/with_a_long_name.png"]})
    text = page(table("t", frame, [Column("name", "name")], "names"))
    assert ">2/3 of the resolution</td>" in text
    assert ">Siberian_<wbr>Husky_<wbr>adult</td>" in text  # short, and on a phone two lines beside others
    assert "a/<wbr>folder/<wbr>with_<wbr>a_<wbr>long_<wbr>name.png" in text


def test_no_line_ends_within_an_option_of_a_command():
    text = page(Text("<b> kedro run --pipelines rank_sources, well-known"), Notice(["run with --params a=b"]))
    assert '&lt;b&gt; kedro run <span class="option">--pipelines</span> rank_sources, well-known' in text
    assert 'run with <span class="option">--params</span> a=b' in text
    assert ".option { white-space: nowrap; }" in text


def test_every_kind_of_block_is_on_the_page_in_order():
    frame = pd.DataFrame({"label": ["a", "b"], "accuracy": [0.5, None]})
    text = page(
        Text("first"),
        Heading("second"),
        Notice(["third"]),
        Notice(["fourth", "fifth"]),
        Tiles([Tile("sixth", share(0.25), "note", "key_of_it")]),
        table("t", frame, [Column("label", "class"), Column("accuracy", "acc", share)], "seventh"),
        picture("p", as_svg(drawn()), "a line", "eighth", "what the line does"),
        Details("ninth", [Text("tenth")]),
        Beside([Text("eleventh"), Text("twelfth")]),
        Code("a code", "thirteenth {}"),
    )
    names = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
    names += ("eighth", "ninth", "tenth", "eleventh", "twelfth", "thirteenth")
    places = [text.index(f"{name}") for name in names]
    assert places == sorted(places)
    parsed = Page(text)
    assert parsed.values == ["0.25", "0.5", ""]
    assert len(set(parsed.ids)) == len(parsed.ids)


def test_the_page_needs_no_other_file():
    text = page(picture("p", as_svg(drawn()), "a", "b", "c"), picture("q", as_svg(drawn()), "a", "b", "c"))
    for tag, attrs in Page(text).elements:
        assert tag != "script" or "src" not in attrs
        for name in ("src", "href", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)", text)
    assert len(set(Page(text).ids)) == len(Page(text).ids)  # the same figure twice, and no name is taken twice


def test_markup_in_names_is_text():
    evil = '<script>alert("x")</script>'
    frame = pd.DataFrame({evil: [evil], "n": [1]})
    figure = drawn()
    text = page(
        Text(evil),
        table("t", frame, [Column(evil, evil), Column("n", "n", count)], evil),
        picture("p", as_svg(figure), evil, evil, evil),
        Code(evil, evil),
    )
    assert evil not in text
    scripts = [attrs for tag, attrs in Page(text).elements if tag == "script"]
    assert len(scripts) == 1


def test_a_table_shows_its_columns_with_intervals_and_says_what_it_leaves_out():
    frame = pd.DataFrame({"r": [0.5] * 5, "r_low": [0.25] * 5, "r_high": [0.75] * 5, "worst": [True] + [False] * 4})
    shown = table(
        "t",
        frame,
        [Column("r", "recall", share, has_interval=True), Column("absent", "absent")],
        "Recall",
        marked="worst",
        most_rows=3,
    )
    assert [column.heading for column in shown.columns] == ["recall"]
    assert [row.marked for row in shown.rows] == [True, False, False]
    assert shown.rows[0].cells[0].range == "25.0% to 75.0%"
    assert shown.left_out == "The first 3 of 5 rows."
    assert "The first 3 of 5 rows." in page(shown)


def test_a_figure_takes_the_colours_of_the_page_and_keeps_its_text():
    svg = as_svg(drawn())
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert ">Title &amp; more<" in svg
    assert svg == as_svg(drawn())
    assert re.search(r'<svg[^>]* viewBox="0 0 288 216"', svg)
    assert not re.search(r'<svg[^>]* width="', svg)


def test_a_figure_has_a_description_for_those_who_cannot_see_it():
    shown = picture("p", as_svg(drawn()), "a line", "caption", 'rises "fast" & far')
    assert re.match(r'<svg role="img" aria-label="rises &#34;fast&#34; &amp; far" style="--points: 288"', shown.svg)
    assert 'id="p-figure_1"' in shown.svg


def test_the_verdict_is_the_first_thing_on_the_page():
    text = page(Text("in the section"))
    assert text.index("Neutral") < text.index("Section one</h2>") < text.index("in the section")
    assert '<div class="verdict neutral">' in text


def test_rows_are_whole_pixels_high_on_phones_where_the_first_column_is_drawn_apart():
    phone = page(Text("One.")).partition("@media (max-width: 40rem)")[2]
    padding, line = re.search(r"th, td \{ padding: ([\d.]+)rem [\d.]+rem; line-height: ([\d.]+)rem; \}", phone).groups()
    assert (16 * (2 * float(padding) + float(line))).is_integer()


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.mark.slow
@pytest.mark.parametrize("name", ["American_Staffordshire", "Chrysanthemumleucanthemum", "soft-coated_wheaten_terrier"])
def test_on_a_phone_no_line_of_a_class_name_ends_within_a_word(browser, tmp_path, name):
    frame = pd.DataFrame({"name": [name], "images": [12], "right": [0.93]})
    columns = [Column("name", "Class"), Column("images", "Images of the class", count), Column("right", "Right", share)]
    (tmp_path / "page.html").write_text(page(table("t", frame, columns, "names")), encoding="utf-8")
    open_page(browser, (tmp_path / "page.html").as_uri(), SCREENS["phone"], "light")
    letters = browser.execute_script(LETTERS)
    assert "".join(letter for letter, _ in letters) == name
    ends = [letter for (letter, top), (_, below) in itertools.pairwise(letters) if below > top]
    assert set(ends) <= set("_-")


@pytest.mark.parametrize(("preference", "behavior"), [("no-preference", "smooth"), ("reduce", "auto")])
def test_the_page_does_not_glide_for_those_who_want_no_motion(browser, tmp_path, preference, behavior):
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    open_page(browser, (tmp_path / "page.html").as_uri(), 1280, "light")
    feature = {"name": "prefers-reduced-motion", "value": preference}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    assert browser.execute_script("return getComputedStyle(document.documentElement).scrollBehavior") == behavior


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [(points, -0.0004, "+0.0"), (points, -0.0006, "-0.1"), (gain, -0.004, "+0.00"), (decimal, -0.0004, "0.000")],
)
def test_what_rounds_to_zero_has_no_minus(form, value, text):
    assert form(value).text == text
