"""`python -m tests.performance.bench`: this service beside its peers, on the same model and requests."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from app.model.default_model import default_model_dir
from tests.performance.bench import inputs, processes, report
from tests.performance.bench.ceiling import decoded_per_second, reached
from tests.performance.bench.check import check_server
from tests.performance.bench.inputs import Reference, Workload
from tests.performance.bench.load import Measurement, NothingAnswered, drive, long_enough, measure
from tests.performance.bench.report import Sample, Start
from tests.performance.bench.servers import OURS, SERVERS, Server, free_port, interpreter
from tests.performance.machine import describe_machine

TUNING_WORKLOADS = ("encode-256", "decode-1", "reconstruct")
TUNING_CONNECTIONS = 32
WARM_UP_SECONDS = 1
SETTLE_SECONDS = 20.0
FAILURES = (
    processes.ServerFailed,
    inputs.WrongAnswer,
    NothingAnswered,
    subprocess.CalledProcessError,
    OSError,
)


@dataclass
class Bench:
    """A run: what is measured, where it is put, and what was found so far."""

    model_dir: Path
    out: Path
    cache: Path
    workloads: Sequence[Workload]
    connections: Sequence[int]
    seconds: int
    scratch: Path
    samples: list[Sample] = field(default_factory=list)
    tuning: list[tuple[str, Sample]] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    ceilings: dict[int, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    checked: int = 0

    def tune(self, server: Server) -> str | None:
        """Try every variant on a few workloads; gives the name of the best, None where none works."""
        chosen = [w for w in self.workloads if w.name in TUNING_WORKLOADS] or list(self.workloads[:1])
        scores = {}
        for variant in server.variants:
            found: list[Sample] = []
            try:
                self.visit(server, variant, 0, chosen, [TUNING_CONNECTIONS], found, [])
            except FAILURES as error:
                self.leave_out(f"{server.name}, {variant}", error)
            self.tuning += [(variant, sample) for sample in found]
            if len(found) == len(chosen):
                scores[variant] = report.score(found)
                say(f"{server.name}: {variant}: score {scores[variant]:.3g}")
        return max(scores, key=lambda variant: scores[variant], default=None)

    def visit(
        self,
        server: Server,
        variant: str,
        round_: int,
        workloads: Sequence[Workload],
        connections: Sequence[int],
        samples: list[Sample],
        starts: list[Start],
    ) -> None:
        """Start a server, check all its answers, then time it.

        Raises:
            ServerFailed, WrongAnswer.
        """
        port = free_port()
        command = server.command(interpreter(server, self.cache), port)
        url = f"http://127.0.0.1:{port}"
        log = self.out / f"{server.name}.log"
        env = server.environment(self.model_dir, port, variant)
        with processes.running(command, env, [url + path for path in server.ready], log) as running:
            starts.append(Start.of(running, server.name, variant, round_))
            own = [workload for workload in workloads if workload.common or server.ours]
            for workload in own:
                self.checked += check_server(server, port, workload)
            for workload in own:
                requests = workload.write(self.scratch / server.name / workload.name, server.headers)
                for count in connections:
                    target = url + server.path(workload.path)
                    try:
                        measured = self.measure(target, requests, count, running.cores)
                    except NothingAnswered as error:
                        self.leave_out(f"{server.name}, {workload.name} x{count}", error)
                        continue
                    sample = Sample.of(measured, server.name, workload.name, count, round_)
                    samples.append(sample)
                    say(f"{server.name} {workload.name} x{count}: {sample}")

    def measure(self, url: str, requests: Path, connections: int, resting: float) -> Measurement:
        """Warm up, then measure, from rest to rest."""
        warm_up = drive(url, requests, connections, WARM_UP_SECONDS)
        processes.settle(resting, SETTLE_SECONDS)
        seconds = long_enough(warm_up, connections, self.seconds)
        measured = measure(
            url, requests, connections, seconds, processes.tree_cpu_seconds, processes.tree_memory_bytes
        )
        processes.settle(resting, SETTLE_SECONDS)
        return measured

    def _ceiling(self, titles: dict[str, str]) -> list[str]:
        per_second = report.summarise(self.ceilings.values())
        rows = [
            [titles[server], str(connections), str(part)]
            for server in titles
            for connections in self.connections
            if (part := reached(self.samples, self.ceilings, server, connections)) is not None
        ]
        header = ["/decode, 64 latents", "connections", "part of in-process throughput"]
        text = f"The decoder gives {per_second} pictures/s in this process, one session for each core.\n"
        return ["## Beside ONNX Runtime in process\n", text, report.markdown_table(header, rows)]

    def leave_out(self, name: str, error: Exception) -> None:
        """Go on without a server, or without one of its figures."""
        self.left_out[name] = str(error)
        say(f"{name} is left out: {error}")

    def write(self, chosen: dict[str, str]) -> Path:
        """Write results.json and report.md; gives the path of the latter."""
        machine = describe_machine()
        document = {
            "machine": machine,
            "seconds": self.seconds,
            "answers_checked": self.checked,
            "settings": chosen,
            "left_out": self.left_out,
            "decoded_per_second_in_process": self.ceilings,
            "starts": [asdict(start) for start in self.starts],
            "samples": [asdict(sample) for sample in self.samples],
            "tuning": [{"variant": variant, **asdict(sample)} for variant, sample in self.tuning],
        }
        (self.out / "results.json").write_text(json.dumps(document, indent=1) + "\n")
        path = self.out / "report.md"
        path.write_text(self._markdown(machine))
        return path

    def _markdown(self, machine: dict[str, str]) -> str:
        titles = {server.name: server.title for server in SERVERS}
        named = {workload.name: workload.title for workload in self.workloads}
        parts = ["# Benchmark\n", *(f"- {name}: {value}" for name, value in machine.items())]
        parts.append(f"- {self.checked} answers were checked against in-process ONNX Runtime, all right")
        parts.append(
            "\nMedians, in brackets the least and largest round; ratios are formed within a round.\n"
        )
        parts.append("## Start-up\n\n" + report.start_table(self.starts, titles))
        for (workload, connections), samples in report.cases(sorted_cases(self.samples, named)).items():
            many = "connection" if connections == 1 else "connections"
            parts.append(f"## {named[workload]}, {connections} {many}\n")
            parts.append(report.load_table(samples, OURS.name, titles))
        parts += self._ceiling(titles)
        if self.left_out:
            parts.append("## Left out\n")
            parts += [f"- {name}: {reason.partition(chr(10))[0]}" for name, reason in self.left_out.items()]
        return "\n".join(parts) + "\n"


def sorted_cases(samples: Sequence[Sample], names: dict[str, str]) -> list[Sample]:
    """By workload in the order of `names`, then by connections."""
    order = list(names)
    return sorted(samples, key=lambda sample: (order.index(sample.workload), sample.connections))


def say(text: str) -> None:
    """Progress, apart from results."""
    print(text, file=sys.stderr, flush=True)


def run(bench: Bench, servers: Sequence[Server], rounds: int, tune: bool) -> Path:
    """The whole comparison; gives the path of the report."""
    chosen: dict[str, str] = {}
    for server in servers:
        variant = bench.tune(server) if tune else next(iter(server.variants))
        if variant is not None:
            chosen[server.name] = variant
    for number in range(1, rounds + 1):
        bench.ceilings[number] = decoded_per_second(bench.model_dir, bench.seconds)
        start = number % len(servers)
        for server in (*servers[start:], *servers[:start]):  # each comes early in one round, late in another
            if server.name not in chosen or server.name in bench.left_out:
                continue
            try:
                bench.visit(
                    server,
                    chosen[server.name],
                    number,
                    bench.workloads,
                    bench.connections,
                    bench.samples,
                    bench.starts,
                )
            except FAILURES as error:
                bench.leave_out(server.name, error)
        bench.write(chosen)
    return bench.write(chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; 1 where something had to be left out."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance.bench", description=__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # on the way out servers are stopped
    names = [server.name for server in SERVERS]
    parser.add_argument("--model-dir", type=Path, default=default_model_dir())
    parser.add_argument("--servers", nargs="+", choices=names, default=names, metavar="NAME", help=f"{names}")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="by default all")
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 8, 32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6, help="of each measurement")
    parser.add_argument("--smoke", action="store_true", help="one short round with the first settings")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "car-vae-bench"
    parser.add_argument(
        "--cache", type=Path, default=cache, help=f"virtual environments of the peers, {cache}"
    )
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        say("wrk is missing; on Debian: apt-get install wrk")
        return 1
    model_dir = options.model_dir.resolve()
    every = inputs.workloads(Reference(model_dir))
    unknown = set(options.workloads or ()) - {workload.name for workload in every}
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        bench = Bench(
            model_dir=model_dir,
            out=options.out,
            cache=options.cache,
            workloads=[w for w in every if not options.workloads or w.name in options.workloads],
            connections=[8] if options.smoke else options.connections,
            seconds=2 if options.smoke else options.seconds,
            scratch=Path(scratch),
        )
        servers = [server for server in SERVERS if server.name in options.servers]
        path = run(bench, servers, 1 if options.smoke else options.rounds, tune=not options.smoke)
    print(path.read_text())
    return 1 if bench.left_out else 0


if __name__ == "__main__":
    sys.exit(main())
