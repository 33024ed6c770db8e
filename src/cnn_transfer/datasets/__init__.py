"""Kedro datasets: the forms that the core's types take on disk.

Every write goes to a temporary name and is renamed when it is complete: a version that exists is whole.
"""

from cnn_transfer.datasets.all_versions_dataset import AllVersionsDataset
from cnn_transfer.datasets.atomic import CSVDataset, JSONDataset, ParquetDataset, TextDataset
from cnn_transfer.datasets.checkpoints_dataset import CheckpointsDataset
from cnn_transfer.datasets.claim import ClaimedError
from cnn_transfer.datasets.curve_points_dataset import CurvePointsDataset
from cnn_transfer.datasets.environment_dataset import EnvironmentDataset
from cnn_transfer.datasets.feature_collection_dataset import FeatureCollectionDataset
from cnn_transfer.datasets.features_dataset import FeaturesDataset
from cnn_transfer.datasets.image_set_dataset import ImageSetDataset
from cnn_transfer.datasets.keras_model_dataset import KerasModelDataset
from cnn_transfer.datasets.label_table_dataset import LabelTableDataset
from cnn_transfer.datasets.labelled_images_dataset import LabelledImagesDataset
from cnn_transfer.datasets.new_images_dataset import NewImagesDataset
from cnn_transfer.datasets.of_model_dataset import OfModelDataset
from cnn_transfer.datasets.predictor_dataset import ChosenPredictorDataset, PredictorDataset
from cnn_transfer.datasets.pretrained_networks_dataset import PretrainedNetworksDataset
from cnn_transfer.datasets.raw_images_dataset import CIFAR10Dataset, RawImagesDataset
from cnn_transfer.datasets.release_dataset import ExportedFilesDataset, PublishedReleasesDataset, ReleaseDataset
from cnn_transfer.datasets.run_records_dataset import RunRecordsDataset

__all__ = [
    "AllVersionsDataset",
    "CIFAR10Dataset",
    "CSVDataset",
    "CheckpointsDataset",
    "ChosenPredictorDataset",
    "ClaimedError",
    "CurvePointsDataset",
    "EnvironmentDataset",
    "ExportedFilesDataset",
    "FeatureCollectionDataset",
    "FeaturesDataset",
    "ImageSetDataset",
    "JSONDataset",
    "KerasModelDataset",
    "LabelTableDataset",
    "LabelledImagesDataset",
    "NewImagesDataset",
    "OfModelDataset",
    "ParquetDataset",
    "PredictorDataset",
    "PretrainedNetworksDataset",
    "PublishedReleasesDataset",
    "RawImagesDataset",
    "ReleaseDataset",
    "RunRecordsDataset",
    "TextDataset",
]
