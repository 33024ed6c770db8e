"""Where the lines of JSON logs come from."""

from __future__ import annotations

from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline.node import Node

from cnn_transfer.log_origin import ORIGIN, current_node
from cnn_transfer.run_identity import given_run_id


class LogHooks:
    """Tell the lines of JSON logs which run and node they come from."""

    def __init__(self) -> None:
        self._run_id: str | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the run's id, when it was given."""
        self._run_id = given_run_id(context.params)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Name the run."""
        ORIGIN.run_id = self._run_id or str(run_params["run_id"])

    @hook_impl(tryfirst=True)
    def before_dataset_loaded(self, node: Node) -> None:
        """Name the node, which begins with its first input."""
        current_node.set(node.name)

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Node) -> None:
        """Name it again: inputs may have been loaded in other threads."""
        current_node.set(node.name)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """What comes now, comes from no node."""
        current_node.set(None)
