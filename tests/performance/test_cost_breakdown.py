"""The arithmetic of the cost breakdown."""

import json
from pathlib import Path

import pytest

from tests.performance import cost_breakdown
from tests.performance.bench.report import Summary
from tests.performance.cost_breakdown import FLOORS, HTTP, Step, floors, measured_cpu_ms, plot, report
from tests.tiny_model import write_tiny_model


def steps() -> list[Step]:
    names = {name for costs in FLOORS.values() for name in costs}
    return [Step(name, Summary(1000.0, 900.0, 1100.0), 1000.0) for name in sorted(names)]


def test_a_floor_is_the_sum_of_its_steps_as_often_as_they_are_needed() -> None:
    found = floors(steps())
    assert sum(found["encode-256"].values()) == pytest.approx(5.0)
    assert found["decode-64"][cost_breakdown.DECODER] == pytest.approx(64.0)


def test_every_step_of_a_floor_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_breakdown, "REPEAT_SECONDS", 0.0)
    monkeypatch.setattr(cost_breakdown, "REPEATS", 1)
    folder = write_tiny_model(tmp_path / "1")
    measured = [*cost_breakdown.model_steps(folder), *cost_breakdown.host_steps(folder)]
    assert {name for costs in FLOORS.values() for name in costs} - {HTTP} <= {step.name for step in measured}
    assert all(step.per_second > 0 for step in measured)


def test_the_bench_stands_beside_the_floor(tmp_path: Path) -> None:
    samples = [
        {"server": server, "workload": "decode-1", "connections": connections, "cpu_ms": cpu_ms}
        for server, connections, cpu_ms in (
            ("car-vae", 32, 4.0),
            ("car-vae", 32, 9.0),
            ("car-vae", 32, 5.0),
            ("car-vae", 1, 70.0),
            ("mosec", 32, 80.0),
        )
    ]
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"samples": samples}))
    measured = measured_cpu_ms(results)
    assert measured == {"decode-1": 5.0}
    assert "| decode-1 | 4.00 | 5.00 |" in report(steps(), measured)
    plot(steps(), measured, tmp_path / "cost-breakdown.png")
    assert (tmp_path / "cost-breakdown.png").stat().st_size > 1000
