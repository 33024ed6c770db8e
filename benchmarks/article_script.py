"""The article's script in plain Keras, repaired just enough to do what it says.

The original fits a network without a head against class labels, then "transfers" it to the same data. Repairs: a head
for pretraining, and the second data set as the target. The rest is the article's: Conv32-Pool-Conv64-Pool-Conv64 as a
base that is called inside the new model, 10 epochs for each fit, batches of 64, Adam at its default rate, float32, no
augmentation. It reads the same files, and trains and tests on the same images, as `kedro run --env article` with the
same seed.

    python benchmarks/article_script.py SPLITS.parquet RESULT.json SEED
"""

import io
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import layers
from PIL import Image

ROOT = Path(__file__).parents[1]


def load(name: str) -> tuple[np.ndarray, np.ndarray, pd.Series]:
    """Images (n, 28, 28, 1) float32 in 0-1, class indices and paths."""
    table = pd.read_parquet(ROOT / "data/01_raw" / name)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image["bytes"]))) for image in table["image"]])
    classes = pd.Categorical(table["label"]).codes
    return pixels[..., None].astype("float32") / 255, classes, table["image"].str.get("path")


splits_file, result_file, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
keras.utils.set_random_seed(seed)
start = time.perf_counter()
source_images, source_classes, _ = load("fashion_mnist.parquet")
target_images, target_classes, target_paths = load("mnist_digits.parquet")
split = pd.read_parquet(splits_file).set_index("id")["split"].reindex(target_paths).to_numpy()
loaded = time.perf_counter()

base = keras.Sequential(
    [
        layers.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
    ]
)
source_model = keras.Sequential(
    [base, layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")]
)
source_model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
source_model.fit(source_images, source_classes, epochs=10, batch_size=64, verbose=0)
pretrained = time.perf_counter()

target_model = keras.Sequential(
    [base, layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")]
)
target_model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
training, test = split == "training", split == "test"
target_model.fit(target_images[training], target_classes[training], epochs=10, batch_size=64, verbose=0)
_, accuracy = target_model.evaluate(target_images[test], target_classes[test], verbose=0)
end = time.perf_counter()
seconds = {"load": loaded - start, "pretrain": pretrained - loaded, "finetune and test": end - pretrained}
Path(result_file).write_text(json.dumps({"accuracy": accuracy, "seconds": seconds}))
