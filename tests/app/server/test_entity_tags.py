"""When a client has what a tag stands for."""

import pytest
from starlette.datastructures import Headers

from app.server.entity_tags import digest, is_known


def headers(*known: str) -> Headers:
    return Headers(raw=[(b"if-none-match", each.encode()) for each in known])


@pytest.mark.parametrize("tag", ['"a"', 'W/"a"'])
@pytest.mark.parametrize(
    "known", [['"a"'], ['W/"a"'], ['"b", "a"'], ['"b"', 'W/"a"'], ["*"], [' "a" ,"c"'], [" * "]]
)
def test_a_tag_is_known_weakly(tag: str, known: list[str]) -> None:
    assert is_known(headers(*known), tag)


@pytest.mark.parametrize(
    "known", [[], [""], ['"b"'], ["a"], ['"a'], ['"A"'], ['"*"'], ['W/W/"a"'], ['"b", *']]
)
def test_other_tags_are_not(known: list[str]) -> None:
    assert not is_known(headers(*known), '"a"')


def test_each_part_and_their_order_decide_a_digest() -> None:
    parts = [["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], ["a"], []]
    assert len({digest(each) for each in parts}) == len(parts)
    assert digest(["a", "b"]) == digest(["a", "b"])
