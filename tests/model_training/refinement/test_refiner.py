from pathlib import Path

import numpy as np
import pytest
import torch

from app.images.arrays import ImageArray
from app.images.quality import psnr
from model_training.backends.torch_backend import TorchBackend
from model_training.refinement.fit import fit_refiner, folded_decoder
from model_training.refinement.refiner import Refiner, RefinerStatistics


@pytest.fixture(scope="module")
def backend(finished_subpixel_run: Path) -> TorchBackend:
    return TorchBackend(finished_subpixel_run)


@pytest.fixture(scope="module")
def statistics(backend: TorchBackend, cars: ImageArray) -> RefinerStatistics:
    return fit_refiner(folded_decoder(backend.model), backend.encode(cars)[0])


def refined(
    backend: TorchBackend, statistics: RefinerStatistics, images: ImageArray, latents: np.ndarray, steps: int
) -> np.ndarray:
    refiner = Refiner(folded_decoder(backend.model), statistics, steps)
    with torch.inference_mode():
        return np.asarray(refiner(torch.from_numpy(images), torch.from_numpy(latents)))


def test_each_step_brings_images_nearer(
    backend: TorchBackend, statistics: RefinerStatistics, other_cars: ImageArray
) -> None:
    start, _ = backend.encode(other_cars)
    quality = [float(psnr(other_cars, backend.decode(start)).mean())]
    for steps in (1, 2, 4):
        latents = refined(backend, statistics, other_cars, start, steps)
        quality.append(float(psnr(other_cars, backend.decode(latents)).mean()))
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 0.05


def test_no_image_gets_worse_and_what_is_near_the_best_already_stays(
    backend: TorchBackend, statistics: RefinerStatistics, other_cars: ImageArray
) -> None:
    latents, _ = backend.encode(other_cars)
    for _ in range(6):
        before = psnr(other_cars, backend.decode(latents))
        latents = refined(backend, statistics, other_cars, latents, 4)
        assert (psnr(other_cars, backend.decode(latents)) >= before - 1e-6).all()


def test_where_no_step_helps_the_latent_is_returned_as_it_was(
    backend: TorchBackend, statistics: RefinerStatistics, other_cars: ImageArray
) -> None:
    start, _ = backend.encode(other_cars[:3])
    images = backend.decode(start)  # exactly what these latents decode to
    np.testing.assert_array_equal(refined(backend, statistics, images, start, 4), start)


def test_a_row_does_not_depend_on_the_others(
    backend: TorchBackend, statistics: RefinerStatistics, other_cars: ImageArray
) -> None:
    start, _ = backend.encode(other_cars)
    together = refined(backend, statistics, other_cars, start, 4)
    alone = refined(backend, statistics, other_cars[3:4], start[3:4], 4)
    np.testing.assert_allclose(together[3:4], alone, atol=1e-3)


def test_a_latent_that_is_not_finite_stays_alone_with_it(
    backend: TorchBackend, statistics: RefinerStatistics, other_cars: ImageArray
) -> None:
    start, _ = backend.encode(other_cars[:4])
    spoilt = start.copy()
    spoilt[1] = np.nan
    latents = refined(backend, statistics, other_cars[:4], spoilt, 4)
    assert np.isnan(latents[1]).all()
    kept = [0, 2, 3]
    np.testing.assert_allclose(
        latents[kept], refined(backend, statistics, other_cars[kept], start[kept], 4), atol=1e-3
    )


def test_the_scale_of_the_preconditioner_changes_nothing(
    backend: TorchBackend, statistics: RefinerStatistics, other_cars: ImageArray
) -> None:
    start, _ = backend.encode(other_cars[:8])
    scaled = statistics._replace(preconditioner=statistics.preconditioner * 16)
    np.testing.assert_allclose(
        refined(backend, statistics, other_cars[:8], start, 3),
        refined(backend, scaled, other_cars[:8], start, 3),
        atol=1e-3,
    )
