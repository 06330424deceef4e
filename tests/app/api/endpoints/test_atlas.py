"""What the service says by a model's atlas: directions with names, likeness, and the map."""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.app.api.requests import check_problem
from tests.app.conftest import Serve, state_behind
from tests.images import file_of
from tests.tiny_model import LATENT_DIM, add_atlas, random_images, write_tiny_model

IMAGES = [
    ("image", (f"{number}.png", file_of(Image.fromarray(image))))
    for number, image in enumerate(random_images(5))
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_tiny_model(tmp_path / "tiny-vae" / "1", codes=True)
    add_atlas(folder)
    return folder


async def test_named_directions_follow_the_principal_ones(serve: Serve, folder: Path) -> None:
    async with serve(model_dir=folder) as client:
        content = (await client.get("/model")).json()
    *principal, paint, shape = content["directions"]
    assert [one["name"] for one in principal] == [None] * 8
    assert paint == {
        "vector": [1.0] + [0.0] * (LATENT_DIM - 1),
        "std": 0.5,
        "name": "Paint",
        "low": "dark",
        "high": "light",
    }
    assert (shape["name"], shape["low"], shape["high"], shape["std"]) == ("Shape", "low", "tall", 1.5)


@pytest.mark.parametrize("path", ["/encode", "/reconstruct?images=none&format=json"])
async def test_likeness_is_that_of_the_encoders_own_latents(serve: Serve, folder: Path, path: str) -> None:
    async with serve(model_dir=folder) as client:
        answer = (await client.post(path, files=IMAGES)).json()
        latents = np.array(answer["latents"])
        np.testing.assert_allclose(answer["likeness"], 1 / (1 + np.exp(-latents[:, 0])), atol=6e-5)
        alone = (await client.post(path, files=IMAGES[3:4])).json()
        assert alone["likeness"] == answer["likeness"][3:4]
        assert (await client.post("/decode", json=answer)).status_code == 200
        drawn = await client.post("/encode?sample=true&seed=3", files=IMAGES)
        assert drawn.json()["likeness"] == answer["likeness"]
        assert drawn.json()["latents"] != answer["latents"]


async def test_likeness_is_said_beside_codes_of_images_and_of_nothing_else(
    serve: Serve, folder: Path
) -> None:
    async with serve(model_dir=folder) as client:
        encoded = (await client.post("/encode", files=IMAGES[:2])).json()
        items = (await client.post("/compress?bytes=100", files=IMAGES[:2])).json()["items"]
        assert [item["likeness"] for item in items] == encoded["likeness"]
        items = (await client.post("/compress?bytes=100", json=encoded)).json()["items"]
        assert [item["likeness"] for item in items] == [None, None]


async def test_a_model_that_cannot_tell_says_nothing(client: httpx.AsyncClient) -> None:
    for path in ("/encode", "/reconstruct.json"):
        assert (await client.post(path, files=IMAGES)).json()["likeness"] is None


async def test_the_map_is_kept_for_good_where_its_digest_is_in_the_address(
    serve: Serve, folder: Path
) -> None:
    async with serve(model_dir=folder) as client:
        said = (await client.get("/model")).json()["map"]
        assert said["seeds"] == [[5, 3, 8], [1, 9, 2]]
        answer = await client.get(said["url"])
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/webp"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.content == state_behind(client).vae.atlas.sheet
        with Image.open(io.BytesIO(answer.content)) as sheet:
            assert sheet.size == (3 * 24, 2 * 16)
        known = {"If-None-Match": answer.headers["etag"]}
        again = await client.get(said["url"], headers=known)
        assert (again.status_code, again.content) == (304, b"")
        plain = await client.get("/map.webp")
        assert plain.content == answer.content
        assert plain.headers["cache-control"] == "public, no-cache"
        check_problem(await client.get("/map.webp?sha256=" + "0" * 64), 404)
        check_problem(await client.get("/map.webp?sha256=1"), 422)


async def test_the_map_needs_the_key_that_cars_need(serve: Serve, folder: Path) -> None:
    async with serve(model_dir=folder, api_keys="secret") as client:
        check_problem(await client.get("/map.webp"), 401)
        answer = await client.get("/map.webp", headers={"X-API-Key": "secret"})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "private, no-cache"


async def test_a_model_without_a_map(client: httpx.AsyncClient) -> None:
    assert (await client.get("/model")).json()["map"] is None
    check_problem(await client.get("/map.webp"), 404)
