"""Made-up predictors and predictions whose distributions are known."""

import numpy as np
import pandas as pd

from cnn_transfer.models import ModelCard
from cnn_transfer.prediction import PredictorFacts, References

CLASS_NAMES = tuple("abcdefghij")


def make_facts(class_names=CLASS_NAMES, held_out=True):
    """Facts of which only the classes are known, and whether the network was judged on validation images."""
    return PredictorFacts.model_construct(
        card=ModelCard.model_construct(class_names=class_names), familiarity={"held_out": held_out}
    )


def draw_predictions(images, seed, class_names=CLASS_NAMES, **changes):
    """A table of predictions; name columns to be otherwise."""
    rng = np.random.default_rng(seed)
    usual = {
        "width_px": np.full(images, 28),
        "height_px": np.full(images, 28),
        "brightness": rng.beta(5, 30, images),
        "sharpness": rng.gamma(15, 0.012, images),
        "predicted": rng.choice(np.asarray(class_names, object), images),
        "confidence": np.minimum(1, rng.beta(20, 1, images)),
        "distance": np.clip(rng.normal(0.5, 0.07, images), 0, 2),
        "notes": np.full(images, "grey", object),
    }
    return pd.DataFrame(usual | changes)


def make_references(training=200, validation=200, seed=1000, **changes):
    """References drawn from the same distributions."""
    known, judged = (draw_predictions(images, seed + n, **changes) for n, images in enumerate((training, validation)))
    return References(
        known,
        np.empty((training, 2), np.float32),
        np.empty((training, 7), np.float32),
        (2,),
        np.empty((2, 3), np.float32),
        judged,
        known[[]],
        known[[]],
    )
