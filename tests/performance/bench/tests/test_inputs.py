"""Requests that mean what they say, and checks that notice a wrong answer."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.api.bodies import parse_images
from app.images.encode import encode_gif, grid
from app.images.png import encode_png
from tests.performance.bench.inputs import (
    MULTIPART,
    Exchange,
    Reference,
    Workload,
    WrongAnswer,
    check_latents,
    frames_similar,
    jpegs,
    latents_json,
    multipart,
    pixels_near,
    pixels_similar,
)
from tests.tiny_model import LATENT_DIM, random_images, write_tiny_model


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(write_tiny_model(tmp_path_factory.mktemp("tiny") / "1"))


def test_jpegs_are_of_the_size_differ_and_repeat() -> None:
    files = jpegs(3, 60, 40, seed=1)
    assert [Image.open(io.BytesIO(file)).size for file in files] == [(60, 40)] * 3
    assert len(set(files)) == 3
    assert files == jpegs(3, 60, 40, seed=1)


def test_the_service_reads_the_form_back() -> None:
    files = [b"one", b"two\r\n\r\n", b"\xff\xd8three"]
    upload = parse_images(multipart(files), MULTIPART, max_items=8)
    assert (upload.images, upload.fields) == (files, {})


def test_latents_survive_json() -> None:
    latents = np.random.default_rng(0).standard_normal((3, 5), dtype=np.float32)
    body = json.loads(latents_json(latents, steps=16))
    assert np.array_equal(np.array(body["latents"], np.float32), latents)
    assert body["steps"] == 16


def answer(mean: Any, std: Any) -> bytes:
    return json.dumps({"latents": mean.tolist(), "std": std.tolist()}).encode()


def test_latents_of_another_picture_are_noticed(reference: Reference) -> None:
    mean, std = reference.encode(jpegs(4, 48, 32, seed=1))
    assert mean.shape == (4, LATENT_DIM)
    scale = float(np.sqrt(np.mean(np.var(mean, axis=0) * 2)))
    check_latents(answer(mean, std), mean, std, scale)
    for wrong in (mean[::-1], mean[:3], mean * np.nan, mean + 0.1 * scale):
        with pytest.raises(WrongAnswer):
            check_latents(answer(wrong, std), mean, std, scale)
    with pytest.raises(WrongAnswer, match="std"):
        check_latents(answer(mean, std + scale), mean, std, scale)


def test_other_pictures_are_noticed() -> None:
    pictures = random_images(4)
    right, turned = (encode_png(grid(list(found))) for found in (pictures, pictures[::-1]))
    for check in (pixels_near(pictures), pixels_similar(pictures)):
        check(right)
        for wrong in (turned, encode_png(pictures[0]), b"not a picture"):
            with pytest.raises(WrongAnswer):
                check(wrong)
    slightly = encode_png(grid([np.where(picture < 250, picture + 5, picture) for picture in pictures]))
    with pytest.raises(WrongAnswer):
        pixels_near(pictures)(slightly)


def test_frames_out_of_order_or_missing_are_noticed() -> None:
    values = np.linspace(0, 255, 6).astype(np.uint8)
    frames = np.broadcast_to(values[:, None, None, None], (6, 16, 24, 3)).copy()

    def gif(shown: Sequence[Any]) -> bytes:
        return encode_gif(shown)

    check = frames_similar(frames)
    check(gif(list(frames)))
    for wrong in (frames[::-1], frames[:5]):
        with pytest.raises(WrongAnswer):
            check(gif(list(wrong)))


def test_requests_are_written_for_the_driver(tmp_path: Path) -> None:
    exchanges = [Exchange(body, lambda _: None) for body in (b"first", b"second")]
    folder = Workload("x", "X", "/x", "text/plain", exchanges).write(tmp_path / "x", {"Extra": "0"})
    assert (folder / "headers").read_text() == "Content-Type: text/plain\nExtra: 0\n"
    assert [(folder / name).read_bytes() for name in ("0", "1")] == [b"first", b"second"]
    assert len(list(folder.iterdir())) == 3
