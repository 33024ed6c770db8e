"""Accuracy by labels a class, and how many labels the transfer is worth.

The worth of a transfer with n labels a class is the number of labels with which training from scratch reaches the same
accuracy: the curve of training from scratch, made monotone by isotonic regression, read backwards by linear
interpolation in the logarithm of the labels. Beyond its ends nothing is read: the worth is then `more than` the most
labels that were tried, or `at most` the fewest. Where the curve is flat at that accuracy, the worth is all of the
plateau.

Intervals are percentiles of samples in which both sources of chance move. Test images are weighted anew, by group, the
same for all points (Bayesian bootstrap, Rubin 1981). Weights alone never move an accuracy of 100%, nor the order of two
networks where one is right wherever the other is: so two images join them, each of which only one side has right, as in
`paired_difference` (Bonett and Price 2012). Seeds are too few to be drawn again: what they do is estimated from all
points of a side together, on the scale of logits, where it is about as large for few labels as for many, and moves the
whole curve of the side by a draw of Student's t. With 3 seeds, 95% intervals of the worth hold the truth in
97% of simulated curves where each point has its own effect of a seed, in 93% where all points of a side share it
(`benchmarks/labels_saved.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy

from cnn_transfer.evaluation.curve_points import SCRATCH, TRANSFER, CurvePoint
from cnn_transfer.evaluation.figures import BASELINE_COLOUR, TRANSFER_COLOUR, Figure, new_figure
from cnn_transfer.evaluation.intervals import Units, proportion_interval
from cnn_transfer.evaluation.probabilities import counted
from cnn_transfer.evaluation.verdict import compare_over_seeds

SAMPLES_AT_ONCE = 200  # of the bootstrap; a sample has a weight for each test image
SIDES = {TRANSFER: "transfer", SCRATCH: "from scratch"}

Reading = Literal["measured", "plateau", "more_than", "at_most", "not_known"]


def curve_table(points: Sequence[CurvePoint], confidence: float) -> pd.DataFrame:
    """One row a point.

    Args:
        points: The points.
        confidence: Level of the intervals, 0-1.

    Returns:
        Columns `side`, `labels`, `seed`, `test_images`, `accuracy`, and `accuracy_low`, `accuracy_high`: Wilson's
        interval, over test images only, which respects groups.
    """
    rows = []
    for point in points:
        hits = _hits(point.predictions)
        interval = proportion_interval(hits, confidence, point.predictions.get("group"))
        rows.append([point.side, point.labels, point.seed, len(hits), *interval])
    columns = ["side", "labels", "seed", "test_images", "accuracy", "accuracy_low", "accuracy_high"]
    return pd.DataFrame(rows, columns=columns)


def predictions_by_seed(points: Sequence[CurvePoint], side: str, labels: int) -> list[pd.DataFrame]:
    """The predictions of one side at one number of labels, in the order of the seeds: a paired comparison's input."""
    chosen = [point for point in points if (point.side, point.labels) == (side, labels)]
    return [point.predictions for point in sorted(chosen, key=lambda point: point.seed)]


def common_labels(points: Sequence[CurvePoint]) -> list[int]:
    """Numbers of labels a class at which both sides were measured, rising."""
    sides = ({point.labels for point in points if point.side == side} for side in (TRANSFER, SCRATCH))
    return sorted(set.intersection(*sides))


def monotone(accuracies: np.ndarray) -> np.ndarray:
    """The curves that never fall and are nearest to those given, in squares: isotonic regression.

    The value at i is the largest, over all j <= i, of the smallest mean of j to k, over all k >= i (Robertson, Wright
    and Dykstra 1988, theorem 1.4.4), which takes all curves at once.

    Args:
        accuracies: (curves, n).
    """
    n = accuracies.shape[1]
    sums = np.cumsum(np.pad(accuracies, [(0, 0), (1, 0)]), axis=1)
    fitted = np.full(accuracies.shape, -np.inf)
    for j in range(n):
        means = (sums[:, j + 1 :] - sums[:, j, None]) / np.arange(1, n - j + 1)
        smallest = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        fitted[:, j:] = np.maximum(fitted[:, j:], smallest)
    return fitted


def verdict_over_seeds(points: Sequence[CurvePoint], confidence: float) -> dict[str, Any] | None:
    """Transfer against training from scratch at the most labels that both have, with the chance of training in it.

    Args:
        points: All points.
        confidence: Level of the interval, 0-1.

    Returns:
        `labels` and the figures of `compare_over_seeds`; None where no number of labels has two seeds of both sides.
    """
    for labels in reversed(common_labels(points)):
        sides = [predictions_by_seed(points, side, labels) for side in (TRANSFER, SCRATCH)]
        seeds = min(map(len, sides))
        if seeds >= 2:
            return {"labels": labels} | compare_over_seeds(sides[0][:seeds], sides[1][:seeds], confidence)
    return None


