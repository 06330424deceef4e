"""The process that writes codes: what it answers, and what becomes of it."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.codes.tables import Floats
from app.errors import ImageTooLarge, InferenceFailed, NotReady, QueueFull, UnreadableImage, UnsupportedImage
from app.images.arrays import ImageArray
from app.images.decode import read_sized_image
from app.images.other_formats.compare import FormatName, in_other_formats
from app.images.worker_pool import ItemError, TookTooLong
from app.inference import packer as packer_module
from app.inference import packer_process
from app.inference.coder import Coder, Decode, PackedCode, read_codec
from app.inference.packer import MAX_BUDGETS, Packer
from app.inference.packer_process import NICENESS, Original, PackerSpec, serve
from app.inference.session import (
    SessionSpec,
    decoder_graph,
    encoder_graph,
    open_sessions,
    post_filter_graph,
    refiner_graph,
)
from app.model.manifest import ModelFolder, read_model_folder
from app.timings import Timings
from tests.app.codes.tiny_codes import tiny_car
from tests.images import announced_png, file_of, photograph
from tests.tiny_model import HEIGHT, LATENT_DIM, WIDTH, refined_by_tiny_model, write_tiny_model

SIZES = [(60, 40), (30, 60), (40, 40)]
FILES = [file_of(photograph(60, 40)), file_of(photograph(30, 60, seed=2), "JPEG"), file_of(photograph(9, 9))]
QUEUE_ROWS = 4
MAX_PIXELS = 128_000_000
DECODE_TIMEOUT = 10.0


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
    encoder = encoder_graph(manifest), folder.content(manifest.files.encoder)
    refiner = refiner_graph(manifest, manifest.files.refiner), folder.content(manifest.files.refiner)
    tables = folder.content(codes.tables)
    return PackerSpec(codes.tag, tables, decoder, post_filter, encoder, refiner, MAX_PIXELS, DECODE_TIMEOUT)


@pytest.fixture
def observer() -> Observer:
    return Observer()


class Calm:
    def __init__(self) -> None:
        self.now = True

    def __call__(self) -> bool:
        return self.now


@pytest.fixture
def is_calm() -> Calm:
    return Calm()


@pytest.fixture
async def packer(folder: ModelFolder, observer: Observer, is_calm: Calm) -> AsyncIterator[Packer]:
    packer = Packer(
        spec_of(folder), is_calm, max_queue_rows=QUEUE_ROWS, queue_timeout=30.0, observer=observer
    )
    packer.batcher.start()
    yield packer
    packer.batcher.close()
    packer.close()


def originals(count: int) -> list[Original]:
    return [
        Original(image, SIZES[seed], latent) for seed in range(count) for image, latent in [tiny_car(seed)]
    ]


def large_file() -> bytes:
    """One that takes some 0.3 s to read."""
    return file_of(Image.new("RGB", (8000, 8000)))


async def pack_one(packer: Packer) -> list[PackedCode]:
    (packed,) = await packer.pack(originals(1), [40])
    return packed.codes


async def until_taken(packer: Packer) -> None:
    """Until the packer's thread has a row, so that nothing of it waits any more."""
    while packer.batcher._running is None:
        await asyncio.sleep(0)


def pid_of(packer: Packer) -> int:
    assert packer._process is not None
    assert packer._process.pid is not None
    return packer._process.pid


def coder_here(folder: ModelFolder) -> tuple[Coder, Decode]:
    codec, spec = read_codec(folder), spec_of(folder)
    assert codec is not None
    assert spec.post_filter is not None
    decoder, post_filter = open_sessions(dict([spec.decoder, spec.post_filter]), SessionSpec("cpu"))

    def decode(latent: Floats) -> ImageArray:
        image: ImageArray = decoder.run(latent[None])[0][0]
        return image

    return Coder(codec, post_filter), decode


def check_same(found: list[PackedCode], expected: list[PackedCode]) -> None:
    assert [each.code for each in found] == [each.code for each in expected]
    assert [each.psnr for each in found] == [each.psnr for each in expected]
    assert [each.box for each in found] == [each.box for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.image, other.image)


