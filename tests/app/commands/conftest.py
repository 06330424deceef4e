"""The program on the tiny model, in the process of the test, and photographs for it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.__main__ import program
from app.commands.model import Compressor, open_compressor
from tests.images import file_of, photograph
from tests.tiny_model import write_tiny_model

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with codes and a refiner."""
    folder = tmp_path_factory.mktemp("coded") / "tiny-vae" / "1"
    return write_tiny_model(folder, refiner=True, codes=True)


@pytest.fixture(scope="session")
def compressor(coded: Path) -> Compressor:
    return open_compressor(coded)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a wide photograph, a tall one and a file that is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wide.jpg").write_bytes(file_of(photograph(60, 40), "JPEG"))
    (tmp_path / "tall.png").write_bytes(file_of(photograph(30, 60, seed=2)))
    (tmp_path / "notes.txt").write_text("no photograph")
    return tmp_path


@pytest.fixture
def run(coded: Path, here: Path) -> Run:  # noqa: ARG001  it runs there
    """run("info", code, ...) with the model in the variable that the service has it from."""

    def run(*arguments: str, given: bytes = b"") -> Result:
        runner = CliRunner(env={"CAR_VAE_MODEL_DIR": str(coded)})
        result = runner.invoke(program, arguments, input=given, prog_name="car-vae")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run
