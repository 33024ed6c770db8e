"""A new release beside the one before: on images that neither has seen, refused when it is shown to be worse."""

import itertools
import math
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from cnn_transfer.evaluation.verdict import paired_difference
from cnn_transfer.exporting import (
    Candidate,
    Champion,
    Rule,
    changed_images,
    choose_champion,
    compare_with_champion,
    describe_champion,
    judge_both,
)
from cnn_transfer.exporting.challenge import WorseReleaseError, check_not_worse
from cnn_transfer.exporting.challenge_figures import draw_champion, draw_lost
from cnn_transfer.exporting.champion import JUDGED_COLUMNS
from cnn_transfer.prediction import Predictor

WORSE_ONLY = Rule("clearly_worse", 0.0, 0.95)


def judged(counts, label="row"):
    """A table of both's labels: numbers of images that both, only the challenger, only the champion, none has right."""
    now = np.repeat([True, True, False, False], counts)
    before = np.repeat([True, False, True, False], counts)
    table = pd.DataFrame({"id": [f"{label} {n}" for n in range(len(now))], "label": label, "confidence": 0.9})
    table["group"], table["withheld"], table["champion_withheld"], table["champion_confidence"] = table["id"], "", "", 1
    table["predicted"], table["champion_predicted"] = (np.where(right, label, "other") for right in (now, before))
    return table[JUDGED_COLUMNS]


@pytest.fixture(scope="module")
def older(predictor):
    """A network that is another one and says the same."""
    return replace(predictor, digest="of other files", version="4")


@pytest.fixture(scope="module")
def compare(predictor, older):
    champion = Champion("the last", older)

    def compare(table, rule=WORSE_ONLY, challenger=predictor, champion=champion):
        return compare_with_champion(challenger, champion, table, rule)

    return compare


def candidate(version, predictor_version, opened):
    def open_it():
        if isinstance(opened, Exception):
            raise opened
        return opened

    return Candidate(version, predictor_version, open_it)


def test_champion_is_the_newest_of_another_predictor(predictor):
    releases = [candidate("3", "mine", predictor), candidate("2", "other", predictor), candidate("1", "old", predictor)]
    assert choose_champion(releases, "mine") == Champion("2", predictor)
    assert choose_champion(releases, "new").version == "3"
    assert choose_champion(releases[:1], "mine") == choose_champion([], "mine") == Champion()


def test_champion_that_cannot_be_opened_gives_way_to_the_one_that_is_served_instead(predictor):
    damaged = candidate("3", "a", ValueError("its form is 1")), candidate("2", "b", TypeError("no such layer"))
    assert choose_champion([*damaged, candidate("1", "c", predictor)], "mine").version == "1"
    assert choose_champion(damaged, "mine") == Champion("3", None, "its form is 1")


@pytest.mark.parametrize(
    ("counts", "verdict", "passed"),
    [
        ((900, 50, 10, 40), "better", True),
        ((900, 10, 50, 40), "worse", False),
        ((900, 30, 30, 40), "no clear difference", True),
        ((90, 1, 5, 4), "no clear difference", True),  # four points, but too few images to show it
    ],
)
def test_what_is_shown_decides(compare, counts, verdict, passed):
    found, classes = compare(judged(counts))
    right, before = (table == "row" for table in (judged(counts)["predicted"], judged(counts)["champion_predicted"]))
    assert (found["difference"], found["difference_low"], found["difference_high"]) == paired_difference(
        right.to_numpy(), before.to_numpy(), 0.95
    )
    assert (found["verdict"], found["passed"]) == (verdict, passed)
    assert found["accuracy"] - found["champion_accuracy"] == pytest.approx(found["difference"])
    assert classes["images"].sum() == found["images"] == sum(counts)


def test_verdict_is_the_opposite_when_both_change_places(compare):
    table = judged((900, 50, 10, 40))
    swapped = table.rename(columns={"predicted": "champion_predicted", "champion_predicted": "predicted"})
    one, other = compare(table)[0], compare(swapped)[0]
    assert (one["verdict"], other["verdict"]) == ("better", "worse")
    assert one["difference_low"] == pytest.approx(-other["difference_high"])


