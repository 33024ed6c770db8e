"""The results of a run that never took place: small, complete, and the same for any number of classes."""

import pandas as pd

from cnn_transfer.evaluation.report import RunResults

METRICS = {
    "accuracy": 0.75,
    "balanced_accuracy": 0.74,
    "macro_f1": 0.73,
    "top_2_accuracy": 0.9,
    "auroc": 0.95,
    "log_loss": 0.61,
    "brier": 0.31,
    "ece": 0.08,
    "classwise_ece": 0.03,
}
FIGURES = (
    "accuracy_plot",
    "reliability_plot",
    "risk_coverage_plot",
    "target_image_sheet",
    "target_image_histograms",
    "target_group_sheet",
    "target_rejected_sheet",
    "training_curves",
    "depth_plot",
    "confusion_plot",
    "mistakes_sheet",
    "nearest_sheet",
    "unfamiliar_sheet",
    "damage_sheet",
    "background_sheet",
    "confused_pairs_sheet",
    "suspected_labels_sheet",
    "explanations_sheet",
    "similarity_plot",
)


NODES = ("preprocess.target.list_images", "preprocess.target.check", "evaluate.measure")


def with_interval(values):
    """The values, each with an end a hundredth below and one above."""
    return {
        f"{key}{end}": value + shift
        for key, value in values.items()
        for end, shift in (("", 0.0), ("_low", -0.01), ("_high", 0.01))
    }


def metrics(shift):
    """Metrics of a network, moved by `shift`."""
    moved = with_interval({key: value + shift for key, value in METRICS.items()})
    return moved | {"ece_if_calibrated": 0.006, "statements": ["Of the calibration error of 8%, 1% is chance."]}


def trials(strategy):
    """Two trials, of which the second was kept."""
    return pd.DataFrame(
        {
            "strategy": ["probe", strategy],
            "learning_rate": [0.0, 0.0123],
            "steps": [0.0, 300.0],
            "images_processed": [2800.5, 9600.25],
            "validation_accuracy": [0.71, 0.76],
            "validation_log_loss": [0.8, 0.62],
            "stopped_by": ["length", "patience"],
            "delivered": [False, True],
        }
    )


def card(name, classes):
    """The card of a model."""
    return {"architecture": "compact_cnn", "class_names": classes, "trained_on": name, "strategy": "lp_ft"}


