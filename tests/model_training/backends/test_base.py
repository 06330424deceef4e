"""Backends: the batches that rows are run in."""

import numpy as np
import pytest

from model_training.backends.base import BATCH_SIZE, in_batches


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (1, [1]),
        (BATCH_SIZE, [BATCH_SIZE]),
        (BATCH_SIZE + 1, [BATCH_SIZE, 1]),
        (2 * BATCH_SIZE + 5, [BATCH_SIZE, BATCH_SIZE, 5]),
    ],
)
def test_rows_stay_in_order_and_no_batch_is_larger_than_allowed(count: int, sizes: list[int]) -> None:
    rows = np.arange(2 * count).reshape(count, 2)
    batches = in_batches(rows)
    assert [len(batch) for batch in batches] == sizes
    np.testing.assert_array_equal(np.concatenate(batches), rows)


def test_no_rows_are_one_empty_batch() -> None:
    (batch,) = in_batches(np.zeros((0, 3)))
    assert batch.shape == (0, 3)
