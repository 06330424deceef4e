"""World: the processes of torchrun beside DDP: shards of batches, sums and batch norm over all of them."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """This process's place among those that train together, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    def shard(self, global_batch: Tensor) -> Tensor:
        """This process's part of a batch that all hold whole; its length is a multiple of `size`."""
        per_process = len(global_batch) // self.size
        return global_batch[self.rank * per_process : (self.rank + 1) * per_process]

    def all_reduce_mean(self, values: Tensor) -> Tensor:
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


def sync_batch_norm(model: nn.Module, world: World) -> nn.Module:
    """Replace each batch norm inside a module by one whose statistics are those of the global batch.

    Parameters, buffers and their names stay. PyTorch's SyncBatchNorm refuses CPUs.
    """
    if world.device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(model, name, CpuSyncBatchNorm(child))
        else:
            sync_batch_norm(child, world)
    return model


class CpuSyncBatchNorm(nn.Module):
    """Batch norm whose statistics are those of the global batch, for processes on CPUs."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        """`norm` gives its parameters and statistics; it has both, and a momentum."""
        super().__init__()
        assert norm.momentum is not None
        self.weight, self.bias = norm.weight, norm.bias
        for name, statistic in norm.named_buffers():
            self.register_buffer(name, statistic)
        self.momentum, self.eps = norm.momentum, norm.eps
        self.train(norm.training)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C) or (N, C, H, W) -> the same shape and dtype."""
        if not self.training:
            return F.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        values = features.float()
        others = [axis for axis in range(features.dim()) if axis != 1]
        moments = torch.cat([values.mean(others), values.square().mean(others)])
        total: Tensor = _Sum.apply(moments)  # type: ignore[no-untyped-call]
        mean, square = (total / dist.get_world_size()).chunk(2)
        variance = square - mean.square()
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            count = features.numel() / features.shape[1] * dist.get_world_size()
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        per_channel = (1, -1, *(1 for _ in others[1:]))
        return (values * scale.view(per_channel) + shift.view(per_channel)).to(features.dtype)


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
