"""`python -m tests.performance.bench.beside_mosec`: this service and mosec, with equal graphs and others."""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from app.errors import ModelFolderError
from app.model.manifest import read_model_folder
from tests.performance.bench import processes, report
from tests.performance.bench.__main__ import FAILURES, Bench, say
from tests.performance.bench.inputs import Reference, workloads
from tests.performance.bench.report import METRICS, Sample, markdown_table, summarise
from tests.performance.bench.servers import OURS, SERVERS, Server, free_port, interpreter
from tests.performance.machine import describe_machine

WORKLOADS = {"encode-256": "/encode", "decode-1": "/decode", "reconstruct": "/reconstruct"}
CONNECTIONS = 32
SETTINGS, MOSEC_SETTINGS = "2 workers, 1 threads, 1 for pictures", "2 workers, batches of 16, wait 5 ms"
"""The best of each on two cores, by the search of the whole bench."""
AS_SERVED = {"CAR_VAE_PRECISION": "auto"}
"""The whole bench pins the precision; here the service chooses."""

SAME, EARLIER = "mosec-same", "mosec-earlier"
BEGIN, END = "<!-- made by the bench beside mosec -->", "<!-- end of the bench beside mosec -->"


@dataclass(frozen=True)
class Contestant:
    """A server with the model it runs and the files of its graphs."""

    server: Server
    model_dir: Path
    encoder: str = "encoder.onnx"
    decoder: str = "decoder.onnx"


def contestants(folder: Path, earlier: Path, precisions: tuple[str, str]) -> list[Contestant]:
    """This service, mosec with the graphs of the precisions that it chose, mosec with an earlier model's.

    Args:
        precisions: of the encoder and of the decoder, `fp32` or `int8`.

    Raises:
        ModelFolderError: a folder is damaged or has no such graphs.
    """
    files = read_model_folder(folder).manifest.files
    encoder, decoder = (files.graphs(kind)[place].path for place, kind in enumerate(precisions))  # type: ignore[arg-type]
    mosec = next(server for server in SERVERS if server.name == "mosec")
    ours = replace(OURS, variants={SETTINGS: {**OURS.variants[SETTINGS], **AS_SERVED}})

    def peer(name: str, model_dir: Path, encoder: str, decoder: str) -> Contestant:
        graphs = {"BENCH_ENCODER": encoder, "BENCH_DECODER": decoder}
        settings = {**mosec.variants[MOSEC_SETTINGS], **graphs}
        server = replace(mosec, name=name, variants={MOSEC_SETTINGS: settings})
        return Contestant(server, model_dir, encoder, decoder)

    other = read_model_folder(earlier).manifest.files
    return [
        Contestant(ours, folder, encoder, decoder),
        peer(SAME, folder, encoder, decoder),
        peer(EARLIER, earlier, other.encoder.path, other.decoder.path),
    ]


def served_precisions(folder: Path, out: Path, cache: Path) -> tuple[str, str]:
    """Start the service as it is by default and ask in which precision it runs encoder and decoder.

    Raises:
        ServerFailed.
    """
    port = free_port()
    environment = {**OURS.environment(folder, port, SETTINGS), **AS_SERVED}
    url = f"http://127.0.0.1:{port}"
    command = OURS.command(interpreter(OURS, cache), port)
    with (
        processes.running(command, environment, [url + path for path in OURS.ready], out / "precision.log"),
        urllib.request.urlopen(f"{url}/model") as answer,
    ):
        model = json.load(answer)
    return model.get("encoder_precision", model["precision"]), model["precision"]


def table(samples: Sequence[Sample], titles: Mapping[str, str]) -> str:
    """A row for each endpoint: CPU ms a request of each contestant, and both ratios, medians of the rounds.

    Args:
        titles: of the peers, as columns.
    """
    header = [f"CPU ms a request, {CONNECTIONS} connections", "this service"]
    for title in titles.values():
        header += [title, "this service / it"]
    rows = []
    for workload, path in WORKLOADS.items():
        own = [sample for sample in samples if sample.workload == workload]

        def figure(server: str, own: Sequence[Sample] = own) -> str:
            values = [sample.cpu_ms for sample in own if sample.server == server]
            return str(summarise(values)) if values else ""

        row = [f"`{path}`", figure(OURS.name)]
        for name in titles:
            ratio = report.ratios(own, OURS.name, name, METRICS["CPU ms"])
            row += [figure(name), "" if ratio is None else f"**{ratio}**"]
        rows.append(row)
    return markdown_table(header, rows)


