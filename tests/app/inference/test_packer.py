"""The process that writes codes: what it answers, and what becomes of it."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator

import numpy as np
import pytest

from app.codes.tables import Floats
from app.errors import InferenceFailed, NotReady, QueueFull
from app.images.arrays import ImageArray
from app.images.other_formats.compare import FormatName, in_other_formats
from app.inference import packer as packer_module
from app.inference.coder import Coder, PackedCode, read_codec
from app.inference.packer import MAX_BUDGETS, NICENESS, Packer, PackerSpec
from app.inference.session import SessionSpec, decoder_graph, open_sessions, post_filter_graph, refiner_graph
from app.model.latents import Latents
from app.model.manifest import ModelFolder, read_model_folder
from app.timings import Timings
from tests.app.codes.tiny_codes import tiny_car
from tests.tiny_model import HEIGHT, LATENT_DIM, WIDTH, refined_by_tiny_model, write_tiny_model

SIZES = [(60, 40), (30, 60), (40, 40)]
QUEUE_ROWS = 4


class Observer:
    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []

    def batch(self, batcher: str, rows: int, run_seconds: float, queued_rows: int) -> None:
        assert run_seconds > 0
        assert queued_rows >= 0
        self.batches.append((batcher, rows))

    def skipped(self, batcher: str, rows: int) -> None:
        self.batches.append((batcher, -rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return read_model_folder(
        write_tiny_model(tmp_path_factory.mktemp("tiny") / "1", refiner=True, codes=True)
    )


def spec_of(folder: ModelFolder) -> PackerSpec:
    manifest, codes = folder.manifest, folder.manifest.codes
    assert codes is not None
    assert codes.filter is not None
    assert manifest.files.refiner is not None
    decoder = decoder_graph(manifest, "fp32"), folder.content(manifest.files.decoder)
    post_filter = post_filter_graph(manifest, codes.filter), folder.content(codes.filter)
    refiner = refiner_graph(manifest, manifest.files.refiner), folder.content(manifest.files.refiner)
    return PackerSpec(codes.tag, folder.content(codes.tables), decoder, post_filter, refiner)


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture
async def packer(folder: ModelFolder, observer: Observer) -> AsyncIterator[Packer]:
    packer = Packer(
        spec_of(folder),
        (HEIGHT, WIDTH, 3),
        LATENT_DIM,
        max_queue_rows=QUEUE_ROWS,
        queue_timeout=30.0,
        observer=observer,
    )
    packer.batcher.start()
    yield packer
    packer.batcher.close()
    packer.close()


def images_and_latents(count: int) -> tuple[ImageArray, Latents]:
    images, latents = zip(*(tiny_car(seed) for seed in range(count)), strict=True)
    return np.stack(images), np.stack(latents)


async def pack_one(packer: Packer) -> list[PackedCode]:
    images, latents = images_and_latents(1)
    (packed,) = await packer.pack(images, latents, SIZES[:1], [40])
    return packed.codes


async def until_taken(packer: Packer) -> None:
    """Until the packer's thread has a row, so that nothing of it waits any more."""
    while packer.batcher._running is None:
        await asyncio.sleep(0)


def pid_of(packer: Packer) -> int:
    assert packer._process is not None
    assert packer._process.pid is not None
    return packer._process.pid


@pytest.mark.parametrize("refine", [False, True])
async def test_codes_are_those_that_a_coder_in_this_process_writes(
    packer: Packer, observer: Observer, folder: ModelFolder, refine: bool
) -> None:
    images, latents = images_and_latents(3)
    timings = Timings()
    found = await packer.pack(images, latents, SIZES, [200, 24, 64], timings, refine=refine)
    assert observer.batches == [("packer", 1)] * 3
    assert {"queue", "pack"} <= set(timings.seconds)
    codec, spec = read_codec(folder), spec_of(folder)
    assert codec is not None
    assert spec.post_filter is not None
    decoder, post_filter = open_sessions(dict([spec.decoder, spec.post_filter]), SessionSpec("cpu"))

    def decode(latent: Floats) -> ImageArray:
        image: ImageArray = decoder.run(latent[None])[0][0]
        return image

    coder = Coder(codec, post_filter)
    if refine:
        latents = refined_by_tiny_model(images, latents)
    for image, latent, size, packed in zip(images, latents, SIZES, found, strict=True):
        codes = packed.codes
        assert packed.others == []
        expected = coder.pack(image, latent, size, [200, 24, 64], decode)
        assert [each.code for each in codes] == [each.code for each in expected]
        assert [each.psnr for each in codes] == [each.psnr for each in expected]
        for one, other in zip(codes, expected, strict=True):
            assert np.array_equal(one.image, other.image)


async def test_as_many_budgets_as_a_request_may_have(packer: Packer) -> None:
    images, latents = images_and_latents(1)
    budgets = [30 + 10 * number for number in range(MAX_BUDGETS)]
    (packed,) = await packer.pack(images, latents, SIZES[:1], budgets)
    assert len(packed.codes) == MAX_BUDGETS
    assert all(len(each.code) <= budget for each, budget in zip(packed.codes, budgets, strict=True))