def test_one_class_that_is_lost_is_enough_where_all_together_do_not_show_it(compare):
    rest = [judged((300, 12, 2, 10), name) for name in ("blob", "column", "diagonal")]
    found, classes = compare(pd.concat([*rest, judged((60, 0, 20, 0))], ignore_index=True))
    assert (found["verdict"], found["worse_classes"], found["passed"]) == ("no clear difference", ["row"], False)
    assert classes["class"].iloc[0] == "row"  # the largest loss first
    assert "WORSE IN CLASS row (75.0% of 80, 100.0% before)." in found["statement"]


@pytest.mark.parametrize(("n", "end"), [(5, "100.0% before)."), (7, "100.0% before) and 2 more.")])
def test_many_lost_classes_are_named_in_part(compare, n, end):
    lost = [judged((60, 0, 40, 0), f"class {number}") for number in range(n)]
    found, _ = compare(pd.concat(lost, ignore_index=True))
    assert len(found["worse_classes"]) == n
    assert found["statement"].endswith(end)


def test_a_release_that_answers_nothing_any_more_is_refused(compare, predictor, older):
    promising, mute = (predictor.facts.model_copy(update={"threshold": known}) for known in (0.5, None))
    said = "IT ANSWERS NO IMAGE"
    for table in (judged((80, 1, 1, 2)), judged((0, 0, 0, 0))):  # with and without images to compare on
        for now, before, expected in ((mute, promising, True), (mute, mute, False), (promising, mute, False)):
            champion = Champion("the last", replace(older, facts=before))
            found, _ = compare(table, challenger=replace(predictor, facts=now), champion=champion)
            assert (said in found["statement"]) is expected
            assert found["passed"] is not expected
            if expected:
                with pytest.raises(WorseReleaseError, match="than the one before and must answer images as that did;"):
                    check_not_worse(found)
            allowed, _ = compare(table, Rule("never", 0.0, 0.95), replace(predictor, facts=now), champion)
            assert allowed["passed"]


def validated(predictor, accuracy, images):
    metrics = {} if accuracy is None else {"validation_accuracy": accuracy, "validation_images": images}
    card = predictor.facts.card.model_copy(update={"metrics": metrics})
    return replace(predictor, facts=predictor.facts.model_copy(update={"card": card}))


@pytest.mark.parametrize(
    ("now", "before", "dropped", "blunt"),
    [
        ((0.3, 73.4), (0.8, 80), True, True),  # of four classes; 20.7% to 41.3%
        ((0.4, 80), (0.8, 80), True, False),  # 30.0% to 51.0%
        ((0.3, 4), (0.8, 5), False, False),  # as bad, but by chance, perhaps
        ((0.9, 80), (0.8, 80), False, False),
        ((None, 0), (0.8, 80), False, False),
        ((0.3, 80), (None, 0), False, False),
    ],
)
def test_labels_that_are_spoilt_in_the_test_images_too_are_seen_in_the_validation_images(
    compare, predictor, older, now, before, dropped, blunt
):
    challenger, champion = validated(predictor, *now), Champion("the last", validated(older, *before))
    for table in (judged((2, 5, 0, 20)), judged((0, 0, 0, 0))):  # with and without images to compare on
        found, _ = compare(table, challenger=challenger, champion=champion)
        assert (found["dropped"], found["blunt"], found["passed"]) == (dropped, blunt, not blunt)
        told = " ".join(describe_champion(found))
        said = f"{now[0] or 0:.1%} of its own validation images are right, 80.0% of those of the release before"
        assert (f"{said}: labels may be spoilt" in told) is dropped
        assert (f"NOTHING SHOWS THAT IT TELLS THE CLASSES APART: {said}." in told) is blunt
        if blunt:
            with pytest.raises(WorseReleaseError, match="than the one before and must tell classes apart as that did;"):
                check_not_worse(found)
        allowed, _ = compare(table, Rule("never", 0.0, 0.95), challenger, champion)
        assert allowed["passed"]


