"""Several processes as one: `torchrun --nproc-per-node N -m model_training train ...`."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """Which of how many processes this is, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    def share(self, global_batch: Tensor) -> Tensor:
        """This process's part of a batch that all hold whole; its length is a multiple of `size`."""
        per_process = len(global_batch) // self.size
        return global_batch[self.rank * per_process : (self.rank + 1) * per_process]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def any(self, flag: bool) -> bool:
        """True in every process when it is true in one."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(flags)
        return bool(flags.item() > 0)


@contextmanager
def world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, or be the only one.

    Args:
        device: "cuda", "cpu", or "auto" for CUDA where there is one.

    Raises:
        ValueError: CUDA was asked for and is absent.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ValueError("device cuda: PyTorch sees no CUDA device here")
    kind = "cuda" if available and device != "cpu" else "cpu"
    if "WORLD_SIZE" not in os.environ:
        yield World(0, 1, torch.device(kind))
        return
    local = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device("cpu")
    if local.type == "cuda":
        torch.cuda.set_device(local)
    # DistributedDataParallel imports it. Imported after the group is made it keeps a reference to it, whose
    # threads then outlive destroy_process_group, and a process that ends is now and then aborted by them.
    importlib.import_module("torch._dynamo")
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()


class SharedBatchNorm1d(nn.BatchNorm1d):
    """Batch norm whose statistics are those of the global batch, on CPUs as on GPUs.

    Several processes thus train as one with the same global batch. PyTorch's SyncBatchNorm refuses CPUs.
    """

    def forward(self, features: Tensor) -> Tensor:
        return _normalise_over_processes(self, features) if self.training else super().forward(features)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """The same for pictures."""

    def forward(self, features: Tensor) -> Tensor:
        return _normalise_over_processes(self, features) if self.training else super().forward(features)


def _normalise_over_processes(norm: nn.BatchNorm1d | nn.BatchNorm2d, features: Tensor) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    values = features.float()
    others = [axis for axis in range(features.dim()) if axis != 1]
    moments = torch.cat([values.mean(others), values.square().mean(others)])
    total: Tensor = _Sum.apply(moments)  # type: ignore[no-untyped-call]
    mean, square = (total / dist.get_world_size()).chunk(2)
    variance = square - mean.square()
    with torch.no_grad():
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        count = features.numel() / features.shape[1] * dist.get_world_size()
        momentum = norm.momentum if norm.momentum is not None else 0.1
        norm.running_mean.lerp_(mean, momentum)
        norm.running_var.lerp_(variance * count / (count - 1), momentum)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias - mean * scale
    places = (1, -1, *(1 for _ in others[1:]))
    return (values * scale.view(places) + shift.view(places)).to(features.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the processes; each one's loss depends on all of them, so gradients are summed too."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def share_batch_norm(model: nn.Module) -> None:
    """Turn each batch norm of a module into a shared one, in place."""
    for module in model.modules():
        if type(module) is nn.BatchNorm1d:
            module.__class__ = SharedBatchNorm1d
        elif type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
