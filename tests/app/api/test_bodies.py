"""How bodies are received and taken apart."""

import asyncio
import base64
import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from app.api.bodies import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    is_json,
    media_type_of,
    parse_images,
    read_body,
)
from app.api.content_encoding import PIECE
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


async def test_a_gzip_body_is_unpacked_and_counted_as_it_arrives() -> None:
    packed = gzip.compress(b"car" * 200_000)
    counted: list[int] = []
    pieces = receiving(piece(packed[:100], True), piece(b"", True), piece(packed[100:], False))
    assert await read_body(pieces, 10, counted.append) == b"car" * 200_000
    assert sum(counted) == 600_000
    assert max(counted) <= PIECE


async def test_a_gzip_body_of_nothing_is_empty() -> None:
    counted: list[int] = []
    assert await read_body(receiving(piece(b"", False)), 10, counted.append) == b""
    assert counted == []


async def test_a_gzip_body_is_unpacked_no_further_than_it_is_allowed() -> None:
    bomb = gzip.compress(bytes(50 * PIECE))
    counted: list[int] = []

    def count(size: int) -> None:
        counted.append(size)
        if sum(counted) > 3 * PIECE:
            raise BodyTooLarge("enough")

    with pytest.raises(BodyTooLarge):
        await read_body(receiving(piece(bomb, False)), 10, count)
    assert counted == [PIECE] * 4


async def test_others_have_their_turn_while_a_body_is_unpacked() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.ensure_future(other())
    counted: list[int] = []
    await read_body(receiving(piece(gzip.compress(bytes(20 * PIECE)), False)), 10, counted.append)
    beside.cancel()
    assert turns >= 20


def test_the_media_type_is_lower_case_and_without_parameters() -> None:
    assert media_type_of("Application/JSON; charset=utf-8") == "application/json"
    assert media_type_of("") == ""
    assert is_json("application/json")
    assert is_json("application/vnd.cars+json")
    assert not is_json("text/json-ish")


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


@pytest.mark.parametrize("encoding", [b"base64", b"BASE64", b" base64 "])
def test_an_image_in_base64_is_decoded(encoding: bytes) -> None:
    file = bytes(range(256)) * 3
    header = b'name="image"\r\nContent-Transfer-Encoding: ' + encoding
    for content in (base64.b64encode(file), base64.encodebytes(file).replace(b"\n", b"\r\n")):
        assert parse_images(part(content, header) + b"--line--", FORM, 1).images == [file]


def test_a_field_in_base64_is_decoded() -> None:
    header = b'name="steps"\r\ncontent-transfer-encoding: base64'
    assert parse_images(part(b"MTI=", header) + b"--line--", FORM, 1).fields == {"steps": ["12"]}


@pytest.mark.parametrize("encoding", [b"", b"7bit", b"8Bit", b"binary"])
def test_an_encoding_that_changes_nothing_is_taken(encoding: bytes) -> None:
    header = b'name="image"\r\nContent-Transfer-Encoding: ' + encoding
    assert parse_images(part(b"one", header) + b"--line--", FORM, 1).images == [b"one"]


@pytest.mark.parametrize(
    "header",
    [b"Content-Transfer-Encoding: quoted-printable", b"Content-Encoding: gzip", b"content-encoding: br"],
)
def test_a_part_in_another_encoding_is_refused_by_the_name_of_its_header(header: bytes) -> None:
    name = header.partition(b":")[0].decode().title()
    with pytest.raises(UnsupportedBody, match=f"'image' has the {name}"):
        parse_images(part(b"one", b'name="image"\r\n' + header) + b"--line--", FORM, 1)


@pytest.mark.parametrize("content", [b"a", b"ab=c", b"????", b"YQ"])
def test_a_part_that_is_not_the_base64_it_says_is_malformed(content: bytes) -> None:
    header = b'name="image"\r\nContent-Transfer-Encoding: base64'
    with pytest.raises(MalformedBody, match="base64"):
        parse_images(part(content, header) + b"--line--", FORM, 1)


def test_a_file_name_may_speak_of_encoding() -> None:
    assert parse_images(part(b"one", b'filename="encoding.jpg"; name="image"') + b"--line--", FORM, 1).images


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


def test_more_values_of_a_field_than_allowed_are_refused() -> None:
    most = parse_images(MAX_FIELDS * part(b"1", b'name="a"') + b"--line--", FORM, 2)
    assert most.fields == {"a": MAX_FIELDS * ["1"]}
    with pytest.raises(InvalidField, match="64 times at most") as caught:
        parse_images((MAX_FIELDS + 1) * part(b"1", b'name="a"') + b"--line--", FORM, 2)
    assert caught.value.problems[0][0] == "a"


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


def test_a_field_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidField, match=r"must be at most .* a picture is the field `image`"):
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