async def test_codes_are_those_that_a_coder_in_this_process_writes(
    packer: Packer, observer: Observer, folder: ModelFolder
) -> None:
    timings = Timings()
    found = await packer.pack(originals(3), [200, 24, 64], timings)
    assert observer.batches == [("packer", 1)] * 3
    assert {"queue", "pack"} <= set(timings.seconds)
    coder, decode = coder_here(folder)
    for seed, packed in enumerate(found):
        assert packed.others == []
        assert packed.encoded is None
        check_same(packed.codes, coder.pack(*tiny_car(seed), SIZES[seed], [200, 24, 64], decode))


@pytest.mark.parametrize("refine", [False, True])
async def test_files_are_read_encoded_and_refined_as_in_this_process(
    packer: Packer, folder: ModelFolder, refine: bool
) -> None:
    found = await packer.pack([Original(file, refine=refine) for file in FILES], [64])
    encoder_of = spec_of(folder).encoder
    assert encoder_of is not None
    (encoder,) = open_sessions(dict([encoder_of]), SessionSpec("cpu"))
    coder, decode = coder_here(folder)
    for file, packed in zip(FILES, found, strict=True):
        image, size = read_sized_image(file, WIDTH, HEIGHT, MAX_PIXELS)
        encoded = encoder.run(image[None])[0]
        assert packed.encoded is not None
        assert packed.encoded == pytest.approx(encoded[0], abs=1e-5)
        latent = refined_by_tiny_model(image[None], encoded) if refine else encoded
        check_same(packed.codes, coder.pack(image, latent[0], size, [64], decode))


async def test_an_image_without_a_latent_is_coded_as_its_file_is(packer: Packer) -> None:
    image, size = read_sized_image(FILES[1], WIDTH, HEIGHT, MAX_PIXELS)
    of_file, of_image = await packer.pack(
        [Original(FILES[1], refine=True), Original(image, size, refine=True)], [64]
    )
    check_same(of_image.codes, of_file.codes)


@pytest.mark.parametrize(
    ("file", "error"),
    [
        (FILES[0][:200], UnreadableImage),
        (b"", UnreadableImage),
        (b"no picture", UnsupportedImage),
        (announced_png(8001, 8000), ImageTooLarge),
    ],
    ids=["cut", "empty", "of no format", "too large"],
)
async def test_the_first_file_that_cannot_be_read_is_named_and_the_rest_left(
    packer: Packer, caplog: pytest.LogCaptureFixture, file: bytes, error: type[Exception]
) -> None:
    with pytest.raises(ItemError) as told:
        await packer.pack([Original(each) for each in (FILES[0], file, b"worse", FILES[1])], [40])
    assert told.value.index == 1
    assert type(told.value.error) is error
    with pytest.raises(error) as expected:
        read_sized_image(file, WIDTH, HEIGHT, MAX_PIXELS)
    assert str(told.value.error) == str(expected.value)
    assert caplog.text == ""
    pid = pid_of(packer)
    await packer.pack([Original(FILES[0])], [40])
    assert pid_of(packer) == pid


async def test_a_file_that_takes_too_long_ends_the_process_and_nothing_else(folder: ModelFolder) -> None:
    spec = replace(spec_of(folder), decode_timeout=0.05)
    packer = Packer(spec, Calm(), max_queue_rows=QUEUE_ROWS, queue_timeout=30.0, observer=Observer())
    packer.batcher.start()
    before = await pack_one(packer)
    pid = pid_of(packer)
    slow = asyncio.ensure_future(packer.pack([Original(FILES[2]), Original(large_file())], [40]))
    waiting = asyncio.ensure_future(pack_one(packer))
    with pytest.raises(ItemError) as told:
        await slow
    assert (told.value.index, type(told.value.error)) == (1, TookTooLong)
    check_same(await waiting, before)
    check_same(await pack_one(packer), before)
    assert pid_of(packer) != pid
    packer.batcher.close()
    packer.close()


async def test_as_many_budgets_as_a_request_may_have(packer: Packer) -> None:
    budgets = [30 + 10 * number for number in range(MAX_BUDGETS)]
    (packed,) = await packer.pack(originals(1), budgets)
    assert len(packed.codes) == MAX_BUDGETS
    assert all(len(each.code) <= budget for each, budget in zip(packed.codes, budgets, strict=True))


