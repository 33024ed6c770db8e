"""Random samples of labelled images, and what somebody's labels show of the promise."""

import re
from dataclasses import replace
from types import SimpleNamespace

import fsspec
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from cnn_transfer.evaluation.intervals import anytime_interval
from cnn_transfer.images import UnusableSetError, list_unlabelled, open_image_set, write_image_set
from cnn_transfer.pipelines.audit.nodes import draw, measure
from cnn_transfer.prediction import labelling
from cnn_transfer.prediction.audit import (
    STRATA,
    collect_audited_images,
    describe_audit,
    describe_audit_sample,
    draw_audit,
    draw_audit_mistakes,
    find_known_labels,
    measure_audit,
    write_audit_page,
)
from cnn_transfer.prediction.labelling import ImagesToLabel, LabelledImages, open_labels, write_labels

NUMBERS = {"answered": 30, "withheld": 10}
CLASSES = ["cat", "dog"]


class Labels(LabelledImages):
    """Labelled images in memory, in parts."""

    def __init__(self, *parts, **contents):
        super().__init__(
            None, "", {"parts": ["part-0-abc.parquet"], "model_version": "7", "class_names": CLASSES} | contents
        )
        object.__setattr__(self, "tables", parts)

    def parts(self):
        return iter(self.tables)


def labels_of(ids, withheld="", notes="", predicted="cat", confidence=0.99):
    ids = list(ids)
    return pd.DataFrame(
        {"id": ids, "predicted": predicted, "confidence": confidence, "withheld": withheld, "notes": notes}
        | {"width_px": 40, "height_px": 30}
    )


def sample_of(answered, withheld=0, right_by_confidence=0.99):
    ids = [f"a{number}" for number in range(answered)] + [f"w{number}" for number in range(withheld)]
    table = labels_of(ids, confidence=right_by_confidence)
    return table.assign(stratum=["answered"] * answered + ["withheld"] * withheld)


def population_of(answered=1000, withheld=0, promised=0.95):
    return {
        "model_version": "7",
        "labels": "part",
        "class_names": CLASSES,
        "promised_accuracy": promised,
        "confidence": 0.95,
        "images": {"answered": answered, "withheld": withheld},
        "training_images": 0,
        "images_changed": False,
    }


def told(sample, wrong=0, rows=None):
    """Labels of a sample, of which the first are others than predicted."""
    labels = sample["predicted"].to_list()
    labels[:wrong] = ["dog"] * wrong
    table = pd.DataFrame({"id": sample["id"], "label": labels})
    return table if rows is None else table.iloc[rows]


NOTHING = pd.DataFrame(columns=["id", "label"], dtype="str")


def pictures_of(sample, digests=None):
    """Of images that are all different, or those that are named."""
    return pd.DataFrame({"id": sample["id"], "content_digest": digests or [f"of {name}" for name in sample["id"]]})


def measured(sample, population, labels, earlier=(), digests=None, known=NOTHING):
    """What `measure_audit` says."""
    return measure_audit(sample, population, pictures_of(sample, digests), known, labels, dict(earlier))


def test_each_stratum_is_drawn_from_by_itself_and_what_was_trained_on_is_left_out():
    parts = (
        labels_of([f"x{number}" for number in range(100)]),
        labels_of([f"y{number}" for number in range(50)], withheld="unsure"),
        labels_of([f"z{number}" for number in range(70)], notes="orientation training_image"),
    )
    sample, population = draw_audit(Labels(*parts, promised_accuracy=0.98, confidence=0.9), NUMBERS, 0)
    assert sample["stratum"].value_counts().to_dict() == NUMBERS
    assert sample["id"].is_unique
    assert not sample["id"].str.startswith("z").any()
    assert (sample["id"].str.startswith("x") == (sample["stratum"] == "answered")).all()
    assert population["images"] == {"answered": 100, "withheld": 50}
    assert population["training_images"] == 70
    assert (population["promised_accuracy"], population["confidence"]) == (0.98, 0.9)


