"""NPY: latents as an array in NumPy's own file format, read without pickle and written."""

import io
import warnings

import numpy as np
from numpy.lib import format as npy

from app.errors import InvalidField, MalformedBody, TooManyItems
from app.model.latents import Latents

MAX_HEADER = 1024
"""Longest header that is read, in bytes; that of (64, 256) float32 has 118."""
PREFIX = 12
"""Most bytes before a header: the name of the format, its version, and the header's length."""
HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""Of the versions of the format that arrays of numbers are written in; version 3.0 is for names in them."""
FLOAT32 = np.dtype("<f4")


def write_npy(latents: Latents) -> bytes:
    """A file of (N, L) float32, in version 1.0 of the format, little-endian and in C order."""
    file = io.BytesIO()
    npy.write_array(file, np.ascontiguousarray(latents, FLOAT32), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def read_npy(content: bytes, dim: int, max_items: int) -> Latents:
    """The latents in a file: (N, dim) float32 with 1 <= N <= max_items; any number may be in them.

    Raises:
        MalformedBody: it is no such file, or has fewer or more bytes than its header says.
        InvalidField: it holds something other than little-endian float32 of that shape; nothing is unpickled.
        TooManyItems.
    """
    file = io.BytesIO(content[: PREFIX + MAX_HEADER])
    shape, fortran_order, dtype = _header(file)
    if dtype != FLOAT32:
        wanted = FLOAT32.str
        message = (
            f"must be little-endian float32, {wanted!r}, not {dtype.str!r}; send array.astype({wanted!r})"
        )
        raise InvalidField([("latents", message)])
    if len(shape) != 2 or shape[1] != dim or shape[0] < 1:
        raise InvalidField([("latents", f"must be of the shape (N, {dim}), not {shape}"[:200])])
    if shape[0] > max_items:
        raise TooManyItems(f"{shape[0]} latents; at most {max_items} are allowed in one request")
    rest = len(content) - file.tell()
    expected = shape[0] * dim * FLOAT32.itemsize
    if rest != expected:
        raise MalformedBody(f"the npy file has {rest} bytes of numbers; its header says {expected}")
    values = np.frombuffer(content, FLOAT32, offset=file.tell())
    return values.reshape(shape, order="F" if fortran_order else "C").astype(np.float32, order="C")


def _header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """The shape, whether it is in Fortran order, and the dtype."""
    try:
        read = HEADER_READERS[npy.read_magic(file)]
        with warnings.catch_warnings(action="ignore"):  # of files by Python 2, which are read
            shape, fortran_order, dtype = read(file, max_header_size=MAX_HEADER)
        if bool in map(type, shape):  # which are integers to NumPy here, and not where arrays are shaped
            raise ValueError
        return shape, fortran_order, dtype
    except Exception:  # NumPy has Python parse the header, which says in a dozen ways that it cannot
        raise MalformedBody(
            "the body is not an npy file, as its content type says, of version 1.0 or 2.0 and with a header "
            f"of at most {MAX_HEADER} bytes"
        ) from None
