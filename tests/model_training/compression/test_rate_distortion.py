"""Rate-distortion curves of latents: what coarser steps cost and gain."""

import pytest

from app.images.arrays import ImageArray
from model_training.compression.fit import training_statistics
from model_training.compression.rate_distortion import rate_distortion
from tests.model_training.compression.conftest import Blocks


def test_coarser_steps_take_fewer_bytes_and_lose_more(cars: ImageArray, other_cars: ImageArray) -> None:
    backend = Blocks()
    statistics, (latents, _) = training_statistics(backend, cars), backend.encode(other_cars)
    fine, middle, coarse = rate_distortion(backend, statistics, other_cars, latents, [0.5, 30, 120])
    assert fine.bytes > middle.bytes > coarse.bytes > 0
    assert fine.psnr > middle.psnr > coarse.psnr
    assert fine.ssim > coarse.ssim
    assert abs(fine.lost) < 0.1
    assert fine.psnr + fine.lost == pytest.approx(coarse.psnr + coarse.lost)
    assert fine.largest >= fine.bytes
    assert fine.step == 0.5
