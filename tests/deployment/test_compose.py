"""docker-compose.yml: of the right form, in step with the settings, no more rights than needed."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.deployment.settings_reference import variable

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVING = ("car-vae", "gpu", "replica")
TRAINING = ("train", "train-gpu")


def defaults(text: str) -> dict[str, str]:
    """The variables of a text with their defaults."""
    return dict(re.findall(r"\$\{(\w+):-([^}$]*)", text))


def test_the_compose_file_is_of_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run(
        [*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_plain_up_starts_the_service_alone_and_on_port_8000() -> None:
    assert [name for name, service in SERVICES.items() if not service.get("profiles")] == ["car-vae"]
    assert SERVICES["car-vae"]["ports"] == ["${BIND_ADDRESS:-0.0.0.0}:${HTTP_PORT:-8000}:8000"]


def test_published_ports_differ() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    ports = [re.findall(r":-(\d+)\}:\d+$", port)[0] for port in published]
    assert len(set(ports)) == len(ports) == 5


@pytest.mark.parametrize("name", SERVING)
def test_every_setting_can_be_set(name: str) -> None:
    told = {variable for variable in SERVICES[name]["environment"] if variable.startswith("CAR_VAE_")}
    assert told == set(map(variable, Settings.model_fields)) - {"CAR_VAE_HOST", "CAR_VAE_PORT"}


@pytest.mark.parametrize("name", SERVING)
def test_where_traces_go_can_be_set(name: str) -> None:
    assert {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME"} <= set(SERVICES[name]["environment"])


def test_settings_with_a_default_have_the_settings_own() -> None:
    told = {name: value for name, value in defaults(str(COMPOSE)).items() if name.startswith("CAR_VAE_")}
    assert set(told) == {"CAR_VAE_DEVICE", "CAR_VAE_MAX_BODY_BYTES"}
    for name, value in told.items():
        assert value == str(Settings.model_fields[name.removeprefix("CAR_VAE_").lower()].default)


@pytest.mark.parametrize("name", SERVICES)
def test_no_more_rights_than_needed(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["logging"]["options"]["max-size"]
    if name not in SERVING:  # the user of our own image is in the image
        assert re.fullmatch(r"[1-9]\d*:\d+", re.sub(r"\$\{\w+:-(.*)\}", r"\1", service["user"]))


@pytest.mark.parametrize("name", sorted(set(SERVICES) - set(TRAINING)))
def test_services_are_bounded_and_come_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert service["pids_limit"]


@pytest.mark.parametrize("name", [*SERVING, "balancer"])
def test_stopping_waits_for_the_drain(name: str) -> None:
    (seconds,) = re.findall(r":-(\d+)s\}", SERVICES[name]["stop_grace_period"])
    assert int(seconds) >= Settings.model_fields["drain_timeout"].default + 5


def test_gpus_are_asked_for_as_compose_does() -> None:
    for name in ("gpu", "train-gpu"):
        (device,) = SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert device["capabilities"] == ["gpu"]
    assert SERVICES["gpu"]["environment"]["CAR_VAE_DEVICE"] == "cuda"
    assert {name for name, service in SERVICES.items() if "deploy" in service} == {"gpu", "train-gpu"}


def test_example_has_every_variable_with_its_default() -> None:
    used = defaults((ROOT / "docker-compose.yml").read_text())
    named = dict(re.findall(r"^#(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    passed_on = {name for name in named if name.startswith("CAR_VAE_")}
    assert {name: named[name] for name in set(named) - passed_on} == {
        name: value for name, value in used.items() if not name.startswith("CAR_VAE_")
    }


def test_mounted_files_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source


def test_balancer_and_service_agree() -> None:
    conf = (ROOT / "docker" / "nginx" / "nginx.conf").read_text()
    assert "server replica:8000 " in conf
    assert set(re.findall(r"\blisten (\d+)", conf)) == {SERVICES["balancer"]["ports"][0].rpartition(":")[2]}
    longest_wait = Settings.model_fields["queue_timeout"].default
    assert int(re.findall(r"proxy_read_timeout (\d+)s", conf)[0]) > 2 * longest_wait
