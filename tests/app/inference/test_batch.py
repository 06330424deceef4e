"""Joining rows of several requests, and giving each its own outputs back."""

import asyncio

import numpy as np
import pytest

from app.errors import InferenceFailed
from app.inference.batch import Array, Batch, QueuedRequest


def request(*values: int) -> QueuedRequest:
    future: asyncio.Future[tuple[Array, ...]] = asyncio.Future(loop=asyncio.new_event_loop())
    future.get_loop().close()
    return QueuedRequest(rows(*values), future, submitted=1.0)


def rows(*values: int) -> Array:
    return np.array([[value, value] for value in values])


def test_a_batch_takes_no_more_rows_than_it_has_room_for() -> None:
    batch, big = Batch(), request(1, 2, 3)
    batch.take(request(0), 3, now=2.0)
    batch.take(big, 2, now=2.0)
    assert batch.rows == 3
    assert big.left == 1
    np.testing.assert_array_equal(batch.join(), rows(0, 1, 2))


def test_a_request_starts_with_its_first_rows() -> None:
    big = request(1, 2, 3)
    Batch().take(big, 2, now=2.0)
    Batch().take(big, 2, now=3.0)
    assert big.started == 2.0
    assert big.left == 0


def test_a_lone_request_is_not_copied() -> None:
    batch, lone = Batch(), request(1, 2)
    batch.take(lone, 4, now=2.0)
    assert np.shares_memory(batch.join(), lone.rows)


def test_each_request_gets_its_own_rows_of_every_output() -> None:
    batch, one, other = Batch(), request(1), request(2, 3)
    for each in (one, other):
        batch.take(each, 4, now=2.0)
    answers = batch.split((batch.join() * 2, batch.join()[:, 0]))
    assert [answered for answered, _ in answers] == batch.requests == [one, other]
    for answered, (doubled, firsts) in answers:
        np.testing.assert_array_equal(doubled, answered.rows * 2)
        np.testing.assert_array_equal(firsts, answered.rows[:, 0])
        assert answered.ended > 0


def test_a_split_request_is_answered_with_its_last_batch_alone() -> None:
    big = request(1, 2, 3)
    first, last = Batch(), Batch()
    first.take(big, 2, now=2.0)
    assert first.split((first.join(),)) == []
    last.take(big, 2, now=3.0)
    ((answered, (output,)),) = last.split((last.join(),))
    assert answered is big
    np.testing.assert_array_equal(output, big.rows)


def test_outputs_of_another_length_are_refused() -> None:
    batch = Batch()
    batch.take(request(1, 2), 4, now=2.0)
    with pytest.raises(InferenceFailed, match="batch size mismatch: 2 rows went in and 2, 1 came out"):
        batch.split((batch.join(), batch.join()[1:]))
