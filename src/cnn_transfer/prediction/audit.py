"""Whether the answers for new images are as right as was promised: a person looks at a random sample of them.

Drift says that images look different, not that answers are wrong, and answers may be wrong without any drift. Only
labels tell. They are asked for without showing what the network says, which would lead whoever gives them. Images that
were answered and images that were not are drawn apart from each other, each at random, and no choice of the sample is
made by confidence or strangeness: what holds for it holds for all images that were labelled. The draw depends on the
images and the seed alone, so that several networks are asked about the same ones, and what somebody said of an image
stands for every network after it.

People look when an audit is half done, ask for more images while a verdict is open, and come back every week to the
sum of all audits. Intervals therefore hold at every look (`evaluation.intervals.anytime_interval`), also over audits
whose true shares differ, for the mean of these. The interval over both strata adds up theirs, each at half the risk
(Bonferroni), and is rather too wide than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from cnn_transfer.evaluation import Figure
from cnn_transfer.evaluation.figures import draw_sheet, draw_words, short_name
from cnn_transfer.evaluation.intervals import Interval, anytime_bound, anytime_interval
from cnn_transfer.evaluation.probabilities import counted, percent_text, whole_percent
from cnn_transfer.evaluation.report.label_page import MOST_PX, Question, write_label_page
from cnn_transfer.evaluation.selective import fewest_images
from cnn_transfer.images import DecodedImages, ImageFormat, ImageListing, ImageSet, UnusableSetError
from cnn_transfer.images.corrections import check_labels
from cnn_transfer.images.listing import Encoded, hash_ranks
from cnn_transfer.parameters import did_you_mean
from cnn_transfer.prediction.labelling import LabelledImages
from cnn_transfer.prediction.predictor import TRAINING_IMAGE

ANSWERED, WITHHELD = "answered", "withheld"
STRATA = (ANSWERED, WITHHELD)
KEPT, BROKEN, OPEN, NO_PROMISE = "kept", "broken", "open", "no_promise"
LEAST_PX = 16
SHOWN = 48  # wrong answers on the sheet
NAME = 14  # characters of a class above a picture
COLUMNS = ["id", "predicted", "confidence", "withheld", "width_px", "height_px"]
CHANGED = (
    "Note            the images are no longer those that were labelled, or not as they were. If one was replaced by "
    "another of its name, its answer is for what was there before: label them anew (--pipelines predict,audit_sample)"
)
TOLD = ["stratum", "content_digest", "model_version", "labels", "looked_at", "label", "right"]  # for later audits


def draw_audit(labelled: LabelledImages, numbers: Mapping[str, int], seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Draw images to be looked at from all that were labelled, part by part.

    Images that the network was trained on are left out: its answers for them say nothing of others. The draw is nested:
    fewer images are among more; and the order in which images are drawn is the same for every network.

    Args:
        labelled: What the network said.
        numbers: How many `answered` and how many `withheld` images.
        seed: Of the draw.

    Returns:
        One row an image, in random order and with both kinds throughout: `id`, `stratum`, `predicted`, `confidence`,
        `withheld` (code, see `Labelled.predictions`), `width_px`, `height_px`; and what they were drawn from:
        `model_version`, `class_names`, `promised_accuracy` and `confidence` (of that promise), `images` by stratum,
        `labels` (stands for these images as labelled by this network), `training_images` (left out).

    Raises:
        UnusableSetError: When nothing is left to draw from.
    """
    first = labelled.contents["parts"][0]  # its name stands for all images and the predictor
    listing = labelled.contents.get("listing", first)
    counts = dict.fromkeys(STRATA, 0)
    drawn, training_images = pd.DataFrame(), 0
    for part in labelled.parts():
        seen = part["notes"].str.split().map(lambda codes: TRAINING_IMAGE in codes).to_numpy(bool)
        training_images += int(seen.sum())
        new = part[~seen]
        new = new[COLUMNS].assign(
            stratum=np.where(new["withheld"] == "", ANSWERED, WITHHELD),
            rank=hash_ranks(f"{listing} " + new["id"], seed),
        )
        both = pd.concat([drawn, new]).sort_values("rank")
        drawn = pd.concat([both[both["stratum"] == stratum].head(numbers[stratum]) for stratum in STRATA])
        for stratum in STRATA:
            counts[stratum] += int((new["stratum"] == stratum).sum())
    if drawn.empty:
        raise UnusableSetError(
            f"There must be labelled images to draw from. Received: none but {training_images:,} that "
            f"{labelled.model_version} was trained on. Label new ones: kedro run --pipelines predict"
        )
    strata = drawn.groupby("stratum")["rank"]
    mixed = (strata.rank() - 0.5) / strata.transform("size")  # whoever stops half-way has seen half of both
    sample = drawn.iloc[np.argsort(mixed, kind="stable")][["id", "stratum", *COLUMNS[1:]]]
    return sample.reset_index(drop=True), {
        "model_version": labelled.model_version,
        "labels": first,
        "class_names": labelled.class_names,
        "promised_accuracy": labelled.contents.get("promised_accuracy"),
        "confidence": labelled.contents.get("confidence", 0.95),
        "images": counts,
        "training_images": training_images,
    }


