"""The pictures that browsers are shown instead of files they cannot show."""

import httpx
import numpy as np
import pytest

from tests.app.conftest import Serve
from tests.heic import SIDE, heic
from tests.images import array_of, difference, file_of, opened, photograph

ORIENTATION = 274


async def preview(client: httpx.AsyncClient, file: bytes, query: str = "") -> httpx.Response:
    return await client.post(f"/preview.png{query}", files={"image": ("car", file)})


async def test_a_heic_is_shown_as_it_is(client: httpx.AsyncClient) -> None:
    answer = await preview(client, heic())
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert difference(array_of(answer.content), np.asarray(photograph(SIDE, SIDE))) < 4


async def test_a_turned_one_stands_upright(client: httpx.AsyncClient) -> None:
    exif = photograph().getexif()
    exif[ORIENTATION] = 6
    answer = await preview(client, file_of(photograph(90, 60), "TIFF", exif=exif))
    assert opened(answer.content).size == (60, 90)
    turned = np.rot90(np.asarray(photograph(90, 60)), -1)
    assert np.array_equal(array_of(answer.content), turned)


@pytest.mark.parametrize(
    ("size", "query", "expected"),
    [
        ((300, 600), "?size=100", (50, 100)),
        ((600, 300), "?size=100", (100, 50)),
        ((90, 60), "?size=2048", (90, 60)),
        ((3000, 20), "", (1024, 7)),
        ((2000, 1), "", (1024, 1)),
    ],
)
async def test_it_keeps_its_shape_and_is_not_enlarged(
    client: httpx.AsyncClient, size: tuple[int, int], query: str, expected: tuple[int, int]
) -> None:
    answer = await preview(client, file_of(photograph(*size), "TIFF"), query)
    assert opened(answer.content).size == expected


async def test_no_more_pixels_than_an_answer_may_have(serve: Serve) -> None:
    async with serve(max_output_pixels=10_000) as client:
        assert opened((await preview(client, file_of(photograph(300, 200)))).content).size == (100, 67)


async def test_what_cannot_be_read_is_refused(client: httpx.AsyncClient) -> None:
    file = file_of(photograph(), "TIFF")
    assert (await preview(client, file[:200])).status_code == 400
    assert (await preview(client, b"words")).status_code == 415
    assert (await preview(client, file, "?size=15")).status_code == 422
    two = await client.post("/preview", files=[("image", ("a", file)), ("image", ("b", file))])
    assert two.status_code == 422
    assert "once, and not 2 times" in two.json()["errors"][0]["message"]


async def test_in_each_format(client: httpx.AsyncClient) -> None:
    for suffix, kind in (("webp", "WEBP"), ("jpg", "JPEG"), ("avif", "AVIF")):
        answer = await client.post(
            f"/preview.{suffix}",
            content=file_of(photograph()),
            headers={"Content-Type": "application/octet-stream"},
        )
        assert opened(answer.content).format == kind
