"""Encoder of a whole folder, by a running service: the latents of all its images in one .npy.

    python encode_folder.py photographs latents.npy --url http://localhost:8000

Row N of latents.npy, (images, latent_dim) float32, is of the Nth name in latents.json. Until all are done,
what is done stands in latents.npy.partial: a run that was stopped, or that met a file which could not be
read, goes on from there when it is started again. Ends with 0 when every image was encoded, with 1 when some
could not be read, with 2 when the service or the disk failed. CAR_VAE_API_KEY is the service's key.
"""

import argparse
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import httpx
import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm

SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)
IMAGES, BYTES = 16, 16 * 2**20
"""Most images, and bytes of files, in one request."""
REQUESTS = 4
"""At once: enough that the service decodes some images while the model runs on others."""
FAULTS_OF_FILES = frozenset((400, 413, 415))
PASSING = frozenset((429, 502, 503, 504))
"""Statuses of an image that cannot be used, and of a service that is busy or away."""


class Unusable(Exception):
    """The service is not there, or refuses what no other image would change."""


@dataclass(frozen=True)
class File:
    """An image file as it was when the folder was looked through."""

    path: Path
    modified: int
    size: int


@dataclass(frozen=True)
class Encoded:
    """An image's latent, (latent_dim,) little-endian float32, or why it has none."""

    file: File
    latent: bytes | None
    fault: str = ""


class Service:
    """The service's /encode; any number of threads may use it."""

    def __init__(self, client: httpx.Client, patience: float) -> None:
        """Use a client; wait up to `patience` seconds for a service that is busy or away."""
        self._client = client
        self._patience = patience

    def model(self) -> str:
        """The id of the served model: the latents of another one mean something else."""
        return str(self._request("GET", "/model").json()["id"])

    def encode(self, files: list[File]) -> list[Encoded]:
        """Encode some files; where one of them cannot be read, each by itself."""
        try:
            images = [("image", file.path.read_bytes()) for file in files]
        except OSError as error:
            return self._one_by_one(files, error.strerror or "cannot be read")
        answer = self._request("POST", "/encode", files=images)
        if answer.status_code in FAULTS_OF_FILES:
            return self._one_by_one(files, _detail(answer))
        latents = np.asarray(answer.json()["latents"], "<f4")
        return [Encoded(file, latent.tobytes()) for file, latent in zip(files, latents, strict=True)]

    def _one_by_one(self, files: list[File], fault: str) -> list[Encoded]:
        if len(files) == 1:
            return [Encoded(files[0], None, fault)]
        return [encoded for file in files for encoded in self.encode([file])]

    def _request(self, method: str, path: str, **body: object) -> httpx.Response:
        deadline = time.monotonic() + self._patience
        while True:
            wait = 1.0
            try:
                answer = self._client.request(method, path, **body)  # type: ignore[arg-type]
            except httpx.TransportError as error:
                reason = f"{self._client.base_url} cannot be reached: {error}"
            else:
                if answer.is_success or answer.status_code in FAULTS_OF_FILES:
                    return answer
                reason = f"{self._client.base_url} answers {answer.status_code}: {_detail(answer)}"
                if answer.status_code not in PASSING:
                    raise Unusable(reason)
                after = answer.headers.get("retry-after", "")
                wait = float(after) if after.isdecimal() else wait
            if time.monotonic() + wait > deadline:
                raise Unusable(reason)
            time.sleep(wait)


