"""A record of each node in the records of the run: with it, the node is done."""

from __future__ import annotations

import logging
import time
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline.node import Node

from cnn_transfer.datasets import (
    CheckpointsDataset,
    ChosenPredictorDataset,
    OfModelDataset,
    RunRecordsDataset,
    versions,
)
from cnn_transfer.fingerprints import Fingerprint, Fingerprints
from cnn_transfer.resources import MemoryWatch, count_images
from cnn_transfer.runner import run_records, versioned

LOGGER = logging.getLogger("cnn_transfer")
CHOSEN = "chosen_predictor"
OF_A_MODEL = (CHOSEN, "model_images", "model_splits")


class RecordHooks:
    """Write what each node read and made, how long it took and what memory it needed to the records of the run.

    A node's time counts from the loading of its first input to the saving of its last output: image sets are decoded
    while they are saved. With its record a node is done: no process of the run does it again.
    """

    def __init__(self) -> None:
        self._catalog: DataCatalog | None = None
        self._records: RunRecordsDataset | None = None
        self._fingerprints: Fingerprints | None = None
        self._started: dict[str, tuple[float, Fingerprint | None]] = {}
        self._unsaved: dict[str, set[str]] = {}
        self._images: dict[str, int | None] = {}
        self._memory = MemoryWatch()

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, and the records to write to."""
        self._catalog = catalog
        self._records = run_records(catalog)
        self._fingerprints = Fingerprints(catalog, self._records) if self._records else None
        for name in OF_A_MODEL if self._records else ():
            if name in catalog and isinstance(dataset := catalog.get(name), ChosenPredictorDataset | OfModelDataset):
                dataset.keep_to(self._used_predictor)

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Start a node's clock with its first input."""
        if node.name not in self._started:
            self._memory.reset()
            fingerprint = self._fingerprints.of(node) if self._fingerprints else None
            self._started[node.name] = (time.perf_counter(), fingerprint)
            self._unsaved[node.name] = set(node.outputs)

    @hook_impl
    def after_node_run(self, node: Node, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Count the images, and remove what a killed process left in the place of the outputs."""
        self._images[node.name] = count_images(inputs, outputs)
        if self._records is None or self._catalog is None:
            return
        for name in node.outputs:
            if dataset := versioned(self._catalog, name):
                versions.discard(dataset, str(dataset.resolve_save_version()))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Stop a node's clock with its last output, and write its record."""
        self._unsaved[node.name].discard(dataset_name)
        if self._unsaved[node.name]:
            return
        started, fingerprint = self._started.pop(node.name)
        seconds = time.perf_counter() - started
        LOGGER.info("%-40s %6.1f s", node.name, seconds)
        if self._records is None or self._catalog is None or fingerprint is None:
            return
        images = self._images.pop(node.name, None)
        record = {
            "node": node.name,
            "fingerprint": fingerprint.value,
            "inputs": fingerprint.inputs,
            "identities": fingerprint.identities,
            "outputs": {name: self._digest(name) for name in node.outputs},
            "seconds": round(seconds, 3),
            "peak_memory_mb": self._memory.peak_mb(),
            "images_per_second": images and round(images / seconds, 1),
            "reused_from": None,
            "finished": time.time(),
        }
        self._records.save({node.name: record})
        for name in node.inputs:
            if isinstance(dataset := self._catalog.get(name), CheckpointsDataset):
                dataset.load().clear()

    def _used_predictor(self) -> str | None:
        """Digest of the predictor that the run has made something with; None where it has not yet."""
        records = self._records.records().values() if self._records else ()
        return next((used for record in records if (used := record.get("inputs", {}).get(CHOSEN))), None)

    def _digest(self, name: str) -> str:
        if self._catalog and (dataset := versioned(self._catalog, name)):
            return versions.digest(dataset, str(dataset.resolve_save_version()))
        return f"not versioned, made {time.time()}"
