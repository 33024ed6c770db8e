"""Which of several networks is the best source, on the errors of left-out training images.

Every candidate gets the best head that its features allow (`choose_head`), and so do random weights of its
architecture. All heads are judged on the same images, each when it is left out, so that differences are paired.

The measure is the squared error of the ridge's scores (targets ±1), with the best depths and grid that were tried. The
usual ones are the accuracy of such a head, its log loss at a calibrated temperature, and the nearest neighbours' vote,
which beat 23 published scores in arXiv 2503.18528. Share of trials in which three sources of known order came in that
order, 10 labels a class, 30 trials each (`benchmarks/rank_sources.py`, 3 networks a source, 10 draws of the images):

    target          squared error   log loss   accuracy   neighbours
    Fashion-MNIST        93 %          80 %       50 %        57 %
    digits              100 %          97 %       73 %        80 %

An image that is right by far and one that is just right count the same in an accuracy, whose standard error on 100
images is 3 to 5 points, as much as the sources differ by. A difference of scores is known several times as well.

The best of many candidates is so by luck, too: of ten that are equal, some one is 1.96 standard errors behind it in two
of three rankings. So differences are called clear at a level for all candidates together (Bonferroni): of equal ones
none is called clearly worse in 95% of rankings, of useless ones none is said to help in 97.5%.

What is not known: how much another draw of labelled images would change. Standard errors are those of the images at
hand, at most `depths.MOST_IMAGES`; of 360 pairs in those trials none that was clear (1.96 standard errors) had the
wrong sign. The depths are chosen on the same left-out images; random weights of an architecture have the same choice.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cnn_transfer.images.reasons import UnusableSetError
from cnn_transfer.models import NetworkSource
from cnn_transfer.transfer.groups import clear_errors, mean_and_error
from cnn_transfer.transfer.head import Head

Verdict = Literal["as good as the best", "clearly worse", "adds nothing over random weights"]


@dataclass(frozen=True)
class Ranking:
    """Candidates for the source, ranked.

    Attributes:
        table: One row a candidate, the best first: `rank` from 1, `candidate`, `verdict`, `loss` (mean squared error of
            the scores of left-out images, times their weights), `behind` (loss more than the best one's) and
            `behind_error`, `gain` (loss less than that of random weights) and `gain_error`, `accuracy` of left-out
            images and `standard_error`, `accuracy_gain` over random weights and `accuracy_gain_error`, `neighbours`
            (accuracy of the nearest neighbours' vote), `depths` that the head reads, `deepest_tap`, `grid`. The errors
            are standard errors, of paired differences where it is one.
        chosen: Name of the best candidate; None when it adds nothing that is clear over random weights.
        sentence: The choice and its reason in words.
    """

    table: pd.DataFrame
    chosen: str | None
    sentence: str


def rank_sources(heads: Mapping[str, Head], random: Mapping[str, Head]) -> Ranking:
    """Rank candidates, and say which are as good as the best and which know nothing of use.

    Args:
        heads: The head chosen on the features of each candidate, all of the same labelled images in the same order.
        random: Under the same names, the head chosen on features of random weights of the candidate's architecture.

    Raises:
        ValueError: When there is no candidate, or the heads are not about the same images.
        UnusableSetError: When every class has one labelled image, or one group of them.
    """
    _check(heads, random)
    ranked = sorted(heads, key=lambda name: heads[name].least_errors.mean())
    best = heads[ranked[0]]
    rows = [_row(rank, name, heads[name], best, random[name], len(heads)) for rank, name in enumerate(ranked, start=1)]
    table = pd.DataFrame(rows)
    chosen = ranked[0] if table["verdict"].iloc[0] == "as good as the best" else None
    return Ranking(table, chosen, _sentence(table, chosen, clear_errors(len(best.hits), best.groups, len(heads))))


def describe_choice(ranking: Ranking, candidates: Mapping[str, NetworkSource]) -> dict[str, Any]:
    """The chosen candidate, and how `transfer_pretrained` is told to use it.

    Args:
        ranking: The ranking.
        candidates: Its candidates by name.

    Returns:
        `candidate`, `sentence`, `import_source` (its block of parameters) and `params` (the same for the command line);
        all but the sentence None when no candidate helps.
    """
    if ranking.chosen is None:
        return {"candidate": None, "sentence": ranking.sentence, "import_source": None, "params": None}
    source = candidates[ranking.chosen].model_dump(mode="json")
    in_file = {key: value for key, value in source.items() if "," in str(value)}  # where Kedro's --params would end it
    values = {key: "null" if value is None else value for key, value in source.items() if key not in in_file}
    params = "--params " + shlex.quote(",".join(f"import_source.{key}={value}" for key, value in values.items()))
    sentence = ranking.sentence
    for key, value in in_file.items():
        sentence += f" Write {key}: {value} into a file, under import_source."
    return {"candidate": ranking.chosen, "sentence": sentence, "import_source": source, "params": params}


def _check(heads: Mapping[str, Head], random: Mapping[str, Head]) -> None:
    if not heads or set(heads) != set(random):
        raise ValueError(
            "heads must name at least one candidate, and random the same ones. "
            f"Received: {', '.join(heads) or 'none'}; {', '.join(random) or 'none'}."
        )
    first = next(iter(heads.values()))
    if first.blind:
        raise UnusableSetError(
            f"Sources are ranked by left-out training images, and all {len(first.hits)} are all there is of their "
            "classes, which are unknown without them. Label a second image of each class, or one of another group; "
            "where there are more, raise preprocess.target.split.labels_per_class."
        )
    for name, head in [*heads.items(), *random.items()]:
        if len(head.hits) != len(first.hits) or not np.array_equal(head.drawn, first.drawn):
            raise ValueError(
                f"Heads must be about the same labelled images. {name} has {len(head.hits)} images, others "
                f"{len(first.hits)}, or other classes. Choose all heads with one table of splits."
            )


def _row(rank: int, name: str, head: Head, best: Head, random: Head, candidates: int) -> dict[str, object]:
    losses = head.least_errors
    behind, behind_error = mean_and_error(losses - best.least_errors, head.least_groups)
    gain, gain_error = mean_and_error(random.least_errors - losses, head.least_groups)
    accuracy_gain, accuracy_gain_error = head.gain_over(random)
    pairs = max(1, candidates * (candidates - 1) // 2)  # which of them is the best was seen on the same images
    verdict: Verdict = "as good as the best"
    if gain <= clear_errors(len(losses), head.least_groups, candidates) * gain_error:
        verdict = "adds nothing over random weights"
    elif behind > clear_errors(len(losses), head.least_groups, pairs) * behind_error:
        verdict = "clearly worse"
    return {
        "rank": rank,
        "candidate": name,
        "verdict": verdict,
        "loss": float(losses.mean()),
        "behind": behind,
        "behind_error": behind_error,
        "gain": gain,
        "gain_error": gain_error,
        "accuracy": head.accuracy,
        "standard_error": mean_and_error(head.hits.astype(float), head.groups)[1],
        "accuracy_gain": accuracy_gain,
        "accuracy_gain_error": accuracy_gain_error,
        "neighbours": head.neighbours,
        "depths": len(head.taps),
        "deepest_tap": head.taps[-1],
        "grid": head.grid,
    }


def _sentence(table: pd.DataFrame, chosen: str | None, clear: float) -> str:
    best = table.iloc[0]
    gain = f"{100 * best['accuracy_gain']:+z.1f} ± {100 * clear * best['accuracy_gain_error']:.1f} points"
    if chosen is None:
        if len(table) > 1:
            told = f"No candidate adds anything clear over random weights: the best, {best['candidate']},"
        else:
            told = f"{best['candidate']} adds nothing clear over random weights: it"
        return (
            f"{told} is worth {gain} of accuracy on left-out training images. Look for another source, or train from "
            "scratch."
        )
    smaller = ""
    if best["accuracy_gain"] <= clear * best["accuracy_gain_error"]:  # then it was not the accuracy that told
        smaller = f", with a squared error {best['gain'] / (best['loss'] + best['gain']):.0%} smaller"
    most = " most" if len(table) > 1 else ""
    parts = [
        f"{chosen} helps{most}: a head on it gets {best['accuracy']:.1%} of left-out training images right, {gain} "
        f"over random weights{smaller}"
    ]
    others = table.iloc[1:].groupby("verdict", sort=False)["candidate"].agg(", ".join)
    words = {"as good as the best": "as good within chance", "clearly worse": "clearly worse"}
    parts += [f"{words.get(str(verdict), verdict)}: {names}" for verdict, names in others.items()]
    return "; ".join(parts) + "."
