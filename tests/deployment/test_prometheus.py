"""A real Prometheus over two replicas: what it scrapes is what dashboard and alerts ask for.

No Debian or Python package brings Grafana; its dashboard's queries are asked of Prometheus here as it would.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.deployment.conftest import Replicas, address_of
from tests.deployment.programs import free_port, program
from tests.deployment.test_monitoring import DASHBOARD, DOCKER
from tests.images import file_of, photograph

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
RATE_SECONDS = 60
NOTHING_TO_SHOW = {"Failing requests", "Rows that left the queue without a run"}
"""Panels of what does not happen here."""

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="no Prometheus is installed (Debian: prometheus)"
)


def configuration(replicas: Replicas) -> str:
    """prometheus.yml, with addresses in place of Docker's names and without its pauses."""
    content: dict[str, Any] = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    content["rule_files"] = [str(DOCKER / "prometheus" / "alerts.yml")]
    (job,) = content["scrape_configs"]
    assert job.pop("relabel_configs")[0]["target_label"] == "service"
    assert "replica" in job.pop("dns_sd_configs")[0]["names"]
    targets = [address_of(replica) for replica in replicas]
    job["static_configs"] = [{"targets": targets, "labels": {"service": "replica"}}]
    return yaml.safe_dump(content)


@pytest.fixture(scope="module")
def prometheus(replicas: Replicas, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    assert PROMETHEUS is not None
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(configuration(replicas))
    port = free_port()
    command = [
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with program(command, f"http://127.0.0.1:{port}", folder / "prometheus.log") as client:
        yield client


def asked(prometheus: httpx.Client, expression: str) -> list[dict[str, Any]]:
    answer = prometheus.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def eventually(prometheus: httpx.Client, expression: str, series: int) -> list[dict[str, Any]]:
    """What an expression gives as soon as it gives so many series."""
    deadline = time.monotonic() + RATE_SECONDS
    while len(found := asked(prometheus, expression)) != series:
        assert time.monotonic() < deadline, (expression, found)
        time.sleep(0.2)
    return found


def work(replicas: Replicas) -> None:
    for replica in replicas:
        assert replica.get("/sample").status_code == 200
        picture = file_of(photograph())
        headers = {"Content-Type": "image/png"}
        assert replica.post("/reconstruct", content=picture, headers=headers).status_code == 200
        code = replica.post("/compress.json", content=picture, headers=headers).json()["items"][0]["codes"][0]
        assert replica.get(f"/c/{code}.png").status_code == 200


def test_every_replica_is_scraped_and_every_panel_has_something_to_show(
    prometheus: httpx.Client, replicas: Replicas
) -> None:
    work(replicas)
    eventually(prometheus, 'up{job="car-vae", service="replica"} == 1', series=2)
    counted = 'sum by (instance) (car_vae_requests_total{endpoint="/reconstruct", status="200"}) > 0'
    instances = {one["metric"]["instance"] for one in eventually(prometheus, counted, series=2)}
    assert instances == {address_of(replica) for replica in replicas}
    work(replicas)
    # A rate is between two scrapes, and of more than was there at the first.
    rate = 'sum by (instance) (rate(car_vae_requests_total{endpoint="/reconstruct"}[1m])) > 0'
    eventually(prometheus, rate, series=2)
    empty = set()
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            expression = re.sub(r'"\$(service|instance)"', '".*"', expression)
            assert "$" not in expression
            if not asked(prometheus, expression):
                empty.add(panel["title"])
    assert empty <= NOTHING_TO_SHOW


def test_alert_rules_are_in_good_health_and_none_goes_off(prometheus: httpx.Client) -> None:
    deadline = time.monotonic() + RATE_SECONDS
    while True:
        groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        if rules and all(rule["health"] != "unknown" for rule in rules):
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yml")], ids=" ".join
)
def test_the_files_are_what_promtool_takes(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments],
        cwd=DOCKER / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout + done.stderr