def collect_audited_images(listing: ImageListing, sample: pd.DataFrame) -> DecodedImages:
    """The pictures of a sample, as large as a page shows them and not as small as the network sees them.

    Args:
        listing: The images that were labelled.
        sample: See `draw_audit`.

    Raises:
        UnusableSetError: When an image of the sample is not among them.
    """
    rows = pd.Index(listing.table["id"]).get_indexer(sample["id"])
    if (missing := rows < 0).any():
        name = sample["id"][missing].iloc[0]
        raise UnusableSetError(
            f"images must be those that were labelled. {missing.sum():,} of the {len(rows):,} drawn are not in "
            f"{listing.name or 'them'}, such as {name}. {did_you_mean(name, list(listing.table['id']))}Give the same "
            "path as to predict, or name the run that labelled these: --params images=PATH,run_id=RUN. Where images "
            "were deleted, label the others first: kedro run --pipelines predict,audit_sample --params images=PATH"
        )
    sides = sample[["width_px", "height_px"]].to_numpy(float)
    image_format = ImageFormat(
        image_size_px=int(np.clip(sides.max(), LEAST_PX, MOST_PX)),
        channels=3,
        resize="pad",
        smallest_side_px=1,
        most_megapixels=math.ceil(sides.prod(axis=1).max() / 1e6),  # all that was labelled, however it is rounded
    )
    rows = np.sort(rows)
    table = listing.table.iloc[rows].reset_index(drop=True)
    some = ImageListing(table, partial(_read_some, listing, rows), listing.name)
    return DecodedImages(some, image_format, np.arange(len(table)))


def _read_some(listing: ImageListing, rows: np.ndarray, wanted: np.ndarray) -> Iterator[Encoded]:
    return listing.read(rows[wanted])


def find_known_labels(
    pictures: pd.DataFrame, population: Mapping[str, Any], earlier: Mapping[str, Any]
) -> pd.DataFrame:
    """What somebody said of images of a sample in earlier audits, of whatever network, by their content.

    That an image is none of the classes is taken over from audits of the same network alone, since the classes of
    another may have been others; but it overrules what was said before.

    Args:
        pictures: Table of the pictures of the sample, see `ImageSet`.
        population: See `draw_audit`.
        earlier: See `measure_audit`.

    Returns:
        `id` and `label`, the last one that was given, of the images where that is a class, or missing: none of them.
    """
    tables = [table[table["looked_at"]] for table in _tables_of(earlier.values())]
    said = pd.concat([pd.DataFrame(columns=["content_digest", "label", "model_version"], dtype="str"), *tables])
    said = said[said["content_digest"].notna()].drop_duplicates("content_digest", keep="last")
    none = said["label"].isna() & said["model_version"].eq(population["model_version"])
    labels = said[said["label"].isin(population["class_names"]) | none].set_index("content_digest")["label"]
    known = pictures[pictures["content_digest"].isin(labels.index)].reset_index(drop=True)
    return known[["id"]].assign(label=known["content_digest"].map(labels).astype("str"))


def write_audit_page(images: ImageSet, sample: pd.DataFrame, population: Mapping[str, Any], known: pd.DataFrame) -> str:
    """A page on which somebody says what each image is; see `evaluation.report.label_page`.

    Args:
        images: Pictures of the sample; what can no longer be read is not asked about.
        sample: See `draw_audit`.
        population: Likewise.
        known: See `find_known_labels`; these are not asked about, either.
    """
    there = sample["id"][sample["id"].isin(images.table["id"]) & ~sample["id"].isin(known["id"])]
    unread = len(sample) - len(there) - int(sample["id"].isin(known["id"]).sum())
    if there.empty and unread:
        todo = (
            f"The pictures of {unread:,} of them can no longer be read; of others nothing is left to say. Draw anew: "
            "`kedro run --pipelines predict,audit_sample`, with the --env and --params of the run before."
        )
    elif there.empty:
        todo = (
            "What all of them are was said in earlier audits; nothing is left to say: `kedro run --pipelines audit`, "
            "with the --env of the run that drew them."
        )
    else:
        todo = (
            "What it says is not shown, so that nobody is led by it. Where an image is none of the classes, press none "
            "of these; leave none out because it is hard. Save the table, and: `kedro run --pipelines audit --params "
            "audit_labels=FILE`, with the --env of the run that drew them."
        )
    drawn = " and ".join(f"{population['images'][stratum]:,} {stratum}" for stratum in STRATA)
    return write_label_page(
        [Question(name, "", []) for name in there],
        images,
        population["class_names"],
        title=f"What are these images of {images.name}?" if images.name else "What are these images?",
        explanation=f"They were drawn at random from {drawn} images, to measure how often the network is right. {todo}",
        file_name="audit_labels.csv",
        named=False,
    )


