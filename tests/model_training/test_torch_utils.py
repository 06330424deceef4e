import math

import numpy as np
import pytest
import torch
from torch import nn

from app.images.arrays import ImageArray
from model_training.torch_utils import (
    cosine,
    cosine_with_warm_up,
    fold_batch_norm,
    has_bf16,
    seed_from,
    set_learning_rate,
    to_float,
    update_ema,
)


def test_bytes_become_floats_in_0_to_1_with_channels_first_and_last_in_memory(cars: ImageArray) -> None:
    floats = to_float(torch.from_numpy(cars))
    assert floats.shape == (len(cars), 3, 16, 24)
    assert floats.dtype == torch.float32
    assert floats.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(floats.numpy(), cars.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def test_an_average_follows_weights_and_statistics_by_the_formula_and_copies_counts() -> None:
    torch.manual_seed(0)
    model, average = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    start = {name: value.clone() for name, value in average.state_dict().items()}
    expected = {name: value.double() for name, value in start.items()}
    for step in range(30):
        with torch.no_grad():
            model.weight.normal_()
        model(torch.randn(8, 3))
        update_ema(average, model, 0.6, step)
        decay = min(0.6, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    found = average.state_dict()
    for name in ("weight", "bias", "running_mean", "running_var"):
        torch.testing.assert_close(found[name], expected[name].float(), rtol=1e-5, atol=1e-6)
    assert found["num_batches_tracked"] == model.num_batches_tracked == 30


def test_an_average_of_what_stays_stays_bit_for_bit() -> None:
    torch.manual_seed(0)
    model, average = nn.Linear(50, 50), nn.Linear(50, 50)
    average.load_state_dict(model.state_dict())
    for step in range(20):
        update_ema(average, model, 0.999, step)
    assert torch.equal(average.weight, model.weight)


def test_half_a_cosine_falls_from_1_to_0() -> None:
    assert [cosine(progress) for progress in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [cosine_with_warm_up(2.0, step, 1000, 10) for step in range(1000)]
    assert rates[0] == pytest.approx(0.2)
    assert rates.index(max(rates)) == 9
    assert rates[500] == pytest.approx(1.0)
    assert 0 < rates[-1] < 1e-4
    assert rates[700] == pytest.approx(2 * 0.5 * (1 + math.cos(0.7 * math.pi)))


def test_every_parameter_group_gets_the_rate() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 2.0)]
    optimizer = torch.optim.SGD(groups)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_seeds_of_other_numbers_or_another_order_are_others() -> None:
    seeds = {seed_from(first, second) for first in range(30) for second in range(30)}
    assert len(seeds) == 900
    assert seed_from(3, 1) == seed_from(3, 1)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_bf16_of_a_cpu_is_what_its_capabilities_say() -> None:
    capable = torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert has_bf16(torch.device("cpu")) == bool(capable)


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), (2, 3)),
        (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), (2, 3, 5, 6)),
        (nn.ConvTranspose2d(3, 4, 4, stride=2), nn.BatchNorm2d(4), (2, 3, 5, 6)),
    ],
    ids=["linear", "convolution", "transposed convolution"],
)
def test_a_folded_layer_computes_what_it_and_its_norm_do_and_is_a_copy(
    layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
    shape: tuple[int, ...],
) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert values is not None
            values.uniform_(0.5, 1.5)
    layer.eval()
    norm.eval()
    weight, rows = layer.weight.clone(), torch.randn(shape)
    folded = fold_batch_norm(layer, norm)
    torch.testing.assert_close(folded(rows), norm(layer(rows)), rtol=1e-4, atol=1e-5)
    assert torch.equal(layer.weight, weight)
