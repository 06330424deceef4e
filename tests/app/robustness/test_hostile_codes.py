"""Codes that nobody wrote, or that were changed on the way: each is a picture, or refused with its place."""

import random
import string
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.codes.codec import CodeCodec
from app.codes.wire import LONGEST, from_text, seal, tag_of, to_text
from tests.app.api.requests import check_problem
from tests.app.codes.tiny_codes import tiny_car, tiny_decode, tiny_tables
from tests.app.conftest import Serve
from tests.images import array_of
from tests.tiny_model import HEIGHT, WIDTH, write_tiny_model

ALPHABET = string.ascii_letters + string.digits + "-_"
OWN = tag_of(1)
REFUSED = {400, 409}
TOO_MANY = 413


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "tiny-vae" / "1"
    return write_tiny_model(folder, refiner=True, codes=True)


@pytest.fixture
async def coding(serve: Serve, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A service that is ready in the end, whatever it was sent."""
    async with serve(model_dir=folder) as client:
        yield client
        assert (await client.get("/health/ready")).status_code == 200


@pytest.fixture(scope="module")
def code() -> str:
    """A code with a second layer."""
    image, latent = tiny_car(4)
    (code,) = CodeCodec(tiny_tables(), OWN).pack(image, latent, (24, 12), tiny_decode, [120])
    return to_text(code)


async def decoded(client: httpx.AsyncClient, text: str) -> int:
    """The status of /decode of one code; what is answered is a picture, or a problem with its place."""
    answer = await client.post("/decode", json={"codes": [text]})
    if answer.status_code == 200:
        assert array_of(answer.content).shape == (HEIGHT, WIDTH, 3)
    else:
        assert check_problem(answer, answer.status_code)["detail"].startswith("codes[0]: ")
    return answer.status_code


async def test_random_texts_are_refused(coding: httpx.AsyncClient) -> None:
    draw = random.Random(1)
    texts = ["".join(draw.choices(ALPHABET, k=draw.randint(0, 540))) for _ in range(400)]
    assert {await decoded(coding, text) for text in texts} <= REFUSED


async def test_random_texts_of_any_letters_are_refused(coding: httpx.AsyncClient) -> None:
    draw = random.Random(2)
    for _ in range(200):
        text = "".join(chr(draw.choice((draw.randrange(128), draw.randrange(0xD800)))) for _ in range(40))
        assert await decoded(coding, text) == 400
        assert (await coding.get("/decode", params={"code": text})).status_code in (400, 413)


async def test_a_code_that_was_cut_is_refused_wherever(coding: httpx.AsyncClient, code: str) -> None:
    for cut in range(len(code)):
        assert await decoded(coding, code[:cut]) == 400, cut
        assert await decoded(coding, code[cut + 1 :]) in REFUSED, cut


async def test_every_changed_letter_is_noticed(coding: httpx.AsyncClient, code: str) -> None:
    draw = random.Random(3)
    for place, letter in enumerate(code):
        other = draw.choice([each for each in ALPHABET if each != letter])
        assert await decoded(coding, code[:place] + other + code[place + 1 :]) == 400, place
        swapped = code[:place] + code[place : place + 2][::-1] + code[place + 2 :]
        assert swapped == code or await decoded(coding, swapped) == 400, place


async def test_codes_of_every_other_format_and_model_are_told_from_damaged_ones(
    coding: httpx.AsyncClient, code: str
) -> None:
    payload = from_text(code)[1:-1]
    found = {tag: await decoded(coding, to_text(seal(tag, payload))) for tag in range(256)}
    assert found == {tag: 200 if tag == OWN else 409 for tag in range(256)}


async def test_any_bytes_in_a_whole_envelope_are_a_picture_or_refused(coding: httpx.AsyncClient) -> None:
    """Whoever means harm can make the check byte fit."""
    draw = random.Random(4)
    payloads = [draw.randbytes(draw.randint(1, LONGEST - 2)) for _ in range(200)]
    payloads += [
        bytes([value]) * length for value in (0, 1, 127, 255) for length in (1, 2, 7, 60, LONGEST - 2)
    ]
    statuses = Counter([await decoded(coding, to_text(seal(OWN, payload))) for payload in payloads])
    assert set(statuses) <= {200, 400}
    assert statuses[400]


async def test_bytes_changed_in_a_whole_envelope_are_a_picture_or_refused(
    coding: httpx.AsyncClient, code: str
) -> None:
    draw = random.Random(5)
    pictures = []
    for _ in range(300):
        payload = bytearray(from_text(code)[1:-1])
        for _ in range(draw.randint(1, 3)):
            payload[-draw.randint(1, 8)] = draw.randrange(256)
        text = to_text(seal(OWN, bytes(payload)))
        if await decoded(coding, text) == 200:
            pictures.append(text)
    assert pictures
    for path in ("/interpolate?format=png&steps=5", "/compress?bytes=16,400"):
        answer = await coding.post(path, json={"codes": (pictures * 2)[:8]})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {"codes": None}),
        (422, {"codes": []}),
        (422, {"codes": {}}),
        (422, {"codes": "CODE"}),
        (422, {"codes": ["CODE", 1]}),
        (422, {"codes": ["CODE", None]}),
        (422, {"codes": [["CODE"]]}),
        (422, {"codes": [{"CODE": "CODE"}]}),
        (422, {"code": "CODE"}),
        (422, {"codes": ["CODE"], "items": [{"codes": ["CODE"]}]}),
        (422, {"items": []}),
        (422, {"items": ["CODE"]}),
        (422, {"items": [{}]}),
        (422, {"items": [{"codes": ["CODE"]}, {"codes": []}]}),
        (422, {"items": [{"codes": "CODE"}]}),
        (422, {"items": {"codes": ["CODE"]}}),
        (409, {"codes": ["CODE"], "model": "other-vae/1"}),
        (413, {"codes": ["CODE"] * 300}),
        (413, {"items": [{"codes": ["CODE"] * 33}] * 2}),
        (400, {"codes": ["CODE" * 1000]}),
        (413, {"codes": ["A" * 5_000_000]}),
        (400, {"codes": ["CODE", "\0"]}),
        (400, {"codes": ["CODE", " CODE"]}),
        (400, {"codes": ["CODE", "CODE\n"]}),
        (400, {"codes": ["CODE", "CODE=="]}),
    ],
)
@pytest.mark.parametrize("path", ["/decode", "/interpolate", "/compress"])
async def test_lists_that_are_none_of_codes_are_refused(
    coding: httpx.AsyncClient, code: str, path: str, status: int, body: dict[str, Any]
) -> None:
    answer = await coding.post(path, json=filled(body, code))
    assert len(check_problem(answer, status)["detail"]) < 1000


def filled(body: Any, code: str) -> Any:
    """The same with a code in place of each CODE."""
    if isinstance(body, str):
        return body.replace("CODE", code)
    if isinstance(body, list):
        return [filled(each, code) for each in body]
    return (
        {filled(name, code): filled(each, code) for name, each in body.items()}
        if isinstance(body, dict)
        else body
    )


@pytest.mark.parametrize(
    ("status", "query"),
    [
        (400, "&code="),
        (400, ","),
        (400, ",CODE,%00"),
        (400, "&code=%2B%2F%3D"),
        (400, "&code=CODE%0d%0aX-Evil:1"),
        (400, "&code=" + "CODE" * 300),
        (TOO_MANY, ",CODE" * 300),
        (TOO_MANY, "&code=CODE" * 300),
        (TOO_MANY, "," * 20_000),
        (TOO_MANY, "&code=" * 10_000),
        (422, "&codes=CODE"),
        (422, "&code[]=CODE"),
        (422, "&code=CODE&size=1"),
        (422, "&code=CODE&x=1"),
        (406, "&code=CODE&format=bin"),
    ],
)
@pytest.mark.parametrize("path", ["/decode", "/interpolate"])
async def test_hostile_queries_are_refused_and_kept_by_no_cache(
    coding: httpx.AsyncClient, code: str, path: str, status: int, query: str
) -> None:
    answer = await coding.get(f"{path}?code={'CODE' + query}".replace("CODE", code))
    if status == TOO_MANY and path == "/interpolate":
        status = 422  # it takes 16 at most
    assert len(check_problem(answer, status)["detail"]) < 3000
    assert "x-evil" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


@pytest.mark.parametrize(
    "query",
    [
        "bytes=-1",
        "bytes=0",
        "bytes=1e2",
        "bytes=1e999",
        "bytes=NaN",
        "bytes=%00",
        "bytes=" + "9" * 5000,
        "bytes=" + "94," * 5000,
        "bytes=94&" * 5000,
        "bytes[]=94",
        "refine=perhaps",
        "images=gif",
        "images=png&images=webp",
    ],
)
async def test_hostile_options_of_compress_are_refused(
    coding: httpx.AsyncClient, code: str, query: str
) -> None:
    answer = await coding.post(f"/compress?{query}", json={"codes": [code]})
    assert len(check_problem(answer, 422)["detail"]) < 5000


async def test_extreme_latents_are_packed_into_the_least_bytes(coding: httpx.AsyncClient) -> None:
    latents = [[sign * 10.0**power] * 8 for sign in (1, -1) for power in (-38, 0, 3, 6)]
    answer = await coding.post("/compress?bytes=16,400", json={"latents": latents})
    assert answer.status_code == 200, answer.text
    for item in answer.json()["items"]:
        assert item["bytes"][0] <= 16
        assert [await decoded(coding, text) for text in item["codes"]] == [200, 200]
