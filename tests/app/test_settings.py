"""Settings: where they come from, and what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.errors import KeysUnreadable
from app.settings import Settings


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_an_empty_key_is_refused(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("CAR_VAE_API_KEYS", keys)
    with pytest.raises(ValidationError, match="empty API key") as caught:
        Settings()
    assert "sesame" not in str(caught.value)


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(Settings.model_fields) - {"api_keys", "api_keys_file"}:
        monkeypatch.setenv(f"CAR_VAE_{name.upper()}", "")
    assert Settings() == Settings.model_construct()


def test_an_empty_name_of_a_file_with_keys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_VAE_API_KEYS_FILE", "")
    with pytest.raises(KeysUnreadable):
        Settings().read_keys()


def test_keys_are_not_shown() -> None:
    settings = Settings(api_keys="open sesame")  # type: ignore[arg-type]
    assert "sesame" not in repr(settings)


def test_the_largest_request_must_fit_the_queue() -> None:
    for limits in ({"max_items": 128, "queue_rows": 127}, {"max_items": 2, "queue_rows": 63}):
        with pytest.raises(ValidationError, match="queue_rows must be at least max_items and 64"):
            Settings(**limits)  # type: ignore[arg-type]
    Settings(max_items=2, queue_rows=64)


def test_the_largest_request_must_fit_the_queue_of_the_refiner() -> None:
    assert Settings(max_items=100).max_refine_rows == 200
    assert Settings(max_items=10, refine_queue_rows=10).max_refine_rows == 10
    assert Settings(refine=False, refine_queue_rows=500).max_refine_rows == 0
    with pytest.raises(ValidationError, match="refine_queue_rows must be at least max_items"):
        Settings(max_items=10, refine_queue_rows=9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "tpu"),
        ("precision", "fp16"),
        ("port", "70000"),
        ("workers", "0"),
        ("queue_timeout", "0"),
        ("log_level", "loud"),
    ],
)
def test_values_out_of_range_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CAR_VAE_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_keys_of_a_file_come_after_those_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("two\n\n three \n")
    settings = Settings(api_keys="one", api_keys_file=tmp_path / "keys")  # type: ignore[arg-type]
    assert settings.needs_key
    assert settings.read_keys() == ("one", "two", "three")
    assert Settings(api_keys_file=tmp_path / "keys").read_keys() == ("two", "three")
    assert Settings().read_keys() == ()
    assert not Settings().needs_key


@pytest.mark.parametrize("content", [None, "", " \n", "\xe9"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "keys").write_text(content)
    settings = Settings(api_keys_file=tmp_path / "keys")
    assert settings.needs_key
    with pytest.raises(KeysUnreadable, match="CAR_VAE_API_KEYS_FILE"):
        settings.read_keys()


def test_older_models_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_VAE_OLDER_MODELS", "/models/car-vae/3, /models/a model")
    assert Settings().older_models == (Path("/models/car-vae/3"), Path("/models/a model"))
    monkeypatch.setenv("CAR_VAE_OLDER_MODELS", "")
    assert Settings().older_models == ()


def test_origins_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAR_VAE_CORS_ORIGINS", "https://example.org, http://localhost:3000")
    assert Settings().cors_origins == ("https://example.org", "http://localhost:3000")


@pytest.mark.parametrize("origins", ["*", "example.org", "https://example.org/", "https://*.org", "null"])
def test_other_origins_are_refused(monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    monkeypatch.setenv("CAR_VAE_CORS_ORIGINS", origins)
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings()