def test_the_draw_is_nested_mixed_and_the_same_however_the_parts_are_cut():
    ids = [f"x{number}" for number in range(300)]
    codes = ["", "", "unsure"] * 100
    whole = labels_of(ids, withheld=codes)
    sample, _ = draw_audit(Labels(whole), NUMBERS, 0)
    cut, _ = draw_audit(Labels(whole[:77], whole[77:]), NUMBERS, 0)
    pd.testing.assert_frame_equal(sample, cut)
    more, _ = draw_audit(Labels(whole), {"answered": 60, "withheld": 20}, 0)
    assert set(sample["id"]) < set(more["id"])
    other, _ = draw_audit(Labels(whole), NUMBERS, 1)
    assert set(other["id"]) != set(sample["id"])
    for half in (sample[:20], sample[20:]):
        assert half["stratum"].value_counts().to_dict() == {"answered": 15, "withheld": 5}
    again = more[more["id"].isin(sample["id"])]
    assert (
        again[again["stratum"] == "answered"]["id"].tolist() == more["id"][more["stratum"] == "answered"][:30].tolist()
    )


def test_every_image_is_as_likely_to_be_drawn():
    whole = labels_of([f"x{number}" for number in range(100)])
    drawn = pd.concat([draw_audit(Labels(whole), {"answered": 20, "withheld": 0}, seed)[0] for seed in range(300)])
    counts = drawn["id"].value_counts().reindex(whole["id"], fill_value=0)
    low, high = binom.ppf([1e-5, 1 - 1e-5], 300, 0.2)
    assert counts.between(low, high).all()


def test_nothing_but_training_images_is_nothing_to_draw_from():
    with pytest.raises(UnusableSetError, match=r"none but 3 that 7 was trained on\. .* --pipelines predict"):
        draw_audit(Labels(labels_of("abc", notes="training_image")), NUMBERS, 0)


@pytest.mark.parametrize(
    ("answered", "wrong", "verdict", "said"),
    [
        (90, 0, "kept", "90 of 90 answers are right, which shows at least 95.0% (95.1% to 100.0%)"),
        (89, 0, "open", "Nothing speaks against the promise of 95.0%: 89 of 89"),
        (89, 0, "open", "(95.0% to 100.0%); 1 more without a mistake would show it"),
        (100, 15, "broken", "85 of 100 answers are right, which shows less than the promised 95.0% (71.3% to 94.5%)"),
        (100, 14, "open", "neither shown nor refuted: 86 of 100"),
    ],
)
def test_the_verdict_is_the_interval_beside_the_promise(answered, wrong, verdict, said):
    sample = sample_of(answered)
    result, answers = measured(sample, population_of(), told(sample, wrong))
    assert result["verdict"] == verdict
    assert said in result["statement"]
    assert (~answers["right"].astype(bool)).sum() == wrong
    shares = tuple(result["answered"][name] for name in ("accuracy", "accuracy_low", "accuracy_high"))
    assert shares == anytime_interval(answered - wrong, answered, 0.95)


def test_a_promise_of_nearly_everything_is_not_called_everything():
    sample = sample_of(90)
    statement = measured(sample, population_of(promised=0.9996), told(sample))[0]["statement"]
    assert "the promise of 99.96%: 90 of 90 answers are right (95.1% to 100.0%)" in statement


def test_so_many_more_without_a_mistake_show_it():
    sample = sample_of(40)
    result, _ = measured(sample, population_of(), told(sample, 1))
    more = int(result["statement"].split("; ")[1].split()[0])
    for extra, verdict in ((more - 1, "open"), (more, "kept")):
        larger = sample_of(40 + extra)
        assert measured(larger, population_of(), told(larger, 1))[0]["verdict"] == verdict


