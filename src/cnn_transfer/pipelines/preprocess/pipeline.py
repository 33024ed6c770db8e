"""raw images → image set → checked images, rejected images, notes → splits → pictures."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.preprocess.nodes import (
    check_images,
    decode_images,
    draw_images,
    draw_rejected_images,
    split_images,
)

OUTPUTS = (
    "images", "checked_images", "rejected_images", "image_notes", "intake", "splits", "image_counts",
    "image_sheet", "image_histograms", "group_sheet", "rejected_sheet",
)  # fmt: skip


def create_pipeline() -> Pipeline:
    """The stage for both image sets, each in its own namespace."""
    return _one_set("source") + _one_set("target")


def _one_set(role: str) -> Pipeline:
    stage = Pipeline(
        [
            Node(
                decode_images,
                inputs=["raw_images", "params:preprocess", "params:seed"],
                outputs="images",
                name="decode_images",
            ),
            Node(
                check_images,
                inputs=["images", "params:preprocess"],
                outputs=["checked_images", "rejected_images", "image_notes", "intake"],
                name="check_images",
            ),
            Node(
                draw_rejected_images,
                inputs=["images", "rejected_images"],
                outputs="rejected_sheet",
                name="draw_rejected_images",
            ),
            Node(
                split_images,
                inputs=["checked_images", "intake", "params:preprocess", "params:seed"],
                outputs=["splits", "image_counts"],
                name="split_images",
            ),
            Node(
                draw_images,
                inputs=["images", "splits", "rejected_images"],
                outputs=["image_sheet", "image_histograms", "group_sheet"],
                name="draw_images",
            ),
        ]
    )
    return Pipeline(
        stage,
        namespace=f"preprocess.{role}",
        inputs={"raw_images": f"{role}_raw_images"},
        outputs={name: f"{role}_{name}" for name in OUTPUTS},
        parameters={"params:preprocess": f"params:preprocess.{role}", "params:seed": "params:seed"},
        tags=["preprocess"],
    )