@pytest.mark.parametrize(
    ("refuse", "most_loss", "counts", "passed"),
    [
        ("clearly_worse", 0.03, (900, 10, 50, 40), True),  # -4 points (-5.6 to -2.4)
        ("clearly_worse", 0.02, (900, 10, 50, 40), False),
        ("not_shown_as_good", 0.0, (900, 30, 30, 40), False),
        ("not_shown_as_good", 0.02, (900, 30, 30, 40), True),
        ("not_shown_as_good", 0.02, (90, 3, 3, 4), False),  # as good, but too few images to show it
        ("not_shown_as_good", 0.0, (900, 50, 10, 40), True),
        ("never", 0.0, (900, 10, 50, 40), True),
    ],
)
def test_rule_says_what_is_refused(compare, refuse, most_loss, counts, passed):
    found, _ = compare(judged(counts), Rule(refuse, most_loss, 0.95))
    assert found["passed"] is passed
    assert found["rule"] == {"refuse": refuse, "most_loss": most_loss, "confidence": 0.95}


def test_images_of_one_group_are_no_independent_evidence(compare):
    table = judged((900, 10, 50, 40))
    assert not compare(table)[0]["passed"]
    table["group"] = np.repeat(["a", "b", "c", "d"], 250)
    assert compare(table)[0]["passed"]


@pytest.mark.parametrize("classes", [1, 10, 100])
@pytest.mark.parametrize("images", [10, 50, 200])
@pytest.mark.parametrize("changed", [0.01, 0.05, 0.2])
def test_as_good_a_challenger_seems_worse_in_some_class_as_seldom_as_stated(classes, images, changed):
    """Exact: of all ways in which images change sides, those that seem worse have at most 2.5% of the probability."""
    confidence = 1 - 0.05 / classes

    def seems_worse(lost, gained):
        correct = np.repeat([[True, False], [False, True], [True, True]], [gained, lost, images - lost - gained], 0)
        return paired_difference(correct[:, 0], correct[:, 1], confidence).high < 0

    probability = 0.0
    for lost, gained in itertools.product(range(images + 1), repeat=2):
        rest = images - lost - gained
        if rest < 0 or gained >= lost or lost + gained > 10 + 6 * images * changed:
            continue
        ways = math.lgamma(images + 1) - math.lgamma(lost + 1) - math.lgamma(gained + 1) - math.lgamma(rest + 1)
        share = math.exp(ways + (lost + gained) * math.log(changed / 2) + rest * math.log(1 - changed))
        if share > 1e-12 and seems_worse(lost, gained):
            probability += share
    assert probability <= 0.025 / classes


def test_first_release_has_nothing_before_it(predictor, shapes, shape_splits, compare):
    table = judge_both(predictor, Champion(), shapes, shape_splits)
    found, classes = compare(table, champion=Champion())
    assert (found["champion"], found["passed"], len(classes)) == (None, True, 0)
    assert describe_champion(found) == ["before          There is no release of another network before this one."]
    check_not_worse(found)
    assert draw_champion(found, classes).get_suptitle() == "No release before this one"


def test_network_that_has_not_changed_is_not_compared_with_itself(predictor, shapes, shape_splits, compare):
    champion = Champion("the last", replace(predictor, version="5"))
    table = judge_both(predictor, champion, shapes, shape_splits)
    found, _ = compare(table, Rule("not_shown_as_good", 0.0, 0.95), champion=champion)
    assert found["statement"] == "The network is that of the release before, the last."
    assert (found["images"], found["notes"], found["passed"]) == (0, [], True)


@pytest.mark.parametrize(("refuse", "passed"), [("clearly_worse", True), ("not_shown_as_good", False)])
def test_release_before_that_cannot_be_used_is_said(predictor, shapes, shape_splits, compare, refuse, passed):
    champion = Champion("the last", None, "its form is 1.")
    found, classes = compare(
        judge_both(predictor, champion, shapes, shape_splits), Rule(refuse, 0.01, 0.95), champion=champion
    )
    assert found["statement"] == "Not compared with the release before, the last: its form is 1."
    assert (found["images"], found["accuracy"], found["passed"]) == (0, None, passed)
    assert draw_champion(found, classes).get_suptitle() == "Not compared: champion_comparison says why"