def test_without_a_promise_or_an_answered_image_there_is_no_verdict():
    sample = sample_of(0, 10)
    nothing = population_of(0, 50, promised=None)
    assert measured(sample, nothing, told(sample))[0]["verdict"] == "no_promise"
    both = sample_of(5, 5)
    result, _ = measured(both, population_of(100, 50), told(both, rows=slice(5, 10)))
    assert result["verdict"] == "open"
    assert "cannot be seen: no answered image was looked at" in result["statement"]
    assert result["answered"]["accuracy"] is None
    assert result["accuracy"] is None  # of one stratum nothing is known
    assert result["passed_over"] == 5
    result, _ = measured(sample, population_of(0, 50), told(sample))
    assert result["verdict"] == "open"
    assert result["statement"] == "Whether the promise is kept cannot be seen: no image was answered."


def test_both_strata_count_by_their_images_and_not_by_how_many_were_drawn():
    sample = sample_of(50, 50)
    labels = told(sample)
    labels.loc[labels["id"].str.startswith("w"), "label"] = "dog"
    result, _ = measured(sample, population_of(900, 100), labels)
    assert result["accuracy"] == pytest.approx(0.9)
    ends = [anytime_interval(right, 50, 0.975) for right in (50, 0)]
    assert result["accuracy_low"] == pytest.approx(0.9 * ends[0].low + 0.1 * ends[1].low)
    assert result["accuracy_high"] == pytest.approx(0.9 * ends[0].high + 0.1 * ends[1].high)
    assert result["withheld"]["right"] == 0


def test_audits_of_a_network_add_up_once_for_each_set_of_labels():
    sample, population, earlier, results = sample_of(60), population_of(), {}, []
    for labels, wrong in (("monday", 2), ("tuesday", 0), ("tuesday", 1)):
        of_this_set = [f"{labels} {name}" for name in sample["id"]]
        result, answers = measured(
            sample, population | {"labels": labels}, told(sample, wrong), earlier, digests=of_this_set
        )
        earlier[f"audit {len(earlier)}"] = answers
        results.append(result)
    earlier["of another network"] = answers.assign(model_version="6", labels="sunday")
    earlier["of an earlier program"] = answers.drop(columns="content_digest").assign(labels="saturday")
    earlier["damaged"] = "ValueError: what cannot be read has its reason here"
    result, _ = measured(sample, population | {"labels": "friday"}, told(sample), earlier)
    together = result["all_audits"]
    assert (together["audits"], together["looked_at"], together["right"]) == (3, 180, 177)
    assert together["repeated"] == 0
    assert together["accuracy_low"] == anytime_interval(177, 180, 0.95).low
    assert (result["verdict"], together["verdict"]) == ("open", "open")
    assert f"All audits      3 of this network. {together['statement']}" in describe_audit(result)
    assert not any(line.startswith("All audits") for line in describe_audit(results[0]))


def test_an_image_of_several_audits_counts_once_as_it_was_said_to_be_last():
    sample, population = sample_of(30, 5), population_of(withheld=50)
    digests = [f"{number}" for number in range(len(sample))]
    _, monday = measured(sample, population | {"labels": "monday"}, told(sample, 4), digests=digests)
    grown = [*digests[2:4], *(f"new {number}" for number in range(len(sample) - 2))]
    result, _ = measured(sample, population | {"labels": "tuesday"}, told(sample, 1), {"monday": monday}, digests=grown)
    together = result["all_audits"]
    assert (together["looked_at"], together["repeated"]) == (58, 2)
    assert together["right"] == 55  # two of monday's four mistakes are seen again: one is right this time
    assert "2 of this network, 2 images that lie in several counted once. " in " ".join(describe_audit(result))


def test_the_same_file_twice_in_one_audit_counts_twice():
    """Both were drawn, and stand for as many of the images that were labelled as any other."""
    sample, digests = sample_of(6), ["one file"] * 4 + ["another", "a third"]
    result, monday = measured(sample, population_of(), told(sample, 2), digests=digests)
    assert [result["all_audits"][name] for name in ("looked_at", "right", "repeated")] == [6, 4, 0]
    assert result["all_audits"]["accuracy"] == result["answered"]["accuracy"]
    tuesday, _ = measured(
        sample, population_of() | {"labels": "tuesday"}, told(sample), {"1": monday}, digests=[*"abcd", "one file", "f"]
    )
    together = tuesday["all_audits"]
    assert [together[name] for name in ("looked_at", "right", "repeated")] == [8, 8, 4]


