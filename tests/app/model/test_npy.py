"""Latents as npy files: bit by bit as they were, and whatever else a file may hold is refused."""

import io
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy

from app.errors import InvalidField, MalformedBody, TooManyItems
from app.model.latents import standard_draws
from app.model.npy import MAX_HEADER, read_npy, write_npy

DIM = 8
LATENTS = standard_draws(3, DIM, seed=5)


def file_of(array: Any, version: tuple[int, int] | None = None) -> bytes:
    """As NumPy writes it, with pickle where that is what it takes."""
    file = io.BytesIO()
    npy.write_array(file, np.asarray(array), version)
    return file.getvalue()


def with_header(header: str, numbers: bytes = LATENTS.tobytes(), version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin-1")
    length = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + length + text + numbers


def test_what_is_written_is_read_bit_by_bit() -> None:
    numbers = np.array([[1e-45, -0.0, 3.4e38, 1 / 3, np.inf, -1, 2**-126, np.pi]], np.float32)
    for latents in (LATENTS, numbers, LATENTS[:, ::-1]):
        again = read_npy(write_npy(latents), DIM, 64)
        assert again.tobytes() == latents.tobytes()
        assert again.dtype == np.float32
        assert np.load(io.BytesIO(write_npy(latents))).tobytes() == latents.tobytes()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_either_order_and_version_is_read(order: Any, version: tuple[int, int]) -> None:
    latents = read_npy(file_of(np.array(LATENTS, order=order), version), DIM, 3)
    assert np.array_equal(latents, LATENTS)
    assert latents.flags.c_contiguous
    assert latents.flags.writeable


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (LATENTS.astype(np.float64), "'<f8'"),
        (LATENTS.astype(">f4"), "'>f4'"),
        (LATENTS.astype(np.float16), "'<f2'"),
        (LATENTS.astype(np.int32), "'<i4'"),
        (LATENTS.astype(object), "'|O'"),
        (np.zeros((3, DIM), [("a", "<f4")]), "'|V4'"),
    ],
)
def test_another_type_of_numbers_is_named(array: Any, said: str) -> None:
    with pytest.raises(InvalidField, match="must be little-endian float32") as caught:
        read_npy(file_of(array), DIM, 64)
    assert said in caught.value.problems[0][1]


@pytest.mark.parametrize("shape", [(DIM,), (0, DIM), (3, DIM - 1), (DIM, 3), (1, 3, DIM), ()])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidField, match=r"must be of the shape \(N, 8\)"):
        read_npy(file_of(np.zeros(shape, np.float32)), DIM, 64)


def test_more_latents_than_allowed_are_refused() -> None:
    with pytest.raises(TooManyItems, match="3 latents; at most 2"):
        read_npy(file_of(LATENTS), DIM, 2)


@pytest.mark.parametrize("change", [-96, -4, -1, 1, 4, 96])
def test_bytes_too_few_or_too_many_are_refused(change: int) -> None:
    whole = file_of(LATENTS)
    content = whole + bytes(change) if change > 0 else whole[:change]
    with pytest.raises(MalformedBody, match=f"has {96 + change} bytes of numbers; its header says 96"):
        read_npy(content, DIM, 64)


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 8), }"


def test_a_header_by_hand_is_read() -> None:
    assert np.array_equal(read_npy(with_header(GOOD), DIM, 64), LATENTS)
    assert np.array_equal(read_npy(with_header(GOOD.ljust(MAX_HEADER)), DIM, 64), LATENTS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"PK\x03\x04" + bytes(100),
        file_of(LATENTS).replace(b"\x93NUMPY\x01", b"\x93NUMPY\x04"),
        file_of(LATENTS, (3, 0)),
        with_header(GOOD.ljust(MAX_HEADER + 1)),
        with_header(GOOD.ljust(2**16), version=b"\x02\x00"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + GOOD.encode(),
        with_header("[" * 900),
        with_header("-" * 900 + "1"),
        with_header("{'descr': '<f4', 'shape': (3, 8)}"),
        with_header("{'descr': '<f4', 'fortran_order': 0, 'shape': (3, 8)}"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': '3, 8'}"),
        with_header(GOOD.replace("(3, 8)", "(True, 8)"), LATENTS[:1].tobytes()),
        with_header(GOOD.replace("(3, 8)", "(3, True)")),
        with_header("{'descr': 'nothing', 'fortran_order': False, 'shape': (3, 8)}"),
        with_header("{'descr': [['<f4']], 'fortran_order': False, 'shape': (3, 8)}"),
        with_header("{'descr': __import__('os'), 'fortran_order': False, 'shape': (3, 8)}"),
        with_header("'\\d' is 3"),
        with_header("'''"),
        with_header("\x00"),
    ],
)
def test_what_is_no_such_file_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedBody, match="not an npy file"):
        read_npy(content, DIM, 64)


@pytest.mark.parametrize("shape", ["(-3, 8)", "(3, -8)", "(10**9, 8)", "(9999999999999, 8)", "(True, 8)"])
def test_strange_shapes_are_refused(shape: str) -> None:
    with pytest.raises((MalformedBody, InvalidField, TooManyItems)):
        read_npy(with_header(GOOD.replace("(3, 8)", shape)), DIM, 64)


def test_files_by_python_2_are_read_without_a_warning() -> None:
    with warnings.catch_warnings(action="error"):
        latents = read_npy(with_header(GOOD.replace("(3, 8)", "(3L, 8L)")), DIM, 64)
    assert np.array_equal(latents, LATENTS)


@given(st.integers(0, 127), st.integers(0, 255))
def test_a_changed_byte_of_the_header_never_gives_other_numbers(place: int, value: int) -> None:
    content = bytearray(file_of(LATENTS))
    content[place] = value
    try:
        latents = read_npy(bytes(content), DIM, 64)
    except (MalformedBody, InvalidField, TooManyItems):
        return
    transposed = np.frombuffer(LATENTS.tobytes(), np.float32).reshape((3, 8), order="F")
    assert np.array_equal(latents, LATENTS) or np.array_equal(latents, transposed)
