"""When TensorFlow is imported, and how quietly."""

from __future__ import annotations

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline.node import Node

from cnn_transfer.datasets import (
    ChosenPredictorDataset,
    CurvePointsDataset,
    FeatureCollectionDataset,
    FeaturesDataset,
    KerasModelDataset,
    PredictorDataset,
    PretrainedNetworksDataset,
)
from cnn_transfer.prediction.native_notes import import_tensorflow
from cnn_transfer.training.workers import role

WITH_TENSORFLOW = (
    ChosenPredictorDataset, CurvePointsDataset, FeatureCollectionDataset, FeaturesDataset, KerasModelDataset,
    PredictorDataset, PretrainedNetworksDataset,
)  # fmt: skip


class TensorFlowHooks:
    """Import TensorFlow without the lines that its C++ core writes to the terminal at start-up."""

    def __init__(self) -> None:
        self._catalog: DataCatalog | None = None
        self._is_quiet = False  # where the process was forked, TensorFlow may be there and look for a GPU yet

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, which tells what a node needs; some orchestrators make one a node and run no pipeline."""
        self._catalog = catalog

    @hook_impl(trylast=True)  # after the checks
    def before_pipeline_run(self) -> None:
        """Import it at once where several machines train together, which meet before the first node."""
        if role() != "alone":
            self._import()

    @hook_impl(tryfirst=True)  # before a node's clock starts
    def before_dataset_loaded(self, node: Node) -> None:
        """Import it before the first node that needs it: a run that takes over all that trains does not pay for it."""
        if self._is_quiet or self._catalog is None:
            return
        datasets = [self._catalog.get(name) for name in (*node.inputs, *node.outputs)]
        if any(isinstance(dataset, WITH_TENSORFLOW) for dataset in datasets):
            self._import()

    def _import(self) -> None:
        import_tensorflow()
        self._is_quiet = True