async def test_other_formats_are_those_that_are_made_in_this_process(packer: Packer) -> None:
    images, latents = images_and_latents(1)
    budgets = [40, 400]
    names: list[FormatName] = ["webp", "blurhash"]
    (packed,) = await packer.pack(images, latents, SIZES[:1], budgets, others=names)
    expected = in_other_formats(images[0], packed.codes[0].box, budgets, names)
    assert [other.name for other in packed.others] == ["webp", "blurhash"]
    for found, other in zip(packed.others, expected, strict=True):
        assert found.smallest == other.smallest
        for one, rendition in zip(found.renditions, other.renditions, strict=True):
            if one is None or rendition is None:
                assert one is rendition is None
                continue
            assert (one.data, one.psnr) == (rendition.data, rendition.psnr)
            assert np.array_equal(one.image, rendition.image)


async def test_it_is_started_when_it_is_needed_and_stands_back(packer: Packer) -> None:
    assert packer._process is None
    await pack_one(packer)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, pid_of(packer)) == min(own + NICENESS, 19)


async def test_what_it_cannot_write_fails_alone_and_is_not_told_word_for_word(
    packer: Packer, caplog: pytest.LogCaptureFixture
) -> None:
    images, latents = images_and_latents(1)
    pid = None
    for latent, budget in ((np.full_like(latents, np.nan), 40), (latents, 3)):
        with pytest.raises(InferenceFailed, match=r"^the code could not be written$"):
            await packer.pack(images, latent, SIZES[:1], [budget])
        pid = pid or pid_of(packer)
    assert "not all numbers of the latent are finite" in caplog.text
    await pack_one(packer)
    assert pid_of(packer) == pid


async def test_one_that_died_at_rest_is_replaced_unnoticed(packer: Packer) -> None:
    before = await pack_one(packer)
    process = packer._process
    assert process is not None
    process.kill()
    process.join()
    after = await pack_one(packer)
    assert [each.code for each in after] == [each.code for each in before]
    assert packer._process is not process


async def test_one_that_dies_at_work_takes_only_that_with_it(packer: Packer) -> None:
    before = await pack_one(packer)
    os.kill(pid_of(packer), signal.SIGSTOP)  # so that it has the work for as long as the test needs
    lost = asyncio.ensure_future(pack_one(packer))
    await until_taken(packer)
    waiting = asyncio.ensure_future(pack_one(packer))
    os.kill(pid_of(packer), signal.SIGKILL)
    with pytest.raises(InferenceFailed, match="has ended; try again"):
        await lost
    assert [each.code for each in await waiting] == [each.code for each in before]


def test_one_whose_service_dies_while_it_works_ends_well(folder: ModelFolder) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=packer_module._serve, args=(theirs, spec_of(folder)))
    process.start()
    theirs.close()
    ours.send("work")
    ours.close()
    process.join(60)
    assert process.exitcode == 0


async def test_one_that_hangs_is_ended(packer: Packer, monkeypatch: pytest.MonkeyPatch) -> None:
    await pack_one(packer)
    process = packer._process
    assert process is not None
    os.kill(pid_of(packer), signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(packer_module, "LONGEST", 0.05)
        with pytest.raises(InferenceFailed):
            await pack_one(packer)
    assert process.exitcode == -signal.SIGKILL
    assert await pack_one(packer)


async def test_signals_that_all_processes_get_do_not_end_it(packer: Packer) -> None:
    await pack_one(packer)
    pid = pid_of(packer)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    await pack_one(packer)
    assert pid_of(packer) == pid


async def test_more_than_the_queue_holds_is_refused(packer: Packer) -> None:
    await pack_one(packer)
    os.kill(pid_of(packer), signal.SIGSTOP)
    running = asyncio.ensure_future(pack_one(packer))
    await until_taken(packer)
    images, latents = images_and_latents(3)
    waiting = asyncio.ensure_future(packer.pack(images, latents, SIZES, [40]))
    while packer.batcher.queued_rows < 3:
        await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await packer.pack(images, latents, SIZES, [40])
    os.kill(pid_of(packer), signal.SIGCONT)
    assert len(await running) == 1
    assert [len(packed.codes) for packed in await waiting] == [1] * 3


async def test_a_client_that_goes_leaves_no_work_behind(packer: Packer, observer: Observer) -> None:
    await pack_one(packer)
    os.kill(pid_of(packer), signal.SIGSTOP)
    running = asyncio.ensure_future(pack_one(packer))
    await until_taken(packer)
    images, latents = images_and_latents(3)
    gone = asyncio.ensure_future(packer.pack(images, latents, SIZES, [40]))
    while packer.batcher.queued_rows < 3:
        await asyncio.sleep(0)
    gone.cancel()
    os.kill(pid_of(packer), signal.SIGCONT)
    await running
    assert observer.batches == [("packer", 1), ("packer", -3), ("packer", 1)]


async def test_what_was_accepted_is_finished_before_the_end(packer: Packer) -> None:
    images, latents = images_and_latents(3)
    accepted = asyncio.ensure_future(packer.pack(images, latents, SIZES, [40]))
    await until_taken(packer)
    await packer.batcher.drain()
    process = packer._process
    packer.close()
    assert len(await accepted) == 3
    assert process is not None
    assert process.exitcode == 0
    with pytest.raises(NotReady):
        await pack_one(packer)