def test_images_without_a_picture_are_counted_each_by_itself():
    sample = sample_of(10)
    pictures = pd.DataFrame({"id": sample["id"][:4], "content_digest": list("abcd")})
    _, answers = measure_audit(sample, population_of(), pictures, NOTHING, told(sample), {})
    assert answers["content_digest"].isna().sum() == 6
    earlier = {"1": answers.assign(labels="of monday")}
    result, _ = measure_audit(sample, population_of(), pictures, NOTHING, told(sample), earlier)
    assert (result["all_audits"]["looked_at"], result["all_audits"]["repeated"]) == (16, 4)


def test_what_was_said_of_an_image_is_known_in_every_later_audit():
    sample = sample_of(6)
    labels = told(sample, 2)
    labels.loc[3, "label"] = None
    _, first = measured(sample, population_of(), labels[:5])
    again = pictures_of(sample_of(8), ["new", *(f"of a{number}" for number in range(7))])
    other = population_of() | {"model_version": "8", "labels": "other"}
    known = find_known_labels(again, other, {"1": first, "2": "ValueError: damaged"})
    # a0 and a1 were dogs, a3 was none of the classes, a5 was not looked at, a6 not there
    assert dict(zip(known["id"], known["label"], strict=True)) == {"a1": "dog", "a2": "dog", "a3": "cat", "a5": "cat"}
    corrected = first.assign(label="cat", looked_at=first["id"] == "a0")
    later = find_known_labels(again, other, {"1": first, "2": corrected})
    assert later.set_index("id")["label"].to_dict() == {"a1": "cat", "a2": "dog", "a3": "cat", "a5": "cat"}
    none = corrected.assign(label=None)
    overruled = find_known_labels(again, other, {"1": first, "2": none})
    assert overruled["id"].tolist() == ["a2", "a3", "a5"]  # what a0 was said to be at first does not come back
    foxes = find_known_labels(again, other, {"1": first, "2": corrected.assign(label="fox")})  # of a network before
    assert foxes["id"].tolist() == ["a2", "a3", "a5"]
    assert find_known_labels(again, other | {"class_names": ["fox"]}, {"1": first}).empty
    assert find_known_labels(again, other, {}).empty
    same = find_known_labels(again, population_of() | {"labels": "other"}, {"1": first})
    assert same["id"].tolist() == ["a1", "a2", "a3", "a4", "a5"]
    assert same["label"].isna().tolist() == [False, False, False, True, False]


def test_what_two_people_said_of_one_sample_adds_up():
    sample, earlier, results = sample_of(6), {}, []
    images = SimpleNamespace(table=pictures_of(sample))
    labels = told(sample, 1)
    labels.loc[2, "label"] = None
    for rows in ([0, 1, 2], [3, 4, 5], [0], []):  # one person, the other, a correction, and nobody
        now = labels.iloc[rows].replace({"label": {"dog": "cat"}} if rows == [0] else {})
        result, answers = measure(sample, population_of(), images, now, dict(earlier), "the page")
        earlier[f"audit {len(earlier)}"] = answers
        results.append([result["answered"][name] for name in ("looked_at", "known", "right", "none_of_the_classes")])
        assert (result["passed_over"], result["all_audits"]["audits"]) == (0, 1)
    assert results == [[3, 0, 1, 1], [6, 3, 4, 1], [6, 5, 5, 1], [6, 6, 5, 1]]