async def test_other_formats_are_those_that_are_made_in_this_process(packer: Packer) -> None:
    budgets = [40, 400]
    (packed,) = await packer.pack(originals(1), budgets, others=["blurhash", "webp"])
    names: list[FormatName] = ["webp", "blurhash"]
    expected = in_other_formats(tiny_car(0)[0], packed.codes[0].box, budgets, names)
    assert [other.name for other in packed.others] == names
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


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="stands back so on Linux alone")
async def test_in_calm_times_a_thread_works_that_the_system_takes_for_none(
    packer: Packer, is_calm: Calm
) -> None:
    def seconds_of_idle() -> float:
        """What threads of the idle class have had of the processor."""
        tasks = Path(f"/proc/{pid_of(packer)}/task")
        idle = [each for each in tasks.iterdir() if os.sched_getscheduler(int(each.name)) == os.SCHED_IDLE]
        return sum(int((each / "schedstat").read_text().split()[0]) for each in idle) / 1e9

    calm = await pack_one(packer)
    after_calm = seconds_of_idle()
    is_calm.now = False
    busy = await pack_one(packer)
    assert 0 < after_calm == seconds_of_idle()
    check_same(busy, calm)
    is_calm.now = True
    check_same(await pack_one(packer), calm)
    assert seconds_of_idle() > after_calm


async def test_what_it_cannot_write_fails_alone_and_is_not_told_word_for_word(
    packer: Packer, caplog: pytest.LogCaptureFixture
) -> None:
    (original,) = originals(1)
    pid = None
    for latent, budget in ((np.full(LATENT_DIM, np.nan, np.float32), 40), (original.latent, 3)):
        with pytest.raises(InferenceFailed, match=r"^the code could not be written$"):
            await packer.pack([replace(original, latent=latent)], [budget])
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
    process = context.Process(target=serve, args=(theirs, spec_of(folder)))
    process.start()
    theirs.close()
    ours.send(((Original(FILES[0]), [40], []), True))
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


def serve_impatiently(pipe: Connection, spec: PackerSpec) -> None:
    packer_process.MOST_BUSY = 0.001
    serve(pipe, spec)


async def test_one_that_is_busy_for_too_long_is_ended(
    packer: Packer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packer_module, "serve", serve_impatiently)
        with pytest.raises(InferenceFailed, match="has ended; try again"):
            await packer.pack(originals(1), [30 + 10 * number for number in range(MAX_BUDGETS)])
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
    waiting = asyncio.ensure_future(packer.pack(originals(3), [40]))
    while packer.batcher.queued_rows < 3:
        await asyncio.sleep(0)
    packer.batcher.check_room(1)
    with pytest.raises(QueueFull):
        packer.batcher.check_room(2)
    with pytest.raises(QueueFull):
        await packer.pack(originals(3), [40])
    os.kill(pid_of(packer), signal.SIGCONT)
    assert len(await running) == 1
    assert [len(packed.codes) for packed in await waiting] == [1] * 3


async def test_a_client_that_goes_leaves_no_work_behind(packer: Packer, observer: Observer) -> None:
    await pack_one(packer)
    os.kill(pid_of(packer), signal.SIGSTOP)
    running = asyncio.ensure_future(pack_one(packer))
    await until_taken(packer)
    gone = asyncio.ensure_future(packer.pack(originals(3), [40]))
    while packer.batcher.queued_rows < 3:
        await asyncio.sleep(0)
    gone.cancel()
    os.kill(pid_of(packer), signal.SIGCONT)
    await running
    assert observer.batches == [("packer", 1), ("packer", -3), ("packer", 1)]


async def test_what_was_accepted_is_finished_before_the_end(packer: Packer) -> None:
    accepted = asyncio.ensure_future(packer.pack(originals(3), [40]))
    await until_taken(packer)
    await packer.batcher.drain()
    process = packer._process
    packer.close()
    assert len(await accepted) == 3
    assert process is not None
    assert process.exitcode == 0
    with pytest.raises(NotReady):
        await pack_one(packer)
