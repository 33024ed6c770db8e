"""raw images → image set → splits, rejected images, counts, picture sheet."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.preprocess.nodes import decode_images, draw_image_sheet, split_images

OUTPUTS = ("images", "splits", "rejected_images", "image_counts", "image_sheet")


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
                split_images,
                inputs=["images", "params:preprocess", "params:seed"],
                outputs=["splits", "rejected_images", "image_counts"],
                name="split_images",
            ),
            Node(draw_image_sheet, inputs=["images", "splits"], outputs="image_sheet", name="draw_image_sheet"),
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