def test_known_labels_count_up_to_where_somebody_stopped_or_all_when_nothing_is_left():
    sample = sample_of(10)
    known, population = told(sample, rows=[1, 2, 8]), population_of()
    half, answers = measured(sample, population, told(sample, rows=[0, 3, 4]), known=known)
    assert answers["looked_at"].tolist() == [True] * 5 + [False] * 5
    assert answers["known"].tolist() == [False, True, True] + [False] * 7
    assert (half["answered"]["known"], half["passed_over"]) == (2, 0)
    assert answers["label"].isna().tolist() == [False] * 5 + [True] * 5
    assert "what 2 of the images are was said in earlier audits" in " ".join(describe_audit(half))
    whole, _ = measured(sample, population, told(sample, rows=[0, 3, 4, 5, 6, 7, 9]), known=known)
    assert (whole["answered"]["looked_at"], whole["answered"]["known"]) == (10, 3)
    alone, _ = measured(sample, population, NOTHING, known=told(sample, 1))
    assert (alone["answered"]["looked_at"], alone["answered"]["right"]) == (10, 9)
    corrected, _ = measured(sample, population, told(sample, rows=[0]), known=told(sample, 1))
    assert (corrected["answered"]["right"], corrected["answered"]["known"]) == (10, 9)
    with pytest.raises(UnusableSetError, match=r"7 of the 10 were looked at in no .* audit_labels=FILE"):
        measured(sample, population, NOTHING, known=known)


def test_several_networks_are_asked_about_the_same_images():
    ids = [f"x{number}" for number in range(300)]
    one, two = (
        draw_audit(Labels(labels_of(ids), listing="of the images", parts=[part]), NUMBERS, 0)[0] for part in "ab"
    )
    assert one["id"].tolist() == two["id"].tolist()
    other, _ = draw_audit(Labels(labels_of(ids), listing="of others"), NUMBERS, 0)
    assert set(other["id"]) != set(one["id"])


def test_an_answer_for_an_image_of_none_of_the_classes_is_wrong():
    sample = sample_of(4)
    labels = told(sample)
    labels.loc[1, "label"] = None
    result, answers = measured(sample, population_of(), labels)
    assert (result["answered"]["right"], result["answered"]["none_of_the_classes"]) == (3, 1)
    assert answers["right"].tolist() == [True, False, True, True]


def test_what_was_not_reached_is_no_harm_and_what_was_passed_over_is_told():
    sample = sample_of(20)
    first, _ = measured(sample, population_of(), told(sample, rows=slice(0, 8)))
    assert (first["answered"]["looked_at"], first["passed_over"]) == (8, 0)
    gaps, answers = measured(sample, population_of(), told(sample, rows=[0, 3, 7]))
    assert (gaps["answered"]["looked_at"], gaps["passed_over"]) == (3, 5)
    assert answers["right"].isna().sum() == 17
    assert "passed over: 5" in " ".join(describe_audit(gaps))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a9", "cat")], "a label for a9, which is not among the images"),
        ([("a0", "dgo")], r"the label dgo, which is no class .* Did you mean dog\?"),
        ([("a0", "cat"), ("a0", "dog")], "two labels for a0"),
        ([], "must be said first. 3 of the 3 were looked at in no earlier audit"),
    ],
)
def test_labels_of_other_images_or_classes_are_refused(rows, message):
    with pytest.raises(UnusableSetError, match=message):
        measured(sample_of(3), population_of(), pd.DataFrame(rows, columns=["id", "label"]))


@pytest.mark.slow
@pytest.mark.parametrize(("truth", "never"), [(0.95, "broken"), (0.9499, "kept")])
def test_a_wrong_verdict_is_as_rare_as_was_said_also_for_who_looks_after_every_twenty(truth, never):
    """At the border of the promise, where it is most likely: at most 2.5% on either side."""
    looks = np.arange(20, 401, 20)
    wrong = (np.random.default_rng(0).random((400, 400)) > truth).cumsum(axis=1)[:, looks - 1]
    population, ever = population_of(), np.zeros(len(wrong), bool)
    for look, counts in zip(looks, wrong.T, strict=True):
        sample, worst_first = sample_of(look), never == "broken"
        for count in sorted(set(counts), reverse=worst_first):  # up to the first of which it is not said
            if measured(sample, population, told(sample, count))[0]["verdict"] != never:
                break
            ever |= counts >= count if worst_first else counts <= count
    assert np.mean(ever) <= 0.045  # 0.025 and three standard errors


