"""The pipelines as Dagster jobs, made by kedro-dagster from dagster.yml in conf/base and in the environment's folder.

    KEDRO_ENV=test dagster dev --module-name definitions --working-directory deploy/dagster

An op is a node, in a process of its own. It is forked from a process that has imported TensorFlow and loaded the
project, so that an op costs a fork, not an import. README.md beside this file says how to set it up.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.multiprocess import MultiprocessExecutor  # the public one is a function around it
from kedro.framework import project
from kedro_dagster import KedroProjectTranslator

HERE = Path(__file__).resolve().parent
PROJECT = Path(os.environ.get("TRANSFER_PROJECT") or HERE.parents[1])


class OneRunExecutor(MultiprocessExecutor):
    """Dagster's multiprocess executor, whose processes know their run, and so save and load its versions."""

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Run the ops in processes that inherit the run's id in their environment.

        The id begins with the time, so that people find the latest at the end of a list. A run that goes on
        with one that failed has that one's id, and so reads what that has finished.
        """
        first = plan_context.dagster_run.root_run_id or plan_context.run_id
        record = plan_context.instance.get_run_record_by_id(first)
        if record is None:
            raise dg.DagsterInvariantViolationError(
                f"The run {first}, which this one goes on with, is not in Dagster any more. Launch a new run instead."
            )
        os.environ["TRANSFER_RUN_ID"] = f"{record.create_timestamp:%Y-%m-%dT%H.%M.%S.%fZ}_{first}"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else TensorFlow's start fills the log
        os.environ["PYTHONPATH"] = f"{HERE}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")  # to import this module
        return super().execute(plan_context, execution_plan)


@dg.executor(
    name="one_run",
    config_schema={"max_concurrent": dg.Field(int, default_value=2, description="ops at once")},
    requirements=dg.multiple_process_executor_requirements(),
)
def one_run(context: dg.InitExecutorContext) -> OneRunExecutor:
    """The executor of all jobs."""
    return OneRunExecutor(
        retries=RetryMode.ENABLED,
        max_concurrent=context.executor_config["max_concurrent"],
        start_method="forkserver",
        explicit_forkserver_preload=["tensorflow", Path(__file__).stem],
    )


logging.getLogger("kedro_dagster").setLevel(logging.ERROR)  # it warns of every name that has a dot or a colon
# kedro-dagster 0.8 asks for all pipelines once an output, and Kedro's search makes them anew each time: 10 s.
project.find_pipelines = lambda: dict(project.pipelines)

location = KedroProjectTranslator(env=os.environ.get("KEDRO_ENV", "local"), project_path=PROJECT).to_dagster()

defs = dg.Definitions(
    jobs=list(location.named_jobs.values()),
    # What the jobs make, with its history; to look at: a run reads what the same run has made, so that nothing can be
    # materialised by itself.
    assets=[
        spec
        for asset in location.named_assets.values()
        for spec in (asset.specs if isinstance(asset, dg.AssetsDefinition) else [asset])
    ],
    # Its sensor for Kedro's hook on_pipeline_error is left out: nothing here needs it, and it fails itself.
    resources=location.named_resources | {"io_manager": dg.fs_io_manager},
    schedules=list(location.named_schedules.values()),
    executor=one_run,
)
# Dagster derives this from the definitions for every op, about a second each: once, before the ops are forked.
for job in location.named_jobs.values():
    _ = defs.resolve_job_def(job.name).run_config_schema
