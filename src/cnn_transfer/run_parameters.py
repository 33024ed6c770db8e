"""All parameter blocks of a run, checked together before its first node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from cnn_transfer.models import SMALLEST_IMAGE_PX
from cnn_transfer.parameters import Parameters
from cnn_transfer.pipelines.evaluate.parameters import EvaluateParameters
from cnn_transfer.pipelines.finetune_target.parameters import FinetuneParameters
from cnn_transfer.pipelines.migrate_model.parameters import MigrateParameters
from cnn_transfer.pipelines.preprocess.parameters import PreprocessParameters
from cnn_transfer.pipelines.pretrain_source.parameters import PretrainParameters
from cnn_transfer.training import Precision


class RunParameters(Parameters):
    """The top level of `parameters*.yml`: one block a stage, and what all stages share."""

    seed: int = Field(ge=0, lt=2**31)
    source_images: str | None = None  # path or address, read by the catalog; None: the bundled set
    target_images: str | None = None
    precision: Precision
    preprocess: PreprocessParameters
    pretrain_source: PretrainParameters
    migrate_model: MigrateParameters
    finetune_target: FinetuneParameters
    evaluate: EvaluateParameters

    @model_validator(mode="after")
    def _images_fit_the_network(self) -> Self:
        architecture, size = self.pretrain_source.architecture, self.preprocess.source.image_format.image_size_px
        if size < SMALLEST_IMAGE_PX[architecture]:
            raise ValueError(
                f"preprocess.*.image_format.image_size_px must be at least {SMALLEST_IMAGE_PX[architecture]} for "
                f"{architecture}; it is {size}"
            )
        return self

    @model_validator(mode="after")
    def _grey_images_keep_their_colours(self) -> Self:
        for stage in (self.pretrain_source, self.finetune_target):
            stage.augmentation.check_channels(self.preprocess.source.image_format.channels)
        return self


def parse_run_parameters(parameters: Mapping[str, Any]) -> RunParameters:
    """Check all blocks; keys with a leading underscore are anchors of the YAML files, not parameters.

    Raises:
        ParameterError: Naming every bad key of every block.
    """
    return RunParameters.parse({key: value for key, value in parameters.items() if not key.startswith("_")}, "")
