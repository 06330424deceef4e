"""What the model gives, over batchers and sessions of a tiny real one."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from app.errors import InferenceFailed, InvalidField, ModelFolderError, NotReady, QueueFull
from app.images.quality import psnr, ssim
from app.inference.decoder import Graphs
from app.inference.session import SessionSpec
from app.inference.vae import Vae, load_vae
from app.model.interpolation import even_lambdas
from app.model.latents import standard_draws
from app.model.manifest import read_model_folder
from app.timings import Timings
from tests.tiny_model import (
    HEIGHT,
    LATENT_DIM,
    WIDTH,
    add_int8,
    random_images,
    refined_by_tiny_model,
    write_tiny_model,
)


class Observer:
    def __init__(self) -> None:
        self.sizes: dict[str, list[int]] = {"encoder": [], "decoder": [], "refiner": []}

    def batch(self, batcher: str, rows: int, run_seconds: float, queued_rows: int) -> None:
        assert run_seconds >= 0
        assert queued_rows >= 0
        self.sizes[batcher].append(rows)

    def skipped(self, batcher: str, rows: int) -> None:
        raise AssertionError(f"{rows} rows of the {batcher} were skipped")


def load(folder: Path, observer: Observer | None = None, **limits: Any) -> Vae:
    limits = {"max_queue_rows": 200, "max_refine_rows": 100, "queue_timeout": 10.0} | limits
    return load_vae(
        read_model_folder(folder),
        SessionSpec("cpu", max_batch_rows=4, precision="auto"),
        observer=observer or Observer(),
        **limits,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture
async def vae(folder: Path, observer: Observer) -> AsyncIterator[Vae]:
    vae = load(folder, observer)
    vae.start()
    yield vae
    await vae.drain()


async def test_knows_its_model_and_provider(vae: Vae) -> None:
    assert vae.manifest.id == "tiny-vae/1"
    assert vae.graphs == Graphs("CPUExecutionProvider", "fp32", "fp32")
    assert vae.prior is not None
    assert vae.health().healthy


async def test_encode_gives_mean_and_standard_deviation(vae: Vae, folder: Path) -> None:
    images = random_images(3)
    posterior = await vae.encode(images)
    session = ort.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
    mean, log_variance = session.run(["mean", "log_variance"], {"pictures": images})
    np.testing.assert_allclose(posterior.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(posterior.std**2, np.exp(log_variance), rtol=1e-4)
    assert posterior.mean.dtype == posterior.std.dtype == np.float32


async def test_decode_gives_images_of_the_models_size(vae: Vae) -> None:
    images = await vae.decode(standard_draws(3, 8, 1))
    assert images.shape == (3, 16, 24, 3)
    assert images.dtype == np.uint8
    assert len(np.unique(images)) > 50


@pytest.mark.parametrize("value", [0.0, 1e6, -1e30, float(np.finfo(np.float32).max)])
async def test_latents_out_of_all_proportion_still_give_an_image(vae: Vae, value: float) -> None:
    images = await vae.decode(np.full((1, 8), value, dtype=np.float32))
    assert images.shape == (1, 16, 24, 3)
    assert vae.health().healthy


async def test_a_result_does_not_depend_on_its_company(vae: Vae, observer: Observer) -> None:
    images, latents = random_images(9), standard_draws(9, 8, 2)
    whole = await asyncio.gather(vae.encode(images), vae.decode(latents))
    single = [await asyncio.gather(vae.encode(images[[row]]), vae.decode(latents[[row]])) for row in range(9)]
    crowd = await asyncio.gather(*(vae.encode(images[[row]]) for row in range(9)))
    assert observer.sizes["encoder"][:3] == [4, 4, 1]
    for row, (posterior, decoded) in enumerate(single):
        for mean, std in ((posterior.mean, posterior.std), (crowd[row].mean, crowd[row].std)):
            np.testing.assert_allclose(whole[0].mean[[row]], mean, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(whole[0].std[[row]], std, rtol=1e-4)
        assert np.abs(whole[1][row].astype(int) - decoded[0]).max() <= 1


async def test_reconstruct_decodes_the_means(vae: Vae) -> None:
    images = random_images(2)
    reconstruction = await vae.reconstruct(images)
    posterior = await vae.encode(images)
    np.testing.assert_array_equal(reconstruction.posterior.mean, posterior.mean)
    np.testing.assert_array_equal(reconstruction.posterior.std, posterior.std)
    np.testing.assert_array_equal(reconstruction.images, await vae.decode(posterior.mean))
    assert reconstruction.quality is None


@pytest.mark.parametrize("count", [2, 9])
async def test_reconstruct_measures_when_asked(vae: Vae, count: int) -> None:
    images = random_images(count)
    reconstruction = await vae.reconstruct(images, measure=True)
    assert reconstruction.quality is not None
    np.testing.assert_array_equal(reconstruction.quality.psnr, psnr(images, reconstruction.images))
    np.testing.assert_array_equal(reconstruction.quality.ssim, ssim(images, reconstruction.images))


async def test_sample_draws_from_the_prior_that_was_asked_for(vae: Vae) -> None:
    assert vae.prior is not None
    fitted = await vae.draw(3, seed=5, temperature=0.7, prior="fitted")
    np.testing.assert_array_equal(fitted, vae.prior.draw(3, 5, 0.7))
    np.testing.assert_array_equal(await vae.draw(3, seed=5, temperature=0.7), fitted)
    standard = await vae.draw(3, seed=5, temperature=0.7, prior="standard")
    np.testing.assert_array_equal(standard, standard_draws(3, 8, 5, 0.7))


async def test_many_are_drawn_as_few_are(vae: Vae) -> None:
    many, few = await vae.draw(16, seed=5), await vae.draw(2, seed=5)
    np.testing.assert_array_equal(many[:2], few)
    each = await vae.draw_each([5, 6, 5])
    np.testing.assert_array_equal(each, np.concatenate([many[:1], await vae.draw(1, seed=6), many[:1]]))


async def test_a_model_without_a_fitted_prior(tmp_path: Path) -> None:
    vae = load(write_tiny_model(tmp_path, prior=False))
    vae.start()
    default = await vae.draw(2, seed=5)
    np.testing.assert_array_equal(default, standard_draws(2, 8, 5))
    with pytest.raises(InvalidField, match='prior: this model has no fitted prior; ask for "standard"'):
        await vae.draw(2, seed=5, prior="fitted")
    assert np.isfinite(vae.path(default, even_lambdas(3), "spherical")).all()
    await vae.drain()


@pytest.mark.parametrize("method", ["linear", "spherical"])
async def test_a_path_begins_and_ends_with_its_ends(vae: Vae, method: Any) -> None:
    ends = standard_draws(2, 8, 3)
    path = vae.path(ends, even_lambdas(6), method)
    np.testing.assert_array_equal(path[[0, -1]], ends)
    images = await vae.decode(path)
    difference = images[[0, -1]].astype(int) - await vae.decode(ends)
    assert np.abs(difference).max() <= 1


async def test_timings_are_recorded_of_encoder_and_decoder(vae: Vae) -> None:
    encoding, both = Timings(), Timings()
    await vae.encode(random_images(1), encoding)
    await vae.reconstruct(random_images(1), both)
    assert set(encoding.seconds) == set(both.seconds) == {"queue", "inference"}


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 16, 24, 3), dtype=np.float32),
        np.zeros((1, 24, 16, 3), dtype=np.uint8),
        np.zeros((16, 24, 3), dtype=np.uint8),
    ],
)
async def test_rows_of_another_kind_never_reach_a_batch(vae: Vae, observer: Observer, images: Any) -> None:
    with pytest.raises(ValueError, match=r"rows must be uint8 \(16, 24, 3\)"):
        await vae.encode(images)
    with pytest.raises(ValueError, match=r"rows must be float32 \(8,\)"):
        await vae.decode(images)
    assert observer.sizes == {"encoder": [], "decoder": [], "refiner": []}


async def test_a_probe_runs_one_row_through_encoder_and_decoder(vae: Vae, observer: Observer) -> None:
    await vae.probe()
    assert observer.sizes == {"encoder": [1], "decoder": [1], "refiner": []}


async def test_after_drain_nothing_is_accepted(folder: Path) -> None:
    vae = load(folder)
    assert not vae.health().healthy
    vae.start()
    accepted = asyncio.create_task(vae.encode(random_images(20)))
    await asyncio.sleep(0)
    await vae.drain()
    assert len((await accepted).mean) == 20
    assert vae.health().reason == "the encoder is shutting down"
    with pytest.raises(NotReady, match="shutting down"):
        await vae.probe()


async def test_close_answers_what_waits(folder: Path) -> None:
    vae = load(folder)
    vae.start()
    vae.close()
    with pytest.raises(NotReady, match="the decoder is shutting down"):
        await vae.decode(standard_draws(1, 8, 1))
    await vae.drain()


async def test_limits_reach_the_batchers(folder: Path) -> None:
    vae = load(folder, max_queue_rows=4)
    vae.start()
    tasks = [asyncio.create_task(vae.decode(standard_draws(4, 8, seed))) for seed in range(50)]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(outcome, QueueFull) for outcome in outcomes)
    assert any(isinstance(outcome, np.ndarray) for outcome in outcomes)
    await vae.drain()


@pytest.fixture(scope="module")
def refining_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("refining"), refiner=True)


async def test_refined_means_are_decoded_and_the_deviations_stay(refining_folder: Path) -> None:
    observer = Observer()
    vae = load(refining_folder, observer)
    vae.start()
    images, timings = random_images(3), Timings()
    own = await vae.encode(images)
    refined = await vae.encode(images, timings, refine=True)
    np.testing.assert_allclose(refined.mean, refined_by_tiny_model(images, own.mean), atol=1e-5)
    np.testing.assert_array_equal(refined.std, own.std)
    assert set(timings.seconds) == {"queue", "inference", "refine"}
    np.testing.assert_array_equal(await vae.refine(images, own.mean), refined.mean)
    reconstruction = await vae.reconstruct(images, refine=True, measure=True)
    np.testing.assert_array_equal(reconstruction.posterior.mean, refined.mean)
    np.testing.assert_array_equal(reconstruction.images, await vae.decode(refined.mean))
    assert reconstruction.quality is not None
    np.testing.assert_array_equal(reconstruction.quality.psnr, psnr(images, reconstruction.images))
    assert sum(observer.sizes["refiner"]) == 9
    assert vae.queued_rows() == {"encoder": 0, "refiner": 0, "decoder": 0}
    with pytest.raises(ValueError, match=r"rows must be float32 \(8,\)"):
        await vae.refine(images, own.mean[:, :7])
    await vae.drain()


@pytest.mark.parametrize(("has_one", "reason"), [(True, "switched off in this"), (False, "has no refiner")])
async def test_without_a_refiner_it_says_why(
    folder: Path, refining_folder: Path, has_one: bool, reason: str
) -> None:
    vae = load(refining_folder, max_refine_rows=0) if has_one else load(folder)
    vae.start()
    assert not vae.refines
    assert "refiner" not in vae.queued_rows()
    with pytest.raises(InvalidField, match=rf"^query\.refine: must be false or left out: .*{reason}"):
        await vae.encode(random_images(1), refine=True)
    await vae.drain()


async def test_a_refiner_that_fails_leaves_the_rest_healthy(
    refining_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = load(refining_folder)

    def fails(_: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        raise RuntimeError("out of memory")

    assert vae._refiner is not None
    monkeypatch.setattr(vae._refiner.batcher, "_infer", fails)
    vae.start()
    with pytest.raises(InferenceFailed):
        await vae.encode(random_images(1), refine=True)
    assert not vae._refiner.batcher.health().healthy
    assert vae.health().healthy
    assert len((await vae.encode(random_images(1))).mean) == 1
    await vae.drain()


async def test_what_was_accepted_is_refined_before_the_end(refining_folder: Path) -> None:
    vae = load(refining_folder)
    vae.start()
    accepted = asyncio.create_task(vae.reconstruct(random_images(20), refine=True))
    await asyncio.sleep(0)
    await vae.drain()
    assert len((await accepted).images) == 20


def test_workers_of_a_service_decide_alike(folder: Path, tmp_path: Path) -> None:
    """What the first has measured is what the second goes by, whatever it would measure itself."""
    copy, shared = tmp_path / "model", tmp_path / "shared"
    shutil.copytree(folder, copy)
    shared.mkdir()
    add_int8(copy, (folder / "encoder.onnx").read_bytes(), (folder / "decoder.onnx").read_bytes())
    first = load(copy, shared=shared).graphs
    (path,) = shared.iterdir()
    for seconds, decoder in ((1.0, "int8"), (1e-9, "fp32")):
        path.write_text(json.dumps({**json.loads(path.read_text()), "fp32_seconds": seconds}))
        graphs = load(copy, shared=shared).graphs
        assert (graphs.encoder, graphs.decoder) == ("fp32", decoder)
        assert graphs.check is not None
        assert graphs.check.fp32_seconds == seconds
        assert first.check is not None
        assert graphs.check.int8_seconds == first.check.int8_seconds


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path)
    (folder / "decoder.onnx").write_bytes((folder / "encoder.onnx").read_bytes())
    with pytest.raises(ModelFolderError, match=r"decoder\.onnx"):
        load(folder)


class Broken:
    """A batcher that gives the same for each row: a mean, a log variance, or the light of an image."""

    def __init__(self, *values: float) -> None:
        self.values = values

    async def submit(self, rows: NDArray[Any], _: Timings | None = None) -> tuple[NDArray[Any], ...]:
        if rows.dtype == np.uint8:
            return tuple(np.full((len(rows), LATENT_DIM), value, np.float32) for value in self.values)
        images = np.full((len(rows), HEIGHT, WIDTH, 3), self.values[0], np.uint8)
        images[1:, 0, 0] = 1
        return (images,)


def broken(vae: Vae, *values: float) -> Vae:
    batcher: Any = Broken(*values)
    return Vae(vae.manifest, vae.prior, batcher, batcher, Graphs("test"))


@pytest.mark.parametrize("values", [(np.nan, 0), (np.inf, 0), (0, np.nan), (0, np.inf), (0, 1000)])
async def test_an_encoder_that_gives_no_numbers_fails_and_says_so(
    vae: Vae, values: tuple[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InferenceFailed, match="not numbers"):
        await broken(vae, *values).encode(random_images(2))
    assert "not finite" in caplog.text
    assert "2 of 2" in caplog.text


async def test_latents_that_are_no_numbers_are_not_decoded(
    vae: Vae, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InferenceFailed):
        await vae.decode(np.full((1, LATENT_DIM), np.nan, np.float32))
    assert "not finite" in caplog.text


async def test_a_decoder_that_gives_black_for_the_latent_0_too_fails_and_says_so(
    vae: Vae, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InferenceFailed, match="not numbers"):
        await broken(vae, 0, 0).decode(standard_draws(3, LATENT_DIM, seed=1))
    assert "1 of 3" in caplog.text
    with pytest.raises(NotReady):
        await broken(vae, 0, 0).probe()
    assert await broken(vae, 1, 0).decode(standard_draws(3, LATENT_DIM, seed=1)) is not None


async def test_a_black_image_of_a_decoder_that_works_is_an_answer(vae: Vae) -> None:
    class Dark(Broken):
        async def submit(self, rows: NDArray[Any], _: Timings | None = None) -> tuple[NDArray[Any], ...]:
            return (np.full((len(rows), HEIGHT, WIDTH, 3), np.where(rows.any(), 0, 90), np.uint8),)

    batcher: Any = Dark()
    black = Vae(vae.manifest, vae.prior, batcher, batcher, Graphs("test"))
    assert not (await black.decode(standard_draws(2, LATENT_DIM, seed=1))).any()
