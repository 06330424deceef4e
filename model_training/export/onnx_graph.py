"""ONNX graphs of modules: traced, weights stored in float16."""

import copy
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

OPSET = 18


def round_to_float16(model: nn.Module) -> None:
    """Round a model's matrices and kernels in place to values that float16 holds."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half())


def store_as_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph that stores in half the bytes those float32 weights that float16 holds exactly.

    A Cast brings each back; ONNX Runtime computes it once, when it loads the graph.
    """
    stored = copy.deepcopy(model)
    casts = []
    for tensor in stored.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2:
            continue
        half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(
                helper.make_node("Cast", [tensor.name], [name], f"{name}.float", to=TensorProto.FLOAT)
            )
    nodes = list(model.graph.node)
    del stored.graph.node[:]
    stored.graph.node.extend([*casts, *nodes])
    return stored


def trace_graph(
    graph: nn.Module, examples: tuple[torch.Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """The ONNX graph of a module, for any number of rows.

    Args:
        examples: of each input, of two rows or more.
        inputs, outputs: their names in the graph.
    """
    for exporter in ("torch.onnx", "onnxscript", "onnx_ir"):  # they tell of every pass and missing package
        logging.getLogger(exporter).setLevel(logging.ERROR)
    rows = torch.export.Dim("N")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own use of its own deprecated functions
        warnings.filterwarnings("ignore", "# The axis name", UserWarning)  # one name for all inputs' rows
        program = torch.onnx.export(
            graph.eval(),
            examples,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple({0: rows} for _ in examples),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip_metadata(model)
    return model


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph and check the file."""
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def _strip_metadata(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on each node: stack traces with the paths of the machine it ran on."""
    graph = model.graph
    for noted in (
        model,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    ):
        noted.ClearField("metadata_props")
