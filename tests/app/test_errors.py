"""Every error a client can meet has its row in the table."""

import re

import pytest

from app.errors import ImageError, InvalidField, QueueFull, ServiceError
from app.server.problem_details import STATUS


def leaves(kind: type[ServiceError]) -> set[type[ServiceError]]:
    children = kind.__subclasses__()
    return set().union(*map(leaves, children)) if children else {kind}


def test_the_table_of_problems_holds_exactly_the_errors_that_are_raised() -> None:
    assert set(STATUS) == leaves(ServiceError)
    assert ImageError not in STATUS


@pytest.mark.parametrize("kind", STATUS)
def test_each_row_has_an_error_status_a_plain_type_and_a_phrase(kind: type[ServiceError]) -> None:
    status, name, title = STATUS[kind]
    assert 400 <= status <= 504
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    assert title[0].isupper()
    assert not title.endswith(".")


def test_invalid_field_lists_each_place() -> None:
    error = InvalidField([("a[1]", "must be b"), ("c", "unknown field")])
    assert str(error) == "a[1]: must be b; c: unknown field"
    assert error.problems == (("a[1]", "must be b"), ("c", "unknown field"))


def test_queue_full_asks_for_a_second_unless_told() -> None:
    assert QueueFull("full").retry_after == 1
    assert QueueFull("full", retry_after=7).retry_after == 7
