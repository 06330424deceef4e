"""The Kubernetes manifests: valid by the schemas, in step with the settings, no more rights than needed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from app.settings import Settings

KUBERNETES = Path(__file__).parent.parent.parent / "docker" / "kubernetes"
BUILT = ("base", "cpu", "gpu", "train")
Manifest = dict[str, Any]


def read(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def build(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder, of the few things that these folders use."""
    (kustomization,) = read(folder / "kustomization.yaml")
    known = {"apiVersion", "kind", "resources", "images", "patches"}
    assert set(kustomization) <= known
    manifests: list[Manifest] = []
    for resource in kustomization["resources"]:
        path = folder / resource
        manifests += build(path) if path.is_dir() else read(path)
    for patch in kustomization.get("patches", ()):
        targets = [each for each in manifests if each["kind"] == patch["target"]["kind"]]
        assert targets, patch["target"]
        for manifest in targets:
            for operation in yaml.safe_load(patch["patch"]):
                apply(manifest, operation)
    for image in kustomization.get("images", ()):
        for container in (each for manifest in manifests for each in containers(manifest)):
            if container["image"].rpartition(":")[0] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    return manifests


def apply(manifest: Manifest, operation: Manifest) -> None:
    """One add or replace of RFC 6902."""
    *parents, last = (part.replace("~1", "/") for part in operation["path"].strip("/").split("/"))
    place: Any = manifest
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if last == "-":
        place.append(operation["value"])
    else:
        assert (last in place) == (operation["op"] == "replace"), operation
        place[last] = operation["value"]


def containers(manifest: Manifest) -> list[Manifest]:
    template = manifest["spec"].get("template")
    return list(template["spec"]["containers"]) if template else []


def only(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = (each for each in manifests if each["kind"] == kind)
    return found


@pytest.mark.parametrize("name", BUILT)
def test_manifests_are_valid(name: str) -> None:
    for manifest in build(KUBERNETES / name):
        kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_the_validator_sees_a_mistake() -> None:
    deployment = only(build(KUBERNETES / "cpu"), "Deployment")
    containers(deployment)[0]["imagePolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.33", strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl to compare with")
@pytest.mark.parametrize("name", BUILT)
def test_kustomize_makes_the_same(name: str) -> None:
    command = ["kubectl", "kustomize", str(KUBERNETES / name)]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    theirs = [document for document in yaml.safe_load_all(made.stdout) if document]
    ordered = {json.dumps(manifest, sort_keys=True) for manifest in theirs}
    assert ordered == {json.dumps(manifest, sort_keys=True) for manifest in build(KUBERNETES / name)}


@pytest.mark.parametrize("name", ["cpu", "gpu", "train"])
def test_no_more_rights_than_needed(name: str) -> None:
    workloads = [manifest for manifest in build(KUBERNETES / name) if containers(manifest)]
    assert workloads
    for workload in workloads:
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_parts_find_one_another(name: str) -> None:
    manifests = build(KUBERNETES / name)
    deployment, service = only(manifests, "Deployment"), only(manifests, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    assert only(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels
    scaled = only(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert scaled["name"] == deployment["metadata"]["name"]
    ports = {port["name"]: port["containerPort"] for port in containers(deployment)[0]["ports"]}
    assert ports[service["spec"]["ports"][0]["targetPort"]] == Settings.model_fields["port"].default
    (monitor,) = read(KUBERNETES / "monitoring" / "servicemonitor.yaml")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_stopping_waits_for_the_drain(name: str) -> None:
    deployment = only(build(KUBERNETES / name), "Deployment")
    (container,) = containers(deployment)
    settings = {each["name"]: each["value"] for each in container["env"]}
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][-1].partition("sleep(")[2].rstrip(")"))
    drain = int(settings["CAR_VAE_DRAIN_TIMEOUT"])
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= before + drain + 5
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_gpu_overlay_asks_for_a_gpu_and_insists_on_it() -> None:
    (container,) = containers(only(build(KUBERNETES / "gpu"), "Deployment"))
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"name": "CAR_VAE_DEVICE", "value": "cuda"} in container["env"]
    for name in {each["name"] for each in container["env"]}:
        assert name.removeprefix("CAR_VAE_").lower() in Settings.model_fields


def test_the_training_job_agrees_with_itself() -> None:
    manifests = build(KUBERNETES / "train")
    job, service = only(manifests, "Job"), only(manifests, "Service")
    (container,) = containers(job)
    command = container["command"][-1].split()
    machines, gpus = job["spec"]["completions"], container["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--nnodes={machines}" in command
    assert job["spec"]["parallelism"] == machines
    assert f"--nproc-per-node={gpus}" in command
    first = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert f"--master-addr={first}" in command
    assert f"--master-port={service['spec']['ports'][0]['port']}" in command
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
