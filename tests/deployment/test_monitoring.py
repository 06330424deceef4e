"""Dashboard and alert rules ask for metrics and labels that the service really has."""

import json
import re
from collections import defaultdict
from itertools import product
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.inference.session import CUDA
from app.server.metrics import Metrics
from app.timings import Timings

DOCKER = Path(__file__).parent.parent.parent / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "car-vae.json").read_text())
RULES = yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
EXPRESSIONS = {
    **{f"panel {panel['title']}": each["expr"] for panel in DASHBOARD["panels"] for each in panel["targets"]},
    **{f"alert {rule['alert']}": rule["expr"] for rule in RULES},
}
SELECTOR = re.compile(r"\b(up|(?:car_vae|process)_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*[=!]")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
FROM_PROMETHEUS = {"job", "instance", "service", "le"}


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """The names of the samples of a service that has done some work, with their labels."""
    metrics, timings = Metrics(frozenset(("/encode",)), queue_timeout=10.0, max_batch_rows=16), Timings()
    timings.add("decode", 0.1)
    metrics.request("/encode", 200, 0.1, timings)
    metrics.batch("encoder", 1, 0.1, 0)
    metrics.skipped("encoder", 1)
    metrics.codes("written", "car-vae/1", [94])
    metrics.serving("car-vae/1", CUDA, {"encoder": "fp32", "decoder": "fp32"})
    found = defaultdict(set, {"up": set[str]()})
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=list(EXPRESSIONS))
def test_expressions_name_what_there_is(expression: str, served: dict[str, set[str]]) -> None:
    selectors = SELECTOR.findall(expression)
    assert selectors
    there = set(FROM_PROMETHEUS)
    for name, matchers in selectors:
        assert name in served
        there |= served[name]
        assert set(LABEL.findall(matchers)) <= served[name] | FROM_PROMETHEUS, name
    for group in GROUPING.findall(expression):
        assert {label.strip() for label in group.split(",")} <= there


def test_every_metric_of_the_service_is_on_the_dashboard(served: dict[str, set[str]]) -> None:
    shown = " ".join(EXPRESSIONS.values())
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in served if name.startswith("car_vae_")}
    assert {name for name in families if name not in shown} == set()


def test_dashboard_is_well_formed() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        columns, rows = range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])
        cells = set(product(columns, rows))
        assert not cells & taken, panel["title"]
        taken |= cells


def test_dashboard_asks_the_source_that_is_provisioned() -> None:
    datasources = DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    provisioned = {source["uid"] for source in yaml.safe_load(datasources.read_text())["datasources"]}
    asked = {each["datasource"]["uid"] for panel in DASHBOARD["panels"] for each in panel["targets"]}
    assert asked == provisioned


def test_every_alert_is_tried() -> None:
    tried = (DOCKER / "prometheus" / "alerts.test.yml").read_text()
    assert {rule["alert"] for rule in RULES} == set(re.findall(r'alertname="(\w+)"\}\', value', tried))


def test_the_gpu_alert_knows_the_provider_by_its_name() -> None:
    (rule,) = (rule for rule in RULES if rule["alert"] == "CarVaeNotOnTheGpu")
    assert f'provider!="{CUDA}"' in rule["expr"]
