"""labels of new images → a sample on a page; what somebody said of it → how often the answers are right."""

from kedro.pipeline import Node, Pipeline

from cnn_transfer.pipelines.audit.nodes import collect, draw, draw_mistakes, measure, write_page


def create_pipeline() -> Pipeline:
    """Both halves, `audit.sample` and `audit.result`, between which people label."""
    sample = [
        Node(
            draw,
            inputs=["predictions", "new_images", "params:audit", "params:seed"],
            outputs=["audit_sample", "audit_population"],
            name="draw",
        ),
        Node(collect, inputs=["new_images", "audit_sample"], outputs="audit_images", name="collect"),
        Node(
            write_page,
            inputs=["audit_images", "audit_sample", "audit_population", "earlier_answers"],
            outputs=["audit_known", "audit_page"],
            name="write_page",
        ),
    ]
    result = [
        Node(
            measure,
            inputs=[
                "audit_sample",
                "audit_population",
                "audit_images",
                "audit_labels",
                "earlier_answers",
                "audit_page",
            ],
            outputs=["audit_result", "audit_answers"],
            name="measure",
        ),
        Node(
            draw_mistakes,
            inputs=["audit_answers", "audit_images"],
            outputs="audit_mistakes_sheet",
            name="draw_mistakes",
        ),
    ]
    return sum(
        (
            Pipeline(nodes, namespace=f"audit.{name}", prefix_datasets_with_namespace=False, tags=["audit"])
            for name, nodes in (("sample", sample), ("result", result))
        ),
        start=Pipeline([]),
    )
