"""What of the GPU bench needs no card: every way on the CPU provider, parity, limits, tables, refusal."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from app.errors import ProviderUnavailable
from app.inference.session import CPU, Session, SessionSpec, decoder_graph, open_sessions
from app.model.manifest import read_model_folder
from model_training.backends.torch_backend import DecoderGraph, EncoderGraph
from model_training.networks.vae import VAE
from model_training.recipe import ConvVaeConfig
from tests.performance.bench.report import Summary
from tests.performance.gpu import calls, measure
from tests.performance.gpu.__main__ import main, report
from tests.performance.gpu.calls import (
    WAYS,
    Array,
    BoundCall,
    Device,
    Job,
    Reconstruct,
    Way,
    jobs,
    open_graphs,
    plain_call,
    torch_call,
)
from tests.performance.gpu.card import cuda_device
from tests.performance.gpu.floors import Floors, limits, measure_floors, operations_per_row
from tests.performance.gpu.measure import Figure, Parity, climb, mixed_batches, parity
from tests.tiny_model import HEIGHT, LATENT_DIM, WIDTH, write_tiny_model

ROWS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "1")


@pytest.fixture
def every(folder: Path) -> list[Job]:
    return jobs(folder, ROWS)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.0)


@pytest.mark.usefixtures("quick")
def test_every_way_gives_at_every_batch_size_what_the_cpu_provider_gives(every: list[Job]) -> None:
    for job in every:
        failed: dict[str, str] = {}
        figures = climb(job, Device(), (1, 4, ROWS), WAYS, None, {}, failed)
        assert not failed
        assert {(figure.way, figure.batch) for figure in figures} == {
            (way.name, batch) for way in WAYS for batch in (1, 4, ROWS)
        }
        exact = {way.name for way in WAYS if not way.half}
        assert min(figure.parity.decibels for figure in figures if figure.way in exact) > 90
        assert min(figure.parity.decibels for figure in figures) > 40
        assert all(figure.per_second.median > 0 for figure in figures)


@pytest.mark.usefixtures("quick")
def test_a_way_that_does_not_work_is_named_and_the_others_go_on(
    every: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: bytes) -> bytes:
        raise RuntimeError("no such kernel\nand much more")

    monkeypatch.setattr(calls, "to_half", refuse)
    failed: dict[str, str] = {}
    figures = climb(every[0], Device(), (1,), (WAYS[1], WAYS[-1]), None, {}, failed)
    assert [figure.way for figure in figures] == [WAYS[1].name]
    assert failed == {f"encode, {WAYS[-1].name}": "RuntimeError: no such kernel"}


@pytest.mark.usefixtures("quick")
def test_a_call_that_fails_is_named_with_its_batch(every: list[Job]) -> None:
    class Broken(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of memory")

    model = VAE(ConvVaeConfig(WIDTH, HEIGHT, (4, 8), LATENT_DIM)).eval()
    model.decoder = Broken()  # type: ignore[assignment]
    failed: dict[str, str] = {}
    assert climb(every[1], Device(), (1, 2), (), model, {"torch": None}, failed) == []
    assert failed == {f"decode, torch, batch of {rows}": "RuntimeError: out of memory" for rows in (1, 2)}


def test_bound_rows_follow_their_buffer_and_go_through_both_graphs(every: list[Job]) -> None:
    job = every[2]
    sessions = open_graphs(job, WAYS[1], Device())
    call = BoundCall(job, sessions, job.rows[:2], Device(), graph_id=1)
    first = call()[0].copy()
    call.rows.copy_(torch.from_numpy(job.rows[2:4]))
    second = call()[0]
    expected = plain_call(job, sessions, job.rows[2:4])()[0]
    np.testing.assert_array_equal(second, expected)
    assert not np.array_equal(first, second)


@pytest.mark.usefixtures("quick")
def test_torch_stands_beside_and_other_weights_show_in_the_parity(every: list[Job]) -> None:
    torch.manual_seed(0)
    model = VAE(ConvVaeConfig(WIDTH, HEIGHT, (4, 8), LATENT_DIM)).eval()
    for job in every:
        failed: dict[str, str] = {}
        figures = climb(job, Device(), (2,), (), model, {"torch": None}, failed)
        assert not failed
        assert [figure.way for figure in figures] == ["torch"]
        assert figures[0].parity.decibels < 40
    call = torch_call(Reconstruct(model), None, every[2].rows, Device())
    with torch.inference_mode():
        mean = EncoderGraph(model)(torch.from_numpy(every[2].rows))[0]
        expected = DecoderGraph(model)(mean).numpy()
    np.testing.assert_array_equal(call()[0], expected)


def test_parity_is_in_grey_levels_for_pictures_and_relative_for_latents() -> None:
    grey = np.full((1, 2, 2, 3), 100, np.uint8)
    other = grey.copy()
    other[0, 0, 0, 0] = 97
    found = parity(grey, other)
    assert found.most == 3
    assert found.decibels == pytest.approx(10 * math.log10(255**2 / (9 / 12)))
    assert parity(grey, grey) == Parity(math.inf, 0.0)
    latents = np.array([[2.0, -2.0]], np.float32)
    assert parity(latents, latents * np.float32(0.99)).decibels == pytest.approx(40, abs=1e-3)


def test_operations_count_each_weight_where_it_is_applied() -> None:
    helper = onnx.helper
    shapes = {"a": [4, 3, 5, 5], "b": [4, 2, 2, 2], "c": [50, 7]}
    weights = [
        onnx.numpy_helper.from_array(np.zeros(shape, np.float16 if name == "c" else np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["y"], pads=[2, 2, 2, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["y", "b"], ["z"], strides=[2, 2]),
        helper.make_node("Cast", ["c"], ["float c"], to=onnx.TensorProto.FLOAT),
        helper.make_node("MatMul", ["rows", "float c"], ["w"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "products",
        [
            value("x", onnx.TensorProto.FLOAT, ["N", 3, 8, 6]),
            value("rows", onnx.TensorProto.FLOAT, ["N", 50]),
        ],
        [value(name, onnx.TensorProto.FLOAT, None) for name in ("z", "w")],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    conv, transposed, dense = 2 * 300 * 4 * 3, 2 * 32 * 4 * 3, 2 * 350
    assert operations_per_row(model) == conv + transposed + dense


def test_limits_are_the_slower_copy_and_the_products(every: list[Job]) -> None:
    job = every[0]
    operations = operations_per_row(job.models[0])
    assert operations > 0
    taken, given = WIDTH * HEIGHT * 3, 2 * 4 * LATENT_DIM
    floors = Floors(taken * 1000.0, given * 500.0, {"float32": operations * 40.0})
    row = limits(job, floors)
    assert row[:3] == ["encode", f"{taken:,}", f"{given:,}"]
    assert row[4:] == ["500", "40"]


def test_floors_are_measured() -> None:
    floors = measure_floors(Device(), 1 << 12, 16)
    assert min(floors.to_device, floors.to_host, *floors.operations.values()) > 0
    assert torch.get_float32_matmul_precision() == "highest"


def test_memory_is_read_after_each_block_of_batches_that_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MEMORY_BATCHES", 10)
    manifest = read_model_folder(folder).manifest
    graph = decoder_graph(manifest)
    (session,) = open_sessions({graph: (folder / "decoder.onnx").read_bytes()}, SessionSpec("cpu", 4))
    sizes: list[int] = []
    whole = Session.run

    def remember(own: Session, rows: Array) -> tuple[Array, ...]:
        sizes.append(len(rows))
        return whole(own, rows)

    monkeypatch.setattr(Session, "run", remember)
    rows = np.zeros((4, LATENT_DIM), np.float32)
    assert mixed_batches([session], [rows], lambda: len(sizes)) == [10, 20, 30, 40, 50, 60]
    assert set(sizes) == {1, 2, 3, 4}


def test_the_report_names_card_driver_and_date_over_every_table(every: list[Job]) -> None:
    figures = [
        Figure("encode", "IO binding", batch, Summary(rate, rate, rate), Parity(decibels, most))
        for batch, rate, decibels, most in ((1, 1000.0, 90.0, 0.5), (16, 12_000.0, 80.0, 0.25))
    ]
    floors = Floors(25e9, 20e9, {"float32": 50e12, "TF32": 400e12})
    head = {"GPU": "Card X, driver 1.2", "date": "2030-01-01"}
    text = report(head, figures, floors, every, [100 << 20, 100 << 20, 103 << 20], {"decode, Y": "why"})
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(headings) == 3
    assert all("(Card X, driver 1.2, 2030-01-01)" in line for line in headings)
    assert "| IO binding | 1,000 | 12,000 | 80.0 | 0.5 |" in text
    assert "100, 100, 103 MiB; 3 MiB more" in text
    assert "Failed: decode, Y: why" in text


def test_on_the_cpu_options_of_cuda_are_left_out() -> None:
    assert Device().providers({"use_tf32": "1"}) == [CPU]
    assert Way("x").options == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_refuses_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProviderUnavailable):
        cuda_device(folder, read_model_folder(folder).manifest)
    assert main(["--model-dir", str(folder)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