def _detail(answer: httpx.Response) -> str:
    """What an error says; a proxy's are no JSON."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


class Progress:
    """The latents of one model that are there so far, in a file that survives what interrupts the run."""

    def __init__(self, path: Path, folder: Path, model: str) -> None:
        self._path = path
        self._folder = folder
        self._model = model
        self._database = sqlite3.connect(path)
        with self._database:
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS latents"
                " (model TEXT, name BLOB, modified INTEGER, latent BLOB, PRIMARY KEY (model, name))"
            )

    def add(self, encoded: Iterable[Encoded]) -> None:
        """Keep what was encoded."""
        rows = [(*self._key(each.file), each.latent) for each in encoded if each.latent is not None]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO latents VALUES (?, ?, ?, ?)", rows)

    def latent(self, file: File) -> bytes | None:
        """The latent of a file as it is now, little-endian float32, if it is there."""
        found = self._database.execute(
            "SELECT latent FROM latents WHERE model = ? AND name = ? AND modified = ?", self._key(file)
        ).fetchone()
        return None if found is None else bytes(found[0])

    def close(self) -> None:
        """Leave what there is to the next run."""
        self._database.close()

    def _key(self, file: File) -> tuple[str, bytes, int]:
        return self._model, os.fsencode(file.path.relative_to(self._folder)), file.modified


def images_in(folder: Path) -> list[File]:
    """All files below a folder that are called like images, in the order of their names."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    stats = [(path, path.stat()) for path in sorted(found, key=Path.as_posix)]
    return [File(path, status.st_mtime_ns, status.st_size) for path, status in stats]


def batches(files: Iterable[File]) -> Iterator[list[File]]:
    """The files in lists that make one request each."""
    batch: list[File] = []
    size = 0
    for file in files:
        if batch and (len(batch) == IMAGES or size + file.size > BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def encode_all(files: list[File], service: Service, progress: Progress) -> list[Encoded]:
    """Encode what is not there yet; returns those that could not be."""
    missing = [file for file in files if progress.latent(file) is None]
    faults: list[Encoded] = []
    with (
        tqdm(total=len(files), initial=len(files) - len(missing), unit="image") as bar,
        ThreadPoolExecutor(REQUESTS) as threads,
    ):
        for encoded in threads.map(service.encode, batches(missing)):
            progress.add(encoded)
            faults += [each for each in encoded if each.latent is None]
            bar.update(len(encoded))
    return faults


def write(out: Path, folder: Path, files: list[File], progress: Progress) -> None:
    """Write the rows of all files that have one, and their names; a reader never meets half of them."""
    named = [file.path.relative_to(folder).as_posix() for file in files if progress.latent(file)]
    rows = (np.frombuffer(latent, "<f4") for file in files if (latent := progress.latent(file)))
    first = next(rows, None)
    if first is None:
        return
    names, new_names, new_out = (
        out.with_suffix(suffix) for suffix in (".json", ".json.new", f"{out.suffix}.new")
    )
    array = open_memmap(new_out, mode="w+", dtype="<f4", shape=(len(named), len(first)))
    for place, row in zip(array, chain([first], rows), strict=True):
        place[:] = row
    array.flush()
    new_names.write_text(json.dumps(named, indent=0) + "\n", encoding="ascii")
    new_names.replace(names)
    new_out.replace(out)


def main() -> int:
    """Read the command line and do as it says; returns the status to exit with."""
    parser = argparse.ArgumentParser(description="Encode all images of a folder into one .npy.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, help="such as latents.npy")
    parser.add_argument("--url", default="http://localhost:8000", help="of the service")
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds to wait for a service that is busy"
    )
    options = parser.parse_args()
    if options.out.suffix != ".npy":
        parser.error("the name to write to must end in .npy")
    files = images_in(options.folder)
    if not files:
        parser.error(f"there are no images in {options.folder}")
    key = os.environ.get("CAR_VAE_API_KEY")
    partial = options.out.with_name(f"{options.out.name}.partial")
    with httpx.Client(base_url=options.url, headers={"X-API-Key": key} if key else {}, timeout=60) as client:
        service = Service(client, options.patience)
        try:
            with closing(Progress(partial, options.folder, service.model())) as progress:
                faults = encode_all(files, service, progress)
                write(options.out, options.folder, files, progress)
        except (Unusable, OSError, sqlite3.Error, KeyboardInterrupt) as error:
            print(f"{error}\nWhat is done is kept; start again to go on.", file=sys.stderr)
            return 2
    for each in faults:
        print(f"{each.file.path}: {each.fault}", file=sys.stderr)
    if not faults:
        partial.unlink()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
