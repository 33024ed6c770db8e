"""Nodes of the stage `rank_sources`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from cnn_transfer.evaluation import Figure, draw_ranking
from cnn_transfer.images import ImageFormat, ImageSet
from cnn_transfer.models import NetworkReader, reinitialise
from cnn_transfer.pipelines.rank_sources.parameters import Candidate, RankParameters
from cnn_transfer.transfer import (
    FeatureExtraction,
    FeatureSet,
    HeadRule,
    choose_head,
    describe_choice,
    plan_extraction,
    rank_sources,
)

Wanted = dict[str, Callable[[], FeatureExtraction]]


def extract_candidates(
    read_network: NetworkReader,
    images: ImageSet,
    splits: pd.DataFrame,
    parameters: Mapping[str, Any],
    head: Mapping[str, Any],
    image_format: Mapping[str, Any],
    seed: int,
) -> tuple[Wanted, Wanted]:
    """Say which features are wanted, of each candidate and of random weights of its architecture.

    A network is read when its turn comes to be written, so that only one is in memory.
    """
    block = RankParameters.parse(parameters, "rank_sources")
    rule = _rule(head)
    shape = ImageFormat.parse(image_format, "preprocess.target.image_format").shape

    def extract(candidate: Candidate, random_weights: bool) -> FeatureExtraction:
        network = read_network(candidate, shape).network
        network = reinitialise(network, seed) if random_weights else network
        return plan_extraction(network, images, splits, rule.grids, 0, rule.augmentation, 0, seed)

    candidates = {name: partial(extract, candidate, False) for name, candidate in block.candidates.items()}
    return dict(candidates), {name: partial(extract, block.candidates[name], True) for name in candidates}


def rank(
    features: Mapping[str, FeatureSet],
    random_features: Mapping[str, FeatureSet],
    splits: pd.DataFrame,
    parameters: Mapping[str, Any],
    head: Mapping[str, Any],
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Choose a head on the features of each candidate, rank the candidates by it, and name the best."""
    block, rule = RankParameters.parse(parameters, "rank_sources"), _rule(head)
    heads, random_heads = (
        {name: choose_head(one, splits, its_rule, seed) for name, one in sets.items()}
        for sets, its_rule in ((features, rule), (random_features, rule.of_random_weights()))
    )
    ranking = rank_sources(heads, random_heads)
    table = ranking.table.assign(computed=[features[name].computed for name in ranking.table["candidate"]])
    return table, describe_choice(ranking, block.candidates)


def draw_ranks(ranking: pd.DataFrame) -> Figure:
    """Draw the errors and accuracies of the candidates, and of random weights."""
    return draw_ranking(ranking)


def _rule(head: Mapping[str, Any]) -> HeadRule:
    """That of migrate_model on the labelled images as they are, whatever taps a candidate has."""
    shared = {name: head[name] for name in HeadRule.model_fields}
    return HeadRule.parse(shared | {"taps": None, "copies": 0, "most_unlabelled": 0}, "migrate_model")
