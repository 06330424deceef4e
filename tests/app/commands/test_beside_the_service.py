"""The commands beside the service: the same codes of a photograph, and the same picture of a code."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.app.commands.conftest import Run
from tests.app.conftest import Serve
from tests.images import array_of


@pytest.mark.parametrize("name", ["wide.jpg", "tall.png"])
async def test_they_agree(run: Run, here: Path, serve: Serve, coded: Path, name: str) -> None:
    line = json.loads(run("compress", name, "--json", "--bytes", "120").stdout)
    async with serve(model_dir=coded) as client:
        content = (here / name).read_bytes()
        answer = await client.post("/compress?bytes=120", files={"image": content})
        (item,) = answer.json()["items"]
        assert item["codes"] == [line["code"]]
        assert item["bytes"] == [line["bytes"]]
        assert (item["psnr"], item["ssim"]) == (
            [pytest.approx(line["psnr"], abs=0.005)],
            [pytest.approx(line["ssim"], abs=5e-5)],
        )
        whole = await client.get("/decode.png", params={"code": line["code"]})
    picture = run("decompress", line["code"], "--letterbox").stdout_bytes
    np.testing.assert_array_equal(array_of(picture), array_of(whole.content))
