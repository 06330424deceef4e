"""What no way can pass: copies over the bus and large products, and how many rows a second these allow."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import torch

from tests.performance.gpu.calls import Device, Job


@dataclass(frozen=True)
class Floors:
    """What the card does at best: bytes a second each way between pinned and its own memory, and operations
    a second in a large product, by precision."""

    to_device: float
    to_host: float
    operations: Mapping[str, float]


def measure_floors(device: Device, copy_bytes: int, size: int) -> Floors:
    """Time copies of `copy_bytes` and products of two square matrices of `size`."""
    host = device.host((copy_bytes,), torch.uint8)
    there = torch.empty(copy_bytes, dtype=torch.uint8, device=device.memory)
    to_device = _repeat(device, lambda: there.copy_(host, non_blocking=True))
    to_host = _repeat(device, lambda: host.copy_(there, non_blocking=True))
    operations = {}
    for name, dtype, precision in (
        ("float32", torch.float32, "highest"),
        ("TF32", torch.float32, "high"),
        ("float16", torch.float16, "highest"),
    ):
        torch.set_float32_matmul_precision(precision)
        left = torch.randn(size, size, device=device.memory).to(dtype)
        product = torch.empty_like(left)
        device.wait()
        operations[name] = 2.0 * size**3 * _repeat(device, partial(torch.mm, left, left, out=product))
    torch.set_float32_matmul_precision("highest")
    return Floors(copy_bytes * to_device, copy_bytes * to_host, operations)


def _repeat(device: Device, work: Callable[[], object], times: int = 20) -> float:
    """How often a second, at best of three."""
    best = 0.0
    with device.here():
        for _ in range(3):
            work()
            device.wait()
            began = time.perf_counter()
            for _ in range(times):
                work()
            device.wait()
            best = max(best, times / (time.perf_counter() - began))
    return best


def operations_per_row(model: bytes) -> int:
    """Operations of a graph's products for one row: two for each weight at each place it is applied."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
    sizes = {weight.name: math.prod(weight.dims) for weight in graph.initializer}
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    total = 0
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in sizes:  # a weight that is stored as float16
            sizes[node.output[0]] = sizes[node.input[0]]
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        weight = max(sizes.get(name, 0) for name in node.input)
        applied = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]][2:]
        total += 2 * weight * math.prod(applied)
    return total


def limits(job: Job, floors: Floors) -> list[str]:
    """A row of a table: what the job moves and computes, and how many a second that allows."""
    outputs = job.graphs[-1].outputs
    (source,) = job.graphs[0].inputs
    taken = _row_bytes(source.dtype, source.row_shape)
    given = sum(_row_bytes(output.dtype, output.row_shape) for output in outputs)
    operations = sum(operations_per_row(model) for model in job.models)
    copies = min(floors.to_device / taken, floors.to_host / given)
    products = [f"{rate / operations:,.0f}" for rate in floors.operations.values()]
    return [job.name, f"{taken:,}", f"{given:,}", f"{operations / 1e6:,.1f}", f"{copies:,.0f}", *products]


def _row_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return np.dtype(dtype).itemsize * math.prod(shape)
