"""Files made to break a decoder, over HTTP: each gets its answer, and stops no other."""

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from app.images.decode import FORMATS, read_sized_image
from tests.app.api.requests import JPEG, check_problem, form, post_image
from tests.app.conftest import Serve
from tests.app.robustness.hostile_images import BOMBS, small
from tests.tiny_model import write_tiny_model


async def test_every_hostile_file_gets_its_answer_over_http(serve: Serve, tmp_path: Path) -> None:
    """The same one from the threads of the service and from the process that writes codes."""
    corpus: list[bytes] = [make() for make, _ in BOMBS.values()]
    for kind in FORMATS:
        whole = small(kind)
        corpus += [whole[: len(whole) * part // 40] for part in range(40)]
    seen: Counter[int] = Counter()
    async with serve(model_dir=write_tiny_model(tmp_path / "tiny-vae" / "1", codes=True)) as client:
        for data in corpus:
            answer = await post_image(client, "/encode", data)
            seen[answer.status_code] += 1
            coded = await post_image(client, "/compress", data)
            if answer.status_code == 200:
                assert coded.status_code == 200
            else:
                problem = check_problem(answer, answer.status_code)
                assert check_problem(coded, answer.status_code)["detail"] == problem["detail"]
        assert (await client.get("/health/ready")).status_code == 200
    assert set(seen) == {200, 400, 413, 415}


async def test_a_file_that_is_stuck_stops_no_other(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    release, real = threading.Event(), read_sized_image

    def read(data: bytes, width: int, height: int, max_pixels: int) -> object:
        if data == b"stuck":
            release.wait(timeout=60)
        return real(data, width, height, max_pixels)

    monkeypatch.setattr("app.api.inference_request.read_sized_image", read)
    async with serve(picture_threads=1, decode_timeout=0.1) as client:
        answer = await client.post("/encode", files=form(JPEG, b"stuck"))
        assert "image 2 of 2: it takes more than 0.1 s" in check_problem(answer, 400)["detail"]
        assert (await client.post("/encode", files=form(JPEG))).status_code == 200
        check_problem(await client.post("/encode", files=form(b"stuck")), 400)
        problem = check_problem(await client.get("/health/ready"), 503)
        assert "stuck" in problem["detail"]
        check_problem(await client.post("/encode", files=form(JPEG)), 503)
        release.set()
        deadline = time.monotonic() + 30
        while (await client.get("/health/ready")).status_code != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert (await client.post("/encode", files=form(JPEG))).status_code == 200
