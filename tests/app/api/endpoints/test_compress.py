"""Codes over HTTP, on a real (tiny) model: written by /compress, and read wherever latents are taken."""

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.codes.codec import CodeCodec
from app.codes.wire import from_text, seal, tag_of, to_text
from app.images.arrays import ImageArray
from app.images.decode import read_image
from app.images.quality import psnr, ssim
from app.model.latents import standard_draws
from tests.app.codes.tiny_codes import tiny_tables
from tests.app.conftest import Serve, state_behind
from tests.images import announced_png, array_of, file_of, photograph
from tests.tiny_model import HEIGHT, LATENT_DIM, WIDTH, filtered_by_tiny_model, write_tiny_model

CODEC = CodeCodec(tiny_tables(), tag_of(1))
WIDE, TALL = file_of(photograph(60, 40)), file_of(photograph(30, 60, seed=2))
LATENTS = standard_draws(3, LATENT_DIM, seed=5)
INVALID, TOO_MANY = (422, "invalid-field"), (413, "too-many-items")
FOREVER = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coded") / "tiny-vae" / "1"
    return write_tiny_model(folder, refiner=True, codes=True)


@pytest.fixture
async def coding(serve: Serve, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(model_dir=folder) as client:
        yield client


def uploads(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", ("car.png", file)) for file in files]


async def compressed(client: httpx.AsyncClient, query: str = "", *files: bytes) -> list[dict[str, Any]]:
    answer = await client.post(f"/compress{query}", files=uploads(*(files or (WIDE,))))
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "tiny-vae/1"
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def decoded(client: httpx.AsyncClient, latents: Any) -> list[ImageArray]:
    body = {"latents": np.asarray(latents).tolist()}
    answer = await client.post("/decode?format=json", json=body)
    return [array_of_url(url) for url in answer.json()["images"]]


def array_of_url(url: str) -> ImageArray:
    return array_of(base64.b64decode(url.partition(",")[2]))


async def expected_image(client: httpx.AsyncClient, code: str) -> ImageArray:
    """The image of a code, by the codec, the service's own decoder and the filter as it is meant."""
    content = CODEC.unpack(from_text(code))
    (base,) = await decoded(client, CODEC.latent(content)[None])
    return CODEC.picture(
        content, base, lambda layers, _, fineness: filtered_by_tiny_model(layers, fineness)
    ).image


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


async def test_each_picture_gets_a_code_for_each_budget(coding: httpx.AsyncClient) -> None:
    items = await compressed(coding, "?bytes=24,64&bytes=200", WIDE, TALL)
    assert len(items) == 2
    for item in items:
        codes = [from_text(text) for text in item["codes"]]
        assert [len(code) for code in codes] == item["bytes"]
        assert all(len(code) <= budget for code, budget in zip(codes, (24, 64, 200), strict=True))
        assert item["psnr"] == sorted(item["psnr"])
        assert item["psnr"][2] > item["psnr"][0]
        assert "images" not in item
    assert [item["box"] for item in items] == [[0, 0, 24, 16], [8, 0, 16, 16]]


async def test_figures_are_those_of_the_decoded_picture_against_the_fitted_input(
    coding: httpx.AsyncClient,
) -> None:
    (item,) = await compressed(coding, "?bytes=64", TALL)
    original = read_image(TALL, WIDTH, HEIGHT, 10**6)[None]
    seen = (await expected_image(coding, item["codes"][0]))[None]
    assert item["psnr"] == pytest.approx(psnr(original, seen).tolist())
    assert item["ssim"] == pytest.approx(ssim(original, seen).tolist())


async def test_94_bytes_unless_others_are_asked_for(coding: httpx.AsyncClient) -> None:
    (item,) = await compressed(coding)
    (same,) = await compressed(coding, "?bytes=94")
    assert len(item["codes"]) == 1
    assert item == same


async def test_latents_of_pictures_are_refined_unless_it_is_declined(coding: httpx.AsyncClient) -> None:
    refined, plain = [(await compressed(coding, query))[0] for query in ("", "?refine=false")]
    assert (await compressed(coding, "?refine=true"))[0] == refined
    encoded = [
        (await coding.post(f"/encode?refine={refine}", files=uploads(WIDE))).json()["latents"][0]
        for refine in ("true", "false")
    ]
    step = 2.0 * 2 ** (-20 / 16)
    for item, latent in zip((refined, plain), encoded, strict=True):
        found = CODEC.latent(CODEC.unpack(from_text(item["codes"][0])))
        assert np.abs(found - latent).max() < step
    assert np.abs(np.subtract(*encoded)).max() > 2 * step


@pytest.mark.parametrize("refine", ["", "?refine=false"])
async def test_where_the_model_is_on_a_gpu_the_service_itself_reads_and_encodes(
    serve: Serve, folder: Path, coding: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, refine: str
) -> None:
    expected = await compressed(coding, refine, WIDE, TALL)
    monkeypatch.setattr("app.inference.codes.CPU", "of this machine it is not")
    async with serve(model_dir=folder) as client:
        assert not state_behind(client).codes.encodes
        assert await compressed(client, refine, WIDE, TALL) == expected
        answer = await client.post("/compress", files=uploads(WIDE, TALL[:100]))
        assert problem(answer) == (400, "unreadable-picture")
        assert answer.json()["detail"].startswith("image 2 of 2: ")


@pytest.mark.parametrize(
    ("files", "expected", "place"),
    [
        ([WIDE, WIDE[:300], b"no picture"], (400, "unreadable-picture"), "image 2 of 3: "),
        ([b"no picture", WIDE], (415, "unsupported-picture"), "image 1 of 2: "),
        ([WIDE, announced_png(9000, 9000)], (413, "picture-too-large"), "image 2 of 2: "),
    ],
    ids=["damaged", "no picture", "too large"],
)
async def test_the_first_picture_that_cannot_be_read_is_named_as_elsewhere(
    coding: httpx.AsyncClient, files: list[bytes], expected: tuple[int, str], place: str
) -> None:
    answer = await coding.post("/compress", files=uploads(*files))
    assert problem(answer) == expected
    assert answer.json()["detail"].startswith(place)
    elsewhere = await coding.post("/encode", files=uploads(*files))
    assert problem(elsewhere) == expected
    assert answer.json()["detail"] == elsewhere.json()["detail"]
    assert len(await compressed(coding)) == 1


async def test_a_picture_that_takes_too_long_stops_no_other(serve: Serve, folder: Path) -> None:
    large = file_of(Image.new("RGB", (8000, 8000)))
    async with serve(model_dir=folder, max_pixels=10**9, decode_timeout=0.05) as client:
        before = await compressed(client)
        slow, after = await asyncio.gather(
            client.post("/compress", files=uploads(WIDE, large)), compressed(client)
        )
        assert problem(slow) == (400, "unreadable-picture")
        assert slow.json()["detail"] == "image 2 of 2: it takes more than 0.05 s to decode"
        assert after == before


async def test_a_full_queue_refuses_before_the_pictures_are_sent(serve: Serve, folder: Path) -> None:
    async def unsent() -> AsyncIterator[bytes]:
        pytest.fail("the body is read")
        yield b""

    async with serve(model_dir=folder, max_items=2) as client:
        await compressed(client)
        packer = state_behind(client).codes._packer
        os.kill(packer._process.pid, signal.SIGSTOP)
        waiting = [asyncio.ensure_future(compressed(client))]
        while packer.batcher._running is None:
            await asyncio.sleep(0)
        waiting += [asyncio.ensure_future(compressed(client)) for _ in range(4)]
        while packer.batcher.queued_rows < 4:
            await asyncio.sleep(0)
        headers = {"Content-Type": "image/jpeg"}
        refused = await client.post("/compress", content=unsent(), headers=headers)
        assert problem(refused) == (429, "queue-full")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await client.post("/encode", files=uploads(WIDE))).status_code == 200
        os.kill(packer._process.pid, signal.SIGCONT)
        assert [len(each) for each in await asyncio.gather(*waiting)] == [1] * 5


async def test_images_show_what_each_code_decodes_to(coding: httpx.AsyncClient) -> None:
    (item,) = await compressed(coding, "?bytes=32,200&images=png")
    assert len(item["images"]) == 2
    for code, url in zip(item["codes"], item["images"], strict=True):
        assert np.array_equal(array_of_url(url), await expected_image(coding, code))
    (item,) = await compressed(coding, "?images=webp")
    assert item["images"][0].startswith("data:image/webp;base64,")


async def test_one_code_comes_as_its_very_bytes(coding: httpx.AsyncClient) -> None:
    (item,) = await compressed(coding, "?bytes=48")
    for path in ("/compress?bytes=48&format=bin", "/compress.bin?bytes=48"):
        answer = await coding.post(path, files=uploads(WIDE))
        assert (answer.status_code, answer.content) == (200, from_text(item["codes"][0]))
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-model"] == "tiny-vae/1"
    several = await coding.post("/compress?bytes=48,64&format=bin", files=uploads(WIDE))
    assert problem(several) == INVALID
    assert several.json()["errors"][0]["place"] == "query.format"
    assert problem(await coding.post("/compress.bin", files=uploads(WIDE, TALL))) == INVALID


async def test_latents_are_coded_as_their_pictures(coding: httpx.AsyncClient) -> None:
    body = {"latents": LATENTS.tolist(), "model": "tiny-vae/1"}
    answer = await coding.post("/compress?bytes=60", json=body)
    images = await decoded(coding, LATENTS)
    for item, original in zip(answer.json()["items"], images, strict=True):
        assert item["box"] == [0, 0, WIDTH, HEIGHT]
        seen = await expected_image(coding, item["codes"][0])
        assert item["psnr"] == pytest.approx(psnr(original[None], seen[None]).tolist())


async def test_codes_are_coded_anew_in_their_shape(coding: httpx.AsyncClient) -> None:
    (item,) = await compressed(coding, "?bytes=200", TALL)
    (shorter,) = (await coding.post("/compress?bytes=40", json={"codes": item["codes"]})).json()["items"]
    assert shorter["box"] == item["box"] == [8, 0, 16, 16]
    assert shorter["bytes"][0] <= 40


async def test_codes_stand_in_place_of_latents(coding: httpx.AsyncClient) -> None:
    items = await compressed(coding, "?bytes=30,200", WIDE, TALL)
    codes = [code for item in items for code in item["codes"]]
    expected = [await expected_image(coding, code) for code in codes]
    bodies = {"codes": codes}, {"model": "tiny-vae/1", "items": items}
    for body in bodies:
        answer = await coding.post("/decode?format=json", json=body)
        found = [array_of_url(url) for url in answer.json()["images"]]
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    one = await coding.post("/decode", json={"codes": codes[1:2]})
    assert np.array_equal(array_of(one.content), expected[1])


async def test_a_code_by_address_is_its_picture_for_good(coding: httpx.AsyncClient) -> None:
    (item,) = await compressed(coding, "?bytes=200")
    (code,) = item["codes"]
    answer = await coding.get(f"/decode.png?code={code}")
    assert np.array_equal(array_of(answer.content), await expected_image(coding, code))
    assert answer.headers["cache-control"] == FOREVER
    known = await coding.get(f"/decode.png?code={code}", headers={"If-None-Match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert known.headers["cache-control"] == FOREVER
    several = await coding.get(f"/decode.json?code={code},{code}&code={code}")
    assert len(several.json()["images"]) == 3


async def test_answers_that_need_a_key_are_kept_by_their_client_alone(serve: Serve, folder: Path) -> None:
    async with serve(model_dir=folder, api_keys=["key"]) as client:
        client.headers["x-api-key"] = "key"
        (item,) = await compressed(client)
        answer = await client.get(f"/decode.png?code={item['codes'][0]}")
        assert answer.headers["cache-control"] == FOREVER.replace("public", "private")
        del client.headers["x-api-key"]
        assert (await client.get(f"/decode.png?code={item['codes'][0]}")).status_code == 401
        assert (await client.post("/compress", files=uploads(WIDE))).status_code == 401


async def test_a_path_between_codes_ends_on_their_pictures(coding: httpx.AsyncClient) -> None:
    codes = [item["codes"][0] for item in await compressed(coding, "?bytes=200", WIDE, TALL)]
    first, last = [await expected_image(coding, code) for code in codes]
    latents = [CODEC.latent(CODEC.unpack(from_text(code))) for code in codes]
    answer = (await coding.post("/interpolate?format=json", json={"codes": codes, "steps": 5})).json()
    frames = [array_of_url(url).astype(int) for url in answer["images"]]
    assert np.array_equal(frames[0], first)
    assert np.array_equal(frames[4], last)
    assert answer["latents"][0] == pytest.approx(latents[0].tolist())
    plain = await decoded(coding, answer["latents"])
    assert np.array_equal(frames[2], plain[2]), "in the middle neither code's second layer is seen"
    begin = (await decoded(coding, latents[0][None]))[0].astype(int)
    half = np.clip(np.rint(plain[1] + 0.5 * (first.astype(int) - begin)), 0, 255)
    assert np.abs(frames[1] - half).max() <= 1
    by_address = await coding.get(f"/interpolate.json?code={codes[0]}&code={codes[1]}&steps=5")
    assert by_address.json() == answer
    assert by_address.headers["cache-control"] == FOREVER


async def test_a_path_by_address_goes_along_seeds_or_codes(coding: httpx.AsyncClient) -> None:
    (item,) = await compressed(coding, "?bytes=30,40")
    code = ",".join(item["codes"])
    assert problem(await coding.get(f"/interpolate?seed=1,2&code={code}")) == INVALID
    assert problem(await coding.get("/interpolate")) == INVALID
    assert problem(await coding.get(f"/interpolate?code={item['codes'][0]}")) == INVALID


@pytest.mark.parametrize(
    ("method", "path", "place"),
    [
        ("POST", "/decode", "codes[1]"),
        ("POST", "/interpolate", "codes[1]"),
        ("POST", "/compress", "codes[1]"),
        ("GET", "/decode", "query.code[1]"),
        ("GET", "/interpolate", "query.code[1]"),
    ],
)
async def test_damaged_and_foreign_codes_are_refused_with_their_place(
    coding: httpx.AsyncClient, method: str, path: str, place: str
) -> None:
    (item,) = await compressed(coding, "?bytes=40")
    (good,) = item["codes"]
    swapped = good[:9] + ("A" if good[9] != "A" else "B") + good[10:]
    foreign = to_text(seal(tag_of(2), from_text(good)[1:-1]))
    refused = {
        swapped: (400, "damaged-code"),
        good[:-3]: (400, "damaged-code"),
        good + "=": (400, "damaged-code"),
        "": (400, "damaged-code"),
        "ünlesbar": (400, "damaged-code"),
        "A" * 9000: (400, "damaged-code"),
        foreign: (409, "wrong-model"),
    }
    for code, expected in refused.items():
        if method == "POST":
            answer = await coding.post(path, json={"codes": [good, code]})
        else:
            answer = await coding.get(path, params=[("code", good), ("code", code)])
        assert problem(answer) == expected, code
        assert place in answer.json()["detail"]
        assert answer.headers["cache-control"] == "no-store"


async def test_codes_beside_latents_and_of_too_many_are_refused(coding: httpx.AsyncClient) -> None:
    (item,) = await compressed(coding, "?bytes=30")
    both = await coding.post("/decode", json={"codes": item["codes"], "latents": LATENTS.tolist()})
    assert problem(both) == INVALID
    assert problem(await coding.post("/decode", json={"codes": item["codes"] * 65})) == (
        413,
        "too-many-items",
    )
    params = [("code", item["codes"][0])] * 65
    assert problem(await coding.get("/decode", params=params)) == TOO_MANY


@pytest.mark.parametrize(
    "query", ["bytes=15", "bytes=401", "bytes=9.5", "bytes=", "bytes=" + "20," * 16 + "20", "x=1"]
)
async def test_budgets_that_no_code_has_are_refused(coding: httpx.AsyncClient, query: str) -> None:
    assert problem(await coding.post(f"/compress?{query}", files=uploads(WIDE))) == INVALID


async def test_a_model_without_codes_says_so(client: httpx.AsyncClient) -> None:
    assert problem(await client.post("/compress", files=uploads(WIDE))) == (404, "not-offered")
    assert problem(await client.post("/decode", json={"codes": ["IAAA"]})) == INVALID
    assert (await client.get("/model")).json()["codes"] is False


async def test_without_a_refiner_the_encoders_latents_are_coded(serve: Serve, folder: Path) -> None:
    async with serve(model_dir=folder, refine=False) as client:
        (item,) = await compressed(client)
        assert problem(await client.post("/compress?refine=true", files=uploads(WIDE))) == (
            422,
            "invalid-field",
        )
    async with serve(model_dir=folder) as client:
        assert [item] == await compressed(client, "?refine=false")


async def test_the_process_ends_with_the_service(serve: Serve, folder: Path) -> None:
    async with serve(model_dir=folder) as client:
        await compressed(client)
        process = state_behind(client).codes._packer._process
        assert process.is_alive()
    assert process.exitcode == 0


async def test_packing_is_counted_as_a_stage_of_its_own(coding: httpx.AsyncClient) -> None:
    items = await compressed(coding, "", WIDE, TALL)
    codes = [code for item in items for code in item["codes"]]
    assert (await coding.post("/decode", json={"codes": codes})).status_code == 200
    assert (await coding.get(f"/c/{codes[0]}.png")).status_code == 200
    written, first = sum(item["bytes"][0] for item in items), items[0]["bytes"][0]
    metrics = (await coding.get("/metrics")).text
    assert 'car_vae_batch_rows_sum{graph="packer"} 2.0' in metrics
    assert 'car_vae_stage_seconds_count{stage="pack"} 1.0' in metrics
    assert f'car_vae_code_bytes_sum{{model="tiny-vae/1",way="written"}} {written}.0' in metrics
    assert f'car_vae_code_bytes_sum{{model="tiny-vae/1",way="read"}} {written + first}.0' in metrics
    assert 'car_vae_code_bytes_count{model="tiny-vae/1",way="read"} 3.0' in metrics


async def test_the_same_picture_in_other_formats_stands_beside_its_codes(coding: httpx.AsyncClient) -> None:
    (item,) = await compressed(coding, "?bytes=30,400&images=png&others=webp,blurhash,thumbhash", WIDE)
    by_name = {other["format"]: other for other in item["others"]}
    assert list(by_name) == ["webp", "blurhash", "thumbhash"]
    original = read_image(WIDE, WIDTH, HEIGHT, 10**6)
    for other in by_name.values():
        assert len(other["bytes"]) == len(other["psnr"]) == len(other["images"]) == 2
        for size, decibels, url, budget in zip(
            other["bytes"], other["psnr"], other["images"], (30, 400), strict=True
        ):
            if size is None:
                assert (decibels, url) == (None, None)
                assert other["smallest"] > budget
                continue
            assert other["smallest"] <= size <= budget
            assert array_of_url(url).shape == (HEIGHT, WIDTH, 3)
            assert decibels == pytest.approx(psnr(original[None], array_of_url(url)[None])[0])
    assert by_name["webp"]["bytes"][0] is None
    assert by_name["webp"]["psnr"][1] > by_name["blurhash"]["psnr"][1]


async def test_formats_that_are_none_are_refused(coding: httpx.AsyncClient) -> None:
    answer = await coding.post("/compress?others=webp,bmp", files=uploads(WIDE))
    assert problem(answer) == INVALID
    assert answer.json()["errors"][0]["place"] == "query.others[1]"
