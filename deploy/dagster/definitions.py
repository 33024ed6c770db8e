import logging, os
from pathlib import Path
import dagster as dg
from dagster._core.executor.multiprocess import MultiprocessExecutor
from dagster._core.execution.retries import RetryMode
from kedro.framework import project
from kedro_dagster import KedroProjectTranslator
logging.getLogger("kedro_dagster").setLevel("ERROR")
HERE=Path(__file__).parent
project.find_pipelines = lambda: dict(project.pipelines)

class E(MultiprocessExecutor):
    def execute(self, plan_context, execution_plan):
        os.environ["TRANSFER_RUN_ID"] = plan_context.dagster_run.root_run_id or plan_context.run_id
        os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH","")])
        return super().execute(plan_context, execution_plan)

@dg.executor(name="one_run_id", config_schema={"max_concurrent": dg.Field(int, default_value=2, is_required=False)}, requirements=dg.multiple_process_executor_requirements())
def one_run_id(init_context):
    return E(retries=RetryMode.ENABLED, max_concurrent=init_context.executor_config["max_concurrent"], start_method="forkserver", explicit_forkserver_preload=["tensorflow", "definitions"])

translator = KedroProjectTranslator(env=os.environ.get("KEDRO_ENV", "base"), project_path=HERE.parents[1])
loc = translator.to_dagster()
defs = dg.Definitions(
    assets=list(loc.named_assets.values()),
    resources=loc.named_resources | {"io_manager": dg.fs_io_manager},
    jobs=list(loc.named_jobs.values()),
    executor=one_run_id,
)