def make_results(classes):
    """The results of a run on so many classes.

    Args:
        classes: Their names, at least two.
    """
    n = len(classes)
    first, second = classes[:2]
    images = list(range(20, 20 + n))
    target, delivered, calibrated = metrics(0.0), metrics(0.0), metrics(0.0) | with_interval({"ece": 0.007})
    baseline, random = metrics(-0.05), metrics(-0.1)
    abstention = {
        "chosen": {
            "judged_on": "validation images",
            "threshold": 0.9,
            "wished_accuracy": 0.98,
            "promised_accuracy": 0.98,
            "statement": "Answering those that are at least 0.9 sure keeps the wish.",
        },
        "on_test": {
            "threshold": 0.9,
            **with_interval({"answered_share": 0.6, "accuracy": 0.985}),
            "statement": "The network is sure enough of 60% of 300 test images.",
        },
    }
    verdict = {
        **with_interval({"difference": 0.05}),
        "verdict": "positive",
        "mcnemar_p": 0.0123,
        "baseline_failed": False,
        "baseline_unproven": False,
        "training_cost": {
            "baseline_validation_accuracy": 0.9,
            "standard_error": 0.02,
            "baseline_images": 1000.0,
            "target_images": 760.0,
            "ratio": 0.76,
            "ratio_low": 0.5,
            "ratio_high": None,
        },
        "knowledge": {"estimate": 0.1, "low": 0.09, "high": 0.11},
        "method": {"estimate": -0.05, "low": -0.06, "high": -0.04},
        "sentence": "Transfer is better.",
    }
    head = {
        "accuracy": 0.7,
        "standard_error": 0.02,
        "loss": 0.3,
        "nearest_neighbours": 0.6,
        "permuted_labels": 0.2,
        "images": 200,
        "depths_chosen_on": {"images": 200, "classes": 3, "accuracy": 0.68},
    }
    plan = {
        "source": "many parts",
        "taps": ["block1", "block2"],
        "cut_layer": "block2",
        "cut_layers": ["block1", "block2", "block3"],
        "transferred_parameters": 93856,
        "new_parameters": 20170,
        "evidence": {"transferred": head, "random_weights": {**head, "accuracy": 0.5}},
        "sentence": "A ridge on 2 of 3 depths.",
    }
    summary = {
        **with_interval({"target_accuracy": target["accuracy"], "difference": verdict["difference"]}),
        **with_interval({"target_balanced_accuracy": target["balanced_accuracy"]}),
        "baseline_balanced_accuracy": baseline["balanced_accuracy"],
        "baseline_accuracy": baseline["accuracy"],
        "random_accuracy": random["accuracy"],
        "training_cost_ratio": 0.76,
        "verdict": "positive",
        "sentence": verdict["sentence"],
        "advice": [],
        "calibration_error": calibrated["ece"],
        "calibration_error_before": delivered["ece"],
        "calibration_error_by_chance": calibrated["ece_if_calibrated"],
        "wished_accuracy": 0.98,
        "promised_accuracy": 0.98,
        "threshold": 0.9,
        "answered_share": 0.6,
        "answered_accuracy": 0.985,
        "unfamiliar_share": 0.02,
        "statements": [],
        "n_train": 40,
        "n_test": 300,
        "source": plan["source"],
        "plan": plan["sentence"],
        "delivered": "lp_ft, from many parts",
        "seconds": dict(zip(NODES, (1.5, 0.25, 2.5), strict=True)),
        "peak_memory_mb": dict(zip(NODES, (900.0, 950.0, None), strict=True)),
        "images_per_second": dict(zip(NODES, (2000.0, None, None), strict=True)),
        "reused_from": dict(zip(NODES, ("nightly-1", None, None), strict=True)),
    }
    scores = {
        **with_interval({"insertion_gain": 0.3, "deletion_gain": 0.2}),
        "randomisation_correlation": 0.04,
        "stability": 0.99,
    }
    return RunResults(
        summary=summary,
        target_metrics=target,
        baseline_metrics=baseline,
        random_metrics=random,
        delivered_metrics=delivered,
        calibrated_metrics=calibrated,
        calibration={"statement": "The probabilities are made surer with temperature 0.58."},
        abstention=abstention,
        conformal_sets={
            "coverage": 0.95,
            "least_probability": 0.2,
            "statement": "A set holds the true class with a probability of 95%.",
        },
        set_coverage={
            **with_interval({"coverage": 0.96}),
            "single_share": 0.9,
            "mean_size": 1.25,
            "statement": "The sets of 300 images hold the true class in 96% of them.",
        },
        unfamiliar_images={"statement": "1 of 300 images is unfamiliar."},
        familiarity={
            "limit": 2.5,
            "statement": "An image is called unfamiliar when it is far from the training images.",
        },
        familiarity_of_test_images=pd.DataFrame(
            {
                "id": ["near.png", "far.png"],
                "label": [first, second],
                "distance": [0.1, 0.7],
                "strangeness": [0.8, 3.1],
                "unfamiliar": [False, True],
                "unlike": ["", "noise"],
                "nearest_labels": [f"{first} · {second}", f"{second} · {second}"],
            }
        ),
        damage_table=pd.DataFrame(
            {"damage": ["as they are", "noise"], "degree": ["", "5 grey levels"], "images": 50}
        ).assign(
            **with_interval({"right": 0.9, "wrong_answers": 0.04}), unfamiliar=0.02, answered=0.8, right_answers=0.76
        ),
        explanations={
            "statement": "Both passed.",
            "methods": [
                {"method": "grad_cam", **scores, "passes": False, "statement": "Grad-CAM FAILED its tests."},
                {"method": "integrated_gradients", **scores, "passes": True, "statement": "It passed its tests."},
            ],
            "shown": [{"label": first, "predicted": second, "correct": False}],
        },
        map_similarity={"statement": "The maps before and after have a mean rank correlation of 0.50."},
        run_provenance={
            "hardware": {"cpu": "a processor", "cores": 2, "memory_gb": 25.3, "gpus": [], "platform": "Linux"},
            "precision": "float32",
            "data": {"source_images": "f00d", "target_images": "beef"},
            "parameters": {"seed": 7, "evaluate": {"confidence": 0.95}},
            "python": "3.11.7",
            "packages": {"keras": "3.15.1"},
        },
        transfer_verdict=verdict,
        transfer_plan=plan,
        source_model_card=card("many parts", ["x", "y"]),
        target_model_card=card("few parts", classes),
        delivered_model_card=card("few parts", classes),
        target_intake={
            "listed": 505,
            "used": 500,
            "grouped": 8,
            "series": [],
            "set_aside": {"truncated": 3, "exact_duplicate": 2},
            "notes": {"near_duplicate": 8},
            "share_set_aside": 0.006,
        },
        target_image_counts=pd.DataFrame(
            {"label": classes, "training": images, "validation": images, "test": images, "unused": 0, "total": images}
            | {"unlabelled": 0}
        ),
        target_rejected_images=pd.DataFrame(
            {
                "id": [f"{number}.png" for number in range(5)],
                "label": first,
                "reason": ["truncated"] * 3 + ["exact_duplicate"] * 2,
                "detail": "",
            }
        ),
        target_image_notes=pd.DataFrame(
            {
                "id": ["a.png", "b.png", "c.png"],
                "label": first,
                "note": ["grey_to_colour", "grey_to_colour", "near_duplicate"],
                "detail": ["", "", "b.png"],
            }
        ),
        tap_choice=pd.DataFrame(
            {
                "step": ["weigh", "cut"],
                "taps": ["block1", "block1 block2"],
                "deepest": [1.0, 0.5],
                "grid": [2, 3],
                "loss": [0.4, 0.3],
                "difference": [0.1, 0.0],
                "standard_error": [0.01, 0.0],
                "accuracy": [0.6, 0.7],
                "chosen": [False, True],
            }
        ),
        depth_scores=pd.DataFrame({"tap": ["block1", "block2"], "accuracy": [0.6, 0.65]}),
        target_trials=trials("lp_ft"),
        baseline_trials=trials("from_scratch"),
        random_trials=trials("lp_ft"),
        per_class_metrics=pd.DataFrame({"label": classes, "images": images}).assign(
            **with_interval({"recall": 0.7, "precision": 0.8, "f1": 0.75, "auroc": 0.95})
        ),
        reliability=pd.DataFrame(
            {
                "probabilities": ["before", "after"],
                "low": [0.3, 0.4],
                "high": [0.99, 0.999],
                "images": [300, 300],
                "confidence": [0.67, 0.74],
                **with_interval({"accuracy": 0.75}),
            }
        ),
        risk_coverage=pd.DataFrame(
            {"threshold": [0.99999, 0.5], "coverage": [0.1, 1.0], "accuracy": [1.0, 0.75], "images": [30, 300]}
        ),
        representation_similarity=pd.DataFrame({"layer": ["block1", "block2"], **with_interval({"cka": 0.9})}),
        slices=pd.DataFrame(
            {
                "attribute": "brightness",
                "slice": ["0.1 to 0.2", "0.2 to 0.3"],
                "images": [100, 200],
                **with_interval({"accuracy": 0.7}),
                "rest_accuracy": [0.8, 0.7],
                "difference": [-0.1, 0.1],
                "p_value": [0.001, 0.001],
                "conspicuous": [False, False],
            }
        ),
        shortcut_reliance={},
        background_reliance={
            "images": 50,
            "backgrounds": 250,
            "right": 0.9,
            "right_on_own_background": 0.88,
            "right_on_other_background": 0.86,
            "difference": 0.02,
            "difference_low": -0.05,
            "difference_high": 0.09,
            "taken_for_background": 0.04,
            "taken_for_it_anyway": 0.02,
            "middle": 0.5,
        },
        confused_pairs=pd.DataFrame(
            {"label": [first], "predicted": [second], "images": [11], "share_of_label": [0.12]}
        ),
        suspected_labels=pd.DataFrame(
            {
                "id": ["odd.png"],
                "split": ["test"],
                "label": [first],
                "suggested": [second],
                "probability_of_label": [0.01],
                "probability_of_suggested": [0.98],
                "margin": [0.97],
            }
        ),
        **{name: f'<svg viewBox="0 0 400 300"><text>{name}</text></svg>' for name in FIGURES},
    )
