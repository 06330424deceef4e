"""How JSON is read, what of it is refused, and what is said then."""

import codecs
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.json_body import MAX_IMAGES, MAX_JSON_BYTES, MAX_JSON_VALUES, parse_json, without_images
from app.errors import BodyTooLarge, InvalidField, MalformedBody

URL = "data:image/png;base64,"


def test_a_json_object_is_read() -> None:
    assert parse_json(b'{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b"{'a': 1}", b"1 2", b'{"a": Nan}', b"\0\0"]
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="not valid JSON: line 1, column"):
        parse_json(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1"])
def test_json_must_be_an_object(body: bytes) -> None:
    with pytest.raises(InvalidField, match="must be a JSON object"):
        parse_json(body)


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (b'{"latents": [[0, 1, 2, NaN]]}', ["latents[0][3]"]),
        (b'{"latents": [[0], [Infinity, -Infinity, 1e999, -1e400]]}', [f"latents[1][{n}]" for n in range(4)]),
        (b'{"latents": [[%s]]}' % (b"9" * 400), ["latents[0][0]"]),
        (b'{"temperature": NaN, "count": 1}', ["temperature"]),
        (b'{"a": {"b": [{"c": 1e999}]}}', ["a.b[0].c"]),
        (b"NaN", ["body"]),
        (b"[1, NaN]", ["[1]"]),
        (b'{"lambdas":\n[0,\nNaN]}', ["lambdas[1]"]),
        (codecs.BOM_UTF8 + b'{"seed": Infinity}', ["seed"]),
    ],
)
def test_the_places_of_numbers_that_are_not_finite_are_named(body: bytes, places: list[str]) -> None:
    with pytest.raises(InvalidField, match="NaN") as caught:
        parse_json(body)
    assert [place for place, _ in caught.value.problems] == places


def test_the_places_that_are_named_are_bounded() -> None:
    with pytest.raises(InvalidField) as caught:
        parse_json(b'{"' + b"x" * 500 + b'": [' + b"NaN," * 50_000 + b"0]}")
    assert len(str(caught.value)) < 4000


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_json(codecs.BOM_UTF8 + b'{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_in_a_wide_encoding_is_told_by_its_name(encoding: str, mark: str) -> None:
    with pytest.raises(MalformedBody, match=f"JSON in {encoding[:6].upper()}"):
        parse_json((mark + '{"latents": [[0]]}').encode(encoding))


def test_large_json_counts_without_its_images() -> None:
    images = [URL + "A" * 3 * 2**18] * 8
    body = {"latents": [[0.5, 1]], "images": images, "model": "car-vae/1"}
    for text in (json.dumps(body), json.dumps(body, indent=2), json.dumps(body).replace("/", "\\/")):
        assert len(text) > MAX_JSON_BYTES
        assert parse_json(text.encode()) == body | {"images": [""] * 8}


def test_json_beyond_the_limits_is_refused() -> None:
    for body in (
        b" " * (MAX_JSON_BYTES - 1) + b"{}",
        b'{"a":"' + b"A" * MAX_JSON_BYTES + b'"}',
        b'{"images":[' + b",".join([b'"data:image/png;base64,AAAA"'] * 200_000) + b"]}",
    ):
        with pytest.raises(BodyTooLarge, match="beside the pictures"):
            parse_json(body)
    with pytest.raises(BodyTooLarge, match="values"):
        parse_json(b'{"a":[' + b"1," * MAX_JSON_VALUES + b"1]}")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.just(URL)
    | st.text(min_size=1).map(URL.__add__),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.booleans())
def test_leaving_images_out_changes_nothing_else(values: Any, ascii_only: bool) -> None:
    def emptied(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: emptied(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [emptied(inner) for inner in value]
        return "" if isinstance(value, str) and value.startswith("data:image") else value

    def same(found: Any, expected: Any) -> bool:
        if isinstance(expected, dict):
            return found.keys() == expected.keys() and all(
                same(found[name], expected[name]) for name in expected
            )
        if isinstance(expected, list):
            return len(found) == len(expected) and all(map(same, found, expected))
        return bool(found == expected or emptied(found) == expected)

    text = json.dumps(values, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert same(json.loads(without_images(text)), emptied(values))


def test_no_more_than_so_many_images_are_left_out() -> None:
    text = b"[" + b",".join([b'"data:image/png;base64,AAAA"'] * (MAX_IMAGES + 1)) + b"]"
    assert without_images(text).count(b"data:image") == 1


@given(st.binary(max_size=80))
def test_any_json_is_an_object_or_refused(body: bytes) -> None:
    with suppress(MalformedBody, InvalidField):
        assert isinstance(parse_json(body), dict)
