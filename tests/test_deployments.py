"""Manifests of Kubernetes and the Dockerfile hold together with each other and with the code."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import kubernetes_validate
import pytest
import yaml

from cnn_transfer.exit_codes import REFUSED, STOPPED
from cnn_transfer.pipeline_registry import register_pipelines
from cnn_transfer.run_identity import VARIABLE
from cnn_transfer.serving import Settings, create_app
from cnn_transfer.termination import GRACE_SECONDS

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy/container/Dockerfile"
SERVING = ROOT / "deploy/kubernetes/serving.yml"
MANIFESTS = sorted(set((ROOT / "deploy/kubernetes").glob("*.yml")) - {SERVING})


def load(name):
    return yaml.safe_load((ROOT / "deploy/kubernetes" / name).read_text())


def job_of(manifest):
    return manifest["spec"]["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else manifest["spec"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_fits_the_schema_of_kubernetes(path):
    manifest = load(path.name)
    manifest["metadata"].setdefault("name", "made-by-the-server")  # from generateName
    kubernetes_validate.validate(manifest, "1.37", strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_job_goes_on_after_a_stop_and_has_no_rights(path):
    job = job_of(load(path.name))
    by_code = [
        (rule["action"], rule["onExitCodes"]) for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule
    ]
    assert by_code == [
        ("FailJob", {"operator": "In", "values": [click.UsageError.exit_code, REFUSED]}),
        ("Ignore", {"operator": "In", "values": [STOPPED]}),
    ]
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] > 2 * GRACE_SECONDS
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == tuple(map(int, user.groups()))
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["resources"].keys() == {"requests", "limits"}
        variables = {variable["name"]: variable for variable in container["env"]}
        assert "job-name" in variables[VARIABLE]["valueFrom"]["fieldRef"]["fieldPath"]  # shared by a Job's pods


def test_the_nightly_job_is_the_single_one():
    nightly, single = job_of(load("cronjob.yml")), job_of(load("job.yml"))
    single.pop("ttlSecondsAfterFinished")  # the CronJob's history limits do that
    assert nightly == single


def test_stages_in_their_containers_are_the_whole_graph():
    pod = job_of(load("stages.yml"))["template"]["spec"]
    graphs = register_pipelines()
    stages = []
    for container in [*pod["initContainers"], *pod["containers"]]:
        command, *arguments = container["args"]
        assert (command, arguments[:3]) == ("run", ["--env", "production", "--pipelines"])
        stage, *part = arguments[3:]
        assert part in ([], ["--namespaces", "export"])
        stages.append(graphs[stage].only_nodes_with_namespaces(part[1:]) if part else graphs[stage])
    assert sum(stages[1:], start=stages[0]).nodes == graphs["release"].nodes


def test_the_service_has_no_rights_and_its_probes_settings_and_names_are_those_of_the_code():
    deployment, service, budget = load(SERVING.name)["items"]
    for manifest in (deployment, service, budget):
        kubernetes_validate.validate(manifest, "1.37", strict=True)
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    settings = Settings.read([], variables)
    assert (settings.host, settings.port) == ("0.0.0.0", container["ports"][0]["containerPort"])
    run = job_of(load("job.yml"))["template"]["spec"]["containers"][0]
    [store] = [variable["value"] for variable in run["env"] if variable["name"] == "TRANSFER_STORE"]
    assert settings.release == f"{store}/06_models/release"
    assert pod["terminationGracePeriodSeconds"] > settings.grace_seconds + settings.drain_seconds
    probe = container["readinessProbe"]
    assert settings.grace_seconds > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    paths = {route.path for route in create_app(settings).routes}
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert probes | {deployment["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"]} <= paths
    assert pod["enableServiceLinks"] is False  # CNN_TRANSFER_SERVING_PORT and others would be refused as no settings
    assert container["command"] == ["python", "-m", "cnn_transfer.serving"]
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == tuple(map(int, user.groups()))
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["resources"].keys() == {"requests", "limits"}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (deployment["spec"]["selector"], budget["spec"]["selector"]):
        assert selector["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_the_dockerfile_passes_its_linter():
    hadolint = Path(sys.executable).with_name("hadolint")
    command = shutil.which("hadolint") if not hadolint.exists() else str(hadolint)
    checked = subprocess.run([command, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
