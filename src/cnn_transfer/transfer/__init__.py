"""Moving a network to another image set: what is transferred, how it is fine-tuned, and what it is compared with."""

from cnn_transfer.transfer.baseline import Baseline, train_baseline
from cnn_transfer.transfer.depths import TapChoice, choose_taps, knn_accuracy
from cnn_transfer.transfer.fine_tuning import WholeNetwork, fine_tune
from cnn_transfer.transfer.plan import TransferPlan, build_target_network, plan_transfer
from cnn_transfer.transfer.probe import Probe, fit_probe
from cnn_transfer.transfer.search import SearchFit

__all__ = [
    "Baseline",
    "Probe",
    "SearchFit",
    "TapChoice",
    "TransferPlan",
    "WholeNetwork",
    "build_target_network",
    "choose_taps",
    "fine_tune",
    "fit_probe",
    "knn_accuracy",
    "plan_transfer",
    "train_baseline",
]
