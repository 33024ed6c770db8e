"""Kedro's settings for this project."""

from typing import Any

from cnn_transfer.configuration import ConfigLoader, environment
from cnn_transfer.context import RunContext, RunSession
from cnn_transfer.hooks import CheckHooks, IntakeHooks, LogHooks, RecordHooks, StoreHooks, SummaryHooks, TensorFlowHooks
from cnn_transfer.tracking import TrackingHooks

HOOKS = (
    LogHooks(),
    CheckHooks(),
    StoreHooks(),
    IntakeHooks(),
    TensorFlowHooks(),
    RecordHooks(),
    TrackingHooks(),
    SummaryHooks(),
)

CONTEXT_CLASS = RunContext
SESSION_CLASS = RunSession

CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"tracking": ["tracking*"]},
    "merge_strategy": {"parameters": "soft"},  # an environment changes single values, not whole blocks
    "custom_resolvers": {"environment": environment},
}
