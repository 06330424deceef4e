"""car-vae decompress: the pictures, in which form and where they go, and what is said of damaged codes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.codes.wire import seal, to_text
from app.commands.model import Compressor
from app.images.arrays import ImageArray
from app.images.encode import encode_avif, encode_jpeg, encode_webp, enlarge
from app.images.png import encode_png
from tests.app.commands.conftest import Run
from tests.images import array_of, opened


@pytest.fixture
def tall(here: Path, compressor: Compressor) -> tuple[bytes, ImageArray, ImageArray]:
    """The code of the tall photograph, in a file too, its picture, and the same without its border."""
    packed = compressor.compress((here / "tall.png").read_bytes(), 120)
    (here / "tall.car").write_bytes(packed.code)
    left, top, right, bottom = packed.box
    assert (left, top, right, bottom) == (8, 0, 16, 16)
    return packed.code, packed.image, packed.image[top:bottom, left:right]


Tall = tuple[bytes, ImageArray, ImageArray]


def test_a_picture_lies_beside_each_code_in_the_shape_of_the_original(
    run: Run, here: Path, tall: Tall
) -> None:
    assert run("compress", "wide.jpg").exit_code == 0
    (here / "tall.png").unlink()
    result = run("decompress", "wide.car", "tall.car")
    assert (result.exit_code, result.output) == (0, "")
    np.testing.assert_array_equal(array_of((here / "tall.png").read_bytes()), tall[2])
    assert opened((here / "wide.png").read_bytes()).size == (24, 16)


def test_a_code_is_read_from_wherever_it_stands(run: Run, here: Path, tall: Tall) -> None:
    code, _, cropped = tall
    text = to_text(code)
    (here / "text.car").write_text(f"{text}\n")
    for source, given in (
        ("tall.car", b""),
        ("text.car", b""),
        (text, b""),
        ("-", code),
        ("-", f" {text}\n".encode()),
    ):
        result = run("decompress", source, "-o", "-", given=given)
        assert result.exit_code == 0, result.stderr
        np.testing.assert_array_equal(array_of(result.stdout_bytes), cropped)
    np.testing.assert_array_equal(array_of(run("decompress", text).stdout_bytes), cropped)


@pytest.mark.parametrize(
    ("output", "told", "encode"),
    [
        ("a.png", (), encode_png),
        ("a.jpg", (), encode_jpeg),
        ("a.JPEG", (), encode_jpeg),
        ("a.webp", (), encode_webp),
        ("a.avif", (), encode_avif),
        ("a.jpeg", ("--format", "jpg"), encode_jpeg),
        ("folder/", ("--format", "webp"), encode_webp),
        ("-", ("--format", "avif"), encode_avif),
    ],
)
def test_suffix_and_format_say_which_kind(
    run: Run,
    here: Path,
    tall: Tall,
    output: str,
    told: tuple[str, ...],
    encode: Callable[[ImageArray], bytes],
) -> None:
    result = run("decompress", "tall.car", "-o", output, *told)
    assert result.exit_code == 0, result.stderr
    place = here / ("folder/tall.webp" if output == "folder/" else output)
    file = result.stdout_bytes if output == "-" else place.read_bytes()
    assert file == encode(np.ascontiguousarray(tall[2]))


def test_size_and_letterbox(run: Run, tall: Tall) -> None:
    _, whole, cropped = tall
    for told, expected in (
        (("--letterbox",), whole),
        (("--size", "64"), enlarge(np.ascontiguousarray(cropped), 64)),
        (("--size", "64", "--letterbox"), enlarge(whole, 64)),
    ):
        np.testing.assert_array_equal(
            array_of(run("decompress", "tall.car", "-o", "-", *told).stdout_bytes), expected
        )


def test_damaged_codes_are_named_and_others_are_done(run: Run, here: Path, tall: Tall) -> None:
    code, _, cropped = tall
    (here / "cut.car").write_bytes(code[:-1])
    (here / "other.car").write_bytes(other_model(code))
    result = run("decompress", "cut.car", "gone.car", "wide.jpg", "other.car", "tall.car", "-o", "back")
    assert result.exit_code == 1
    cut, gone, photograph, other = result.stderr.splitlines()
    assert cut == "Error: cut.car: the code's check byte does not fit: a part of it is missing or altered"
    assert gone == "Error: gone.car: No such file or directory"
    assert photograph.startswith("Error: wide.jpg: a code has 3 to 400 bytes, not ")
    assert other == "Error: other.car: the code is of a model of version 2; this one is of version 1"
    assert [path.name for path in (here / "back").iterdir()] == ["tall.png"]
    np.testing.assert_array_equal(array_of((here / "back" / "tall.png").read_bytes()), cropped)


def other_model(code: bytes) -> bytes:
    """The same code under the tag of the model's next version."""
    return seal(code[0] + 1, code[1:-1])


def test_nothing_is_replaced_without_force(run: Run, here: Path, tall: Tall) -> None:
    before = (here / "tall.png").read_bytes()
    assert run("decompress", "tall.car").exit_code == 1
    assert (here / "tall.png").read_bytes() == before
    assert run("decompress", "tall.car", "-f").exit_code == 0
    np.testing.assert_array_equal(array_of((here / "tall.png").read_bytes()), tall[2])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument 'CODES...'"),
        (("tall.car", "-o", "a.gif"), "a.gif would be a png: end it in .png, .jpg, .webp or .avif"),
        (("tall.car", "-o", "a.webp", "--format", "png"), "a.webp would be a png"),
        (("tall.car", "--size", "15"), "15 is not in the range 16<=x<=2048"),
        (("tall.car", "CODE", "-o", "folder"), "CODE has no file name: name a file with --output"),
    ],
)
@pytest.mark.usefixtures("tall")
def test_what_means_nothing_is_refused(run: Run, here: Path, arguments: tuple[str, ...], says: str) -> None:
    before = sorted(here.iterdir())
    result = run("decompress", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert sorted(here.iterdir()) == before


def test_what_compress_prints_comes_back(run: Run, here: Path, compressor: Compressor) -> None:
    line = json.loads(run("compress", "wide.jpg", "--json", "--bytes", "300").output)
    packed = compressor.compress((here / "wide.jpg").read_bytes(), 300)
    np.testing.assert_array_equal(array_of(run("decompress", line["code"]).stdout_bytes), packed.image)
