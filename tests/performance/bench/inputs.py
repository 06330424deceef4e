"""What is sent, and what the answers have to be: drawn cars, their latents, and in-process ONNX Runtime."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from app.images.arrays import ImageArray
from app.images.encode import grid
from app.images.letterbox import fit
from app.model.interpolation import interpolate
from app.model.latents import Latents
from app.model.prior import Prior, read_prior
from model_training.data.synthetic import draw_cars

BOUNDARY = "bench-0f6f9d1c3b"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"

NOISE = 6.0
"""Standard deviation in grey levels: drawings alone compress far better than photographs do."""

LATENT_TOLERANCE = 0.03
"""RMS difference of a latent from the reference, as a part of the RMS distance between two pictures' latents.
Scaling while decoding changes a fifth of it at most; another picture's answer is thirty times as far off."""
PICTURE_TOLERANCE = 1.0
"""Mean difference in grey levels of a reconstruction, whose latent may differ a little."""
EXACT_TOLERANCE = 2
"""Largest difference in grey levels where the same latent was decoded."""
GIF_TOLERANCE = 8.0
"""Mean difference in grey levels after the reduction to 256 colours."""


class WrongAnswer(AssertionError):
    """A server answered something else than the model does."""


Check = Callable[[bytes], None]
"""Takes the body of an answer; raises WrongAnswer."""


@dataclass(frozen=True)
class Exchange:
    """A request's body, and the check of its answer."""

    body: bytes
    check: Check


@dataclass(frozen=True)
class Workload:
    """What is sent to one endpoint.

    Attributes:
        path: of this service; others have their own for its first segment, see Server.
        common: whether the other servers do it too.
    """

    name: str
    title: str
    path: str
    content_type: str
    exchanges: Sequence[Exchange]
    common: bool = True

    def write(self, folder: Path, headers: Mapping[str, str]) -> Path:
        """Put the requests where drive.lua finds them."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = {"Content-Type": self.content_type, **headers}
        (folder / "headers").write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
        for index, exchange in enumerate(self.exchanges):
            (folder / str(index)).write_bytes(exchange.body)
        return folder


class Reference:
    """The exported model in this process, and Pillow at its plainest."""

    def __init__(self, folder: Path, encoder: str = "encoder.onnx", decoder: str = "decoder.onnx") -> None:
        """Open two graphs of a model folder."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
            for name in (encoder, decoder)
        )
        size = json.loads((folder / "model.json").read_text())["image_size"]
        self.width, self.height = int(size["width"]), int(size["height"])
        self.latent_dim = int(self._decoder.get_inputs()[0].shape[1])
        fitted = folder / "prior.npz"
        self.prior = read_prior(fitted.read_bytes(), self.latent_dim) if fitted.is_file() else None

    def encode(self, files: Sequence[bytes]) -> tuple[Latents, Latents]:
        """Mean and standard deviation (N, L) float32 of N picture files."""
        pictures = np.stack(
            [
                np.asarray(fit(Image.open(io.BytesIO(file)).convert("RGB"), self.width, self.height))
                for file in files
            ]
        )
        mean, log_variance = self._encoder.run(["mean", "log_variance"], {"pictures": pictures})
        return mean, np.exp(0.5 * log_variance)

    def decode(self, latents: Latents) -> ImageArray:
        """(N, H, W, 3) uint8 of (N, L) float32."""
        pictures: ImageArray = self._decoder.run(["pictures"], {"latents": latents})[0]
        return pictures


