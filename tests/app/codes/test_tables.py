"""Tables of codes: the same bytes each time, read as they were written, refused where they are damaged."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.codes.tables import CodeTables
from tests.app.codes.tiny_codes import tiny_tables


def test_what_is_saved_is_read() -> None:
    tables = tiny_tables()
    content = tables.save()
    assert content == tiny_tables().save()
    for name, array in vars(CodeTables.read(content)).items():
        np.testing.assert_array_equal(array, getattr(tables, name))
        assert array.dtype == getattr(tables, name).dtype


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_file_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="no tables of codes"):
        CodeTables.read(content)


def test_a_file_that_is_cut_is_refused() -> None:
    content = tiny_tables().save()
    with pytest.raises(ValueError, match="no tables of codes"):
        CodeTables.read(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latent_classes", np.zeros(3, np.int64)),
        ("residual_classes", np.zeros((64, 5), np.int64)),
        ("latent_frequencies", np.ones((96, 41), np.int64)),
        ("residual_frequencies", np.zeros((3, 96, 4), np.int64)),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(
    name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> None:
    changes: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match="no tables of codes"):
        CodeTables.read(replace(tiny_tables(), **changes).save())
