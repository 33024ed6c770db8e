"""What is moved from the source network to the target, and where the network is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from cnn_transfer.models import ModelCard, add_head, copy_network, cut_layers, cut_network, freeze

if TYPE_CHECKING:
    import keras


class TransferPlan(BaseModel):
    """The decisions behind a migrated network.

    Attributes:
        source: Image set that the source network was trained on.
        source_fingerprint: Fingerprint of that set.
        architecture: Architecture of the source network.
        cut_layer: Layer after which the source network was cut; what lies above it is left behind.
        cut_layers: The layers that it could have been cut after, from shallow to deep.
        head: How the new head starts.
        strategy: `head_then_all`: the head alone on the frozen base first, then the whole network.
        transferred_parameters: Number of weights that come from the source.
        new_parameters: Number of weights of the new head.
        evidence: Why these decisions, in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    source_fingerprint: str
    architecture: str
    cut_layer: str
    cut_layers: tuple[str, ...]
    head: Literal["random"]
    strategy: Literal["head_then_all"]
    transferred_parameters: int
    new_parameters: int
    evidence: str


def plan_transfer(source_network: keras.Model, card: ModelCard, cut_layer: str | None, n_classes: int) -> TransferPlan:
    """Decide where to cut the source network.

    Args:
        source_network: The pretrained network.
        card: Its card.
        cut_layer: Layer wished for; None takes the deepest one before the head.
        n_classes: Number of classes of the target.

    Raises:
        ValueError: When there is no such layer.
    """
    allowed = [name for name in cut_layers(source_network) if name.startswith("block")] or cut_layers(source_network)
    chosen = cut_layer or allowed[-1]
    features = cut_network(source_network, chosen)
    transferred = features.count_params()
    new = add_head(features, n_classes, seed=0).count_params() - transferred
    evidence = "deepest layer before the source's head" if cut_layer is None else "set by the parameter cut_layer"
    return TransferPlan(
        source=card.trained_on,
        source_fingerprint=card.training_fingerprint,
        architecture=card.architecture,
        cut_layer=chosen,
        cut_layers=tuple(allowed),
        head="random",
        strategy="head_then_all",
        transferred_parameters=transferred,
        new_parameters=new,
        evidence=evidence,
    )


def build_target_network(source_network: keras.Model, plan: TransferPlan, n_classes: int, seed: int) -> keras.Model:
    """The source network cut as planned, frozen with its batch statistics, with a new head: one flat graph."""
    network = add_head(cut_network(copy_network(source_network), plan.cut_layer), n_classes, seed)
    freeze(network)
    return network
