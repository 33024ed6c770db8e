"""All parameter blocks of a run, checked together before its first node."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Self

from pydantic import Field, StrictBool, field_validator, model_validator

from cnn_transfer.models import SMALLEST_IMAGE_PX
from cnn_transfer.parameters import ParameterError, Parameters, check_pattern
from cnn_transfer.pipelines.audit.parameters import AuditParameters
from cnn_transfer.pipelines.evaluate.parameters import EvaluateParameters
from cnn_transfer.pipelines.export.parameters import ExportParameters
from cnn_transfer.pipelines.finetune_target.parameters import FinetuneParameters
from cnn_transfer.pipelines.import_source.parameters import ImportParameters
from cnn_transfer.pipelines.label_next.parameters import LabelNextParameters
from cnn_transfer.pipelines.learning_curve.parameters import LearningCurveParameters
from cnn_transfer.pipelines.migrate_model.parameters import MigrateParameters
from cnn_transfer.pipelines.predict.parameters import PredictParameters
from cnn_transfer.pipelines.preprocess.parameters import PreprocessParameters
from cnn_transfer.pipelines.pretrain_source.parameters import PretrainParameters
from cnn_transfer.pipelines.rank_sources.parameters import RankParameters
from cnn_transfer.training import Precision


class ColumnNames(Parameters):
    """What the columns of a table of images are called; None: as here, but `path` for the file.

    The file may be made of several columns, in braces: `images/{image_id}.jpg`; with wildcards, `./**/{image_id}.*`, it
    is looked for. The label may be marked in one column a class, in braces: `./{MEL}{NV}{BCC}`.
    """

    file: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None


class RunParameters(Parameters):
    """The top level of `parameters*.yml`: one block a stage, and what all stages share.

    What nodes and hooks are given as it stands in the files, not as part of a block that they parse, is strict: "false"
    would be true there.
    """

    seed: int = Field(ge=0, lt=2**31, strict=True)
    source_images: str | None = None  # path or address, read by the catalog; None: the bundled set
    target_images: str | None = None
    source_name_pattern: str | None = None  # what names of images say of their classes, read by the catalog
    target_name_pattern: str | None = None
    source_columns: ColumnNames | None = None  # of a table of images, read by the catalog
    target_columns: ColumnNames | None = None
    target_labels: str | None = None  # table of labels, or folder of such tables, read by the catalog
    images: str | None = None  # new ones, for predict
    images_columns: ColumnNames | None = None  # of a table of them, read by the catalog
    audit_labels: str | None = None  # table of what people say that new images are, or folder of such tables
    model_version: str | int | None = None  # of the predictor that is used, read by the catalog; None: the newest
    precision: Precision
    workers: int = Field(ge=1, le=1024, strict=True)  # machines that train together
    run_id: str | int | None = None  # see run_identity; None: from the environment, or made
    mlflow: StrictBool  # read by the hooks of tracking
    reuse: StrictBool  # what earlier runs made from the same
    preprocess: PreprocessParameters
    pretrain_source: PretrainParameters
    import_source: ImportParameters
    migrate_model: MigrateParameters
    finetune_target: FinetuneParameters
    evaluate: EvaluateParameters
    export: ExportParameters
    label_next: LabelNextParameters
    learning_curve: LearningCurveParameters
    rank_sources: RankParameters
    predict: PredictParameters
    audit: AuditParameters

    @field_validator("source_name_pattern", "target_name_pattern")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        return None if pattern is None else check_pattern(pattern, "'^([a-z]+)'")

    @model_validator(mode="after")
    def _grey_images_keep_their_colours(self) -> Self:
        for stage in (self.pretrain_source, self.migrate_model, self.finetune_target):
            stage.augmentation.check_channels(self.preprocess.source.image_format.channels)
        return self

    def check_stages(self, stages: Collection[str]) -> None:
        """See whether what the stages of a run use is there: packages of exports, source networks that take its images.

        Args:
            stages: Names of the stages that run; without `import_source` and `rank_sources`, the network is that of
                `pretrain_source`.

        Raises:
            ParameterError: Saying what does not fit, and what to change.
        """
        if "export" in stages:
            self.export.check()
        if self.images is not None and stages and {"predict", "audit"}.isdisjoint(stages):
            raise ParameterError(
                f"images: {self.images} was asked for, but nothing of this run labels new images. Run --pipelines "
                "predict, or name the images to learn from with target_images or source_images."
            )
        if self.audit_labels is not None and stages and "audit" not in stages:
            raise ParameterError(
                f"audit_labels: {self.audit_labels} was asked for, but nothing of this run measures answers by it. Run "
                "--pipelines audit, or give labels to learn from with target_labels."
            )
        image_format = self.preprocess.target.image_format
        if "import_source" in stages:
            try:
                self.import_source.check(image_format.shape)
            except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
                raise ParameterError(f"import_source.network: {error}") from error
        if "rank_sources" in stages:
            self.rank_sources.check(image_format.shape)
        if not {"import_source", "rank_sources"}.isdisjoint(stages):
            if self.source_images is not None and "pretrain_source" not in stages:
                raise ParameterError(
                    f"source_images: {self.source_images} was asked for, but an imported network needs no source "
                    "images. Leave it out, or run --pipelines transfer."
                )
            return
        architecture = self.pretrain_source.architecture
        if image_format.image_size_px < SMALLEST_IMAGE_PX[architecture]:
            raise ParameterError(
                f"preprocess.*.image_format.image_size_px must be at least {SMALLEST_IMAGE_PX[architecture]} for "
                f"{architecture}; it is {image_format.image_size_px}"
            )


def parse_run_parameters(parameters: Mapping[str, Any], stages: Collection[str] = ()) -> RunParameters:
    """Check all blocks; keys with a leading underscore are anchors of the YAML files, not parameters.

    Args:
        parameters: The configuration's parameters.
        stages: Names of the stages that run, which decide where the source network comes from.

    Raises:
        ParameterError: Naming every bad key of every block.
    """
    run = RunParameters.parse({key: value for key, value in parameters.items() if not key.startswith("_")}, "")
    run.check_stages(stages)
    return run
