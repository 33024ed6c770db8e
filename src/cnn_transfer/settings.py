"""Kedro's settings for this project."""

from cnn_transfer.configuration import ConfigLoader, environment
from cnn_transfer.context import RunContext, RunSession
from cnn_transfer.hooks import CheckHooks, IntakeHooks, RecordHooks, SummaryHooks, TensorFlowHooks

HOOKS = (CheckHooks(), IntakeHooks(), TensorFlowHooks(), RecordHooks(), SummaryHooks())

CONTEXT_CLASS = RunContext
SESSION_CLASS = RunSession

CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # an environment changes single values, not whole blocks
    "custom_resolvers": {"environment": environment},
}
