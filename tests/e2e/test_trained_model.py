"""From drawn cars to HTTP answers: train, fit the prior, export, serve, and talk to every endpoint."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.images.arrays import ImageArray
from app.images.quality import psnr
from model_training.data.synthetic import draw_cars

WIDTH, HEIGHT = 48, 32
CARS = draw_cars(4, WIDTH, HEIGHT, seed=99)


def png(image: ImageArray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def image_array(content: bytes) -> ImageArray:
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened.convert("RGB"))


def from_url(url: str) -> ImageArray:
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    return image_array(base64.b64decode(content))


def ok(response: httpx.Response) -> httpx.Response:
    assert response.status_code == 200, response.text
    assert response.headers["X-Request-ID"]
    assert "dur=" in response.headers["Server-Timing"]
    return response


def upload(*cars: ImageArray) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("image", (f"{i}.png", png(car), "image/png")) for i, car in enumerate(cars)]


def test_the_model_answers_for_itself(client: httpx.Client) -> None:
    model = ok(client.get("/model")).json()
    assert model["id"] == "car-vae/7"
    assert model["image_size"] == {"width": WIDTH, "height": HEIGHT}
    assert model["provider"] == "CPUExecutionProvider"
    assert model["metrics"]["psnr"] > 15


def test_an_encoded_image_decodes_to_its_reconstruction(client: httpx.Client) -> None:
    encoded = ok(client.post("/encode", files=upload(CARS[0]))).json()
    assert len(encoded["latents"][0]) == len(encoded["std"][0]) == 32
    decoded = image_array(ok(client.post("/decode", json=encoded)).content)
    raw = client.post("/reconstruct", content=png(CARS[0]), headers={"Content-Type": "image/png"})
    np.testing.assert_array_equal(decoded, image_array(ok(raw).content))
    assert psnr(CARS[:1], decoded[np.newaxis])[0] > 14


def test_several_images_keep_their_order(client: httpx.Client) -> None:
    together = ok(client.post("/reconstruct?format=json", files=upload(*CARS))).json()
    assert np.mean(together["psnr"]) > 14
    assert max(together["ssim"]) <= 1
    for car, url, latent in zip(CARS, together["images"], together["latents"], strict=True):
        alone = ok(client.post("/reconstruct?format=json", files=upload(car))).json()
        np.testing.assert_allclose(latent, alone["latents"][0], atol=1e-4)
        assert np.abs(from_url(url).astype(int) - from_url(alone["images"][0])).max() <= 1


def test_a_seed_repeats_its_samples(client: httpx.Client) -> None:
    first = ok(client.post("/sample", json={"count": 3}))
    seed = first.headers["X-Seed"]
    again = ok(client.get("/sample", params={"count": 3, "seed": seed}))
    assert first.content == again.content
    other = ok(client.get("/sample", params={"count": 3, "seed": int(seed) + 1}))
    assert other.content != first.content


def test_samples_of_the_fitted_prior_look_more_like_cars(client: httpx.Client) -> None:
    """The nearest of many drawn cars is nearer to them than to samples of N(0, I)."""
    reference = draw_cars(300, WIDTH, HEIGHT, seed=5).reshape(300, -1).astype(np.float32)

    def distance(prior: str) -> float:
        body = {"count": 64, "seed": 1, "prior": prior}
        answer = ok(client.post("/sample?format=json", json=body)).json()
        drawn = np.stack([from_url(url) for url in answer["images"]]).reshape(64, 1, -1).astype(np.float32)
        return float(np.sqrt(((drawn - reference) ** 2).mean(axis=2)).min(axis=1).mean())

    assert distance("fitted") < distance("standard")


@pytest.mark.parametrize("method", ["linear", "spherical"])
def test_an_animation_goes_from_one_car_to_the_other(client: httpx.Client, method: str) -> None:
    form: dict[str, Any] = {"steps": "6", "method": method}
    answer = ok(client.post("/interpolate?format=gif", files=upload(*CARS[:2]), data=form))
    with Image.open(io.BytesIO(answer.content)) as animation:
        assert animation.n_frames == 6  # type: ignore[attr-defined]
        frames = []
        for i in range(6):
            animation.seek(i)
            frames.append(np.asarray(animation.convert("RGB")).astype(int))
    ends = [
        image_array(ok(client.post("/reconstruct", files=upload(car))).content).astype(int)
        for car in CARS[:2]
    ]
    gaps = [[np.abs(frame - end).mean() for frame in frames] for end in ends]
    assert gaps[0] == sorted(gaps[0])
    assert gaps[1] == sorted(gaps[1], reverse=True)
    assert gaps[0][0] < 8 < gaps[0][-1], "GIF's palette may cost a few grey levels, the path must cost more"


def test_the_ends_of_a_path_are_its_waypoints(client: httpx.Client) -> None:
    sampled = ok(client.post("/sample?format=json", json={"count": 3, "seed": 8})).json()
    for method in ("linear", "spherical"):
        body = {**sampled, "steps": 7, "method": method}
        path = ok(client.post("/interpolate?format=json", json=body)).json()
        assert path["latents"][0] == sampled["latents"][0]
        assert path["latents"][3] == sampled["latents"][1]
        assert path["latents"][-1] == sampled["latents"][-1]
        for frame, url in ((0, sampled["images"][0]), (-1, sampled["images"][-1])):
            assert np.abs(from_url(path["images"][frame]).astype(int) - from_url(url)).max() <= 1


def test_probes_metrics_page_and_documentation_answer(client: httpx.Client) -> None:
    assert ok(client.get("/health/live")).status_code == 200
    assert "car_vae_requests_total" in ok(client.get("/metrics")).text
    assert "<html" in ok(client.get("/")).text
    assert set(ok(client.get("/openapi.json")).json()["paths"]) >= {"/encode", "/decode", "/sample"}


def test_bad_input_is_a_problem_and_harms_nobody(client: httpx.Client) -> None:
    for response, status in (
        (
            client.post("/encode", content=b"\x89PNG broken", headers={"Content-Type": "image/png"}),
            (400, 415),
        ),
        (client.post("/decode", json={"latents": [[0.0]]}), (422,)),
        (client.post("/decode", json={"latents": [[0.0] * 32], "model": "other/1"}), (409,)),
        (client.get("/nowhere"), (404,)),
    ):
        assert response.status_code in status
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json()["request_id"] == response.headers["X-Request-ID"]
    assert ok(client.get("/health/ready")).status_code == 200
