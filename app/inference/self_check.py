"""Self-check at the start: whether the int8 decoder may stand in for the float32 one on this very processor.

int8 is exact where the processor multiplies bytes into 32 bits (VNNI), and on x86 without that the sum of
two products may not fit into its 16 (saturation): what comes out is a worse picture and no error. Nor is it
faster everywhere. So both decoders make the same pictures, and what that shows decides.
"""

import fcntl
import json
import logging
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from app.errors import ModelFolderError
from app.inference.session import Session, SessionSpec, decoder_graph, open_sessions
from app.model.latents import Latents, standard_draws
from app.model.manifest import ModelFolder
from app.model.prior import Prior

GOLDEN_SEED = 1
GOLDEN_ROWS = 16
"""Pictures that are compared: the same on every machine."""
BATCH_ROWS = 8
"""Rows of a run: about what 32 clients fill a batch with."""
ROUNDS = 7
"""Runs of each decoder, in turn, of which the medians are compared."""

MAX_GREY_LEVELS = 2.75
"""Largest difference, as root mean square over all pictures; at 20.7 dB it costs 0.06 dB.

In five sets of draws car-vae/2, whose weights have seven bits, is off by 1.9 to 2.2, with VNNI and without.
Quantised to weights of eight bits it is off by 2.2 to 2.3 with VNNI, and without it saturates: 3.1 to 4.1.
"""
MAX_WORST_GREY_LEVELS = 4.5
"""The same for the picture that differs most. Those were 2.4 to 3.8, and 5.0 to 10.2 where it saturates."""
MAX_SECONDS_RATIO = 0.9
"""int8 counts as faster up to so much of float32's CPU time; car-vae/2 takes 0.6 of it with VNNI."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelfCheck:
    """What a self-check has measured.

    Attributes:
        grey_levels: difference of the int8 pictures from the float32 ones, root mean square over all.
        worst_grey_levels: the same of the picture that differs most.
        fp32_seconds, int8_seconds: CPU time of the decoders for a picture, in a batch. It is not wall time,
            which other processes of the machine lengthen.
    """

    grey_levels: float
    worst_grey_levels: float
    fp32_seconds: float
    int8_seconds: float

    @property
    def near(self) -> bool:
        """Whether int8 makes near enough the same pictures."""
        return self.grey_levels <= MAX_GREY_LEVELS and self.worst_grey_levels <= MAX_WORST_GREY_LEVELS

    @property
    def faster(self) -> bool:
        """Whether int8 is worth it."""
        return self.int8_seconds <= MAX_SECONDS_RATIO * self.fp32_seconds

    @property
    def passed(self) -> bool:
        """Whether int8 is to be served."""
        return self.near and self.faster

    def __str__(self) -> str:
        reason = "not faster" if self.near else "too far from it"
        verdict = "int8" if self.passed else f"fp32, as int8 is {reason}"
        return (
            f"the decoder runs in {verdict}: int8 differs by {self.grey_levels:.2f} grey levels"
            f" (at most {MAX_GREY_LEVELS:g}), by {self.worst_grey_levels:.2f} in the worst picture"
            f" (at most {MAX_WORST_GREY_LEVELS:g}), and takes {1000 * self.int8_seconds:.2f} instead of"
            f" {1000 * self.fp32_seconds:.2f} ms of CPU a picture"
        )


def choose_decoder(
    fp32: Session, folder: ModelFolder, spec: SessionSpec, prior: Prior | None, shared: Path | None
) -> tuple[Session, SelfCheck | None]:
    """The int8 decoder where the self-check passes it, else the one given; the other is let go of.

    Args:
        folder: a model that has int8 graphs.
        shared: folder in which the workers of a service agree; None where there is one worker.

    Returns:
        the decoder, and what was measured; None where int8 does not run at all here.
    """
    manifest = folder.manifest
    file = manifest.files.graphs("int8")[1]
    try:
        model = {decoder_graph(manifest, "int8"): folder.content(file)}
        (int8,) = open_sessions(model, replace(spec, device="cpu"))
    except ModelFolderError as error:
        logger.warning("the decoder runs in fp32: %s", error)
        return fp32, None
    path = None if shared is None else shared / f"self-check-{file.sha256[:16]}.json"
    check = once(path, lambda: compare(fp32, int8, golden_latents(prior, manifest.latent_dim)))
    logger.info("%s", check)
    return (int8 if check.passed else fp32), check


def golden_latents(prior: Prior | None, latent_dim: int) -> Latents:
    """Latents (GOLDEN_ROWS, latent_dim) of ordinary pictures, from the fitted prior if there is one."""
    if prior is None:
        return standard_draws(GOLDEN_ROWS, latent_dim, GOLDEN_SEED, 1.0)
    return prior.draw(GOLDEN_ROWS, GOLDEN_SEED)


def compare(fp32: Session, int8: Session, latents: Latents) -> SelfCheck:
    """Decode latents (N, L) by both decoders, and measure how far apart and how quick they are."""
    rows = min(BATCH_ROWS, fp32.max_batch_rows)
    batches = [latents[begin : begin + rows] for begin in range(0, len(latents), rows)]
    expected, found = (
        np.concatenate([decoder.run(batch)[0] for batch in batches]).astype(np.float64)
        for decoder in (fp32, int8)
    )
    squares = ((found - expected) ** 2).mean(axis=(1, 2, 3))
    seconds: dict[Session, list[float]] = {fp32: [], int8: []}
    for _ in range(ROUNDS):
        for decoder, taken in seconds.items():
            started = time.process_time()
            decoder.run(batches[0])
            taken.append((time.process_time() - started) / rows)
    fp32_seconds, int8_seconds = (statistics.median(seconds[decoder]) for decoder in (fp32, int8))
    return SelfCheck(float(squares.mean() ** 0.5), float(squares.max() ** 0.5), fp32_seconds, int8_seconds)


def once(path: Path | None, measure: Callable[[], SelfCheck]) -> SelfCheck:
    """Measure, or take what another worker of the same service has measured: all decide alike.

    Args:
        path: a file that the workers share, written by the first of them while the others wait; None where
            there is one worker.
        measure: the self-check; it may raise, and then the next worker tries.
    """
    if path is None:
        return measure()
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go of by closing, or by the end of the process
        file.seek(0)
        with suppress(ValueError, TypeError):  # nothing yet, or a worker was killed as it wrote
            return SelfCheck(**json.loads(file.read()))
        check = measure()
        file.truncate(0)
        json.dump(asdict(check), file)
        return check