def put(text: str, document: Path) -> None:
    """Put a text between the marks of a document.

    Raises:
        ValueError: it does not have each of them once.
    """
    found = document.read_text()
    if found.count(BEGIN) != 1 or found.count(END) != 1 or found.index(BEGIN) > found.index(END):
        raise ValueError(f"{document} needs a line {BEGIN!r} and below it {END!r}")
    before, rest = found.split(BEGIN)
    document.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}")


def measure(every: Sequence[Contestant], rounds: int, seconds: int, out: Path, cache: Path) -> list[Sample]:
    """Rounds in which each contestant is started, checked and measured, each round in another order.

    Raises:
        ServerFailed, WrongAnswer, NothingAnswered: of any of them, as no table would be whole.
    """
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        benches = {}
        for one in every:
            reference = Reference(one.model_dir, one.encoder, one.decoder)
            chosen = [workload for workload in workloads(reference) if workload.name in WORKLOADS]
            place = Path(scratch) / one.server.name
            benches[one.server.name] = Bench(one.model_dir, out, cache, chosen, [CONNECTIONS], seconds, place)
        for number in range(1, rounds + 1):
            start = number % len(every)
            for one in (*every[start:], *every[:start]):
                bench, variant = benches[one.server.name], next(iter(one.server.variants))
                bench.visit(one.server, variant, number, bench.workloads, [CONNECTIONS], samples, [])
                if bench.left_out:
                    raise processes.ServerFailed(str(bench.left_out))
    return samples


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write results.json and the document; 1 where something failed."""
    name = "python -m tests.performance.bench.beside_mosec"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # on the way out servers are stopped
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "car-vae-bench"
    parser.add_argument("--model-dir", type=Path, required=True, help="what this service and mosec run")
    parser.add_argument("--earlier", type=Path, default=Path("models/car-vae/2"), help="in float32, mosec")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--document", type=Path, help="where the table is put too, between its marks")
    parser.add_argument("--out", type=Path, default=Path("runs/beside-mosec"))
    parser.add_argument("--cache", type=Path, default=default, help=f"for mosec's environment, {default}")
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        say("wrk is missing; on Debian: apt-get install wrk")
        return 1
    folder, earlier = options.model_dir.resolve(), options.earlier.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        precisions = served_precisions(folder, options.out, options.cache)
        every = contestants(folder, earlier, precisions)
        samples = measure(every, options.rounds, options.seconds, options.out, options.cache)
        machine = describe_machine()
        text = summary(folder, earlier, precisions, samples, machine, options.rounds, options.seconds)
        document = {
            "machine": machine,
            "precisions": precisions,
            "samples": [asdict(sample) for sample in samples],
        }
        (options.out / "results.json").write_text(json.dumps(document, indent=1) + "\n")
        print(text)
        if options.document is not None:
            put(text, options.document)
    except (*FAILURES, ModelFolderError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def summary(
    folder: Path,
    earlier: Path,
    precisions: tuple[str, str],
    samples: Sequence[Sample],
    machine: Mapping[str, str],
    rounds: int,
    seconds: int,
) -> str:
    """The table, and above it what was measured on what."""
    model, other = (read_model_folder(path).manifest.id for path in (folder, earlier))
    encoder, decoder = precisions
    titles = {SAME: "mosec, the same graphs", EARLIER: f"mosec, `{other}` in fp32"}
    return (
        f"`{model}`, encoder {encoder}, decoder {decoder} as the service chose; {machine['CPU']}, "
        f"{machine['software']}, load {machine['load average']}, {machine['date']}; medians of {rounds} "
        f"rounds of {seconds} s, in brackets the least and the most.\n\n{table(samples, titles)}"
    )


if __name__ == "__main__":
    sys.exit(main())
