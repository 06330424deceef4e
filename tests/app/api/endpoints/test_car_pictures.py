"""Addresses of codes: /c/<code> as a picture and as the page, on a real (tiny) model."""

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from app.codes.wire import from_text, seal, tag_of, to_text
from app.images.encode import encode_jpeg, encode_webp, enlarge
from tests.app.api.endpoints.test_compress import FOREVER, TALL, WIDE, compressed, expected_image
from tests.app.api.requests import check_problem
from tests.app.conftest import Serve, state_behind
from tests.images import array_of, opened
from tests.tiny_model import HEIGHT, WIDTH, write_tiny_model

TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coded") / "tiny-vae" / "1"
    return write_tiny_model(folder, refiner=True, codes=True)


@pytest.fixture
async def coding(serve: Serve, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(model_dir=folder) as client:
        yield client


CODES: dict[tuple[bytes, int], str] = {}
"""Those that one service has made, as all of this module have the same model."""


async def code_of(client: httpx.AsyncClient, file: bytes = WIDE, budget: int = 120) -> str:
    if (file, budget) not in CODES:
        (item,) = await compressed(client, f"?bytes={budget}", file)
        CODES[file, budget] = item["codes"][0]
    return CODES[file, budget]


async def test_the_picture_of_a_code_has_the_shape_of_the_original(coding: httpx.AsyncClient) -> None:
    for file, width in ((WIDE, WIDTH), (TALL, HEIGHT // 2)):
        code = await code_of(coding, file)
        whole = await expected_image(coding, code)
        left = (WIDTH - width) // 2
        answer = await coding.get(f"/c/{code}.png")
        assert answer.status_code == 200
        np.testing.assert_array_equal(array_of(answer.content), whole[:, left : left + width])
        letterboxed = await coding.get(f"/c/{code}.png?letterbox=true")
        np.testing.assert_array_equal(array_of(letterboxed.content), whole)


@pytest.mark.parametrize("suffix", TYPES)
async def test_each_format_may_be_kept_for_good(coding: httpx.AsyncClient, suffix: str) -> None:
    code = await code_of(coding)
    answer = await coding.get(f"/c/{code}.{suffix}")
    assert answer.headers["content-type"] == TYPES[suffix]
    assert answer.headers["cache-control"] == FOREVER
    assert answer.headers["x-model"] == "tiny-vae/1"
    assert "vary" not in answer.headers
    with opened(answer.content) as image:
        assert (image.format, image.size) == ({"jpg": "JPEG"}.get(suffix, suffix.upper()), (WIDTH, HEIGHT))
    head = await coding.head(f"/c/{code}.{suffix}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == answer.headers["etag"]


async def test_size_is_the_longer_edge_of_the_shape(coding: httpx.AsyncClient) -> None:
    code = await code_of(coding, TALL)
    shape = (await expected_image(coding, code))[:, 8:16]
    answer = await coding.get(f"/c/{code}.webp?size=100")
    assert answer.content == encode_webp(enlarge(shape, 100))
    with opened(answer.content) as image:
        assert image.size == (50, 100)
    whole = await coding.get(f"/c/{code}.jpg?size=48&letterbox=true")
    assert whole.content == encode_jpeg(enlarge(await expected_image(coding, code), 48))


async def test_who_has_the_picture_is_told_so_before_any_work(coding: httpx.AsyncClient) -> None:
    code = await code_of(coding)
    tag = (await coding.get(f"/c/{code}.webp")).headers["etag"]
    state_behind(coding).vae.close()  # nothing decodes any more
    for known in (tag, f'"other", W/{tag}', "*"):
        again = await coding.get(f"/c/{code}.webp", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert (again.headers["etag"], again.headers["cache-control"]) == (tag, FOREVER)
    check_problem(await coding.get(f"/c/{code}.webp", headers={"If-None-Match": '"other"'}), 503)
    check_problem(await coding.get(f"/c/{code[:-1]}.webp", headers={"If-None-Match": "*"}), 400)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("{code}.png?size=15", 422),
        ("{code}.png?size=2049", 422),
        ("{code}.png?letterbox=perhaps", 422),
        ("{code}.png?seed=3", 422),
        ("{cut}.png", 400),
        ("{code}=.png", 400),
        ("{code}.png.png", 400),
        ("{other}.png", 409),
        ("{code}.gif", 404),
        ("{code}.PNG", 404),
        ("{code}.", 404),
        ("{code}.png/", 404),
        ("{code}/.png", 404),
        ("../c/{code}.jpeg", 404),
    ],
)
async def test_what_cannot_be_is_a_problem_that_nobody_keeps(
    coding: httpx.AsyncClient, path: str, status: int
) -> None:
    code = await code_of(coding)
    other = to_text(seal(tag_of(2), from_text(code)[1:-1]))
    problem = await coding.get("/c/" + path.format(code=code, cut=code[:-2], other=other))
    content = check_problem(problem, status)
    assert problem.headers["cache-control"] == "no-store"
    assert "etag" not in problem.headers
    if status in (400, 409):
        assert content["detail"].startswith("path.code: ")


async def test_a_picture_may_not_be_larger_than_answers_are(serve: Serve, folder: Path) -> None:
    async with serve(model_dir=folder, max_output_pixels=3000) as client:
        tall, wide = await code_of(client, TALL), await code_of(client)
        assert (await client.get(f"/c/{tall}.png?size=64")).status_code == 200
        check_problem(await client.get(f"/c/{wide}.png?size=80"), 422)


async def test_with_keys_the_picture_needs_one_and_is_private(serve: Serve, folder: Path) -> None:
    async with serve(model_dir=folder, api_keys="secret") as client:
        client.headers["X-API-Key"] = "secret"
        code = await code_of(client)
        answer = await client.get(f"/c/{code}.png")
        assert answer.headers["cache-control"] == FOREVER.replace("public", "private")
        del client.headers["X-API-Key"]
        check_problem(await client.get(f"/c/{code}.png"), 401)
        page = await client.get(f"/c/{code}")
        assert page.status_code == 200
        assert told_by(page)["og:title"]
        assert "og:image" not in told_by(page)


async def test_a_model_without_codes_has_no_such_pictures(client: httpx.AsyncClient) -> None:
    code = to_text(seal(tag_of(1), b"anything"))
    check_problem(await client.get(f"/c/{code}.png"), 404)
    assert (await client.get(f"/c/{code}")).status_code == 404


# the page


def told_by(page: httpx.Response) -> dict[str, str]:
    """What the head of a page tells by Open Graph."""
    found = re.findall(r'<meta property="(og:[a-z:_]+)" content="([^"]*)">', page.text)
    told = {name: html.unescape(value) for name, value in found}
    assert len(told) == len(found)
    return told


async def test_the_page_of_a_car_shows_chats_its_picture(coding: httpx.AsyncClient) -> None:
    code = await code_of(coding, TALL, 64)
    page = await coding.get(f"/c/{code}")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    told = told_by(page)
    assert told["og:title"] == f"A car in {len(from_text(code))} bytes"
    assert told["og:url"] == f"http://service/c/{code}"
    assert told["og:image"].startswith(f"http://service/c/{code}.jpg?")
    with opened((await coding.get(told["og:image"])).content) as image:
        assert image.size == (int(told["og:image:width"]), int(told["og:image:height"])) == (1200, 800)
    assert '<meta name="twitter:card" content="summary_large_image">' in page.text


async def test_the_page_of_a_car_is_the_page_with_its_files_above(coding: httpx.AsyncClient) -> None:
    page, car = await coding.get("/"), await coding.get(f"/c/{await code_of(coding)}")
    named = re.findall(r'(?:src|href)="([^"#]+)"', car.text)
    assert len(named) > 20
    for name in named:
        address = car.url.join(name)
        assert not address.path.startswith("/c/")
        assert (await coding.get(address)).status_code == 200, name
    plain = re.sub(r"  <meta (?:property|name)=\"(?:og|twitter):.*\n", "", car.text)
    assert plain.replace('="../', '="') == page.text
    policies = [each.headers["content-security-policy"] for each in (page, car)]
    assert policies[0] == policies[1]
    again = await coding.get(car.url, headers={"If-None-Match": car.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("headers", "root"),
    [
        ({"X-Forwarded-Proto": "https"}, "https://service"),
        ({"X-Forwarded-Proto": "HTTPS, http", "Host": "cars.example:8443"}, "https://cars.example:8443"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/a/cars/"}, "https://service/a/cars"),
        ({"Host": "[::1]:8000"}, "http://[::1]:8000"),
        ({"X-Forwarded-Proto": "javascript"}, "http://service"),
    ],
)
async def test_absolute_addresses_are_those_that_visitors_know(
    coding: httpx.AsyncClient, headers: dict[str, str], root: str
) -> None:
    code = await code_of(coding)
    told = told_by(await coding.get(f"/c/{code}", headers=headers))
    assert told["og:url"] == f"{root}/c/{code}"
    assert told["og:image"].startswith(f"{root}/c/{code}.jpg")


@pytest.mark.parametrize(
    "headers",
    [{"Host": '"><script>'}, {"Host": "a b"}, {"Host": ""}, {"X-Forwarded-Prefix": '/"><script>'}],
)
async def test_names_that_make_no_sense_are_not_repeated(
    coding: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    page = await coding.get(f"/c/{await code_of(coding)}", headers=headers)
    assert page.status_code == 200
    assert "<script>" not in page.text
    assert not {"og:url", "og:image"} & set(told_by(page))


@pytest.mark.parametrize(
    ("path", "status"),
    [("{cut}", 400), ("{code}%3D", 400), ("%22%3E%3Cscript%3Ealert(1)", 400), ("{other}", 409)],
)
async def test_the_page_of_what_is_no_car_says_so_by_its_status(
    coding: httpx.AsyncClient, path: str, status: int
) -> None:
    code = await code_of(coding)
    other = to_text(seal(tag_of(2), from_text(code)[1:-1]))
    page = await coding.get("/c/" + path.format(code=code, cut=code[:-2], other=other))
    assert page.status_code == status
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert told_by(page) == {}
    assert "<script>" not in page.text


# the log, and the metrics


async def test_requests_are_counted_without_their_codes(coding: httpx.AsyncClient) -> None:
    code = await code_of(coding)
    for path in (f"/c/{code}.webp", f"/c/{code}", f"/c/{code[:-1]}.webp"):
        await coding.get(path)
    metrics = (await coding.get("/metrics")).text
    assert 'car_vae_requests_total{endpoint="/c/{code}.webp",status="200"} 1.0' in metrics
    assert 'car_vae_requests_total{endpoint="/c/{code}.webp",status="400"} 1.0' in metrics
    assert 'car_vae_requests_total{endpoint="/c/{code}",status="200"} 1.0' in metrics
    assert code not in metrics


# whatever comes


def odd_paths(code: str) -> list[str]:
    random = np.random.RandomState(7)
    letters = "ABCDEFabcdef0123456789-_.=+/%?#&;:@!$'()*, \n\t\0é漢😀"
    noise = ["".join(random.choice(list(letters), random.randint(1, 60))) for _ in range(150)]
    raw = from_text(code)
    cuts = [to_text(raw[:length]) for length in range(1, len(raw))]
    sealed = [to_text(seal(int(tag), random.bytes(random.randint(1, 60)))) for tag in range(0, 256, 5)]
    spoilt = [
        code[:place] + ("A" if code[place] != "A" else "B") + code[place + 1 :] for place in range(0, 60, 3)
    ]
    long = ["A" * 4000, code * 20, "%2e" * 500, "../" * 300, "/" * 500]
    return [quote(each, safe="") for each in noise] + cuts + sealed + spoilt + long


async def test_no_path_breaks_it(coding: httpx.AsyncClient) -> None:
    code = await code_of(coding)
    allowed = {200, 400, 404, 409}
    for path in odd_paths(code):
        for suffix in ("", ".png", ".webp"):
            answer = await coding.get(f"/c/{path}{suffix}")
            assert answer.status_code in allowed, (path, suffix)
            if answer.status_code == 200:
                assert suffix == "" or answer.headers["content-type"] in TYPES.values()
                continue
            assert answer.headers["cache-control"] == "no-store"
            if answer.headers["content-type"] != "text/html; charset=utf-8":
                check_problem(answer, answer.status_code)
            assert "property" not in answer.text


async def test_a_cache_keeps_apart_what_pages_of_other_origins_get(serve: Serve, folder: Path) -> None:
    async with serve(model_dir=folder, cors_origins="https://example.org") as client:
        code = await code_of(client)
        for origin, allowed in (
            (None, None),
            ("https://example.org", "https://example.org"),
            ("https://a.b", None),
        ):
            answer = await client.get(f"/c/{code}.png", headers={"Origin": origin} if origin else {})
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert "Origin" in answer.headers["vary"]
            known = {"If-None-Match": answer.headers["etag"]}
            assert "Origin" in (await client.get(f"/c/{code}.png", headers=known)).headers["vary"]
