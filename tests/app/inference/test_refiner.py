"""Refining: what comes out, which row belongs to which, and what it may not hold up."""

import asyncio
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from app.inference.refiner import CPU_BATCH_ROWS, NICENESS, Refiner, open_refiner
from app.inference.session import CPU, SessionSpec
from app.model.latents import standard_draws
from app.model.manifest import describe_file, read_model_folder, write_manifest
from app.timings import Timings
from tests.tiny_model import (
    HEIGHT,
    LATENT_DIM,
    WIDTH,
    random_images,
    refined_by_tiny_model,
    write_tiny_model,
)


class Observer:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def batch(self, batcher: str, rows: int, run_seconds: float, queued_rows: int) -> None:
        assert batcher == "refiner"
        assert run_seconds >= 0
        assert queued_rows >= 0
        self.sizes.append(rows)

    def skipped(self, batcher: str, rows: int) -> None:
        raise AssertionError(f"{rows} rows of the {batcher} were skipped")


def refiner_of(folder: Path, observer: Observer | None = None) -> Refiner:
    read = read_model_folder(folder)
    assert read.manifest.files.refiner is not None
    session = open_refiner(read, read.manifest.files.refiner, SessionSpec("cpu", threads=2), CPU)
    return Refiner(session, max_queue_rows=100, queue_timeout=10.0, observer=observer or Observer())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"), refiner=True)


async def test_each_pair_gives_its_own_latent_whatever_its_company(folder: Path) -> None:
    observer, timings = Observer(), Timings()
    refiner = refiner_of(folder, observer)
    refiner.batcher.start()
    images, latents = random_images(9), standard_draws(9, LATENT_DIM, 1)
    images[3:5] //= 4
    expected = refined_by_tiny_model(images, latents)
    parts = [slice(0, 1), slice(1, 4), slice(4, 9)]
    found = await asyncio.gather(*(refiner.refine(images[part], latents[part]) for part in parts))
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)
    assert max(observer.sizes) <= CPU_BATCH_ROWS
    assert sum(observer.sizes) == 9
    (alone,) = await refiner.refine(images[:1], latents[:1], timings)
    np.testing.assert_allclose(alone, expected[0], atol=1e-6)
    assert alone.dtype == np.float32
    assert set(timings.seconds) == {"queue", "refine"}
    await refiner.batcher.drain()


def dividing_refiner() -> bytes:
    """A graph that gives 1 / latents, in which a latent of 0 is no number."""
    pictures = helper.make_tensor_value_info("pictures", onnx.TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])
    latents, refined = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", LATENT_DIM])
        for name in ("latents", "refined")
    )
    nodes = [helper.make_node("Reciprocal", ["latents"], ["refined"])]
    model = helper.make_model(
        helper.make_graph(nodes, "dividing", [pictures, latents], [refined]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


async def test_a_row_that_is_no_number_keeps_its_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_tiny_model(tmp_path, refiner=True)
    manifest = read_model_folder(folder).manifest
    (folder / "refiner.onnx").write_bytes(dividing_refiner())
    files = replace(manifest.files, refiner=describe_file(folder / "refiner.onnx"))
    write_manifest(folder, replace(manifest, files=files))
    refiner = refiner_of(folder)
    refiner.batcher.start()
    latents = np.full((3, LATENT_DIM), 4, np.float32)
    latents[1, 2] = 0
    refined = await refiner.refine(random_images(3), latents)
    np.testing.assert_array_equal(refined[[0, 2]], np.full((2, LATENT_DIM), 0.25, np.float32))
    np.testing.assert_array_equal(refined[1], latents[1])
    assert "not finite for 1 of 3 rows" in caplog.text
    await refiner.batcher.drain()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no niceness of its own")
async def test_its_thread_stands_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refiner = refiner_of(folder)
    seen: list[int] = []
    inner = refiner._run

    def run(pairs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return inner(pairs)

    monkeypatch.setattr(refiner.batcher, "_infer", run)
    refiner.batcher.start()
    await refiner.refine(random_images(1), standard_draws(1, LATENT_DIM, 1))
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert seen == [min(own + NICENESS, 19)]
    await refiner.batcher.drain()