def test_both_label_the_same_test_images(predictor, older, shapes, shape_splits, compare):
    table = judge_both(predictor, Champion("1", older), shapes, shape_splits)
    assert table["id"].tolist() == shape_splits["id"][shape_splits["split"] == "test"].tolist()
    own = predictor.judge(shapes.pixels(shapes.rows_of(table["id"])))
    assert table["predicted"].tolist() == table["champion_predicted"].tolist() == own.predicted.tolist()
    assert table["champion_withheld"].tolist() == own.withheld.tolist()
    found, _ = compare(table)
    assert (found["seen"], found["difference"], found["passed"]) == (0, 0, True)
    assert found["answered"] == found["champion_answered"] == np.mean(own.withheld == "")
    assert changed_images(table).empty


def test_images_that_the_champion_was_made_with_are_left_out_with_their_groups(
    predictor, older, shapes, shape_splits, compare
):
    """As if a new draw of the splits had put three of its images, one of each kind, among the test images."""
    splits = shape_splits.copy()
    taken = [splits.index[splits["split"] == name][0] for name in ("training", "validation", "unlabelled")]
    splits.loc[taken, "split"] = "test"
    table = judge_both(predictor, Champion("1", older), shapes, splits)
    assert table.attrs == {"seen": 3, "unknown_classes": 0}
    assert not table["id"].isin(splits["id"][taken]).any()
    note = "Left out: 3 test images that the release before was made with, or others of their groups."
    assert note in compare(table)[0]["notes"]
    other = splits.index[shape_splits["split"] == "test"][0]
    splits.loc[[other, taken[0]], "group"] = "the same film"
    table = judge_both(predictor, Champion("1", older), shapes, splits)
    assert table.attrs["seen"] == 4
    assert splits["id"][other] not in set(table["id"])
    assert judge_both(predictor, Champion("1", older), shapes, splits.drop(columns="group")).attrs["seen"] == 3


def test_file_that_was_encoded_anew_is_still_the_same_picture(predictor, older, shapes, shape_splits):
    splits = shape_splits.copy()
    taken = splits.index[splits["split"] == "training"][:2]
    splits.loc[taken, "split"] = "test"
    of = shapes.table["id"].isin(splits["id"][taken])
    for changed in ("content_digest", "pixel_digest"):  # of another encoding, or stored in another size
        altered = replace(shapes, table=shapes.table.assign(**{changed: shapes.table[changed].mask(of, "other")}))
        assert judge_both(predictor, Champion("1", older), altered, splits).attrs["seen"] == 2


def knowing(predictor, *class_names):
    card = predictor.facts.card.model_copy(update={"class_names": class_names})
    return replace(predictor, facts=predictor.facts.model_copy(update={"card": card}), digest="of other files")


def test_new_classes_are_not_compared(predictor, shapes, shape_splits, compare):
    champion = Champion("1", knowing(predictor, "blob", "column", "diagonal"))
    table = judge_both(predictor, champion, shapes, shape_splits)
    found, classes = compare(table, champion=champion)
    assert set(classes["class"]) == {"blob", "column", "diagonal"}
    assert (found["images"], found["unknown_classes"]) == (60, 20)
    assert "Not compared: classes that the release before does not know, row (20 test images)." in found["notes"]
    assert (found["new_classes"], found["gone_classes"], found["passed"]) == (["row"], [], True)
    assert "GONE" not in found["statement"]


