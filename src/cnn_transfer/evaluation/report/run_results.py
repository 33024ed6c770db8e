"""What a run found out, as the report and its sections read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cnn_transfer.evaluation.probabilities import percent_text

NETWORKS = {
    "target_metrics": "transfer",
    "baseline_metrics": "from scratch",
    "random_metrics": "random weights",
}


@dataclass(frozen=True)
class RunResults:
    """The results of a run under the names of the catalog; figures as `as_svg` gives them."""

    summary: Mapping[str, Any]
    target_metrics: Mapping[str, Any]
    baseline_metrics: Mapping[str, Any]
    random_metrics: Mapping[str, Any]
    delivered_metrics: Mapping[str, Any]
    calibrated_metrics: Mapping[str, Any]
    calibration: Mapping[str, Any]
    abstention: Mapping[str, Any]
    conformal_sets: Mapping[str, Any]
    set_coverage: Mapping[str, Any]
    unfamiliar_images: Mapping[str, Any]
    familiarity: Mapping[str, Any]
    familiarity_of_test_images: pd.DataFrame
    explanations: Mapping[str, Any]
    map_similarity: Mapping[str, Any]
    run_provenance: Mapping[str, Any]
    transfer_verdict: Mapping[str, Any]
    transfer_plan: Mapping[str, Any]
    source_model_card: Mapping[str, Any]
    target_model_card: Mapping[str, Any]
    delivered_model_card: Mapping[str, Any]
    target_intake: Mapping[str, Any]
    target_image_counts: pd.DataFrame
    target_rejected_images: pd.DataFrame
    target_image_notes: pd.DataFrame
    tap_choice: pd.DataFrame
    depth_scores: pd.DataFrame
    target_trials: pd.DataFrame
    baseline_trials: pd.DataFrame
    random_trials: pd.DataFrame
    per_class_metrics: pd.DataFrame
    reliability: pd.DataFrame
    risk_coverage: pd.DataFrame
    representation_similarity: pd.DataFrame
    accuracy_plot: str
    reliability_plot: str
    risk_coverage_plot: str
    target_image_sheet: str
    target_image_histograms: str
    target_group_sheet: str
    target_rejected_sheet: str
    training_curves: str
    depth_plot: str
    confusion_plot: str
    mistakes_sheet: str
    nearest_sheet: str
    unfamiliar_sheet: str
    damage_sheet: str
    damage_table: pd.DataFrame
    background_reliance: Mapping[str, Any]
    background_sheet: str
    slices: pd.DataFrame
    shortcut_reliance: Mapping[str, Any]
    confused_pairs: pd.DataFrame
    suspected_labels: pd.DataFrame
    confused_pairs_sheet: str
    suspected_labels_sheet: str
    explanations_sheet: str
    similarity_plot: str

    @property
    def level(self) -> str:
        """Of the intervals."""
        return percent_text(self.run_provenance["parameters"]["evaluate"]["confidence"])

    @property
    def networks(self) -> dict[str, Mapping[str, Any]]:
        """Metrics of the networks that there are, by what people call them."""
        named = {name: getattr(self, key) for key, name in NETWORKS.items()}
        return {name: metrics for name, metrics in named.items() if metrics}
