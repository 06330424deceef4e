"""Settings: where they come from, and what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings


def test_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_VAE_MODEL_DIR", "/models/car-vae/2")
    monkeypatch.setenv("CAR_VAE_PORT", "9000")
    monkeypatch.setenv("CAR_VAE_API_KEYS", "one, two")
    settings = Settings()
    assert settings.model_dir == Path("/models/car-vae/2")
    assert settings.port == 9000
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]


def test_no_key_is_needed_unless_one_is_set() -> None:
    assert Settings().api_keys == ()


@pytest.mark.parametrize("keys", ["", " ", "sesame,", ",sesame", "sesame,,open"])
def test_empty_key_is_refused(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("CAR_VAE_API_KEYS", keys)
    with pytest.raises(ValidationError, match="empty API key") as caught:
        Settings()
    assert "sesame" not in str(caught.value)


def test_keys_are_not_shown() -> None:
    settings = Settings(api_keys="open sesame")  # type: ignore[arg-type]
    assert "sesame" not in repr(settings)


def test_largest_request_must_fit_the_queue() -> None:
    with pytest.raises(ValidationError, match="queue_rows must be at least max_items"):
        Settings(max_items=64, queue_rows=63)


@pytest.mark.parametrize(
    ("name", "value"),
    [("device", "tpu"), ("port", "70000"), ("workers", "0"), ("queue_timeout", "0"), ("log_level", "loud")],
)
def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CAR_VAE_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
