"""Two processes that train together against one: the default run's pretraining, a few epochs of it.

    python benchmarks/workers.py [--epochs 2] [--workers 2]

Both get the same batches. In float64 they must agree in many digits, which proves that they do the same. In the
precision of the run they agree to rounding in the first steps, and training makes every difference larger; how much, is
shown by one process that gets each batch in reverse: the same sums in another order. On one machine the processes share
its cores, so that the seconds say what the exchange costs, not what a second machine brings.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]


def pretrain(arguments: argparse.Namespace) -> None:
    """One process's part; the chief writes log and weights."""
    import keras

    from cnn_transfer.images import Augmentation, open_image_set, split_examples, training_batches
    from cnn_transfer.models import build_network, surgery
    from cnn_transfer.training import Optimisation, choose_precision, fit
    from cnn_transfer.training.workers import join

    policy = choose_precision("auto") if arguments.precision == "auto" else arguments.precision
    if policy == "float64":
        keras.config.set_floatx("float64")

        def in_float64(network: keras.Model, _: str) -> keras.Model:
            copy = surgery._rebuild(network, lambda _, config: config.update(dtype="float64"))
            copy.set_weights(network.get_weights())
            return copy

        for name in ("with_precision", "for_training"):
            mock.patch(f"cnn_transfer.training.fit.{name}", in_float64).start()
    if arguments.reverse:
        mock.patch(
            "cnn_transfer.training.fit.training_batches",
            lambda *given: training_batches(*given).map(lambda x, y: (x[::-1], y[::-1])),
        ).start()
    team = join()
    folder = Path(arguments.folder)
    images, splits = open_image_set(folder / "images"), pd.read_parquet(folder / "splits.parquet")
    block = yaml.safe_load((ROOT / "conf/base/parameters_pretrain_source.yml").read_text())["pretrain_source"]
    course = block["optimisation"] | {"epochs": arguments.epochs, "validations": 2 * arguments.epochs}
    network = build_network(block["architecture"], images.image_shape, len(images.class_names), 0)
    given = (
        network, split_examples(images, splits, "training"), split_examples(images, splits, "validation"),
        Optimisation(**course), Augmentation(**block["augmentation"]), policy, 0, "pretraining",
    )  # fmt: skip
    start = time.perf_counter()
    if team is None:
        result = fit(*given)
    else:
        with team.at_work():
            result = fit(*given)
    if team is None or team.index == 0:
        log = result.log.drop(columns="phase").to_numpy(float)
        np.savez(arguments.result, *result.network.get_weights(), log=log, seconds=time.perf_counter() - start)


def prepare(folder: Path) -> None:
    """The images and splits of the default run."""
    from cnn_transfer.images import (
        DecodedImages,
        ImageFormat,
        SplitRule,
        assign_splits,
        list_images,
        open_image_set,
        write_image_set,
    )

    block = yaml.safe_load((ROOT / "conf/base/parameters_preprocess.yml").read_text())["preprocess"]["source"]
    listing = list_images(ROOT / "data/01_raw/fashion_mnist.parquet")
    write_image_set(
        DecodedImages(listing, ImageFormat(**block["image_format"]), np.arange(len(listing.table))), folder / "images"
    )
    table = open_image_set(folder / "images").table
    assign_splits(table, SplitRule(**block["split"]), 0).to_parquet(folder / "splits.parquet")


def run(folder: Path, workers: int, epochs: int, precision: str, reverse: bool = False) -> dict[str, np.ndarray]:
    """Log, weights and seconds of a pretraining in so many processes."""
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in free]
    for server in free:
        server.close()
    result = folder / "result.npz"
    command = [sys.executable, __file__, "--folder", str(folder), "--result", str(result), "--epochs", str(epochs)]
    command += ["--precision", precision, *(["--reverse"] if reverse else [])]
    processes = []
    for index in range(workers):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        if workers > 1:
            environment["TF_CONFIG"] = json.dumps(cluster)
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"{command} failed")
    with np.load(result) as found:
        return {name: found[name] for name in found.files}


def main(arguments: argparse.Namespace) -> None:
    """Compare, and print a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        rows = []
        for precision in ("float64", "auto"):
            one = run(folder, 1, arguments.epochs, precision)
            others = {f"{arguments.workers} processes": run(folder, arguments.workers, arguments.epochs, precision)}
            if precision == "auto":
                others["1, batches in reverse"] = run(folder, 1, arguments.epochs, precision, reverse=True)
            rows.append({"precision": precision, "processes": "1", **figures(one, one)})
            rows += [{"precision": precision, "processes": how, **figures(other, one)} for how, other in others.items()]
    table = pd.DataFrame(rows)
    print(f"{arguments.epochs} epochs of the default pretraining; differences to 1 process")
    print(table.to_string(index=False))


def figures(found: dict[str, np.ndarray], one: dict[str, np.ndarray]) -> dict[str, str]:
    """What a run reached, and how far it is from that of one process."""
    loss, accuracy = found["log"][-1, 4:6]
    weights = [name for name in one if name not in {"log", "seconds"}]
    furthest = max(np.abs(found[name] - one[name]).max() / np.abs(one[name]).max() for name in weights)
    first, last = (np.abs(found["log"] - one["log"])[place, 4] for place in (1, -1))
    return {
        "validation loss": f"{loss:.4f}",
        "accuracy": f"{accuracy:.4f}",
        "loss off, first": f"{first:.1e}",
        "loss off, last": f"{last:.1e}",
        "weights off, relative": f"{furthest:.1e}",
        "seconds": f"{found['seconds']:.0f}",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    for name in ("--folder", "--result", "--precision"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--reverse", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    (pretrain if chosen.folder else main)(chosen)
