"""How bodies are received and taken apart."""

import asyncio
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
    is_json,
    media_type_of,
    parse_images,
    parse_json,
    read_body,
)
from app.errors import (
    BodyTooLarge,
    InvalidField,
    MalformedBody,
    ServiceError,
    TooManyItems,
    UnsupportedBody,
)


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


async def test_a_body_in_pieces_is_joined() -> None:
    pieces = receiving(
        piece(b"a", True), piece(b"", True), piece(b"b", True), {"type": "http.request", "body": b"c"}
    )
    assert await read_body(pieces, 10) == b"abc"


async def test_a_body_that_does_not_arrive_in_time_is_malformed() -> None:
    with pytest.raises(MalformedBody, match=r"0\.01 seconds"):
        await read_body(receiving(piece(b"a", True)), 0.01)


async def test_a_client_that_leaves_while_sending_ends_the_reading() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(receiving(piece(b"a", True), {"type": "http.disconnect"}), 10)


def test_the_media_type_is_lower_case_and_without_parameters() -> None:
    assert media_type_of("Application/JSON; charset=utf-8") == "application/json"
    assert media_type_of("") == ""
    assert is_json("application/json")
    assert is_json("application/vnd.cars+json")
    assert not is_json("text/json-ish")


def test_a_json_object_is_read() -> None:
    assert parse_json(b'{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[NaN]", b"[Infinity]", b"\xff", b"[" * 100_000, b"{'a': 1}", b"1 2"]
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody, match="not valid JSON: line 1, column"):
        parse_json(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1"])
def test_json_must_be_an_object(body: bytes) -> None:
    with pytest.raises(InvalidField, match="must be a JSON object"):
        parse_json(body)


FORM = "multipart/form-data; boundary=line"


def part(content: bytes, name: bytes = b'name="image"; filename="car.jpg"') -> bytes:
    return b"--line\r\nContent-Disposition: form-data; " + name + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "IMAGE/PNG; x=y", "application/octet-stream", "image/new"]
)
def test_a_raw_body_is_one_image(content_type: str) -> None:
    upload = parse_images(b"picture", content_type, 1)
    assert upload.images == [b"picture"]
    assert upload.fields == {}


def test_images_of_a_form_keep_their_order() -> None:
    body = part(b"one") + part(b"\r\n--lin\r\n-", b'filename="x"; name="image"') + part(b"") + b"--line--\r\n"
    assert parse_images(body, FORM, 3).images == [b"one", b"\r\n--lin\r\n-", b""]


@pytest.mark.parametrize("name", [b"name=image", b'NAME="image"', b'filename="a; name=x"; name="image"'])
def test_a_field_name_is_read_however_it_is_quoted(name: bytes) -> None:
    assert parse_images(part(b"one", name) + b"--line--", FORM, 1).images == [b"one"]


def test_fields_beside_the_images_are_kept_as_text() -> None:
    body = (
        part(b"1", b'name="a"') + part(b"picture") + part(b"2", b'name="a"') + part(b"\xc3\xa9", b'name="b"')
    )
    upload = parse_images(body + b"--line--", FORM, 1)
    assert upload.images == [b"picture"]
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
def test_a_damaged_form_is_malformed(body: bytes, content_type: str) -> None:
    with pytest.raises(MalformedBody):
        parse_images(body, content_type, 4)


def test_more_images_than_allowed_are_refused() -> None:
    with pytest.raises(TooManyItems, match="more than 2 pictures"):
        parse_images(3 * part(b"one") + b"--line--", FORM, 2)


def test_more_fields_than_allowed_are_refused() -> None:
    with pytest.raises(TooManyItems, match="form fields"):
        parse_images((MAX_FIELDS + 1) * part(b"1", b'name="a"') + b"--line--", FORM, 2)


def test_more_names_than_allowed_are_refused() -> None:
    body = b"".join(part(b"1", b'name="a%d"' % number) for number in range(MAX_FIELDS + 1))
    with pytest.raises(TooManyItems, match="form fields"):
        parse_images(body + b"--line--", FORM, 2)


def test_preamble_epilogue_and_padding_are_skipped() -> None:
    body = b"preamble\r\n" + part(b"one").replace(b"--line\r\n", b"--line \t\r\n") + b"--line--\r\nepilogue"
    assert parse_images(body, FORM, 1).images == [b"one"]


def test_headers_without_an_end_are_refused() -> None:
    with pytest.raises(MalformedBody, match="damaged"):
        parse_images(b"--line\r\n" + b"A" * 10_000 + part(b"one") + b"--line--", FORM, 2)


def test_json_beyond_the_limits_is_refused() -> None:
    with pytest.raises(BodyTooLarge):
        parse_json(b" " * (MAX_JSON_BYTES - 1) + b"{}")


def test_a_field_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidField, match="must be at most"):
        parse_images(part(b"1" * (MAX_FIELD_BYTES + 1), b'name="a"') + b"--line--", FORM, 2)


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/json", "multipart/mixed; boundary=line"]
)
def test_a_body_of_another_type_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedBody, match="multipart/form-data"):
        parse_images(b"--line--", content_type, 2)


FILES = st.lists(st.binary(max_size=40), max_size=5)


@given(files=FILES, boundary=st.text("abcXYZ0189'()+_,-./:=?", min_size=1, max_size=70))
def test_a_form_gives_back_what_was_put_in(files: list[bytes], boundary: str) -> None:
    mark = b"--" + boundary.encode()
    if any(b"\r\n" + mark in b"\r\n" + file + b"\r\n" for file in files):
        return
    head = b'\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
    body = b"".join(mark + head + file + b"\r\n" for file in files) + mark + b"--\r\n"
    assert parse_images(body, f'multipart/form-data; boundary="{boundary}"', 5).images == files


@given(
    st.lists(
        st.sampled_from(
            [b"--b", b"\r\n", b"--", b"\n", b'Content-Disposition: form-data; name="image"', b"x"]
        )
    )
)
def test_any_form_is_read_or_refused(pieces: list[bytes]) -> None:
    try:
        upload = parse_images(b"".join(pieces), "multipart/form-data; boundary=b", 4)
    except ServiceError:
        return
    assert len(upload.images) <= 4


@given(st.binary(max_size=80))
def test_any_json_is_an_object_or_refused(body: bytes) -> None:
    with suppress(MalformedBody, InvalidField):
        assert isinstance(parse_json(body), dict)
