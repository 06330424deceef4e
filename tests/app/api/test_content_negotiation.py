"""Which format is answered, and how bodies are taken apart."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from app.api.bodies import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_JSON_BYTES,
    body_type,
    is_json,
    parse_json,
    parse_pictures,
    read_body,
)
from app.api.content_negotiation import ANIMATIONS, JSON, MEDIA_TYPES, PICTURES, Format, choose_format
from app.errors import (
    BodyTooLarge,
    InvalidField,
    MalformedBody,
    NotAcceptable,
    ServiceError,
    TooManyItems,
    UnsupportedBody,
)

BROWSER_IMAGE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
BROWSER_PAGE = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
)


def request(accept: Sequence[str] = (), query: str = "", **headers: str) -> Request:
    fields = [(b"accept", value.encode()) for value in accept]
    fields += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": fields, "query_string": query.encode()})


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ([], "png"),
        ([""], "png"),
        (["*/*"], "png"),
        (["image/*"], "png"),
        (["application/json"], "json"),
        (["application/*"], "json"),
        (["IMAGE/JPEG"], "jpeg"),
        (["image/jpeg;q=0.5, image/webp;q=0.6"], "webp"),
        (["image/png;q=0.1, */*"], "jpeg"),
        (["image/png;q=0, image/*"], "jpeg"),
        (["application/json, text/plain, */*"], "json"),
        (["application/json;q=0.9, */*;q=0.1"], "json"),
        (["text/html", "image/webp"], "webp"),
        (["image/webp;level=1"], "webp"),
        (["nonsense;;;, image/webp;q=high, image/jpeg"], "jpeg"),
        ([BROWSER_IMAGE], "webp"),
        ([BROWSER_PAGE], "webp"),
        (["image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"], "png"),
    ],
)
def test_accept_chooses(accept: list[str], chosen: str) -> None:
    assert choose_format(request(accept), PICTURES) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/gif", "image/avif", "*/*;q=0", "image/png;q=0", "x"])
def test_nothing_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="image/png"):
        choose_format(request([accept]), PICTURES)


@pytest.mark.parametrize("name", ANIMATIONS)
def test_query_wins_over_accept(name: Format) -> None:
    assert choose_format(request(["text/html"], f"size=5&format={name}"), ANIMATIONS) == name


def test_animation_by_accept_only_where_offered() -> None:
    assert choose_format(request(["image/gif"]), ANIMATIONS) == "gif"
    with pytest.raises(NotAcceptable):
        choose_format(request([], "format=gif"), PICTURES)


def test_json_only() -> None:
    assert choose_format(request(), JSON) == "json"
    with pytest.raises(NotAcceptable):
        choose_format(request(["image/png"]), JSON)


@pytest.mark.parametrize("name", ["", "bmp", "PNG", "png,jpeg"])
def test_unknown_format(name: str) -> None:
    with pytest.raises(InvalidField) as caught:
        choose_format(request([], f"format={name}"), PICTURES)
    assert caught.value.problems[0][0] == "query.format"


def receiving(*messages: dict[str, Any]) -> Request:
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        message = next(waiting, None)
        return message if message is not None else await asyncio.Event().wait()  # type: ignore[return-value]

    return Request({"type": "http", "headers": []}, receive)


def piece(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_body_in_one_piece_is_not_copied() -> None:
    body = b"all of it"
    assert await read_body(receiving(piece(body, False)), 10) is body


async def test_body_in_pieces() -> None:
    pieces = receiving(
        piece(b"a", True), piece(b"", True), piece(b"b", True), {"type": "http.request", "body": b"c"}
    )
    assert await read_body(pieces, 10) == b"abc"


async def test_body_that_does_not_arrive() -> None:
    with pytest.raises(MalformedBody, match=r"0\.01 seconds"):
        await read_body(receiving(piece(b"a", True)), 0.01)


async def test_client_that_leaves_while_sending() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(receiving(piece(b"a", True), {"type": "http.disconnect"}), 10)


def test_body_types() -> None:
    assert body_type(request(content_type="Application/JSON; charset=utf-8")) == "application/json"
    assert body_type(request()) == ""
    assert is_json("application/json")
    assert is_json("application/vnd.cars+json")
    assert not is_json("text/json-ish")


def test_json() -> None:
    assert parse_json(b'{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[NaN]", b"[Infinity]", b"\xff", b"[" * 100_000, b"{'a': 1}", b"1 2"]
)
def test_malformed_json(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="not valid JSON: line 1, column"):
        parse_json(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1"])
def test_json_that_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidField, match="must be a JSON object"):
        parse_json(body)


FORM = "multipart/form-data; boundary=line"


def part(content: bytes, name: bytes = b'name="image"; filename="car.jpg"') -> bytes:
    return b"--line\r\nContent-Disposition: form-data; " + name + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "IMAGE/PNG; x=y", "application/octet-stream", "image/new"]
)
def test_raw_body_is_one_picture(content_type: str) -> None:
    upload = parse_pictures(b"picture", content_type, 1)
    assert upload.pictures == [b"picture"]
    assert upload.fields == {}


def test_pictures_of_a_form_keep_their_order() -> None:
    body = part(b"one") + part(b"\r\n--lin\r\n-", b'filename="x"; name="image"') + part(b"") + b"--line--\r\n"
    assert parse_pictures(body, FORM, 3).pictures == [b"one", b"\r\n--lin\r\n-", b""]


@pytest.mark.parametrize("name", [b"name=image", b'NAME="image"', b'filename="a; name=x"; name="image"'])
def test_ways_to_write_the_name(name: bytes) -> None:
    assert parse_pictures(part(b"one", name) + b"--line--", FORM, 1).pictures == [b"one"]


def test_fields_beside_the_pictures() -> None:
    body = (
        part(b"1", b'name="a"') + part(b"picture") + part(b"2", b'name="a"') + part(b"\xc3\xa9", b'name="b"')
    )
    upload = parse_pictures(body + b"--line--", FORM, 1)
    assert upload.pictures == [b"picture"]
    assert upload.fields == {"a": ["1", "2"], "b": ["é"]}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM),
        (b"--line--", "multipart/form-data"),
        (b"--line--", "multipart/form-data; boundary="),
        (b"--line--", "multipart/form-data; boundary=" + 300 * "x"),
        (b"no boundary", FORM),
        (part(b"\r\n--linen") + b"--line--", FORM),
        (part(b"one"), FORM),
        (part(b"one")[:-2], FORM),
        (part(b"one").replace(b"\r\n\r\n", b"\r\n", 1) + b"--line--", FORM),
        (b"--line\r\nContent-Disposition\r\n\r\nx\r\n--line--", FORM),
        (part(b"one", b"filename=x") + b"--line--", FORM),
        (b"--line\r\n\r\nx\r\n--line--", FORM),
    ],
)
def test_malformed_forms(body: bytes, content_type: str) -> None:
    with pytest.raises(MalformedBody):
        parse_pictures(body, content_type, 4)


def test_too_many_pictures() -> None:
    with pytest.raises(TooManyItems, match="more than 2 pictures"):
        parse_pictures(3 * part(b"one") + b"--line--", FORM, 2)


def test_too_many_fields() -> None:
    with pytest.raises(TooManyItems, match="form fields"):
        parse_pictures((MAX_FIELDS + 1) * part(b"1", b'name="a"') + b"--line--", FORM, 2)


def test_too_many_names() -> None:
    body = b"".join(part(b"1", b'name="a%d"' % number) for number in range(MAX_FIELDS + 1))
    with pytest.raises(TooManyItems, match="form fields"):
        parse_pictures(body + b"--line--", FORM, 2)


def test_preamble_epilogue_and_padding_are_skipped() -> None:
    body = b"preamble\r\n" + part(b"one").replace(b"--line\r\n", b"--line \t\r\n") + b"--line--\r\nepilogue"
    assert parse_pictures(body, FORM, 1).pictures == [b"one"]


def test_headers_without_end() -> None:
    with pytest.raises(MalformedBody, match="damaged"):
        parse_pictures(b"--line\r\n" + b"A" * 10_000 + part(b"one") + b"--line--", FORM, 2)


def test_json_too_large() -> None:
    with pytest.raises(BodyTooLarge):
        parse_json(b" " * (MAX_JSON_BYTES - 1) + b"{}")


def test_field_too_long() -> None:
    with pytest.raises(InvalidField, match="must be at most"):
        parse_pictures(part(b"1" * (MAX_FIELD_BYTES + 1), b'name="a"') + b"--line--", FORM, 2)


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/json", "multipart/mixed; boundary=line"]
)
def test_other_bodies(content_type: str) -> None:
    with pytest.raises(UnsupportedBody, match="multipart/form-data"):
        parse_pictures(b"--line--", content_type, 2)


RANGES = st.sampled_from(["*/*", "image/*", "text/html", *MEDIA_TYPES.values()])
QUALITIES = st.one_of(st.none(), st.sampled_from(["0", "0.001", "1", "x", "nan", "-1", "9"]))


@given(st.lists(st.tuples(RANGES, QUALITIES), min_size=1, max_size=6))
def test_what_is_chosen_was_offered_and_not_ruled_out(ranges: list[tuple[str, str | None]]) -> None:
    accept = ", ".join(name if quality is None else f"{name};q={quality}" for name, quality in ranges)
    try:
        chosen = choose_format(request([accept]), ANIMATIONS)
    except NotAcceptable:
        assert ("*/*", None) not in ranges or len({quality for _, quality in ranges}) > 1
        return
    assert chosen in ANIMATIONS
    family = {MEDIA_TYPES[chosen], MEDIA_TYPES[chosen].partition("/")[0] + "/*", "*/*"}
    assert family.intersection(name for name, _ in ranges)


@given(st.text(max_size=60))
def test_any_accept_header_is_understood_or_refused(accept: str) -> None:
    with suppress(NotAcceptable):
        assert choose_format(request([accept.encode("utf-8").decode("latin-1")]), PICTURES) in PICTURES


FILES = st.lists(st.binary(max_size=40), max_size=5)


@given(files=FILES, boundary=st.text("abcXYZ0189'()+_,-./:=?", min_size=1, max_size=70))
def test_a_form_gives_back_what_was_put_in(files: list[bytes], boundary: str) -> None:
    mark = b"--" + boundary.encode()
    if any(b"\r\n" + mark in b"\r\n" + file + b"\r\n" for file in files):
        return
    head = b'\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
    body = b"".join(mark + head + file + b"\r\n" for file in files) + mark + b"--\r\n"
    assert parse_pictures(body, f'multipart/form-data; boundary="{boundary}"', 5).pictures == files


@given(
    st.lists(
        st.sampled_from(
            [b"--b", b"\r\n", b"--", b"\n", b'Content-Disposition: form-data; name="image"', b"x"]
        )
    )
)
def test_any_form_is_read_or_refused(pieces: list[bytes]) -> None:
    try:
        upload = parse_pictures(b"".join(pieces), "multipart/form-data; boundary=b", 4)
    except ServiceError:
        return
    assert len(upload.pictures) <= 4


@given(st.binary(max_size=80))
def test_any_json_is_an_object_or_refused(body: bytes) -> None:
    with suppress(MalformedBody, InvalidField):
        assert isinstance(parse_json(body), dict)
