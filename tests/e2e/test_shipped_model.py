"""The models that ship: whole, as measured, and giving the latents they have always given."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.images.decode import read_image
from app.images.quality import psnr
from app.model.manifest import read_model_folder
from model_training.backends.onnx_backend import OnnxBackend
from model_training.data.synthetic import draw_cars
from tests.e2e.conftest import ROOT, serving
from tests.e2e.test_trained_model import image_array, png
from tests.images import file_of

MODELS = ROOT / "models" / "car-vae"
TOLERANCE = 2e-3
"""Latents are of size one; processors differ in the last bits of float32 sums, and no more."""

CARS = draw_cars(4, 96, 64, seed=7)


@pytest.fixture(scope="module", params=[1, 2])
def backend(request: pytest.FixtureRequest) -> OnnxBackend:
    return OnnxBackend(MODELS / str(request.param))


def test_latents_of_known_images_stay_as_they_were(backend: OnnxBackend) -> None:
    golden = json.loads(
        (Path(__file__).parent / f"golden-car-vae-{backend.manifest.version}.json").read_text()
    )
    mean, log_variance = backend.encode(CARS)
    np.testing.assert_allclose(mean[:, :16], golden["mean"], atol=TOLERANCE)
    np.testing.assert_allclose(log_variance[:, :16], golden["log_variance"], atol=TOLERANCE)


def test_a_photograph_has_the_same_latent_in_a_jpeg_and_in_a_png(backend: OnnxBackend) -> None:
    random = np.random.RandomState(18)
    pairs = []
    for number in range(60):
        width, height = (int(2 ** random.uniform(6.5, 10.5)) for _ in range(2))
        car = Image.fromarray(CARS[number % len(CARS)]).resize((width, height), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[0x0112] = random.randint(1, 9)
        options = {"subsampling": random.randint(3), "progressive": bool(random.randint(2))}
        files = file_of(car, exif=exif), file_of(car, "JPEG", quality=96, exif=exif, **options)
        pairs += [read_image(content, 96, 64, 10**7) for content in files]
    mean, _ = backend.encode(np.stack(pairs))
    apart = np.linalg.norm(mean[::2] - mean[1::2], axis=1) / np.linalg.norm(mean[::2], axis=1)
    assert (
        np.median(apart) <= 0.012
    )  # drawn edges lose more in a JPEG than photographs, which stay below 0.007
    assert apart.max() <= 0.05


@pytest.mark.parametrize(("version", "decibels"), [(1, 17.5), (2, 20.7)])
def test_the_manifest_keeps_the_projects_promises(version: int, decibels: float) -> None:
    manifest = read_model_folder(MODELS / str(version)).manifest
    assert manifest.id == f"car-vae/{version}"
    assert 8_600_000 <= manifest.parameters <= 8_800_000
    assert (manifest.image_size.width, manifest.image_size.height, manifest.latent_dim) == (96, 64, 256)
    assert manifest.metrics["psnr"] >= decibels
    assert manifest.parity.encoder_mean < 1e-3
    assert manifest.files.prior is not None
    assert (manifest.files.int8 is not None) == (version > 1)


def test_it_sees_cars_it_was_not_made_for(backend: OnnxBackend) -> None:
    """Drawn cars are far from photographs; their reconstructions still beat the best single colour."""
    reconstructed = backend.decode(backend.encode(CARS)[0])
    flat = np.broadcast_to(CARS.mean(axis=(1, 2), keepdims=True).astype(np.uint8), CARS.shape)
    assert (psnr(CARS, reconstructed) > psnr(CARS, flat) + 1).all()


def test_either_is_served_by_its_folder_alone(backend: OnnxBackend, tmp_path: Path) -> None:
    folder = MODELS / str(backend.manifest.version)
    with serving(folder, tmp_path / "log", device="auto") as client:
        assert client.get("/model").json()["id"] == backend.manifest.id
        served = client.post("/encode", content=png(CARS[0]), headers={"Content-Type": "image/png"})
        np.testing.assert_allclose(served.json()["latents"], backend.encode(CARS[:1])[0], atol=TOLERANCE)
        assert_round_trip(client, png(CARS[0]))


def assert_round_trip(client: httpx.Client, file: bytes) -> None:
    raw = {"Content-Type": "image/png"}
    encoded = client.post("/encode", content=file, headers=raw).json()
    decoded = client.post("/decode", json=encoded)
    reconstructed = client.post("/reconstruct", content=file, headers=raw)
    np.testing.assert_array_equal(image_array(decoded.content), image_array(reconstructed.content))
