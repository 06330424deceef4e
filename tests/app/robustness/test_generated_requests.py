"""Requests made from the OpenAPI document by schemathesis, good and bad ones, against a service over HTTP."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from app.main import create_app
from app.settings import Settings
from tests.performance.service import Running, running

EXAMPLES = 60
"""Requests for each operation and phase."""
SEEN: Counter[int] = Counter()


@pytest.fixture(scope="module")
def service(model_folder: Path) -> Iterator[Running]:
    with running(model_folder, log_level="warning") as service:
        yield service
    print(f"answers by status: {dict(sorted(SEEN.items()))}, {SEEN.total()} in all")


schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi())


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described(service: Running, case: schemathesis.Case[Any]) -> None:
    """A described status, media type, headers and body, and bad requests refused."""
    response = case.call(base_url=f"http://127.0.0.1:{service.port}")
    SEEN[response.status_code] += 1
    # The document cannot say what a readable image is, nor how long the latents of the served model are;
    # and schemathesis does not take 413 for a refusal.
    excluded: list[CheckFunction] = [positive_data_acceptance]
    if response.status_code == 413:
        excluded.append(negative_data_rejection)
    case.validate_response(response, excluded_checks=excluded)
    assert response.status_code < 500
