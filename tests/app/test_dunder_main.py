"""The program: its commands, help, version and completion, and that it loads no more than it needs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import app.serve
from app.__main__ import main
from app.settings import Settings

ROOT = Path(__file__).parent.parent.parent


def ended(*arguments: str) -> int:
    """The exit code of the program with these arguments."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--help") == 0
    said = capsys.readouterr().out
    assert said.startswith("Usage: car-vae [OPTIONS] [COMMAND]")
    assert re.search(r"^  serve +Serve the model over HTTP until SIGTERM.$", said, re.MULTILINE)


def test_help_of_serve_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("serve", "--help") == 0
    listed = re.findall(r"^  (CAR_VAE_[A-Z_]+)\b", capsys.readouterr().out, re.MULTILINE)
    assert listed == [f"CAR_VAE_{name.upper()}" for name in Settings.model_fields]


def test_version_is_the_projects(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--version") == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"car-vae {project['version']}\n"


@pytest.mark.parametrize("arguments", [(), ("serve",)])
def test_it_serves_with_the_command_and_without_any(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []

    def run() -> int:
        served.append(True)
        return 17

    monkeypatch.setattr(app.serve, "run", run)
    assert ended(*arguments) == 17
    assert served == [True]


@pytest.mark.parametrize("arguments", [("--port=1",), ("serve", "--port=1"), ("drive",), ("--vers",)])
def test_unknown_arguments_are_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(*arguments) == 2
    assert arguments[-1].removesuffix("=1") in capsys.readouterr().err


def python(*arguments: str, **environment: str) -> str:
    command, variables = [sys.executable, *arguments], {**os.environ, **environment}
    return subprocess.check_output(command, cwd=ROOT, env=variables, text=True, timeout=60)


def test_python_m_app_is_the_same_program() -> None:
    assert python("-m", "app", "--version").startswith("car-vae ")


def test_shells_complete_its_commands() -> None:
    words = {"COMP_WORDS": "car-vae se", "COMP_CWORD": "1"}
    assert python("-m", "app", _CAR_VAE_COMPLETE="bash_complete", **words) == "plain,serve\n"
    assert "complete -o nosort -F" in python("-m", "app", _CAR_VAE_COMPLETE="bash_source")


def test_what_only_serving_needs_is_not_loaded_before() -> None:
    heavy = {"fastapi", "numpy", "onnxruntime", "PIL", "pydantic", "uvicorn"}
    loaded = python("-c", "import sys, app.__main__; print(*sys.modules)").split()
    assert "click" in loaded
    assert heavy & set(loaded) == set()
