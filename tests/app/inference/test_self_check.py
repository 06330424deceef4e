"""The self-check: what it measures, what it lets pass, and that workers decide alike."""

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.inference.self_check import (
    GOLDEN_ROWS,
    MAX_GREY_LEVELS,
    MAX_WORST_GREY_LEVELS,
    SelfCheck,
    choose_decoder,
    compare,
    golden_latents,
    once,
)
from app.inference.session import GraphSpec, Session, SessionSpec, TensorSpec, decoder_graph, open_sessions
from app.model.latents import standard_draws
from app.model.manifest import read_model_folder
from app.model.prior import read_prior
from tests.tiny_model import LATENT_DIM, add_int8, write_tiny_model

DIM, PIXELS = 64, 48
SPEC = GraphSpec(
    "decoder.onnx", (TensorSpec("latents", "float32", (DIM,)),), (TensorSpec("pictures", "uint8", (4, 4, 3)),)
)
ON_CPU = SessionSpec("cpu", max_batch_rows=4, precision="auto")


def decoder_bytes(nodes: list[Any], weights: dict[str, NDArray[Any]]) -> bytes:
    """A decoder from latents (N, 64) to images (N, 4, 4, 3), given the nodes from `latents` to `light`."""
    weights = weights | {"black": np.array(0.0, np.float32), "white": np.array(255.0, np.float32)}
    nodes = [
        *nodes,
        helper.make_node("Clip", ["light", "black", "white"], ["clipped"]),
        helper.make_node("Round", ["clipped"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Reshape", ["bytes", "shape"], ["pictures"]),
    ]
    weights["shape"] = np.array([-1, 4, 4, 3])
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", DIM])],
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["N", 4, 4, 3])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def decoder(nodes: list[Any], weights: dict[str, NDArray[Any]]) -> Session:
    (session,) = open_sessions({SPEC: decoder_bytes(nodes, weights)}, SessionSpec("cpu"))
    return session


def grey(slope: float) -> Session:
    """Images of grey 100, and of `slope` more for each unit of the first number of the latent."""
    weight = np.zeros((DIM, PIXELS), np.float32)
    weight[0] = slope
    nodes = [helper.make_node("Gemm", ["latents", "weight", "bias"], ["light"])]
    return decoder(nodes, {"weight": weight, "bias": np.full(PIXELS, 100, np.float32)})


def test_differences_are_root_mean_squares_in_grey_levels() -> None:
    latents = np.zeros((12, DIM), np.float32)
    latents[:4, 0] = (1, 2, 3, 4)
    check = compare(grey(0), grey(1), latents)
    assert check.grey_levels == pytest.approx((30 / 12) ** 0.5)
    assert check.worst_grey_levels == 4
    assert check.fp32_seconds > 0
    assert check.int8_seconds > 0


NEAR = {"grey_levels": MAX_GREY_LEVELS, "worst_grey_levels": MAX_WORST_GREY_LEVELS}


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (NEAR | {"fp32_seconds": 1.0, "int8_seconds": 0.9}, "the decoder runs in int8: "),
        (NEAR | {"fp32_seconds": 1.0, "int8_seconds": 0.91}, "in fp32, as int8 is not faster: "),
        (
            NEAR | {"grey_levels": 2.76, "fp32_seconds": 1.0, "int8_seconds": 0.1},
            "in fp32, as int8 is too far from it: int8 differs by 2.76 grey levels (at most 2.75)",
        ),
        (
            NEAR | {"worst_grey_levels": 4.51, "fp32_seconds": 0.002, "int8_seconds": 0.001},
            "by 4.51 in the worst picture (at most 4.5), and takes 1.00 instead of 2.00 ms of CPU a picture",
        ),
    ],
)
def test_it_says_what_it_decides_and_why(measured: dict[str, float], verdict: str) -> None:
    check = SelfCheck(**measured)
    assert verdict in str(check)
    assert check.passed == ("runs in int8" in str(check))


