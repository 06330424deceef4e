"""Bench beside mosec: who gets which graphs, and the table with both ratios."""

from pathlib import Path

import pytest

from app.errors import ModelFolderError
from app.model.manifest import read_model_folder
from tests.performance.bench.beside_mosec import BEGIN, EARLIER, END, SAME, contestants, put, summary, table
from tests.performance.bench.report import Sample
from tests.tiny_model import write_tiny_model

SHIPPED = Path("models/car-vae/2")


def sample(server: str, workload: str, round_: int, cpu_ms: float) -> Sample:
    return Sample(server, workload, 32, round_, cpu_ms, 1000.0, 5.0, 9.0, 300.0, 0)


SAMPLES = [
    sample(server, workload, number, cpu_ms * number)
    for number in (1, 2, 3)
    for server, workload, cpu_ms in (
        ("car-vae", "decode-1", 0.9),
        (SAME, "decode-1", 1.0),
        (EARLIER, "decode-1", 1.8),
        ("car-vae", "encode-256", 1.0),
        (SAME, "encode-256", 2.0),
    )
]


def test_mosec_gets_the_graphs_that_this_service_chose_and_those_of_the_earlier_model() -> None:
    ours, same, earlier = contestants(SHIPPED, SHIPPED, ("fp32", "int8"))
    assert (ours.encoder, ours.decoder) == ("encoder.onnx", "decoder-int8.onnx")
    assert (same.encoder, same.decoder) == ("encoder.onnx", "decoder-int8.onnx")
    assert (earlier.encoder, earlier.decoder) == ("encoder.onnx", "decoder.onnx")
    (variant,) = same.server.variants
    environment = same.server.environment(SHIPPED, 1, variant)
    assert environment["BENCH_DECODER"] == "decoder-int8.onnx"
    assert environment["BENCH_WORKERS"] == "2"
    assert [one.server.name for one in (ours, same, earlier)] == ["car-vae", SAME, EARLIER]
    (variant,) = ours.server.variants
    assert ours.server.environment(SHIPPED, 1, variant)["CAR_VAE_PRECISION"] == "auto"


def test_graphs_that_a_model_does_not_have_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny-vae" / "1")
    with pytest.raises(ModelFolderError, match="no int8 graphs"):
        contestants(folder, SHIPPED, ("fp32", "int8"))


def test_both_ratios_stand_in_one_row_formed_within_each_round() -> None:
    text = table(SAMPLES, {SAME: "mosec, same", EARLIER: "mosec, old"})
    head = "| CPU ms a request, 32 connections | this service | mosec, same | this service / it | mosec, old"
    assert text.startswith(f"{head} | this service / it |\n")
    assert "| `/decode` | 1.8 (0.9-2.7) | 2 (1-3) | **0.9** | 3.6 (1.8-5.4) | **0.5** |" in text
    assert "| `/encode` | 2 (1-3) | 4 (2-6) | **0.5** |  |  |" in text


def test_the_summary_names_models_precisions_and_machine() -> None:
    machine = {"CPU": "Some CPU, 2 cores", "software": "x", "load average": "0.1", "date": "2030-01-01"}
    text = summary(SHIPPED, SHIPPED, ("fp32", "int8"), SAMPLES, machine, 3, 4)
    model = read_model_folder(SHIPPED).manifest.id
    assert text.startswith(f"`{model}`, encoder fp32, decoder int8 as the service chose; Some CPU, 2 cores")
    assert f"mosec, `{model}` in fp32" in text


def test_a_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"# Speed\n\n{BEGIN}\n\nold\n\n{END}\n\nEnd.\n")
    put("new\n", document)
    assert document.read_text() == f"# Speed\n\n{BEGIN}\n\nnew\n\n{END}\n\nEnd.\n"
    document.write_text("# Speed\n")
    with pytest.raises(ValueError, match="needs a line"):
        put("new\n", document)


def test_the_journal_has_a_place_for_it() -> None:
    text = Path("docs/performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)
