"""Helpers on tensors and modules: uint8 to float, moving average of weights, cosine schedule, seeds."""

import copy
import itertools
import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
Model = TypeVar("Model", bound=nn.Module)


def to_float(images: Tensor) -> Tensor:
    """(N, height, width, 3) uint8 -> (N, 3, height, width) float32 in 0..1, channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the exponential moving average of a module's weights and buffers towards the module.

    PyTorch's AveragedModel reads its counter on the host, for which a GPU would wait in every step.

    Args:
        average: began as a copy of `model`.
        decay: reached from below as (step + 1) / (step + 10), so that the average soon leaves where it began.
        step: how often the average has been moved before.
    """
    decay = min(decay, (step + 1) / (step + 10))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)  # batch norm's count of batches


def cosine(progress: float) -> float:
    """Half a cosine: from 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def cosine_with_warm_up(peak: float, step: int, steps: int, warm_up_steps: int) -> float:
    """The learning rate of a step, counted from 0: half a cosine over all steps, in the first ones reached by
    a linear rise."""
    return peak * min(1.0, (step + 1) / warm_up_steps) * cosine(step / steps)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


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


def fold_batch_norms(model: Model) -> Model:
    """A copy of an evaluated model whose batch norms are part of the layers right before them.

    ONNX Runtime folds them into convolutions by itself, but not into transposed ones or products.
    """
    model = copy.deepcopy(model).eval()
    for layers in model.modules():
        if isinstance(layers, nn.Sequential):
            for index, (layer, norm) in enumerate(itertools.pairwise(layers)):
                if (isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)) or (
                    isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d)
                ):
                    layers[index], layers[index + 1] = fold_batch_norm(layer, norm), nn.Identity()
    return model