def products_of_bytes(weight: NDArray[np.float32], *, saturates: bool) -> Session:
    """128 + latents @ weight in U8S8 as x86 does it: latents as uint8, weights as int8, and the products
    summed by twos into 16 bits, in which they do not fit where there is no VNNI (VPMADDUBSW)."""
    scale = np.float32(np.abs(weight).max() / 127)
    quantised = np.round(weight / scale).reshape(DIM // 2, 2, PIXELS)
    limit = 2**15 if saturates else 2**30
    nodes = [
        helper.make_node("QuantizeLinear", ["latents", "step", "zero"], ["bytes_in"]),
        helper.make_node("Cast", ["bytes_in"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["levels", "pairs"], ["paired"]),
        helper.make_node("Mul", ["paired", "quantised"], ["products"]),
        helper.make_node("ReduceSum", ["products", "within"], ["sums"], keepdims=0),
        helper.make_node("Clip", ["sums", "lowest", "highest"], ["words"]),
        helper.make_node("ReduceSum", ["words", "over"], ["accumulated"], keepdims=0),
        helper.make_node("Sub", ["accumulated", "offset"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["product"]),
        helper.make_node("Add", ["product", "grey"], ["light"]),
    ]
    step = np.float32(4 / 127)
    weights: dict[str, NDArray[Any]] = {
        "step": np.array(step),
        "zero": np.array(128, np.uint8),
        "pairs": np.array([-1, DIM // 2, 2, 1]),
        "quantised": quantised.astype(np.float32),
        "within": np.array([2]),
        "over": np.array([1]),
        "lowest": np.array(-limit, np.float32),
        "highest": np.array(limit - 1, np.float32),
        "offset": (128 * quantised.sum((0, 1))).astype(np.float32),
        "scale": np.array(step * scale),
        "grey": np.array(128, np.float32),
    }
    return decoder(nodes, weights)


def products_by_runtime() -> bytes:
    """The same by ONNX Runtime's own kernel, which saturates where the processor does."""
    nodes = [
        helper.make_node("QuantizeLinear", ["latents", "step", "zero"], ["bytes_in"]),
        helper.make_node("MatMulInteger", ["bytes_in", "quantised", "zero"], ["words"]),
        helper.make_node("Cast", ["words"], ["centred"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["centred", "scale"], ["product"]),
        helper.make_node("Add", ["product", "grey"], ["light"]),
    ]
    step = np.float32(4 / 127)
    weights: dict[str, NDArray[Any]] = {
        "step": np.array(step),
        "zero": np.array(128, np.uint8),
        "quantised": np.round(SIGNS * (127 / 4)).astype(np.int8),
        "scale": np.array(step * np.float32(4 / 127)),
        "grey": np.array(128, np.float32),
    }
    return decoder_bytes(nodes, weights)


SIGNS = np.random.RandomState(3).choice(np.array([-4, 4], np.float32), (DIM, PIXELS))
"""Weights whose products are the largest that bytes can have."""


def products_of_floats() -> Session:
    """128 + latents @ SIGNS."""
    nodes = [helper.make_node("Gemm", ["latents", "weight", "bias"], ["light"])]
    return decoder(nodes, {"weight": SIGNS, "bias": np.full(PIXELS, 128, np.float32)})


def test_saturated_sums_are_caught() -> None:
    whole, saturated = (
        compare(
            products_of_floats(), products_of_bytes(SIGNS, saturates=saturates), golden_latents(None, DIM)
        )
        for saturates in (False, True)
    )
    assert whole.near
    assert whole.grey_levels > 0
    assert not saturated.near
    assert not saturated.passed


EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")


EMULATED = """
import sys, numpy, onnxruntime
model, latents, pictures = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
numpy.save(pictures, session.run(None, {"latents": numpy.load(latents)})[0])
"""


@pytest.mark.skipif(EMULATOR is None, reason="qemu-user is not installed")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="saturation is a matter of x86")
def test_a_processor_without_vnni_is_caught(tmp_path: Path) -> None:
    """The real kernel on the instructions of Intel's Haswell, which has AVX2 and no VNNI."""
    latents = golden_latents(None, DIM)
    model, given, pictures = (str(tmp_path / name) for name in ("int8.onnx", "latents.npy", "pictures.npy"))
    Path(model).write_bytes(products_by_runtime())
    np.save(given, latents)
    command = [str(EMULATOR), "-cpu", "Haswell", sys.executable, "-c", EMULATED, model, given, pictures]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    (expected,) = products_of_floats().run(latents)
    squares = (np.load(pictures).astype(float) - expected) ** 2
    assert squares.mean() ** 0.5 > 2 * MAX_GREY_LEVELS


def slowed(model: bytes) -> bytes:
    """The same decoder with work before it that takes many times as long and changes nothing."""
    graph = onnx.load_from_string(model)
    size = 1024
    weights = {"widen": np.zeros((LATENT_DIM, size), np.float32), "work": np.zeros((size, size), np.float32)}
    nodes = [helper.make_node("MatMul", ["latents", "widen"], ["work0"])]
    nodes += [helper.make_node("MatMul", [f"work{step}", "work"], [f"work{step + 1}"]) for step in range(4)]
    nodes += [
        helper.make_node("ReduceSum", ["work4", "last_axis"], ["nothing"], keepdims=1),
        helper.make_node("Add", ["latents", "nothing"], ["unchanged"]),
    ]
    for node in graph.graph.node:
        node.input[:] = ["unchanged" if name == "latents" else name for name in node.input]
    decoding = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes, *decoding])
    weights["last_axis"] = np.array([1])
    graph.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in weights.items())
    return bytes(graph.SerializeToString())


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Decoders of the tiny model: its own, the same made slow, and another."""
    own, other = (
        (write_tiny_model(tmp_path_factory.mktemp("model"), seed=seed) / "decoder.onnx").read_bytes()
        for seed in (0, 1)
    )
    return {"own": own, "slow": slowed(own), "other": other, "broken": b"no graph"}


@pytest.mark.parametrize(
    ("fp32", "int8", "passed", "said"),
    [
        ("slow", "own", True, "the decoder runs in int8: int8 differs by 0.00"),
        ("own", "slow", False, "the decoder runs in fp32, as int8 is not faster"),
        ("slow", "other", False, "the decoder runs in fp32, as int8 is too far from it"),
        ("own", "broken", False, "the decoder runs in fp32: decoder-int8.onnx cannot be run"),
    ],
)
def test_the_decoder_that_is_near_and_faster_is_taken(
    tmp_path: Path,
    decoders: dict[str, bytes],
    fp32: str,
    int8: str,
    passed: bool,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = write_tiny_model(tmp_path)
    add_int8(folder, b"not opened", decoders[int8])
    read = read_model_folder(folder)
    prior = read_prior((folder / "prior.npz").read_bytes(), LATENT_DIM)
    (reference,) = open_sessions({decoder_graph(read.manifest): decoders[fp32]}, ON_CPU)
    with caplog.at_level(logging.INFO, "app.inference.self_check"):
        chosen, check = choose_decoder(reference, read, ON_CPU, prior, None)
    assert said in caplog.text
    assert (check is None) == (int8 == "broken")
    assert (chosen is not reference) == passed == (check is not None and check.passed)


def test_golden_latents_are_draws_of_the_prior(tmp_path: Path) -> None:
    prior = read_prior((write_tiny_model(tmp_path) / "prior.npz").read_bytes(), LATENT_DIM)
    np.testing.assert_array_equal(golden_latents(prior, LATENT_DIM), prior.draw(GOLDEN_ROWS, 1))
    np.testing.assert_array_equal(golden_latents(None, 5), standard_draws(GOLDEN_ROWS, 5, 1))


CHECK = SelfCheck(1.5, 2.5, 0.002, 0.001)


def test_workers_decide_once(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def measure() -> SelfCheck:
        calls.append(1)
        begun.set()
        assert go_on.wait(10)
        return CHECK

    found: list[SelfCheck] = []
    workers = [
        threading.Thread(target=lambda: found.append(once(tmp_path / "check.json", measure)))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    assert begun.wait(10)
    go_on.set()
    for worker in workers:
        worker.join(10)
    assert found == [CHECK] * 3
    assert len(calls) == 1
    assert once(None, lambda: CHECK) is CHECK


@pytest.mark.parametrize("left", ["", '{"grey_levels": 1', '{"grey_levels": 1}', "[]"])
def test_what_a_killed_worker_left_is_measured_anew(tmp_path: Path, left: str) -> None:
    path = tmp_path / "check.json"
    path.write_text(left)
    assert once(path, lambda: CHECK) == CHECK
    assert json.loads(path.read_text()) == asdict(CHECK)


def test_a_check_that_fails_is_left_to_the_next_worker(tmp_path: Path) -> None:
    path = tmp_path / "check.json"

    def fails() -> SelfCheck:
        raise MemoryError

    with pytest.raises(MemoryError):
        once(path, fails)
    assert once(path, lambda: CHECK) == CHECK