@pytest.fixture(scope="module")
def new_images(class_folder, tmp_path_factory):
    """Shapes under names that do not say what they are."""
    folder = tmp_path_factory.mktemp("new") / "shapes"
    folder.mkdir()
    for number, path in enumerate(sorted(class_folder.glob("*/*.png"))[3::7]):
        (folder / f"{number}.png").write_bytes(path.read_bytes())
    return list_unlabelled(folder)


@pytest.fixture(scope="module")
def drawn(predictor, new_images, tmp_path_factory):
    """A sample of labelled shapes, what it was drawn from, and its pictures."""
    folder = tmp_path_factory.mktemp("labels")
    images = ImagesToLabel(replace(predictor, version="7"), new_images)
    write_labels(images, 0, lambda name, content: (folder / name).write_bytes(content))
    labelled = open_labels(fsspec.filesystem("file"), str(folder))
    sample, population = draw_audit(labelled, {"answered": 12, "withheld": 4}, 0)
    pictures = tmp_path_factory.mktemp("pictures") / "set"
    write_image_set(collect_audited_images(new_images, sample), pictures)
    return sample, population, open_image_set(pictures)


def test_labels_carry_the_promise_under_which_they_were_given(drawn, predictor, new_images):
    _, population, _ = drawn
    assert population["promised_accuracy"] == predictor.facts.promised_accuracy is not None
    assert population["confidence"] == predictor.facts.confidence
    assert population["class_names"] == list(predictor.facts.class_names)
    assert sum(population["images"].values()) + population["training_images"] == len(new_images.table)


def test_pictures_are_of_the_sample_and_as_large_as_they_came(drawn, new_images):
    sample, _, images = drawn
    assert set(images.table["id"]) == set(sample["id"])
    assert images.image_shape == (sample[["width_px", "height_px"]].to_numpy().max(),) * 2 + (3,)
    assert images.rejected.empty


@pytest.mark.parametrize(("width", "height"), [(40, 30), (1000, 1000), (1008, 1003), (4624, 3468), (9248, 6936)])
def test_the_largest_image_of_a_sample_is_not_too_large(width, height, new_images):
    sample = labels_of(new_images.table["id"][:2]).assign(width_px=[40, width], height_px=[30, height])
    assert collect_audited_images(new_images, sample).image_format.most_megapixels * 1e6 >= width * height


def test_images_that_were_not_labelled_are_refused(drawn, new_images):
    sample, _, _ = drawn
    others = replace(new_images, table=new_images.table[~new_images.table["id"].isin(sample["id"][:2])])
    told = r"2 of the \d+ drawn are not in shapes, such as .*run_id=RUN\. Where images were .*predict,audit_sample"
    with pytest.raises(UnusableSetError, match=told):
        collect_audited_images(others, sample)


def test_the_page_asks_about_all_of_them_and_shows_nothing_of_what_the_network_says(drawn):
    sample, population, images = drawn
    page = write_audit_page(images, sample, population, NOTHING)
    assert page.count('<li class="card"') == len(sample)
    assert 'class="sure"' not in page
    assert 'class="likely"' not in page
    assert f"{population['images']['answered']:,} answered" in page
    gone = replace(images, table=images.table.iloc[1:])
    assert write_audit_page(gone, sample, population, NOTHING).count('<li class="card"') == len(sample) - 1
    known = sample[["id"]].assign(label="circle")[1:4]
    assert write_audit_page(images, sample, population, known).count('<li class="card"') == len(sample) - 3
    nothing_left = write_audit_page(images, sample, population, sample[["id"]].assign(label="circle"))
    assert '<li class="card"' not in nothing_left
    assert "nothing is left to say: kedro run --pipelines audit, with the --env of the run" in re.sub(
        r"<[^>]+>", "", nothing_left
    )
    unread = write_audit_page(replace(images, table=images.table.iloc[:0]), sample, population, known)
    assert f"The pictures of {len(sample) - 3} of them can no longer be read" in unread


