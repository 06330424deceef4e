"""The work that peers share."""

import importlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from app.images.letterbox import fit
from tests.performance.bench.inputs import Reference, jpegs, multipart, pixels_near
from tests.performance.bench.peers.pictures import pillow_fit
from tests.tiny_model import write_tiny_model

MODEL = 96, 64
NAME = "tests.performance.bench.peers.work"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "1")


@pytest.fixture
def work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("BENCH_MODEL_DIR", str(folder))
    monkeypatch.setenv("BENCH_PORT", "1")
    monkeypatch.setenv("BENCH_FIT", "car-vae")  # as the reference does
    yield importlib.import_module(NAME)
    del sys.modules[NAME]


def test_files_come_out_of_a_form_as_they_went_in(work: ModuleType) -> None:
    files = [b"one", b"two\r\n\r\n--", b"\r\n\xff\xd8three"]
    assert work.files_in(multipart(files)) == files


@pytest.mark.parametrize("size", [(256, 256), (300, 120), (24, 16), (1200, 801)])
def test_pillows_fit_is_the_same_as_this_services(size: tuple[int, int]) -> None:
    (file,) = jpegs(1, *size, seed=3)
    image = Image.open(io.BytesIO(file))
    difference = pillow_fit(image, *MODEL).astype(int) - fit(image, *MODEL)
    assert np.abs(difference).mean() < 1


def test_pictures_are_fitted_by_pillow_unless_asked_otherwise(
    work: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.open(io.BytesIO(jpegs(1, 48, 48, seed=2)[0]))
    size = work.WIDTH, work.HEIGHT
    np.testing.assert_array_equal(work.fitted_image(image), fit(image, *size))
    monkeypatch.setattr(work, "OWN_FIT", False)
    np.testing.assert_array_equal(work.fitted_image(image), pillow_fit(image, *size))


def test_a_batch_answers_each_request_with_its_own_rows(work: ModuleType, folder: Path) -> None:
    reference, model = Reference(folder), work.Model()
    files = jpegs(4, 48, 32, seed=1)
    requests = [files[:1], files[1:3], files[3:]]
    for answer, request in zip(work.encode_all(model, requests), requests, strict=True):
        mean, std = reference.encode(request)
        found = json.loads(answer)
        np.testing.assert_allclose(found["latents"], mean, atol=1e-4)
        np.testing.assert_allclose(found["std"], std, atol=1e-4)
    latents = [reference.encode(request)[0] for request in requests]
    for found in (work.decode_all(model, latents), work.reconstruct_all(model, requests)):
        for answer, rows in zip(found, latents, strict=True):
            pixels_near(reference.decode(rows))(answer)