def measure_audit(
    sample: pd.DataFrame,
    population: Mapping[str, Any],
    pictures: pd.DataFrame,
    known: pd.DataFrame,
    told: pd.DataFrame,
    earlier: Mapping[str, Any],
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Compare what the network said with what a person said.

    Args:
        sample: See `draw_audit`.
        population: Likewise; and `images_changed`, whether images are not as they were when they were labelled.
        pictures: Table of the pictures of the sample, see `ImageSet`.
        known: See `find_known_labels`. Where not all of the sample has been looked at, these count up to the last
            image that was: who stopped half-way has seen a random half, and they are none of the rest.
        told: `id` and `label` of the images that were looked at; a missing label: none of the classes.
        earlier: Answers of earlier audits (the second that is returned) by their version, the oldest first; those of
            other networks count for nothing, nor does what is no table, or one of an earlier version of this program.

    Returns:
        The result and the sample with `looked_at`, `label` and `right` (of `predicted`, answered or not; missing where
        nobody looked), `known` (in earlier audits), `content_digest` (of the encoded image), `model_version` and
        `labels`. The result has `verdict` (`kept`: at least the promised accuracy is shown; `broken`: less is; `open`:
        neither; `no_promise`) and `statement`; `promised_accuracy`, `confidence` (of the intervals, at all looks
        together), `model_version`, `labels`, `images_changed`, `training_images` (left out), `passed_over` (not looked
        at though others after them were); for each stratum `images`, `drawn`, `looked_at` (`known`: of these in earlier
        audits), `right`, `none_of_the_classes`, `expected_right` (by the network's own confidence), `accuracy` with
        `accuracy_low` and `accuracy_high` (None where nobody looked); and the same three over both, as if every image
        were answered; `all_audits`: how many `audits` there are of this network, and of all their answered images
        `looked_at` (`repeated`: files that a later audit has, too, which are counted there), `right`, `accuracy` with
        its interval, `verdict` and `statement`.

    Raises:
        UnusableSetError: When an id is not in the sample or has two labels, a label is no class, or no image was looked
            at.
    """
    told = told[["id", "label"]].drop_duplicates()
    check_labels(told, sample["id"], population["class_names"], "The table of labels")
    labels = pd.concat([known, told]).drop_duplicates("id", keep="last").set_index("id")["label"]
    looked_at = sample["id"].isin(labels.index)
    if not looked_at.all():
        here = np.flatnonzero(sample["id"].isin(told["id"]))
        looked_at &= np.arange(len(sample)) <= here.max(initial=-1)
    if not looked_at.any():
        raise UnusableSetError(
            f"What the images are must be said first. {len(sample) - len(known):,} of the {len(sample):,} were looked "
            "at in no earlier audit, and the labels received have none of them. Say it on images_to_audit.html, and "
            "name the table that it saves: kedro run --pipelines audit --params audit_labels=FILE"
        )
    said = sample["id"].map(labels).where(looked_at).astype("str")
    answers = sample.assign(looked_at=looked_at, known=looked_at & ~sample["id"].isin(told["id"]), label=said)
    right = answers["label"].eq(answers["predicted"]).astype("boolean")  # one of none of the classes is not
    answers["right"] = right.where(answers["looked_at"])
    answers["content_digest"] = sample["id"].map(pictures.set_index("id")["content_digest"]).astype("str")
    answers = answers.assign(model_version=population["model_version"], labels=population["labels"])
    confidence = float(population["confidence"])
    strata = {
        stratum: _of_stratum(answers[answers["stratum"] == stratum], population["images"][stratum], confidence)
        for stratum in STRATA
    }
    last = int(np.flatnonzero(answers["looked_at"])[-1])
    overall = _overall(strata, confidence)
    result = {
        "promised_accuracy": population["promised_accuracy"],
        "confidence": confidence,
        "model_version": population["model_version"],
        "labels": population["labels"],
        "images_changed": population.get("images_changed", False),  # not known to an earlier version of this program
        "training_images": population["training_images"],
        "passed_over": int((~answers["looked_at"][:last]).sum()),
        **strata,
        "accuracy": overall and overall.estimate,
        "accuracy_low": overall and overall.low,
        "accuracy_high": overall and overall.high,
    }
    verdict = _verdict(population["promised_accuracy"], confidence, strata[ANSWERED])
    together = _together(result, [*earlier.values(), answers])
    return {**verdict, **result, "all_audits": together}, answers


def _together(result: Mapping[str, Any], audits: Iterable[Any]) -> dict[str, Any]:
    """Of all answered images that were looked at in audits of one network: the last audit of each set of labels."""
    of_network = pd.concat([table.assign(audit=number) for number, table in enumerate(_tables_of(audits))])
    of_network = of_network[of_network["model_version"] == result["model_version"]]
    last = of_network[of_network["audit"] == of_network.groupby("labels")["audit"].transform("max")]
    answers = last[(last["stratum"] == ANSWERED) & last["looked_at"]]
    repeated = answers["audit"] < answers.groupby("content_digest")["audit"].transform("max")  # False without a digest
    looked_at, right = int((~repeated).sum()), int(answers["right"][~repeated].sum())
    figures = {"looked_at": looked_at, "right": right, **_shares(right, looked_at, result["confidence"])}
    verdict = _verdict(result["promised_accuracy"], result["confidence"], figures)
    return {"audits": last["audit"].nunique(), "repeated": int(repeated.sum()), **figures, **verdict}


def _tables_of(audits: Iterable[Any]) -> list[pd.DataFrame]:
    """Those of them that are tables, and not of an earlier version of this program."""
    return [table[TOLD] for table in audits if isinstance(table, pd.DataFrame) and {*TOLD} <= {*table.columns}]


def _of_stratum(part: pd.DataFrame, images: int, confidence: float) -> dict[str, Any]:
    looked = part[part["looked_at"]]
    right = int(looked["right"].sum())
    return {
        "images": images,
        "drawn": len(part),
        "looked_at": len(looked),
        "known": int(looked["known"].sum()),
        "right": right,
        "none_of_the_classes": int(looked["label"].isna().sum()),
        "expected_right": float(looked["confidence"].sum()),
        **_shares(right, len(looked), confidence),
    }


def _shares(right: int, looked_at: int, confidence: float) -> dict[str, float | None]:
    shares = anytime_interval(right, looked_at, confidence) if looked_at else (None, None, None)
    return dict(zip(("accuracy", "accuracy_low", "accuracy_high"), shares, strict=True))


def _overall(strata: Mapping[str, Mapping[str, Any]], confidence: float) -> Interval | None:
    """Over both strata; None where nobody looked at one that has images."""
    there = [stratum for stratum in strata.values() if stratum["images"]]
    if any(not stratum["looked_at"] for stratum in there):
        return None
    total, level = sum(stratum["images"] for stratum in there), 1 - (1 - confidence) / len(there)
    parts = [
        np.array(anytime_interval(stratum["right"], stratum["looked_at"], level)) * stratum["images"] / total
        for stratum in there
    ]
    return Interval(*(float(value) for value in np.sum(parts, axis=0)))


def _verdict(promised: float | None, confidence: float, answered: Mapping[str, Any]) -> dict[str, str]:
    """What answered images that were looked at show of a promise: `verdict`, `statement`."""
    if promised is None:
        return _said(NO_PROMISE, "Nothing was promised of the answers that could be kept or broken.")
    if not answered["looked_at"]:
        there = "no image was answered" if answered.get("images") == 0 else "no answered image was looked at"
        return _said(OPEN, f"Whether the promise is kept cannot be seen: {there}.")
    found = f"{answered['right']:,} of {answered['looked_at']:,} answers are right"
    interval = f"{_percent(answered['accuracy_low'])} to {_percent(answered['accuracy_high'])}"
    if answered["accuracy_low"] >= promised:
        return _said(KEPT, f"The promise is kept: {found}, which shows at least {_percent(promised)} ({interval}).")
    if answered["accuracy_high"] < promised:
        return _said(
            BROKEN,
            f"The promise is broken: {found}, which shows less than the promised {_percent(promised)} ({interval}). Do "
            "not rely on the answers until a network has learnt from such images.",
        )
    mistakes = answered["looked_at"] - answered["right"]
    needed = fewest_images(promised, (1 + confidence) / 2, mistakes, anytime_bound)
    more = f"; {needed - answered['looked_at']:,} more without a mistake would show it" if needed else ""
    if answered["accuracy"] >= promised:
        return _said(OPEN, f"Nothing speaks against the promise of {_percent(promised)}: {found} ({interval}){more}.")
    return _said(OPEN, f"The promise of {_percent(promised)} is neither shown nor refuted: {found} ({interval}){more}.")


def _said(verdict: str, statement: str) -> dict[str, str]:
    return {"verdict": verdict, "statement": statement}


def draw_audit_mistakes(answers: pd.DataFrame, images: ImageSet) -> Figure:
    """Pictures of answers that are wrong, the surest first.

    Args:
        answers: See `measure_audit`.
        images: Pictures of the sample.
    """
    answered = answers[(answers["stratum"] == ANSWERED) & answers["looked_at"]]
    wrong = answered[~answered["right"].astype(bool)].sort_values("confidence", ascending=False, kind="stable")
    if wrong.empty:
        return draw_words(f"None of {len(answered):,} answers is wrong" if len(answered) else "No answer was looked at")
    shown = wrong.head(SHOWN)
    titles = [
        f"{short_name(row['predicted'], NAME)} {whole_percent(row['confidence'])}\n"
        + ("none of these" if pd.isna(row["label"]) else f"is {short_name(row['label'], NAME)}")
        for row in shown.to_dict("records")
    ]
    return draw_sheet(images, shown["id"], titles, f"Answered, and wrong: {len(wrong):,} of {len(answered):,} answers")


def describe_audit_sample(
    sample: pd.DataFrame, population: Mapping[str, Any], known: pd.DataFrame, command: str
) -> list[str]:
    """Lines for the terminal.

    Args:
        sample: See `draw_audit`.
        population: Likewise.
        known: See `find_known_labels`.
        command: That runs the pipeline, with its environment.
    """
    counts = [
        f"{(sample['stratum'] == stratum).sum():,} of {population['images'][stratum]:,} {stratum}" for stratum in STRATA
    ]
    lines = [f"To look at      {' and '.join(counts)} images, labelled by {population['model_version']}"]
    if population["training_images"]:
        learnt = counted(population["training_images"], "image")
        lines.append(f"                not counting {learnt} that it was trained on")
    if len(known):
        lines.append(
            f"                of {counted(len(known), 'image')} it was said in earlier audits, and is not asked again"
        )
    if population["images_changed"]:
        lines.append(CHANGED)
    if not population["images"][ANSWERED]:
        lines.append("Note            no image was answered: whether answers are as right as promised cannot be seen")
    if len(known) == len(sample):
        return [*lines, f"Next            Nothing is left to say: {command} --pipelines audit"]
    return [
        *lines,
        "Next            Say what they are on images_to_audit.html, which does not show what the network says.",
        f"                Then: {command} --pipelines audit --params audit_labels=FILE",
    ]


def describe_audit(result: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal.

    Args:
        result: See `measure_audit`.
    """
    lines = [f"Verdict         {result['statement']}"]
    if result["images_changed"]:
        lines.append(CHANGED)
    if (together := result["all_audits"])["audits"] > 1:
        once = f", {together['repeated']:,} images that lie in several counted once" if together["repeated"] else ""
        lines.append(f"All audits      {together['audits']:,} of this network{once}. {together['statement']}")
    for name, stratum in ((name.capitalize(), result[name]) for name in STRATA):
        if stratum["looked_at"]:
            verb = "are" if name == "Answered" else "would have been"
            lines.append(
                f"{name:16}{stratum['right']:,} of {stratum['looked_at']:,} {verb} right, {_interval(stratum)}; by its "
                f"own confidence {stratum['expected_right']:.1f}; {stratum['images']:,} images in all"
            )
    if result["accuracy"] is not None:
        lines.append(f"All images      {_interval(result)} would be right if every image were answered")
    if known := sum(result[stratum]["known"] for stratum in STRATA):
        lines.append(f"Note            what {known:,} of the images are was said in earlier audits")
    if strange := sum(result[stratum]["none_of_the_classes"] for stratum in STRATA):
        lines.append(f"Note            none of the classes: {strange:,} of the images that were looked at")
    if result["passed_over"]:
        lines.append(
            f"Note            passed over: {result['passed_over']:,}. If hard images were, fewer answers are right"
        )
    return lines


def _interval(shares: Mapping[str, Any]) -> str:
    low, high = _percent(shares["accuracy_low"]), _percent(shares["accuracy_high"])
    return f"{_percent(shares['accuracy'])} ({low} to {high})"


def _percent(share: float) -> str:
    text = f"{share:.1%}"
    return percent_text(share) if text == "100.0%" and share < 1 else text