def test_the_sheet_shows_wrong_answers_alone_the_surest_first(drawn):
    sample, population, images = drawn
    answered = sample[sample["stratum"] == "answered"]
    labels = pd.DataFrame({"id": sample["id"], "label": sample["predicted"]})
    _, answers = measured(sample, population, labels)
    assert "None of" in draw_audit_mistakes(answers, images).get_suptitle()
    wrong = answered["id"].iloc[:2]
    labels.loc[labels["id"].isin(wrong), "label"] = None
    _, answers = measured(sample, population, labels)
    figure = draw_audit_mistakes(answers, images)
    titles = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert len(titles) == 2
    assert all(title.endswith("none of these") for title in titles)
    assert figure.get_suptitle() == f"Answered, and wrong: 2 of {len(answered)} answers"


def test_the_end_of_a_run_says_what_to_do_and_what_was_found():
    sample, population = sample_of(30, 10), population_of(9000, 800) | {"training_images": 200}
    lines = " ".join(describe_audit_sample(sample, population, NOTHING, "kedro run --env x"))
    assert "30 of 9,000 answered and 10 of 800 withheld images, labelled by 7" in lines
    assert "not counting 200 images that it was trained on" in lines
    assert "kedro run --env x --pipelines audit --params audit_labels=FILE" in lines
    assert "earlier audits" not in lines
    some = " ".join(describe_audit_sample(sample, population, told(sample)[:9], "kedro run"))
    assert "of 9 images it was said in earlier audits, and is not asked again" in some
    assert describe_audit_sample(sample, population, told(sample), "kedro run --env x")[-1] == (
        "Next            Nothing is left to say: kedro run --env x --pipelines audit"
    )
    silent = " ".join(describe_audit_sample(sample, population_of(0, 50), NOTHING, "kedro run"))
    assert "no image was answered" in silent
    assert "no image was answered" not in some
    result, _ = measured(sample, population, told(sample, 3))
    lines = "\n".join(describe_audit(result))
    assert result["statement"] in lines
    assert "Answered        27 of 30 are right, 90.0%" in lines
    assert "by its own confidence 29.7; 9,000 images in all" in lines
    assert "Withheld        10 of 10 would have been right" in lines
    assert "would be right if every image were answered" in lines
    assert "none of the classes" not in lines


def test_images_that_are_not_as_they_were_labelled_are_told_beside_the_sample_and_the_verdict(new_images):
    listing = ImagesToLabel(SimpleNamespace(), new_images).listing_digest
    labelled = Labels(labels_of(new_images.table["id"]), listing=listing)
    rules = {"answered": 5, "withheld": 0}
    notes = []
    for images in (new_images, replace(new_images, fingerprint="of files that were replaced")):
        sample, population = draw(labelled, images, rules, 0)
        result, _ = measured(sample, population, told(sample))
        ends = [describe_audit_sample(sample, population, NOTHING, "kedro run"), describe_audit(result)]
        notes.append(["for what was there before: label them anew" in " ".join(lines) for lines in ends])
        assert result["images_changed"] == population["images_changed"]
    assert notes == [[False, False], [True, True]]
    assert not Labels().have_changed(new_images)  # labels of an earlier version of this program


def test_strata_are_what_the_labels_say(monkeypatch, drawn):
    sample, _, _ = drawn
    assert set(sample["stratum"]) <= set(STRATA)
    assert ((sample["withheld"] == "") == (sample["stratum"] == "answered")).all()
    assert labelling.WITHHELD.keys() >= set(sample["withheld"]) - {""}


def test_a_part_of_which_no_image_could_be_used_adds_nothing():
    parts = labels_of(["a", "b"]), labels_of(["a"])[:0].astype({"notes": "str"})
    sample, population = draw_audit(Labels(*parts), {"answered": 5, "withheld": 0}, 0)
    assert sorted(sample["id"]) == ["a", "b"]
    assert population["images"] == {"answered": 2, "withheld": 0}
    result, _ = measured(sample, population | {"promised_accuracy": 0.9}, told(sample))
    assert result["accuracy"] == 1
    with pytest.raises(UnusableSetError, match="none but 0"):
        draw_audit(Labels(parts[1]), NUMBERS, 0)
