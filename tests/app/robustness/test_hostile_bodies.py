"""Bodies and queries made to break a parser: each gets its status, and the service stays ready."""

import asyncio
import gzip
import os
from collections.abc import Callable

import httpx
import pytest

from tests.app.api.requests import JPEG, LATENTS, check_problem, form
from tests.app.conftest import Serve, state_behind

JSON = "application/json"
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
END = b"\r\n--b--\r\n"
JSON_SIZE = 4 * 2**20 - 100


def field(name: bytes, value: bytes = b"1") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"


Body = Callable[[], bytes]
BODIES: dict[str, tuple[int, str, str, Body]] = {
    "depth of lists": (413, "/decode", JSON, lambda: b"[" * JSON_SIZE),
    "depth of objects": (400, "/decode", JSON, lambda: b'{"a":' * 500_000),
    "depth in a field": (422, "/decode", JSON, lambda: b'{"latents":' + b"[" * 999 + b"]" * 999 + b"}"),
    "1e999": (422, "/decode", JSON, lambda: b'{"latents":[[1e999,0,0,0,0,0,0,0]]}'),
    "1e39": (422, "/decode", JSON, lambda: b'{"latents":[[1e39,0,0,0,0,0,0,0]]}'),
    "NaN": (422, "/decode", JSON, lambda: b'{"latents":[[NaN]]}'),
    "infinity": (422, "/decode", JSON, lambda: b'{"latents":[[-Infinity]]}'),
    "4 MB of digits": (400, "/decode", JSON, lambda: b'{"latents":[[' + b"9" * JSON_SIZE + b"]]}"),
    "10 MB of digits": (413, "/decode", JSON, lambda: b'{"latents":[[' + b"9" * 10**7 + b"]]}"),
    "a long integer": (422, "/decode", JSON, lambda: b'{"latents":[[' + b"9" * 300 + b",0,0,0,0,0,0,0]]}"),
    "a seed of digits": (400, "/sample", JSON, lambda: b'{"seed":' + b"9" * JSON_SIZE + b"}"),
    "many names": (413, "/sample", JSON, lambda: b"{%s}" % b",".join(b'"%d":1' % n for n in range(200_000))),
    "many empty lists": (413, "/decode", JSON, lambda: b'{"latents":[' + b"[]," * 1_000_000 + b"[]]}"),
    "nested pairs": (413, "/decode", JSON, lambda: b'{"latents":[' + b"[[[1]]]," * 400_000 + b"[]]}"),
    "equal names, the last is good": (200, "/sample", JSON, lambda: b'{"count":1000,"count":1}'),
    "equal names, the last is bad": (422, "/sample", JSON, lambda: b'{"count":1,"count":1000}'),
    "an unknown name": (422, "/sample", JSON, lambda: b'{"x":1}'),
    "a name of control characters": (422, "/sample", JSON, lambda: b'{"a\\u0000\\n\\u001b":1}'),
    "half a surrogate pair": (400, "/sample", JSON, lambda: b'{"prior":"\\ud800"}'),
    "10 MB of marks of images": (413, "/decode", JSON, lambda: b'"data:image' * 10**6),
    "many places that are not finite": (
        422,
        "/decode",
        JSON,
        lambda: b'{"latents":[' + b"NaN," * 90_000 + b"0]}",
    ),
    "a long number and NaN": (422, "/decode", JSON, lambda: b'{"a":[0.' + b"9" * JSON_SIZE + b",NaN]}"),
    "depth and NaN": (400, "/decode", JSON, lambda: b'{"a":' * 50_000 + b"NaN" + b"}" * 50_000),
    "an empty list": (422, "/decode", JSON, lambda: b'{"latents":[]}'),
    "null": (422, "/decode", JSON, lambda: b"null"),
    "a truth for a number": (422, "/sample", JSON, lambda: b'{"count":true}'),
    "UTF-16": (400, "/decode", JSON, lambda: '{"latents":[]}'.encode("utf-16")),
    "UTF-16 that says so": (
        400,
        "/sample",
        JSON + "; charset=utf-16",
        lambda: '{"count":1}'.encode("utf-16"),
    ),
    "Latin-1": (400, "/sample", JSON, lambda: b'{"prior":"\xe9"}'),
    "a byte order mark": (200, "/sample", JSON, lambda: b'\xef\xbb\xbf{"count":1}'),
    "UTF-8 that says something else": (200, "/sample", JSON + "; charset=latin-1", lambda: b'{"count":1}'),
    "many lambdas": (
        413,
        "/interpolate",
        JSON,
        lambda: b'{"latents":[[0],[0]],"lambdas":[' + b"0.5," * 900_000 + b"1]}",
    ),
    "no boundary": (400, "/encode", "multipart/form-data", lambda: PART + b"x" + END),
    "an empty boundary": (400, "/encode", "multipart/form-data; boundary=", lambda: PART + b"x" + END),
    "a long boundary": (400, "/encode", "multipart/form-data; boundary=" + "b" * 71, lambda: PART),
    "thousands of pictures": (413, "/encode", FORM, lambda: (PART + b"x\r\n") * 5000 + b"--b--"),
    "thousands of values": (422, "/interpolate", FORM, lambda: field(b"steps") * 5000 + b"--b--"),
    "thousands of fields": (
        413,
        "/interpolate",
        FORM,
        lambda: b"".join(field(b"%d" % n) for n in range(5000)) + b"--b--",
    ),
    "a field of another name": (422, "/encode", FORM, lambda: field(b"picture") + b"--b--"),
    "a picture and an unknown field": (
        422,
        "/encode",
        FORM,
        lambda: PART + JPEG + b"\r\n" + field(b"x") + b"--b--",
    ),
    "no closing boundary": (400, "/encode", FORM, lambda: PART + b"x"),
    "a header and no more": (400, "/encode", FORM, lambda: b"--b\r\nA: b"),
    "a header without end": (400, "/encode", FORM, lambda: b"--b\r\nA: " + b"a" * 10**6 + b"\r\n\r\nx" + END),
    "a part without a name": (
        400,
        "/encode",
        FORM,
        lambda: b"--b\r\nContent-Disposition: form-data\r\n\r\nx" + END,
    ),
    "no parts": (422, "/encode", FORM, lambda: b"--b--\r\n"),
    "nothing": (400, "/encode", FORM, lambda: b""),
    "an empty picture": (400, "/encode", FORM, lambda: PART + END),
    "a name of control characters in a form": (
        422,
        "/interpolate",
        FORM,
        lambda: field(b"a\0\x1b[31m") + b"--b--",
    ),
    "a name in no encoding": (422, "/interpolate", FORM, lambda: field(b"\xff") + b"--b--"),
    "a form for JSON": (415, "/decode", FORM, lambda: PART + b"x" + END),
    "JSON for a form": (415, "/encode", JSON, lambda: b"{}"),
    "two types": (415, "/encode", "image/png, application/json", lambda: b"x"),
    "no type": (415, "/encode", "", lambda: JPEG),
    "a type that is none": (415, "/encode", "image", lambda: JPEG),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_hostile_body_is_answered_and_the_service_lives_on(
    client: httpx.AsyncClient, name: str
) -> None:
    status, path, media_type, body = BODIES[name]
    answer = await client.post(path, content=body(), headers={"Content-Type": media_type})
    if status == 200:
        assert answer.status_code == 200
    else:
        problem = check_problem(answer, status)
        assert len(problem["detail"]) < 3000
    assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("count=1&count=70", 422),
        ("count=70&count=1", 422),
        ("count=%00", 422),
        ("count=%zz", 422),
        ("seed=" + "9" * 5000, 422),
        ("a=1&" * 10_000, 422),
        ("&".join(f"{n}=1" for n in range(7_000)), 422),
        ("seed=1" + "&" * 10_000, 200),
        ("format=%0d%0aX-Evil:1", 422),
        ("size=1e3", 422),
        ("temperature=1e999", 422),
        ("temperature=-0", 200),
        ("\xff=\xff", 422),
    ],
)
async def test_a_hostile_query_is_answered(client: httpx.AsyncClient, query: str, status: int) -> None:
    answer = await client.get(f"/sample?{query}")
    assert answer.status_code == status
    assert "x-evil" not in answer.headers
    assert len(answer.text if status == 422 else "") < 5000


