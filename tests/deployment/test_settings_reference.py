"""The operator's page and the example of an .env file say of the settings what is true."""

import re
from pathlib import Path

import pytest

from app.settings import Settings
from tests.deployment import settings_reference
from tests.deployment.settings_reference import GENERATED, WHEN_TO_CHANGE, updated


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_settings_are_described_as_they_are(path: Path) -> None:
    assert path.read_text() == updated(path), "run: python -m tests.deployment.settings_reference"


def test_every_setting_has_its_advice() -> None:
    assert set(WHEN_TO_CHANGE) == set(Settings.model_fields)


def test_a_drift_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings.model_fields["queue_rows"], "default", 4711)
    for path in GENERATED:
        assert "4711" in updated(path)
        assert path.read_text() != updated(path)


def test_the_defaults_in_the_example_are_what_the_service_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.findall(r"^#(CAR_VAE_\w+)=(.+)$", settings_reference.example(), re.MULTILINE)
    assert len(lines) > 10
    for name, value in lines:
        monkeypatch.setenv(name, value)
    assert Settings() == Settings.model_construct()
