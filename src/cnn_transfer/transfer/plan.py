"""What is moved from the source network to the target, and the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from cnn_transfer.models import ModelCard, add_linear_head, copy_network
from cnn_transfer.transfer.features import FeatureSet
from cnn_transfer.transfer.groups import clear_errors
from cnn_transfer.transfer.head import Head

if TYPE_CHECKING:
    import keras


class TransferPlan(BaseModel):
    """The decisions behind a migrated network.

    Attributes:
        source: Image set that the source network was trained on.
        source_fingerprint: Fingerprint of that set.
        architecture: Architecture of the source network.
        taps: Layers that the head reads, from shallow to deep.
        grid: Cells a side that each is averaged over.
        cut_layer: The deepest of them; what lies above it is left behind.
        cut_layers: The layers that could have been read, from shallow to deep.
        head: How the new head starts: ridge regression in closed form.
        penalty: Its λ.
        self_trained: Whether it learnt from images without a label, too.
        transferred_parameters: Number of weights that come from the source.
        new_parameters: Number of weights of the new head.
        evidence: Accuracies on left-out training images: `transferred`, and, when random weights were tried,
            `random_weights` and `knowledge` (the paired gain over them, with its standard error).
        source_helps: Whether that gain is clear; None when random weights were not tried, or left-out images say
            nothing.
        mirroring: Whether mirrored copies harm, see `judge_mirroring`; None where none are made.
        sentence: The decisions and their reasons in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    source_fingerprint: str
    architecture: str
    taps: tuple[str, ...]
    grid: int
    cut_layer: str
    cut_layers: tuple[str, ...]
    head: Literal["ridge"]
    penalty: float
    self_trained: bool
    transferred_parameters: int
    new_parameters: int
    evidence: dict[str, Any]
    source_helps: bool | None
    mirroring: dict[str, Any] | None = None
    sentence: str


def plan_transfer(
    network: keras.Model,
    card: ModelCard,
    features: FeatureSet,
    head: Head,
    random_head: Head | None,
    mirroring: dict[str, Any] | None = None,
) -> TransferPlan:
    """Put the decisions of a head together with what they were made on.

    Args:
        network: The network to be migrated.
        card: The card of the source network.
        features: Its features of the target's images.
        head: The head chosen on them.
        random_head: The head chosen in the same way on the features of random weights; None: not tried.
        mirroring: See `judge_mirroring`.
    """
    import keras

    n_classes = len(head.probe.bias)
    new = sum(features.widths_of(head.taps, head.grid)) * n_classes + n_classes
    kept = keras.Model(network.input, [network.get_layer(name).output for name in head.taps])
    evidence: dict[str, Any] = {"transferred": head.describe()}
    helps = None
    if random_head is not None:
        gain, error = head.gain_over(random_head)
        evidence["random_weights"] = random_head.describe()
        evidence["knowledge"] = {"gain": gain, "standard_error": error}
        helps = None if head.blind else gain > clear_errors(len(head.hits), head.groups) * error
    return TransferPlan(
        source=card.trained_on,
        source_fingerprint=card.training_fingerprint,
        architecture=card.architecture,
        taps=head.taps,
        grid=head.grid,
        cut_layer=head.taps[-1],
        cut_layers=features.taps,
        head="ridge",
        penalty=head.probe.penalty,
        self_trained=bool(head.probe.evidence.get("accepted", False)),
        transferred_parameters=kept.count_params(),
        new_parameters=new,
        evidence=evidence,
        source_helps=helps,
        mirroring=mirroring,
        sentence=_sentence(head, features, evidence, helps),
    )


def head_weights(head: Head, names: Sequence[str]) -> pd.DataFrame:
    """The head as a table: one column a class, one row a feature, and its bias as the last row; float32."""
    rows = np.concatenate([head.probe.kernel, head.probe.bias[None]]).astype(np.float32)
    return pd.DataFrame(rows, columns=list(names))


def build_target_network(network: keras.Model, plan: TransferPlan, weights: pd.DataFrame) -> keras.Model:
    """The network cut as planned, with the planned head on its taps: one flat graph, nothing frozen.

    Args:
        network: The network that the plan is about; it is left as it is.
        plan: The plan.
        weights: The head; see `head_weights`.
    """
    kernel, bias = weights.to_numpy()[:-1], weights.to_numpy()[-1]
    return add_linear_head(copy_network(network), plan.taps, plan.grid, kernel, bias)


def depth_table(head: Head, random_head: Head | None) -> pd.DataFrame:
    """What each depth knows: one row a tap.

    Columns: `tap`, `used`, `weight` (how much it may say in the head, 0-1, adding up to 1; see `choose_taps`),
    `accuracy` of a head on it alone, `random_accuracy`.
    """
    weights = dict(zip(head.taps, head.tap_weights / head.tap_weights.sum(), strict=True))
    table = head.alone.assign(used=head.alone["tap"].isin(head.taps))
    table["weight"] = table["tap"].map(weights).fillna(0.0)
    table["random_accuracy"] = np.nan if random_head is None else random_head.alone["accuracy"]
    return table[["tap", "used", "weight", "accuracy", "random_accuracy"]]


def _sentence(head: Head, features: FeatureSet, evidence: dict[str, Any], helps: bool | None) -> str:
    ridge = (
        f"A ridge on {len(head.taps)} of {len(features.taps)} depths ({head.grid} x {head.grid} cells each"
        f"{', the deep ones weighing more' if np.ptp(head.tap_weights) else ''})"
    )
    if head.blind:
        return (
            f"{ridge} is a guess: every class has one training image, or one group of them, and is unknown when that "
            "is left out, so that nothing tells which depths, which source and which images without a label help. "
            "Train on a second image of each class: label more, or where there are validation images let these train, "
            "too (preprocess.target.split.validation_ratio=0)."
        )
    parts = [f"{ridge} gets {head.accuracy:.1%} of left-out training images right"]
    if head.lone:
        parts.append(
            f"{head.lone:,} of these {len(head.hits):,} are all there is of their class, which is unknown without "
            "them, and count as wrong"
        )
    course = head.probe.evidence
    if course:
        verb = "were used" if course["accepted"] else "were not used, since left-out images gained nothing by them"
        drawn = f" of {head.unlabelled:,}" if course["unlabelled"] < head.unlabelled else ""
        parts.append(f"{course['unlabelled']:,}{drawn} images without a label {verb}")
    if helps is not None:
        gain, error = (evidence["knowledge"][key] for key in ("gain", "standard_error"))
        margin = clear_errors(len(head.hits), head.groups) * error
        difference = f"{100 * gain:+z.1f} ± {100 * margin:.1f} points"
        if helps:
            parts.append(f"the source's weights are worth {difference} over random ones")
        else:
            parts.append(f"the source's weights ADD NOTHING that is clear over random ones ({difference})")
    return "; ".join(parts) + "."
