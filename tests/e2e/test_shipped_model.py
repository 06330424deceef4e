"""The model that ships: whole, as measured, and giving the latents it has always given."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.manifest import read_manifest
from app.quality import psnr
from model_training.codec import OnnxCodec
from model_training.synthetic import draw_cars
from tests.e2e.conftest import ROOT, serving
from tests.e2e.test_trained_model import picture, png

MODEL = ROOT / "models" / "car-vae" / "1"
GOLDEN = Path(__file__).parent / "golden-car-vae-1.json"
TOLERANCE = 2e-3
"""Latents are of size one; processors differ in the last bits of float32 sums, and no more."""

CARS = draw_cars(4, 96, 64, seed=7)


@pytest.fixture(scope="module")
def codec() -> OnnxCodec:
    return OnnxCodec(MODEL)


def test_golden_latents(codec: OnnxCodec) -> None:
    golden = json.loads(GOLDEN.read_text())
    mean, log_variance = codec.encode(CARS)
    np.testing.assert_allclose(mean[:, :16], golden["mean"], atol=TOLERANCE)
    np.testing.assert_allclose(log_variance[:, :16], golden["log_variance"], atol=TOLERANCE)


def test_the_manifest_keeps_the_projects_promises() -> None:
    manifest = read_manifest(MODEL)
    assert manifest.id == "car-vae/1"
    assert 8_600_000 <= manifest.parameters <= 8_800_000
    assert (manifest.image_size.width, manifest.image_size.height, manifest.latent_dim) == (96, 64, 256)
    assert manifest.metrics["psnr"] >= 17.5
    assert manifest.parity.encoder_mean < 1e-3
    assert manifest.files.prior is not None


def test_it_sees_cars_it_was_not_made_for(codec: OnnxCodec) -> None:
    """Drawn cars are far from photographs; their reconstructions still beat the best single colour."""
    reconstructed = codec.decode(codec.encode(CARS)[0])
    flat = np.broadcast_to(CARS.mean(axis=(1, 2), keepdims=True).astype(np.uint8), CARS.shape)
    assert (psnr(CARS, reconstructed) > psnr(CARS, flat) + 1).all()


def test_it_is_what_the_service_serves_by_default(codec: OnnxCodec, tmp_path: Path) -> None:
    with serving(MODEL, tmp_path / "log", device="auto") as client:
        assert client.get("/model").json()["id"] == "car-vae/1"
        served = client.post("/encode", content=png(CARS[0]), headers={"Content-Type": "image/png"})
        np.testing.assert_allclose(served.json()["latents"], codec.encode(CARS[:1])[0], atol=TOLERANCE)
        assert_round_trip(client, png(CARS[0]))


def assert_round_trip(client: httpx.Client, file: bytes) -> None:
    raw = {"Content-Type": "image/png"}
    encoded = client.post("/encode", content=file, headers=raw).json()
    decoded = client.post("/decode", json=encoded)
    reconstructed = client.post("/reconstruct", content=file, headers=raw)
    np.testing.assert_array_equal(picture(decoded.content), picture(reconstructed.content))