def labels_to_reach(labels: Sequence[int], accuracies: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels at which curves reach accuracies, and up to which they stay there.

    Args:
        labels: n rising numbers of labels, at least two.
        accuracies: (curves, n) accuracy of each curve at each; they are made monotone.
        levels: (curves,) what each is to reach.

    Returns:
        First and last such labels, (curves,) each; they differ where a curve is flat at its level. Infinite where it
        ends below its level, 0 where it begins above it.
    """
    curves, levels = np.round(monotone(accuracies), 9), np.round(levels, 9)[:, None]  # sums lose the last digits
    first, last = (curves < levels).sum(axis=1), (curves <= levels).sum(axis=1)
    logs, rows = np.log(labels), np.arange(len(curves))

    def read(above: np.ndarray) -> np.ndarray:
        upper = np.clip(above, 1, len(logs) - 1)
        lower = upper - 1
        rise = curves[rows, upper] - curves[rows, lower]
        at_end = (above == len(logs)).astype(float)
        share = np.divide(levels[:, 0] - curves[rows, lower], rise, out=at_end, where=rise > 0)
        reached = np.exp(logs[lower] + np.clip(share, 0, 1) * (logs[upper] - logs[lower]))
        reached[first == len(logs)] = np.inf
        reached[last == 0] = 0.0
        return np.asarray(reached)

    return read(first), read(last)


def labels_saved(
    points: Sequence[CurvePoint], headline_labels: int, confidence: float, samples: int, seed: int
) -> dict[str, Any]:
    """How many labels from scratch the transfer is worth, at each number of labels that it was given.

    Args:
        points: Points of both sides, each number of labels with all seeds of its side, all about the same test images.
        headline_labels: Labels a class of the transfer that the sentence is about; the next lower number where it was
            not measured.
        confidence: Level of the intervals, 0-1.
        samples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        `sentence` (the headline) and `statements` (what limits it); `headline` (its row of `rows`); `rows`: one a
        number of labels of the transfer: `labels`, `accuracy`, `worth` (labels from scratch) with `worth_is`
        (`measured`; else None with `plateau`, `more_than` most_labels, `at_most` least_labels, or `not_known` where
        neither end of the interval was measured), `saved` (worth - labels), each with `_low`, `_high` (and
        `worth_low_is`, `worth_high_is`), `text`; `difference` of accuracies at the same number of labels, with its
        interval, or None; `curve`: one row a side and number of labels, the mean accuracy of the seeds with its
        interval; `least_labels`, `most_labels` of the curve from scratch, `seeds`, `test_images`, `confidence`.

    Raises:
        ValueError: When a side is missing, training from scratch has fewer than two numbers of labels, or the points
            do not belong together.
    """
    sides = {side: _Side(points, side) for side in SIDES}
    transfer, scratch = sides[TRANSFER], sides[SCRATCH]
    _check(sides)
    drawn = _samples(points[0].predictions, [transfer, scratch], samples, seed)
    means = {side: part.hits.mean(axis=(1, 2), dtype=float) for side, part in sides.items()}
    ends = (0.5 - confidence / 2, 0.5 + confidence / 2)
    rows = []
    for place, labels in enumerate(transfer.labels):
        level = float(means[TRANSFER][place])
        worth = [float(end[0]) for end in labels_to_reach(scratch.labels, means[SCRATCH][None], np.array([level]))]
        worths = labels_to_reach(scratch.labels, drawn[SCRATCH], drawn[TRANSFER][:, place])
        low, high = (float(np.quantile(*each, method="inverted_cdf")) for each in zip(worths, ends, strict=True))
        row = _worth(labels, worth, (min(low, worth[0]), max(high, worth[1])), scratch.labels, confidence)
        accuracy = _interval("accuracy", level, drawn[TRANSFER][:, place], ends)
        difference: dict[str, float | None] = dict.fromkeys(("difference", "difference_low", "difference_high"))
        if labels in scratch.labels:
            other = scratch.labels.index(labels)
            gaps = drawn[TRANSFER][:, place] - drawn[SCRATCH][:, other]
            difference |= _interval("difference", level - float(means[SCRATCH][other]), gaps, ends)
        rows.append({"labels": labels} | accuracy | row | difference)
    headline = max(
        (row for row in rows if row["labels"] <= headline_labels), key=lambda row: row["labels"], default=rows[0]
    )
    return {
        "sentence": _sentence(headline),
        "statements": _statements(headline, headline_labels, scratch.labels, len(transfer.seeds), len(scratch.seeds)),
        "headline": headline,
        "rows": rows,
        "curve": [
            {"side": side, "labels": labels}
            | _interval("accuracy", float(means[side][place]), drawn[side][:, place], ends)
            for side, part in sides.items()
            for place, labels in enumerate(part.labels)
        ],
        "least_labels": scratch.labels[0],
        "most_labels": scratch.labels[-1],
        "seeds": len(scratch.seeds),
        "test_images": transfer.hits.shape[2],
        "confidence": confidence,
    }


def describe_labels_saved(saved: Mapping[str, Any]) -> list[str]:
    """The curve and what the transfer is worth, in a few lines for the terminal."""
    accuracies = {(row["side"], row["labels"]): f"{row['accuracy']:.1%}" for row in saved["curve"]}
    numbers = sorted({labels for _, labels in accuracies})
    width = max(6, *(len(str(labels)) for labels in numbers))
    lines = ["Labels a class  " + "  ".join(f"{labels:>{width}}" for labels in numbers)]
    for side, name in SIDES.items():
        figures = [f"{accuracies.get((side, labels), ''):>{width}}" for labels in numbers]
        lines.append(f"{name.capitalize():<16}" + "  ".join(figures))
    worth = "; ".join(
        f"what {row['labels']} {'is' if row['labels'] == 1 else 'are'} worth is {row['text']}"
        if row["worth_is"] == "not_known"
        else f"{row['labels']} {'is' if row['labels'] == 1 else 'are'} worth {row['text']}"
        for row in saved["rows"]
    )
    lines += [f"Labels          {worth}", f"Headline        {saved['sentence']}"]
    verdict = saved["verdict_over_seeds"]
    elsewhere = [row for row in saved["rows"] if row["difference"] is not None]
    elsewhere = [row for row in elsewhere if verdict is None or row["labels"] != verdict["labels"]]
    if elsewhere:
        lines.append(f"Difference      {'; '.join(map(_difference, elsewhere))}")
    if verdict:
        lines.append(
            f"Verdict         With {counted(verdict['labels'], 'label')} a class, {_lower(verdict['sentence'])}"
        )
    return [*lines, *(f"Note            {statement}" for statement in saved["statements"])]


def _difference(row: Mapping[str, Any]) -> str:
    """Of accuracies at the same number of labels, in words."""
    points, low, high = (100 * row[f"difference{end}"] for end in ("", "_low", "_high"))
    return f"with {counted(row['labels'], 'label')} a class {points:+z.1f} points ({low:+z.1f} to {high:+z.1f})"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def draw_learning_curve(table: pd.DataFrame, saved: Mapping[str, Any]) -> Figure:
    """Accuracy by labels a class, both sides with their intervals and every seed, and the headline as an arrow.

    Args:
        table: See `curve_table`.
        saved: See `labels_saved`.
    """
    figure = new_figure(7.5, 4.8)
    axes = figure.subplots()
    curve = pd.DataFrame(saved["curve"])
    for side, colour in ((TRANSFER, TRANSFER_COLOUR), (SCRATCH, BASELINE_COLOUR)):
        mean, each = curve[curve["side"] == side], table[table["side"] == side]
        band = mean["labels"], mean["accuracy_low"], mean["accuracy_high"]
        axes.fill_between(*band, color=colour, alpha=0.18, lw=0)
        if len(mean) == 1:  # there is nothing to fill
            axes.vlines(*band, color=colour, alpha=0.18, lw=8)
        axes.plot(mean["labels"], mean["accuracy"], "o-", ms=4, color=colour, label=SIDES[side])
        axes.plot(each["labels"], each["accuracy"], ".", ms=3, color=colour, alpha=0.6)
    headline = saved["headline"]
    ends = {"measured": headline["worth"], "more_than": saved["most_labels"], "at_most": saved["least_labels"]}
    end = ends.get(headline["worth_is"], headline["labels"])
    if end != headline["labels"]:
        axes.annotate(
            "",
            xy=(end, headline["accuracy"]),
            xytext=(headline["labels"], headline["accuracy"]),
            arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.5, "shrinkA": 4, "shrinkB": 0},
        )
    if headline["worth_is"] == "measured":
        axes.plot([end, end], [axes.get_ylim()[0], headline["accuracy"]], ":", lw=1, color="black")
    axes.set_xscale("log")
    numbers = sorted(set(table["labels"]))
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.set_xlabel("labels a class (logarithmic)")
    axes.set_ylabel(f"accuracy on {saved['test_images']:,} test images")
    given = f"With {counted(headline['labels'], 'label')} a class"
    if headline["worth_is"] == "not_known":
        axes.set_title(f"{given} the worth of the transfer is {headline['text']}", fontsize=10)
    else:
        axes.set_title(f"{given} the transfer is worth {headline['text']} from scratch", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best", title=f"bands: {saved['confidence']:.0%}", title_fontsize=8)
    return figure


class _Side:
    """The hits of one side: (labels, seeds, images), and what its axes are."""

    def __init__(self, points: Sequence[CurvePoint], side: str) -> None:
        own = {(point.labels, point.seed): _hits(point.predictions) for point in points if point.side == side}
        self.side = side
        self.labels = sorted({labels for labels, _ in own})
        self.seeds = sorted({seed for _, seed in own})
        missing = [(labels, seed) for labels in self.labels for seed in self.seeds if (labels, seed) not in own]
        if not own or missing:
            what = ", ".join(f"{labels} labels with seed {seed}" for labels, seed in missing) or "no point at all"
            raise ValueError(
                f"A learning curve needs the points of {SIDES[side]} at every number of labels with every seed. "
                f"Missing: {what}. Run the pipeline learning_curve again."
            )
        first = next(point.predictions["id"] for point in points)
        if any(not np.array_equal(point.predictions["id"], first) for point in points if point.side == side):
            raise ValueError(
                f"All points must be about the same test images in the same order. Those of {SIDES[side]} are about "
                "different ones. Run the pipeline learning_curve again."
            )
        self.hits = np.stack([[own[labels, seed] for seed in self.seeds] for labels in self.labels]).astype(np.float32)


def _hits(predictions: pd.DataFrame) -> np.ndarray:
    return np.asarray(predictions["predicted"].to_numpy(object) == predictions["label"].to_numpy(object), bool)


def _check(sides: Mapping[str, _Side]) -> None:
    if len(sides[SCRATCH].labels) < 2:
        raise ValueError(
            "The worth of a transfer is read from the curve of training from scratch, which needs at least two numbers "
            f"of labels. Received: {sides[SCRATCH].labels}. Name two in scratch_labels_per_class that the labels allow."
        )


def _samples(predictions: pd.DataFrame, sides: Sequence[_Side], samples: int, seed: int) -> dict[str, np.ndarray]:
    """Mean accuracies of each side as other test images and seeds would give them: (samples, numbers of labels)."""
    rng = np.random.default_rng(seed)
    (of_added,) = rng.spawn(1)
    units = Units(predictions.get("group"), len(predictions))
    means = [part.hits.mean(axis=1).T for part in sides]  # (images, numbers of labels)
    added = _design_effect(np.concatenate(means, axis=1).mean(axis=1), units)
    drawn: dict[str, list[np.ndarray]] = {part.side: [] for part in sides}
    for start in range(0, samples, SAMPLES_AT_ONCE):
        size = min(SAMPLES_AT_ONCE, samples - start)
        weights = rng.standard_exponential((size, units.number), np.float32)[:, units.codes]
        only_one = added * of_added.standard_exponential((size, len(sides)))  # weights of what one side alone has right
        total = weights.sum(axis=1, keepdims=True) + only_one.sum(axis=1, keepdims=True)
        for part, mean, right in zip(sides, means, only_one.T, strict=True):
            drawn[part.side].append((weights @ mean + right[:, None]) / total)
    return {part.side: _moved_by_seeds(np.concatenate(drawn[part.side]), part, rng) for part in sides}


def _design_effect(values: np.ndarray, units: Units) -> float:
    """How many images tell as much as one that is independent; all of them where they are of one group."""
    images = len(values)
    return units.design_effect((values - values.mean()) / images) if units.number > 1 else float(images)


def _moved_by_seeds(accuracies: np.ndarray, side: _Side, rng: np.random.Generator) -> np.ndarray:
    """The accuracies, each sample moved as one by what other seeds would do."""
    n_labels, n_seeds, n_images = side.hits.shape
    if n_seeds == 1:
        return accuracies
    smoothed = (side.hits.sum(axis=2, dtype=float) + 1) / (n_images + 2)  # an accuracy of 1 has a logit, too
    scores = scipy.special.logit(smoothed)
    freedom = n_labels * (n_seeds - 1)
    error = np.sqrt(scores.var(axis=1, ddof=1).mean() / n_seeds)
    moves = error * rng.standard_t(freedom, size=(len(accuracies), 1))
    least = np.finfo(np.float32).eps  # weights are of single precision
    return np.asarray(scipy.special.expit(scipy.special.logit(np.clip(accuracies, least, 1 - least)) + moves))


def _interval(name: str, estimate: float, values: np.ndarray, ends: tuple[float, float]) -> dict[str, float]:
    low, high = np.quantile(values, ends)
    return {name: estimate, f"{name}_low": min(float(low), estimate), f"{name}_high": max(float(high), estimate)}


def _worth(
    labels: int,
    worth: Sequence[float],
    interval: tuple[float, float],
    scratch: Sequence[int],
    confidence: float,
) -> dict[str, Any]:
    """What a transfer is worth, beyond the ends of the curve without a number; for programs and as a text."""
    row: dict[str, Any] = {}
    for name, value in zip(("", "_low", "_high"), (worth[0], *interval), strict=True):
        reading: Reading = "more_than" if value == math.inf else "at_most" if value == 0 else "measured"
        row[f"worth{name}"] = value if reading == "measured" else None
        row[f"saved{name}"] = value - labels if reading == "measured" else None
        row[f"worth{name}_is"] = reading
    estimate, low, high = (_number(value, scratch) for value in (worth[0], *interval))
    if worth[0] != worth[1]:
        estimate = f"{estimate} to {_number(worth[1], scratch)}"
        row |= {"worth": None, "saved": None, "worth_is": "plateau"}
    if interval == (0.0, math.inf):
        row |= {"worth": None, "saved": None, "worth_is": "not_known"}
        row["text"] = f"not known ({estimate} as measured)"
    elif row["worth_is"] == "more_than":
        surely = f"at least {low}" if row["worth_low_is"] == "measured" else low
        row["text"] = _with_bound(estimate, surely, confidence)
    elif row["worth_is"] == "at_most":
        surely = f"at most {high}" if row["worth_high_is"] == "measured" else high
        row["text"] = _with_bound(estimate, surely, confidence)
    else:
        row["text"] = f"{estimate} ({low} to {high})"
    return row


def _with_bound(estimate: str, surely: str, confidence: float) -> str:
    bound = "" if surely == estimate else f"{surely} "
    return f"{estimate} ({bound}at {confidence:.0%} confidence)"


def _number(value: float, scratch: Sequence[int]) -> str:
    if value == math.inf:
        return f"more than {scratch[-1]}"
    if value == 0:
        return f"at most {scratch[0]}"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def saves_labels(row: Mapping[str, Any]) -> bool | None:
    """Whether a transfer is worth more labels than it was given, by its whole interval; None where that is not clear.

    Args:
        row: Of `labels_saved`.
    """
    low, high = (
        {"measured": row[f"worth{end}"], "more_than": math.inf, "at_most": 0.0}[row[f"worth{end}_is"]]
        for end in ("_low", "_high")
    )
    return True if low > row["labels"] else False if high < row["labels"] else None


def _sentence(row: Mapping[str, Any]) -> str:
    given = counted(row["labels"], "label")
    text = f"With {given} a class the transfer is worth {row['text']} labels from scratch"
    if row["worth_is"] == "not_known":
        text = f"How many labels from scratch the transfer is worth with {given} a class is {row['text']}"
    ends = {True: ".", False: ": IT IS WORTH FEWER THAN IT WAS GIVEN.", None: ": whether it saves labels is not clear."}
    return text + ends[saves_labels(row)]


def _statements(
    headline: Mapping[str, Any], asked: int, scratch: Sequence[int], transfer_seeds: int, scratch_seeds: int
) -> list[str]:
    found, first = [], counted(scratch[0], "label")
    if headline["labels"] != asked:
        were = "was" if asked == 1 else "were"
        found.append(
            f"{counted(asked, 'label')} a class {were} not measured; the sentence is about {headline['labels']}."
        )
    if headline["worth_is"] == "not_known":
        found.append(
            f"The worth may lie before the curve from scratch, which begins at {first} a class, as well as "
            f"beyond its end at {scratch[-1]}: more test images or seeds narrow it down."
        )
    elif headline["worth_high_is"] == "more_than":
        found.append(
            f"The curve from scratch ends at {scratch[-1]} labels a class, and nothing is read beyond: give it more "
            "with scratch_labels_per_class, as far as there are labels."
        )
    elif headline["worth_low_is"] == "at_most":
        found.append(f"The curve from scratch begins at {first} a class, and nothing is read before.")
    if min(transfer_seeds, scratch_seeds) == 1:
        found.append("With one seed the intervals know nothing of other draws of labels and weights.")
    return found
