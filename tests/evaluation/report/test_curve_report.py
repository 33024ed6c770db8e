"""The report of a learning curve: what its box, its tiles and its tables say."""

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.evaluation.curve_points import CurvePoint
from cnn_transfer.evaluation.learning_curve import curve_table, labels_saved, verdict_over_seeds
from cnn_transfer.evaluation.report.curve_report import write_curve_report

SCRATCH = {5: 0.5, 10: 0.6, 20: 0.7, 40: 0.8}
IMAGES = 1000


def page_of(transfer, scratch=SCRATCH, seeds=2, headline=5):
    rng = np.random.default_rng(0)
    points = []
    for side, curve in (("transfer", transfer), ("scratch", scratch)):
        for labels, accuracy in curve.items():
            for seed in range(seeds):
                hits = rng.permutation(IMAGES) < accuracy * IMAGES
                table = {"id": np.arange(IMAGES), "label": "a", "predicted": np.where(hits, "a", "b")}
                points.append(CurvePoint(side, labels, seed, pd.DataFrame(table)))
    saved = labels_saved(points, headline, 0.95, 200, seed=0)
    saved |= {"verdict_over_seeds": verdict_over_seeds(points, 0.95)}
    plot = '<svg viewBox="0 0 9 9"><text>plot</text></svg>'
    return write_curve_report(curve_table(points, 0.95), saved, plot, "clothes", "digits"), saved


def box(page):
    """Kind, title and sentence of the box at the top."""
    return re.search(r'<div class="verdict (\w+)"><strong>([^<]+)</strong><p>([^<]+)</p>', page).groups()


def values(page, pattern):
    return [float(value) for value in re.findall(rf'data-value="([^"]+)"{pattern}', page)]


@pytest.mark.parametrize(
    ("accuracy", "kind", "title"),
    [
        (0.75, "positive", "▲ The transfer saves labels"),
        (0.55, "neutral", "● No clear saving of labels"),
        (0.3, "negative", "▼ The transfer costs labels"),
    ],
)
def test_the_box_says_whether_labels_are_saved(accuracy, kind, title):
    page, saved = page_of({7: accuracy}, headline=7, scratch=SCRATCH)
    assert box(page)[:2] == (kind, title)
    assert box(page)[2] == saved["sentence"]


def test_a_worth_is_a_number_with_its_interval_where_all_of_it_was_measured():
    page, saved = page_of({5: 0.65})
    assert "The arrow leads" in page
    row = saved["rows"][0]
    assert f'data-value="{row["worth"]}" data-low="{row["worth_low"]}" data-high="{row["worth_high"]}"' in page


def test_a_worth_beyond_the_curve_is_told_in_words():
    page, saved = page_of({5: 0.95})
    assert 'data-source="labels_saved">more than 40</span>' in page
    assert all(statement in page for statement in saved["statements"])


def test_where_nothing_is_known_the_box_the_tile_and_the_verdict_agree():
    page, saved = page_of({5: 1.0, 10: 1.0}, scratch=dict.fromkeys(SCRATCH, 1.0), headline=10)
    assert box(page) == ("neutral", "● No clear saving of labels", saved["sentence"])
    assert page.count('data-source="labels_saved">not known</span>') == 2
    assert "5.0 to 40 as measured; from scratch" in page
    assert "The arrow leads" not in page
    assert saved["verdict_over_seeds"]["verdict"] == "neutral"


def test_the_verdict_has_the_chance_of_training_in_it():
    page, saved = page_of({5: 0.65})
    verdict = saved["verdict_over_seeds"]
    assert verdict["sentence"] in page
    assert {verdict["difference"], verdict["training_deviation"], verdict["test_deviation"]} <= set(values(page, ""))


def test_with_one_seed_the_chance_of_training_is_not_known_and_the_page_says_so():
    page, _ = page_of({5: 0.65}, seeds=1)
    assert "How much training varies is not known" in page
    assert "1 draw of labels" in page


def test_each_training_and_each_mean_is_a_row_under_names_for_people():
    page, saved = page_of({5: 0.65, 10: 0.7})
    rows = {
        name: re.search(rf'<table id="{name}".*?</table>', page, re.DOTALL)[0].count("<tr") - 1
        for name in ("worths", "means", "points")
    }
    assert rows == {"worths": 2, "means": 6, "points": 12}
    assert ">from scratch</td>" in page
    assert [row["accuracy"] for row in saved["rows"]] == values(page, r"[^>]*>\d+\.\d%")[:2]


def test_no_identifier_is_used_twice_and_every_reference_has_its_target():
    page, _ = page_of({5: 0.65})
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert [name for name, number in Counter(ids).items() if number > 1] == []
    assert set(re.findall(r'(?:aria-labelledby="|href="#)([^"]+)"', page)) <= set(ids)
