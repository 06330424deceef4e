"""Requests made from the OpenAPI document by schemathesis, good and bad ones, against a service over HTTP."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from app.api import openapi
from app.api.openapi import Limits
from app.main import create_app
from app.settings import Settings
from tests.performance.service import Running, running
from tests.tiny_model import LATENT_DIM, write_tiny_model

EXAMPLES = 60
"""Requests for each operation that negotiates, and for each of the service itself."""
FEW = 8
"""Requests for each of the others: behind paths with a suffix the same code answers."""
SEEN: Counter[int] = Counter()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models") / "tiny-vae" / "1"
    write_tiny_model(folder, refiner=True, codes=True)
    with running(folder, log_level="warning") as service:
        yield service
    print(f"answers by status: {dict(sorted(SEEN.items()))}, {SEEN.total()} in all")


def settings_of(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def document() -> dict[str, Any]:
    """What the service of the tests says of itself when its model is loaded."""
    settings = Settings()
    limits = Limits(LATENT_DIM, settings.max_items, settings.max_output_pixels)
    return openapi.document(create_app(settings), frozenset(), limits)


schemathesis.serializer.alias("application/x-npy", "application/octet-stream")
schema = schemathesis.openapi.from_dict(document())


@schema.exclude(path_regex=r"\.\w+$").parametrize()
@settings_of(EXAMPLES)
def test_answers_are_as_described(service: Running, case: schemathesis.Case[Any]) -> None:
    """A described status, media type, headers and body, and bad requests refused."""
    check(service, case)


@schema.include(path_regex=r"\.\w+$").parametrize()
@settings_of(FEW)
def test_answers_in_one_format_are_as_described(service: Running, case: schemathesis.Case[Any]) -> None:
    """The same of paths with a suffix."""
    check(service, case)


def check(service: Running, case: schemathesis.Case[Any]) -> None:
    response = case.call(base_url=f"http://127.0.0.1:{service.port}")
    SEEN[response.status_code] += 1
    # The document cannot say what a readable image is; and schemathesis does not take 413 for a refusal.
    excluded: list[CheckFunction] = [positive_data_acceptance]
    if response.status_code == 413:
        excluded.append(negative_data_rejection)
    case.validate_response(response, excluded_checks=excluded)
    assert response.status_code < 500