def jpegs(count: int, width: int, height: int, seed: int) -> list[bytes]:
    """Drawn cars with noise, as JPEG files of quality 90."""
    random = np.random.default_rng(seed)
    files = []
    for car in draw_cars(count, width, height, seed):
        noisy = car + random.normal(0, NOISE, car.shape)
        file = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def multipart(files: Sequence[bytes]) -> bytes:
    """A form with a field `image` for each file."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{index}.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n".encode()
        + file
        + b"\r\n"
        for index, file in enumerate(files)
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def latents_json(latents: Latents, **fields: object) -> bytes:
    """A JSON body of latents, each number as the shortest text that gives it back."""
    rows = [[float(str(value)) for value in row] for row in latents]
    return json.dumps({"latents": rows, **fields}, separators=(",", ":")).encode()


def workloads(reference: Reference) -> list[Workload]:
    """All of them, their requests drawn with fixed seeds."""
    small = jpegs(64, 256, 256, seed=1)
    large = jpegs(4, 1920, 1080, seed=2)
    means, stds = reference.encode(small)
    scale = float(np.sqrt(np.mean(np.var(means, axis=0) * 2)))
    pictures = reference.decode(means)

    def encoded(mean: Latents, std: Latents) -> Check:
        return lambda body: check_latents(body, mean, std, scale)

    large_means, large_stds = reference.encode(large)
    singles = [slice(index, index + 1) for index in range(16)]
    sixteens = [slice(start, start + 16) for start in (0, 16, 32, 48)]
    return [
        Workload(
            "encode-256",
            "/encode, a JPEG of 256 pixels",
            "/encode",
            MULTIPART,
            [Exchange(multipart(small[at]), encoded(means[at], stds[at])) for at in singles],
        ),
        Workload(
            "encode-1080p",
            "/encode, a JPEG of 1920 x 1080 pixels",
            "/encode",
            MULTIPART,
            [
                Exchange(multipart(large[at]), encoded(large_means[at], large_stds[at]))
                for at in singles[: len(large)]
            ],
        ),
        Workload(
            "encode-16",
            "/encode, 16 JPEGs of 256 pixels at once",
            "/encode",
            MULTIPART,
            [Exchange(multipart(small[at]), encoded(means[at], stds[at])) for at in sixteens],
        ),
        Workload(
            "decode-1",
            "/decode, 1 latent",
            "/decode",
            JSON,
            [Exchange(latents_json(means[at]), pixels_near(pictures[at])) for at in singles],
        ),
        Workload(
            "decode-64",
            "/decode, 64 latents",
            "/decode",
            JSON,
            [
                Exchange(latents_json(rows), pixels_near(reference.decode(rows)))
                for rows in (means, np.ascontiguousarray(means[::-1]))
            ],
        ),
        Workload(
            "reconstruct",
            "/reconstruct, a JPEG of 256 pixels",
            "/reconstruct",
            MULTIPART,
            [Exchange(multipart(small[at]), pixels_similar(pictures[at])) for at in singles],
        ),
        _interpolate(reference, means),
        *([] if reference.prior is None else [_sample(reference, reference.prior)]),
    ]


def _interpolate(reference: Reference, means: Latents) -> Workload:
    lambdas = np.linspace(0, 1, 16)
    exchanges = []
    for index in range(4):
        ends = means[2 * index : 2 * index + 2]
        frames = reference.decode(interpolate(ends, lambdas.tolist(), "linear", reference.prior))
        exchanges.append(Exchange(latents_json(ends, steps=16), frames_similar(frames)))
    path = "/interpolate?format=gif"
    return Workload("interpolate-16", "/interpolate, 16 frames as GIF", path, JSON, exchanges, common=False)


def _sample(reference: Reference, prior: Prior) -> Workload:
    exchanges = []
    for seed in range(4):
        pictures = reference.decode(prior.draw(16, seed, 1.0))
        body = json.dumps({"count": 16, "seed": seed}).encode()
        exchanges.append(Exchange(body, pixels_near(pictures)))
    return Workload("sample-16", "/sample, 16 pictures", "/sample", JSON, exchanges, common=False)


def check_latents(body: bytes, mean: Latents, std: Latents, scale: float) -> None:
    """Compare an answer of /encode; `scale` is the RMS distance, per dimension, of two pictures' latents."""
    answer = json.loads(body)
    for name, expected in (("latents", mean), ("std", std)):
        found = np.asarray(answer[name], np.float64)
        if found.shape != expected.shape:
            raise WrongAnswer(f"{name} has the shape {found.shape}, not {expected.shape}")
        far = float(np.sqrt(np.mean((found - expected) ** 2, axis=1)).max()) / scale
        if not far <= LATENT_TOLERANCE:
            raise WrongAnswer(f"{name} is off by {far:.3f} of the distance between two pictures")


def pixels_near(pictures: ImageArray) -> Check:
    """A PNG that shows the pictures in a grid, equal but for rounding."""
    return lambda body: _compare(_opened(body), grid(list(pictures)), worst=EXACT_TOLERANCE)


def pixels_similar(pictures: ImageArray) -> Check:
    """A PNG that shows the pictures in a grid, of latents that may differ a little."""
    return lambda body: _compare(_opened(body), grid(list(pictures)), mean=PICTURE_TOLERANCE)


def frames_similar(frames: ImageArray) -> Check:
    """A GIF of the frames, in 256 colours each."""

    def check(body: bytes) -> None:
        with Image.open(io.BytesIO(body)) as image:
            count = int(getattr(image, "n_frames", 1))
            if count != len(frames):
                raise WrongAnswer(f"{count} frames, not {len(frames)}")
            for index, frame in enumerate(frames):
                image.seek(index)
                _compare(np.asarray(image.convert("RGB")), frame, mean=GIF_TOLERANCE)

    return check


def _opened(body: bytes) -> ImageArray:
    try:
        with Image.open(io.BytesIO(body), formats=("PNG",)) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise WrongAnswer(f"not a PNG: {body[:80]!r}") from error


def _compare(found: ImageArray, expected: ImageArray, *, worst: float = 255.0, mean: float = 255.0) -> None:
    if found.shape != expected.shape:
        raise WrongAnswer(f"a picture of {found.shape}, not {expected.shape}")
    difference: NDArray[Any] = np.abs(found.astype(np.int16) - expected)
    if difference.max() > worst or difference.mean() > mean:
        raise WrongAnswer(f"off by {difference.max()} grey levels, {difference.mean():.2f} on average")


def shortened(workload: Workload, count: int) -> Workload:
    """The same with fewer requests."""
    return replace(workload, exchanges=workload.exchanges[:count])
