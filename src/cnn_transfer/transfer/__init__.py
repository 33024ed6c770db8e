"""Moving a network to another image set: what is transferred, how it is fine-tuned, and what it is compared with."""

from cnn_transfer.transfer.baseline import Baseline, train_baseline
from cnn_transfer.transfer.depths import choose_taps, knn_accuracy
from cnn_transfer.transfer.features import FeatureExtraction, FeatureSet, open_features, plan_extraction, write_features
from cnn_transfer.transfer.fine_tuning import FineTuning, fine_tune, keep_probe
from cnn_transfer.transfer.head import Head, HeadRule, choose_grid, choose_head
from cnn_transfer.transfer.mirroring import judge_mirroring, rows_to_mirror
from cnn_transfer.transfer.plan import TransferPlan, build_target_network, depth_table, head_weights, plan_transfer
from cnn_transfer.transfer.probe import Probe, fit_probe
from cnn_transfer.transfer.pseudo_labels import Pool, PseudoLabels, build_pool
from cnn_transfer.transfer.ranking import Ranking, describe_choice, rank_sources
from cnn_transfer.transfer.search import SearchFit, is_clearly_better, last_doubling, no_search

__all__ = [
    "Baseline",
    "FeatureExtraction",
    "FeatureSet",
    "FineTuning",
    "Head",
    "HeadRule",
    "Pool",
    "Probe",
    "PseudoLabels",
    "Ranking",
    "SearchFit",
    "TransferPlan",
    "build_pool",
    "build_target_network",
    "choose_grid",
    "choose_head",
    "choose_taps",
    "depth_table",
    "describe_choice",
    "fine_tune",
    "fit_probe",
    "head_weights",
    "is_clearly_better",
    "judge_mirroring",
    "keep_probe",
    "knn_accuracy",
    "last_doubling",
    "no_search",
    "open_features",
    "plan_extraction",
    "plan_transfer",
    "rank_sources",
    "rows_to_mirror",
    "train_baseline",
    "write_features",
]
