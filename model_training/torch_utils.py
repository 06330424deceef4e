"""Helpers on tensors and modules that several parts of training share."""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d | nn.ConvTranspose2d)


def to_float(pixels: Tensor) -> Tensor:
    """(N, height, width, 3) uint8 -> (N, 3, height, width) float32 in 0..1, channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average a little towards the model; counters are taken over as they are."""
    pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
    for mean, value in pairs:
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16, so that it pays."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def seed_from(*numbers: int) -> int:
    """A seed from several numbers, without the overlaps that adding them would give."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


def fold_batch_norm(layer: Layer, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Layer:
    """A copy of a layer with the batch norm behind it inside; both have to be in evaluation mode."""
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    return fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))