async def test_the_largest_honest_json_is_taken(client: httpx.AsyncClient) -> None:
    large = await client.post("/sample?size=512", json={"count": 64}, headers={"Accept": JSON})
    assert len(large.content) > 5.4e6
    again = await client.post("/decode", content=large.content, headers={"Content-Type": JSON})
    assert again.status_code == 200
    sampled = (await client.post("/sample", json={"count": 64}, headers={"Accept": JSON})).json()
    assert (await client.post("/decode", json=sampled)).status_code == 200
    deep = sampled | {"latents": (LATENTS * 22)[:64], "std": [[1.5] * 256] * 64}
    assert (await client.post("/decode", json=deep)).status_code == 200


PACKED: dict[str, tuple[int, Body]] = {
    "a bomb": (413, lambda: gzip.compress(bytes(2**26), 9)),
    "a bomb in a bomb": (400, lambda: gzip.compress(gzip.compress(bytes(2**26), 9))),
    "a bomb in many members": (413, lambda: gzip.compress(bytes(2**20), 9) * 500),
    "empty members": (400, lambda: gzip.compress(b"") * 50_000),
    "an endless name in the header": (400, lambda: b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"a" * 10**6),
    "half of it": (400, lambda: gzip.compress(os.urandom(1000))[:500]),
    "something else": (400, lambda: JPEG),
    "padding": (200, lambda: gzip.compress(b'{"count":1}') + bytes(10**5)),
}


@pytest.mark.parametrize("name", PACKED)
async def test_packed_bodies(client: httpx.AsyncClient, name: str) -> None:
    status, body = PACKED[name]
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    answer = await client.post("/sample", content=body(), headers=headers)
    if status == 200:
        assert answer.status_code == 200
    else:
        check_problem(answer, status)
    assert state_behind(client).unpacked_bytes == 0


async def test_one_client_never_sees_the_rows_of_another(serve: Serve) -> None:
    """Requests of all sizes at once, among them bad ones: each gets what it gets alone."""
    async with serve(max_batch_rows=4) as client:
        bodies = [{"latents": [LATENTS[number % 3]] * (1 + number % 7)} for number in range(21)]
        alone = [(await client.post("/decode", json=body)).content for body in bodies]
        bad = [client.post("/encode", files=form(JPEG, b"x")) for _ in range(21)]
        good = [client.post("/decode", json=body) for body in bodies]
        together = await asyncio.gather(*(one for pair in zip(good, bad, strict=True) for one in pair))
        assert [answer.content for answer in together[::2]] == alone
        assert {answer.status_code for answer in together[1::2]} == {415}
        assert state_behind(client).vae.health().healthy
