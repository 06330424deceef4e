"""A minute of mixed work leaves nothing behind; `pytest -m soak`."""

import asyncio
from pathlib import Path

import pytest

from tests.performance.service import running
from tests.performance.soak import soak
from tests.tiny_model import LATENT_DIM, write_tiny_model


@pytest.mark.soak
def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with running(write_tiny_model(tmp_path), log_level="warning") as service:
        result = asyncio.run(soak(service, LATENT_DIM, 90))
    first, *_, last = result.usages
    assert max(result.statuses) < 500
    assert {200, 400, 404, 405, 413, 415, 422} <= set(result.statuses)
    assert result.dropped
    assert last.threads <= first.threads
    assert last.descriptors <= first.descriptors
    assert last.resident_mib < first.resident_mib + 30