@pytest.mark.parametrize(
    ("refuse", "passed"), [("clearly_worse", False), ("not_shown_as_good", False), ("never", True)]
)
def test_a_class_that_is_gone_is_refused_and_named(predictor, shapes, shape_splits, compare, refuse, passed):
    champion = Champion("1", knowing(predictor, "blob", "column", "diagonal", "row", "ring"))
    table = judge_both(predictor, champion, shapes, shape_splits)
    found, classes = compare(table, Rule(refuse, 0.5, 0.95), champion=champion)
    assert (found["gone_classes"], found["passed"], found["difference"]) == (["ring"], passed, 0)
    assert (found["verdict"], found["worse_classes"]) == ("no clear difference", [])
    assert found["statement"].endswith("no clear difference. GONE CLASS: ring.")
    title = draw_champion(found, classes).get_suptitle()
    assert title == f"Against the release before ({'released' if passed else 'REFUSED'})"
    if passed:
        check_not_worse(found)
        return
    message = (
        r"have all of its classes; nothing is released, and 1 stays\. .* GONE CLASS: ring\. .*"
        r"--params export\.champion\.refuse=never\. Where the classes were removed on purpose, once is enough"
    )
    with pytest.raises(WorseReleaseError, match=message):
        check_not_worse(found)


def test_no_common_image_is_said(predictor, shapes, shape_splits, compare):
    champion = Champion("1", knowing(predictor, "a", "b", "c", "d"))
    found, classes = compare(judge_both(predictor, champion, shapes, shape_splits), champion=champion)
    assert found["statement"].endswith("not seen and whose class it knows. GONE CLASSES: a, b, c, d.")
    assert (found["passed"], found["verdict"], len(classes)) == (False, None, 0)
    everything = predictor.facts.class_names
    unseen = compare(judged((0, 0, 0, 0)), champion=Champion("1", knowing(predictor, *everything)))[0]
    assert (unseen["statement"], unseen["passed"]) == (
        found["statement"].removesuffix(" GONE CLASSES: a, b, c, d."),
        True,
    )


def of_format(predictor, **changes):
    image_format = predictor.facts.image_format.model_copy(update=changes)
    return replace(predictor, facts=predictor.facts.model_copy(update={"image_format": image_format}), digest="other")


class Noticing(Predictor):
    """Tells which shapes it is given; computes the part that its network takes."""

    def judge(self, pixels):
        shapes_seen.append(pixels.shape[1:])
        return super().judge(pixels[:, :28, :28, :1])


shapes_seen = []


def test_champion_of_another_size_sees_images_in_its_own(predictor, shapes, shape_splits, compare):
    larger = of_format(predictor, image_size_px=40, channels=3)
    champion = Champion("1", Noticing(**{field.name: getattr(larger, field.name) for field in fields(larger)}))
    table = judge_both(predictor, champion, shapes, shape_splits)
    assert shapes_seen == [(40, 40, 3)]
    notes = compare(table, champion=champion)[0]["notes"]
    assert notes[-1].startswith("The release before was made for images of 40 x 40 px in colour (stretch) and sees")
    assert notes[-1].endswith("28 x 28 px in grey (stretch): it may be better than shown.")
    smaller = Champion("1", of_format(predictor, image_size_px=20))
    assert "made for images" not in "".join(compare(table, champion=smaller)[0]["notes"])  # nothing is lacking there


def test_changed_images_begin_with_the_surest_new_mistakes(shapes, shape_splits):
    test = shape_splits[shape_splits["split"] == "test"].head(4)
    table = judged((0, 2, 2, 0)).assign(id=test["id"].to_numpy(), confidence=[0.5, 0.6, 0.7, 0.8])
    changes = changed_images(table)
    assert changes["change"].tolist() == ["lost", "lost", "gained", "gained"]
    assert changes["confidence"].tolist() == [0.8, 0.7, 0.6, 0.5]
    heading = draw_lost(shapes, changes).get_suptitle()
    assert heading == "2 images are wrong now, right before (true → predicted now). 2 the other way"
    assert "2 are right that were wrong" in draw_lost(shapes, changes[changes["change"] == "gained"]).get_suptitle()


def test_plot_has_all_images_and_the_classes_that_changed_most(compare):
    tables = [judged((50 - n, n, 0, 0), f"class {n:02d}") for n in range(40)]
    found, classes = compare(pd.concat(tables, ignore_index=True))
    figure = draw_champion(found, classes)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["all images", *(f"class {n:02d}" for n in range(10, 40))]
    assert figure.get_suptitle() == "Against the release before (released); the 30 of 40 classes that changed most"
