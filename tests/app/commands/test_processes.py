"""The commands as processes: pipes, terminals, interruption, shells, and what they load."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.codes.wire import to_text
from app.commands.model import Compressor
from tests.images import array_of
from tests.tiny_model import HEIGHT, WIDTH

ROOT = Path(__file__).parent.parent.parent.parent
PROGRAM = [sys.executable, "-m", "app"]
PATIENCE = 60


@pytest.fixture
def environment(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the processes are given."""
    monkeypatch.setenv("CAR_VAE_MODEL_DIR", str(coded))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TERM", "xterm")


pytestmark = pytest.mark.usefixtures("environment")


def on_terminal(*arguments: str, stream: str) -> tuple[int, str]:
    """The exit code of the program with one stream on a terminal, and what is written to that."""
    ours, theirs = pty.openpty()
    stdout, stderr = (theirs if stream == one else subprocess.PIPE for one in ("stdout", "stderr"))
    process = subprocess.Popen([*PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 4096):
            written += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.communicate(timeout=PATIENCE)
    return process.returncode, written.decode()


def test_a_photograph_goes_through_a_pipe_and_comes_back(here: Path, compressor: Compressor) -> None:
    content = (here / "wide.jpg").read_bytes()
    code = subprocess.run([*PROGRAM, "compress", "-"], input=content, capture_output=True, check=True).stdout
    assert code == compressor.compress(content, 94).code
    back = subprocess.run([*PROGRAM, "decompress", "-"], input=code, capture_output=True, check=True)
    np.testing.assert_array_equal(array_of(back.stdout), compressor.compress(content, 94).image)
    assert array_of(back.stdout).shape == (HEIGHT, WIDTH, 3)
    assert back.stderr == b""


def test_a_terminal_sees_how_far_it_is_and_what_failed(here: Path) -> None:
    code, shown = on_terminal("compress", "wide.jpg", "notes.txt", "tall.png", stream="stderr")
    assert code == 1
    assert "0/3" in shown
    assert "3/3" in shown
    assert re.search(r"^Error: notes\.txt: not a picture", re.sub(r"\r\x1b\[K", "\n", shown), re.MULTILINE)
    assert sorted(path.name for path in here.glob("*.car")) == ["tall.car", "wide.car"]


def test_a_terminal_is_told_what_became_of_one_photograph(here: Path, compressor: Compressor) -> None:
    content = (here / "wide.jpg").read_bytes()
    packed = compressor.compress(content, 94)
    code, shown = on_terminal("compress", "wide.jpg", stream="stderr")
    assert code == 0
    assert shown == f"{len(content):,} -> {len(packed.code)} bytes, {packed.psnr:.2f} dB\r\n"


@pytest.mark.usefixtures("here")
def test_bytes_are_kept_from_a_terminal() -> None:
    for command, source in (("compress", "-"), ("decompress", "I14469Esc")):
        assert on_terminal(command, source, stream="stdout")[0] == 2


@pytest.mark.usefixtures("here")
def test_a_reader_that_went_away_ends_it_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*PROGRAM, "compress", "--text", "wide.jpg", "tall.png"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=PATIENCE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_interrupt_ends_it_between_files(here: Path, compressor: Compressor) -> None:
    os.mkfifo(here / "pipe.jpg")
    process = subprocess.Popen(
        [*PROGRAM, "compress", "wide.jpg", "pipe.jpg", "tall.png"], stderr=subprocess.PIPE, text=True
    )
    with (here / "pipe.jpg").open("wb"):  # which waits until it reads there
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said.strip()) == (1, "Aborted!")
    assert [path.name for path in here.glob("*.car")] == ["wide.car"]
    assert (here / "wide.car").read_bytes() == compressor.compress((here / "wide.jpg").read_bytes(), 94).code


def test_info_loads_no_graphs_and_no_service(here: Path, compressor: Compressor) -> None:
    code = to_text(compressor.compress((here / "wide.jpg").read_bytes(), 94).code)
    script = (
        "import sys; from app.__main__ import main\ntry: main(sys.argv[1:])\nfinally: print(*sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", script, "info", code], text=True, timeout=PATIENCE)
    *lines, loaded = said.splitlines()
    assert lines[-1] == "readable  yes"
    assert {"onnxruntime", "fastapi", "uvicorn"} & set(loaded.split()) == set()
    assert "numpy" in loaded.split()


def completion(shell: str) -> str:
    """The line that the manual gives for a shell."""
    manual = (ROOT / "docs" / "command-line.md").read_text()
    found = re.search(rf"^(.*_CAR_VAE_COMPLETE={shell}_source.*?) *#", manual, re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`car-vae` among the programs."""
    program = tmp_path / "bin" / "car-vae"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m app "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("installed", "here")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("car-vae dec", "decompress"),
        ("car-vae compress --js", "--json"),
        ("car-vae decompress --format w", "webp"),
    ],
)
def test_bash_completes_commands_options_and_choices(words: str, completed: str) -> None:
    script = (
        f"{completion('bash')}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        '_car_vae_completion car-vae; echo "${COMPREPLY[@]}"'
    )
    assert subprocess.check_output(["bash", "-c", script], text=True, timeout=PATIENCE) == f"{completed}\n"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("shell", "says"), [("zsh", "#compdef car-vae"), ("fish", "complete --no-files --command car-vae")]
)
def test_other_shells_are_given_what_completes(shell: str, says: str) -> None:
    line = completion(shell)
    if shutil.which(shell):
        assert subprocess.run([shell, "-c", line], check=False, timeout=PATIENCE).returncode == 0
    variables = {**os.environ, "_CAR_VAE_COMPLETE": f"{shell}_source"}
    assert says in subprocess.check_output("car-vae", env=variables, text=True, timeout=PATIENCE)
