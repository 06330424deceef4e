"""car-vae info: what it says of codes that it can read, and of others."""

from pathlib import Path

import numpy as np
import pytest

from app.codes.codec import CodeCodec
from app.codes.content import CodeContent
from app.codes.latent_layer import LatentValues
from app.codes.wire import seal, tag_of, to_text
from app.commands.model import Compressor
from tests.app.codes.tiny_codes import tiny_tables
from tests.app.commands.conftest import Run

CODEC = CodeCodec(tiny_tables(), tag_of(1))


def said(output: str) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in output.splitlines())


def test_a_code_of_one_layer(run: Run, here: Path) -> None:
    latent = LatentValues(24, np.array([3, 0, -2, 1, 0, 0, 0, 0]))
    code = CODEC.write(CodeContent(3, 5, latent, None))
    result = run("info", to_text(code))
    assert result.exit_code == 0
    assert said(result.stdout) == {
        "bytes": f"{len(code)}, as text {len(to_text(code))} characters",
        "format": "1",
        "model": "tiny-vae/1",
        "shape": "24 x 6",
        "fineness": "0.11 from 0 to 1",
        "latent": "3 of 8 numbers are not 0",
        "residual": "none",
        "readable": "yes",
    }
    (here / "file.car").write_bytes(code)
    assert run("info", "file.car").stdout == run("info", "-", given=code).stdout == result.stdout


def test_a_code_of_two_layers(run: Run, here: Path, compressor: Compressor) -> None:
    code = compressor.compress((here / "tall.png").read_bytes(), 300).code
    residual = CODEC.unpack(code).residual
    assert residual is not None
    shown = said(run("info", to_text(code)).stdout)
    assert shown["shape"] == "8 x 16"
    assert shown["residual"] == f"{(residual.values != 0).sum()} of 384 numbers are not 0"


def test_a_code_of_another_model_and_of_another_format(run: Run, here: Path) -> None:
    for tag, model, why in (
        (tag_of(9), "version 9", "no: the code is of a model of version 9; this one is of version 1"),
        (tag_of(1) + 32, "version 1", "no: the code is of format 2; this model reads format 1"),
    ):
        (here / "other.car").write_bytes(seal(tag, b"payload"))
        result = run("info", "other.car")
        assert result.exit_code == 1
        shown = said(result.stdout)
        assert (shown["model"], shown["readable"], shown["format"]) == (model, why, str(tag >> 5))
        assert shown["bytes"] == "9, as text 12 characters"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("I14469Esc", "the code's base64 breaks off: a part of it is missing"),
        ("gone.car", "gone.car: No such file or directory"),
        ("notes.txt", "the code's check byte does not fit: a part of it is missing or altered"),
        ("A" * 2000, "a code has at most 400 bytes, 534 characters of base64"),
    ],
)
def test_what_is_no_code_is_said_in_a_line(run: Run, code: str, why: str) -> None:
    result = run("info", code)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {why}\n")
