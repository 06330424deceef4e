"""What ONNX Runtime decodes in this process: what /decode of many latents is held against."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from app.inference.session import Session, SessionSpec, decoder_graph, open_sessions
from app.model.manifest import read_model_file, read_model_folder
from tests.performance.bench.report import Sample, Summary, summarise

BATCH = 16
LATENTS = 64
WORKLOAD = "decode-64"


def decoded_per_second(folder: Path, seconds: float) -> float:
    """Pictures a second of a model folder's decoder: a session of one thread for each core, side by side."""
    manifest = read_model_folder(folder).manifest
    models = {decoder_graph(manifest): read_model_file(folder, manifest.files.decoder)}
    cores = len(os.sched_getaffinity(0))
    sessions = [open_sessions(models, SessionSpec("cpu", BATCH))[0] for _ in range(cores)]
    latents = np.random.default_rng(0).standard_normal((BATCH, manifest.latent_dim), dtype=np.float32)
    began = time.perf_counter()

    def run(session: Session) -> int:
        runs = 0
        while runs == 0 or time.perf_counter() - began < seconds:
            session.run(latents)
            runs += 1
        return runs

    with ThreadPoolExecutor(cores) as threads:
        runs = sum(threads.map(run, sessions))
    return runs * BATCH / (time.perf_counter() - began)


def reached(
    samples: Sequence[Sample], ceilings: dict[int, float], server: str, connections: int
) -> Summary | None:
    """What part of the ceiling of its round a server's WORKLOAD reaches; None where it was not measured."""
    found = [
        sample.per_second * LATENTS / ceilings[sample.round]
        for sample in samples
        if (sample.server, sample.workload, sample.connections) == (server, WORKLOAD, connections)
    ]
    return summarise(found) if found else None
