"""Figures of merit of a network on test images, each with its interval of 95% (or another level), and what is missing.

Let a table of predictions have n images of K classes. What is averaged over classes is averaged over those that occur
among the true labels. The intervals, chosen by how often they hold what they promise (`benchmarks/intervals.py`):

    accuracy, top-k accuracy, recall, precision   Wilson's; with groups, of the effective number of images
    F1 of a class       Wilson's of J = TP / (TP + FP + FN), a proportion, since F1 = 2J / (1 + J) rises with J
    balanced accuracy   Wilson's form; the variance from recalls with half an image added to right and to wrong
    macro F1            Wilson's form; variance and bias by the bootstrap
    AUROC               Student's, corrected for skewness (Hall 1992; with groups: in the logit); variance of DeLong,
                        DeLong and Clarke-Pearson (1988), with groups that of Obuchowski (1997)
    log loss, Brier     Student's, corrected for skewness (with groups: in the logarithm)
    calibration errors  the estimate is biased upwards (Roelofs et al. 2022): the upper end is normal, with variance and
                        bias by the bootstrap; the lower one lets all that chance can do in the bins be against it
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy

from cnn_transfer.evaluation.intervals import (
    Interval,
    Units,
    mean_interval,
    proportion_interval,
    resampled_sums,
    score_interval,
    score_interval_of_variance,
    skewed_interval,
    wilson_interval,
)
from cnn_transfer.evaluation.predictions import PREDICTED, PROBABILITY
from cnn_transfer.evaluation.probabilities import probabilities_of
from cnn_transfer.evaluation.verdict import paired_difference

__all__ = ["Interval", "confusion_table", "measure", "per_class_table", "wilson_interval"]

MOST_BINS, IMAGES_A_BIN = 15, 10  # 15 bins as usual since Guo et al. (2017), but none of chance alone
TOP = (2, 3, 5)
FEW_GROUPS = 10
FEW_A_CLASS = 3  # test images; see the 100 classes of benchmarks/intervals.py
RARE_CLASSES = 0.05  # share of the classes that may have as few without a word
MOSTLY_ALONE = 0.95  # groups an image, from which on groups go without saying
CALIBRATED_DRAWS = 200
SMALLEST_PROBABILITY = float(np.finfo(np.float32).eps)  # that log loss counts, as in scikit-learn


def confusion_table(predictions: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """Counts of images: one row a true class (column `label`), one column `predicted_<class>` a predicted class."""
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=class_names)
    table = pd.DataFrame(counts, columns=[PREDICTED + name for name in class_names])
    table.insert(0, "label", class_names)
    return table


def per_class_table(predictions: pd.DataFrame, class_names: list[str], confidence: float) -> pd.DataFrame:
    """One row a class: `label`, `images`, and `recall`, `precision`, `f1`, `auroc` with `_low` and `_high`.

    What does not exist is missing, not 0: the recall of a class without images, the precision of a class that is never
    predicted, the AUROC where there is no image of the class or none of another, or no table of probabilities.

    Raises:
        ValueError: When probabilities are not any.
    """
    judged = _Judged(predictions, class_names)
    hits = judged.true & judged.guessed
    nothing = Interval(np.nan, np.nan, np.nan)

    def proportions(among: np.ndarray) -> list[Interval]:
        return [
            proportion_interval(hit[rows], confidence, judged.units.of(rows).codes) if rows.any() else nothing
            for hit, rows in zip(hits.T, among.T, strict=True)
        ]

    either = proportions(judged.true | judged.guessed)
    columns = {
        "recall": proportions(judged.true),
        "precision": proportions(judged.guessed),
        "f1": [Interval(*(2 * share / (1 + share) for share in interval)) for interval in either],
        "auroc": [judged.auroc_interval([k], confidence) or nothing for k in range(len(class_names))],
    }
    table = pd.DataFrame({"label": list(class_names), "images": judged.true.sum(axis=0)})
    for name, intervals in columns.items():
        table[[name, f"{name}_low", f"{name}_high"]] = np.array(intervals, float).reshape(-1, 3)
    return table


def measure(
    predictions: pd.DataFrame, class_names: list[str], confidence: float, bootstrap_samples: int, seed: int
) -> dict[str, Any]:
    """Figures of merit with their intervals, and in words what could not be measured.

    Args:
        predictions: The table; with a column `group`, images of one group count as dependent.
        class_names: Of its probabilities, in their order.
        confidence: Level of the intervals, 0-1.
        bootstrap_samples: Of macro F1 and the calibration errors.
        seed: Of these.

    Returns:
        `accuracy`, `balanced_accuracy` (mean recall), `macro_f1`, `top_2_accuracy`, `top_3_accuracy`, `top_5_accuracy`
        (as far as below the number of classes), `auroc` (mean of one class against the rest), `log_loss` (natural
        logarithm), `brier` (mean squared error summed over the classes, 0-2: Brier 1950), `ece` (expected calibration
        error: mean absolute difference of the highest probability and the accuracy in at most 15 bins of equally many
        images, not corrected for its bias), `classwise_ece` (the same of each class's probability, mean over classes),
        each with `_low` and `_high`, None where a sentence in `statements` says why; `ece_if_calibrated`
        (what `ece` would be on average by chance if every probability were right), `ece_bins`, `images`, `groups`,
        `statements`.

    Raises:
        ValueError: When probabilities are not any or a label is no class; or there is no image.
    """
    judged = _Judged(predictions, class_names)
    units, groups = judged.units, judged.units.codes
    tops = {f"top_{k}_accuracy": k for k in TOP if k < len(class_names)}
    found: dict[str, Interval | None] = {
        "accuracy": proportion_interval(judged.correct, confidence, groups),
        "balanced_accuracy": judged.balanced_accuracy(confidence),
        "macro_f1": None,
        **dict.fromkeys((*tops, "auroc", "log_loss", "brier", "ece", "classwise_ece")),
    }
    by_chance = None
    if judged.probabilities is not None:
        for name, k in tops.items():
            found[name] = proportion_interval(judged.true_ranks < k, confidence, groups)
        found["auroc"] = judged.auroc_interval(judged.scored, confidence)
        found["log_loss"] = mean_interval(judged.log_losses, confidence, groups, least=0)
        found["brier"] = mean_interval(judged.brier_scores, confidence, groups, least=0, most=2)
        by_chance = judged.ece_if_calibrated(np.random.default_rng([seed, 1]))
    found |= judged.bootstrapped(confidence, bootstrap_samples, np.random.default_rng(seed))
    result: dict[str, Any] = {}
    for name, interval in found.items():
        for key, value in zip((name, f"{name}_low", f"{name}_high"), interval or (None, None, None), strict=True):
            result[key] = float(value) if value is not None and math.isfinite(value) else None
    return result | {
        "ece_if_calibrated": by_chance,
        "ece_bins": judged.bins if judged.probabilities is not None else None,
        "images": len(judged.labels),
        "groups": units.number,
        "statements": judged.statements(confidence),
    }


class _Judged:
    """A table of predictions as arrays: images in rows, classes in columns."""

    def __init__(self, predictions: pd.DataFrame, class_names: Sequence[str]) -> None:
        if predictions.empty:
            raise ValueError("There are no predictions to measure. Raise test_fraction of the target.")
        names = pd.Index(list(class_names), dtype="str")
        labels = names.get_indexer(pd.Index(predictions["label"], dtype="str"))
        if (unknown := labels < 0).any():
            raise ValueError(
                f"Each label must be one of the {len(names)} classes of the network. Received: "
                f"{predictions['label'][unknown].iloc[0]!r}, one of {unknown.sum()} such images. Run preprocess, "
                "migrate_model and finetune_target again, so that all have one version."
            )
        self.class_names = list(class_names)
        self.labels = labels  # (n,) class index
        has_any = any(PROBABILITY + name in predictions for name in class_names)
        self.probabilities = probabilities_of(predictions, class_names) if has_any else None  # (n, K)
        self.units = Units(predictions.get("group"), len(predictions))
        guesses = names.get_indexer(pd.Index(predictions["predicted"], dtype="str"))
        self.true = np.equal.outer(labels, np.arange(len(names)))  # (n, K)
        self.guessed = np.equal.outer(guesses, np.arange(len(names)))  # (n, K)
        self.correct = labels == guesses  # (n,)

    @cached_property
    def occurring(self) -> np.ndarray:
        """Indices of the classes that have images."""
        return np.flatnonzero(self.true.any(axis=0))

    @property
    def scored(self) -> list[int]:
        """Classes that have an AUROC."""
        return self.occurring.tolist() if len(self.occurring) > 1 else []

    @cached_property
    def bins(self) -> int:
        return max(1, min(MOST_BINS, len(self.labels) // IMAGES_A_BIN))

    @property
    def least_trials(self) -> float:
        """Images that a mean over classes is worth when nothing varies in any."""
        counts = self.true.sum(axis=0)[self.occurring]
        alike = self.units.least_effective / len(self.labels)
        return float(alike * len(counts) ** 2 / np.sum(1 / counts))

    @property
    def of_label(self) -> np.ndarray:
        """(n, 1) the probability of the true class."""
        return self.scores[np.arange(len(self.labels)), self.labels][:, None]

    @property
    def scores(self) -> np.ndarray:
        """The probabilities, where there are any."""
        if self.probabilities is None:
            raise TypeError("A figure of probabilities was asked of a table without.")
        return self.probabilities

    @property
    def true_ranks(self) -> np.ndarray:
        """(n,) how many classes come before the true one; of equals the first does."""
        earlier = np.arange(len(self.class_names)) < self.labels[:, None]
        return np.asarray(((self.scores > self.of_label) | ((self.scores == self.of_label) & earlier)).sum(axis=1))

    @property
    def log_losses(self) -> np.ndarray:
        return np.asarray(-np.log(np.clip(self.of_label[:, 0], SMALLEST_PROBABILITY, 1)))

    @property
    def brier_scores(self) -> np.ndarray:
        return np.asarray(((self.scores - self.true) ** 2).sum(axis=1))

    def balanced_accuracy(self, confidence: float) -> Interval:
        true = self.true[:, self.occurring]
        counts = true.sum(axis=0)
        hits = self.correct[:, None] & true
        recalls = hits.sum(axis=0) / counts
        balanced = float(recalls.mean())
        if self.units.number == 1:
            return Interval(balanced, 0.0, 1.0)
        effect = self.units.design_effect(((hits - recalls * true) / counts).mean(axis=1))
        doubtful = (hits.sum(axis=0) + 0.5) / (counts + 1)  # a class with all of few images right is not certain
        of_classes = doubtful * (1 - doubtful) * (1 + counts / (counts + 1) ** 2)  # too small by what they vary
        variance = effect * float(np.sum(of_classes / counts)) / len(counts) ** 2
        middle = float(doubtful.mean())  # not `balanced`, whose variance would be smaller: near 1 by half
        trials = middle * (1 - middle) / variance if 0 < balanced < 1 else self.least_trials
        return score_interval(balanced, trials, self.units.quantile(confidence))

    @cached_property
    def areas(self) -> dict[int, tuple[float, np.ndarray]]:
        """Of the classes that have one: the area under the ROC curve, and what each image contributes to its error."""
        return {k: _area(self.scores[:, k], self.true[:, k]) for k in self.scored}

    def auroc_interval(self, classes: Sequence[int], confidence: float) -> Interval | None:
        """Of the mean over some classes; None where there is none."""
        from scipy import stats

        if self.probabilities is None or not classes or any(k not in self.areas for k in classes):
            return None
        area = float(np.mean([self.areas[k][0] for k in classes]))
        if self.units.number == 1 or self.rarer_sides(classes).max() == 1:  # which says nothing of others of its kind
            return Interval(area, 0.0, 1.0)
        influences = np.mean([self.areas[k][1] for k in classes], axis=0)
        if not influences.any():  # perfectly in order, or all equal
            own = self.units.of(self.true[:, classes[0]]).least_effective
            least = self.least_trials if len(classes) > 1 else own
            return score_interval_of_variance(area, 0.0, least, self.units.quantile(confidence))
        quantile = float(stats.t.ppf(0.5 + confidence / 2, self.degrees_of_freedom(classes)))
        return skewed_interval(area, influences, self.units, quantile, 0.0, 1.0)

    def rarer_sides(self, classes: Sequence[int]) -> np.ndarray:
        """Images of each class, or of all others where these are fewer."""
        counts = self.true.sum(axis=0)[list(classes)]
        rarer: np.ndarray = np.minimum(counts, len(self.true) - counts)
        return rarer

    def degrees_of_freedom(self, classes: Sequence[int]) -> float:
        """Of the variance of a mean AUROC: that of the rarer side in each class, put together (Satterthwaite 1946)."""
        variances = np.array([np.sum(self.areas[k][1] ** 2) for k in classes])
        own = np.maximum(self.rarer_sides(classes) - 1, 1)
        together = float(np.sum(variances) ** 2 / np.sum(variances**2 / own))
        return min(together, self.units.freedom)

    @cached_property
    def gaps(self) -> scipy.sparse.csr_matrix:
        """(n, bins of the highest probability, then of each occurring class): what happened minus what was said."""
        confidences = self.scores.max(axis=1)
        scores, true = self.scores[:, self.occurring], self.true[:, self.occurring]
        columns = [_binned(confidences, self.correct - confidences, self.bins)]
        columns += [_binned(score, hit - score, self.bins) for score, hit in zip(scores.T, true.T, strict=True)]
        return scipy.sparse.hstack(columns, format="csr")

    def calibration_errors(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) errors of the highest probability and of the classes, from (rows, columns of `gaps`) shares."""
        absolute = np.abs(sums)
        of_classes = absolute[:, self.bins :].sum(axis=1) / len(self.occurring)
        return absolute[:, : self.bins].sum(axis=1), of_classes

    def ece_if_calibrated(self, rng: np.random.Generator) -> float:
        """Its mean when the predicted class is right as often as its probability says."""
        confidences = self.scores.max(axis=1)
        happened = rng.random((CALIBRATED_DRAWS, len(confidences))) < confidences
        members = _binned(confidences, np.ones(len(confidences)), self.bins)
        return float(np.abs((happened - confidences) @ members).sum(axis=1).mean() / len(confidences))

    def bootstrapped(self, confidence: float, samples: int, rng: np.random.Generator) -> dict[str, Interval | None]:
        """Macro F1 and the calibration errors."""
        n, counted = len(self.labels), 3 * len(self.class_names)
        parts = [scipy.sparse.csr_matrix(part) for part in (self.true & self.guessed, self.true, self.guessed)]
        values = scipy.sparse.hstack(parts + ([self.gaps] if self.probabilities is not None else []), format="csr")
        total = np.asarray(values.sum(axis=0)).reshape(1, -1)

        def figures(sums: np.ndarray) -> list[np.ndarray]:
            """Macro F1, the calibration errors, and how far chance moved the bins in all."""
            f1 = _macro_f1(*np.split(sums[:, :counted], 3, axis=1))
            if self.probabilities is None:
                return [f1]
            images = sums[:, counted // 3 : 2 * counted // 3].sum(axis=1, keepdims=True)
            gaps = sums[:, counted:] / images
            moved = self.calibration_errors(gaps - total[:, counted:] / n)
            return [f1, *self.calibration_errors(gaps), *moved]

        names = ["macro_f1", "ece", "classwise_ece"][: 1 if self.probabilities is None else 3]
        own = [float(figure[0]) for figure in figures(total)[: len(names)]]
        if self.units.number == 1:
            return {name: Interval(estimate, 0.0, 1.0) for name, estimate in zip(names, own, strict=True)}
        drawn = [figures(sums) for sums in resampled_sums(values, self.units, samples, rng)]
        again = [np.concatenate(repeated).astype(float) for repeated in zip(*drawn, strict=True)]
        quantile = self.units.quantile(confidence)
        few = math.sqrt(self.units.number / (self.units.number - 1))  # the bootstrap's variance lacks this factor
        result: dict[str, Interval | None] = {}
        for place, (name, estimate) in enumerate(zip(names, own, strict=True)):
            error = few * float(again[place].std())
            centre = float(np.clip(2 * estimate - again[place].mean(), 0, 1))
            if name == "macro_f1":
                _, low, high = score_interval_of_variance(centre, error**2, self.least_trials, quantile)
            else:
                by_chance = few * float(np.quantile(again[place + 2], 0.5 + confidence / 2))
                low, high = max(0.0, estimate - by_chance), min(1.0, centre + quantile * error)
            result[name] = Interval(estimate, min(estimate, low), max(estimate, high))
        return result

    def beside_one_answer(self, confidence: float) -> list[str]:
        """A sentence where accuracy does not show more than always giving the most frequent answer would."""
        if len(self.occurring) < 2 or self.units.number < 2:
            return []
        counts = self.true.sum(axis=0)
        most = int(counts.argmax())
        if paired_difference(self.correct, self.labels == most, confidence, self.units.codes).low > 0:
            return []
        name, images, balanced = self.class_names[most], len(self.labels), self.balanced_accuracy(confidence)
        chance = 1 / len(self.occurring)
        compared = (
            f"lways saying {name} would have {counts[most] / images:.1%} of the test images right, the network has "
            f"{self.correct.mean():.1%}. Where every class counts the same, that would have {chance:.1%}, the network "
            f"has {balanced.estimate:.1%} ({balanced.low:.1%} to {balanced.high:.1%})."
        )
        if balanced.low > chance:
            return [f"A{compared}"]
        return [
            f"NOTHING SHOWS THAT THE NETWORK TELLS THE CLASSES APART: a{compared} More test images would show whether "
            "it does; more labels of the rarer classes would help it."
        ]

    def statements(self, confidence: float) -> list[str]:
        """What a reader of the figures has to know."""
        found = self.beside_one_answer(confidence)
        images, groups = len(self.labels), self.units.number
        if missing := [name for k, name in enumerate(self.class_names) if k not in set(self.occurring)]:
            listed = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
            found.append(f"No test image is of class {listed}: averages over classes leave it out.")
        counts = self.true.sum(axis=0)[self.occurring]
        rare = int(np.sum(counts < FEW_A_CLASS))
        if len(counts) > 1 and rare > RARE_CLASSES * len(counts):
            have = "has" if rare == 1 else "have"
            found.append(
                f"{rare} of {len(counts)} classes {have} fewer than {FEW_A_CLASS} test images: macro F1 and AUROC, and "
                "their intervals, are less sure than they look."
            )
        if groups == 1:
            what = "There is one test image" if images == 1 else "All test images are of one group"
            found.append(f"{what}: how sure the figures are cannot be said.")
        elif groups < MOSTLY_ALONE * images:
            few = " So few groups make the intervals wide." if groups < FEW_GROUPS else ""
            found.append(
                f"The {images:,} test images are of {groups:,} groups, which the intervals take into account.{few}"
            )
        if self.probabilities is None:
            found.append(
                "The predictions hold no probabilities: AUROC, log loss, Brier score, calibration, top-k are left out."
            )
            return found
        if len(self.occurring) == 1:
            found.append(f"All test images are of class {self.class_names[self.occurring[0]]}: there is no AUROC.")
        if refuted := int(np.sum(self.of_label < SMALLEST_PROBABILITY)):
            images_are = "1 image" if refuted == 1 else f"{refuted:,} images"
            found.append(
                f"The true class of {images_are} got a probability of 0, which log loss counts as "
                f"{SMALLEST_PROBABILITY:.1e}; it would be infinite."
            )
        if self.bins < MOST_BINS:
            few = f"{images} test image{'s are' if images > 1 else ' is'} few for calibration errors: "
            found.append(
                f"{few}{self.bins} bin{'s' if self.bins > 1 else ''} instead of {MOST_BINS}, so that each holds "
                f"{IMAGES_A_BIN} or more."
                if images >= IMAGES_A_BIN
                else f"{few}they say next to nothing."
            )
        return found


def _area(scores: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """Area under the ROC curve, and each image's contribution to its error: placement values (DeLong et al. 1988)."""
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    above = (ranks[positive] - rankdata(scores[positive])) / negatives
    below = 1 - (ranks[~positive] - rankdata(scores[~positive])) / positives
    area = float(above.mean())
    influences = np.empty(len(scores))
    influences[positive] = (above - area) / positives * math.sqrt(positives / max(positives - 1, 1))
    influences[~positive] = (below - area) / negatives * math.sqrt(negatives / max(negatives - 1, 1))
    return area, influences


def _binned(scores: np.ndarray, values: np.ndarray, bins: int) -> scipy.sparse.csr_matrix:
    """(n, bins): each image's value in the column of its score's bin; bins hold equally many, but for equal scores."""
    edges = np.quantile(scores, np.arange(1, bins) / bins)
    n = len(scores)
    return scipy.sparse.csr_matrix((values, (np.arange(n), np.searchsorted(edges, scores))), shape=(n, bins))


def _macro_f1(correct: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Macro F1 from counts (samples, classes) of images: rightly predicted, of a class, predicted as one."""
    present = true > 0
    f1 = 2 * correct / np.maximum(true + predicted, 1)
    return np.asarray((f1 * present).sum(axis=1) / present.sum(axis=1))
