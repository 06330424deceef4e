"""The example that encodes a folder, run as a user runs it: whole, resumed, refused."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from model_training.data.synthetic import draw_cars
from tests.docs.conftest import EXAMPLES, Stage
from tests.images import file_of
from tests.performance.service import running
from tests.tiny_model import LATENT_DIM, write_tiny_model

CARS = 20
BROKEN = "broken.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty drawn cars in two folders, a picture that is none, and something else."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    for number, car in enumerate(draw_cars(CARS, 96, 64, seed=7)):
        name = f"more/{number:02}.JPG" if number % 2 else f"{number:02}.png"
        (folder / name).write_bytes(file_of(Image.fromarray(car), "JPEG" if number % 2 else "PNG"))
    (folder / BROKEN).write_bytes(b"no picture at all")
    (folder / "notes.txt").write_text("not a picture by its name")
    return folder


def encode(folder: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable,
        str(EXAMPLES / "encode_folder.py"),
        str(folder),
        str(folder.parent / "latents.npy"),
    ]
    return subprocess.run(
        [*command, "--url", url, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def encoded_rows(client: httpx.Client) -> float:
    """Images that the service has encoded so far."""
    lines = client.get("/metrics").text.splitlines()
    name = 'car_vae_batch_rows_sum{graph="encoder"} '
    return float(next(line for line in lines if line.startswith(name)).removeprefix(name))


def rows(folder: Path) -> "tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], list[str]]":
    names: list[str] = json.loads((folder.parent / "latents.json").read_text())
    return np.load(folder.parent / "latents.npy"), names


def test_a_folder_with_one_broken_file_and_again_when_it_is_mended(
    stage: Stage, client: httpx.Client, folder: Path
) -> None:
    done = encode(folder, stage.service)
    assert done.returncode == 1, done.stderr
    assert f"{folder / BROKEN}: " in done.stderr
    assert "21/21" in done.stderr, "progress"
    latents, names = rows(folder)
    assert latents.dtype == np.float32
    assert names == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".png", ".JPG")
    )
    for place in (0, 7, CARS - 1):
        file = (folder / names[place]).read_bytes()
        alone = client.post("/encode", files={"image": file}).json()["latents"][0]
        np.testing.assert_allclose(latents[place], alone, atol=1e-4)

    for mended_or_changed, other in ((BROKEN, names[3]), (names[0], names[1])):
        (folder / mended_or_changed).write_bytes((folder / other).read_bytes())
    before = encoded_rows(client)
    mended = encode(folder, stage.service)
    assert mended.returncode == 0, mended.stderr
    assert encoded_rows(client) == before + 2, "the others were there already"
    again, names_again = rows(folder)
    assert names_again == sorted([*names, BROKEN])
    np.testing.assert_allclose(again[names_again.index(BROKEN)], latents[3], atol=1e-4)
    np.testing.assert_allclose(again[0], latents[1], atol=1e-4)
    unchanged = [names_again.index(name) for name in names[1:]]
    np.testing.assert_array_equal(again[unchanged], latents[1:])
    assert {path.name for path in folder.parent.iterdir()} == {"photographs", "latents.npy", "latents.json"}


def test_another_model_behind_a_key(
    stage: Stage, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one model encoded is not taken for the other's."""
    assert encode(folder, stage.service).returncode == 1
    with running(write_tiny_model(tmp_path / "tiny"), log_level="warning", api_keys="secret") as other:
        url = f"http://127.0.0.1:{other.port}"
        refused = encode(folder, url)
        assert refused.returncode == 2
        assert "401: send a valid key" in refused.stderr
        assert rows(folder)[0].shape == (CARS, 256), "what there was is still there"
        monkeypatch.setenv("CAR_VAE_API_KEY", "secret")
        assert encode(folder, url).returncode == 1
    assert rows(folder)[0].shape == (CARS, LATENT_DIM)


def test_without_a_service_it_says_so_and_writes_nothing(folder: Path) -> None:
    done = encode(folder, "http://127.0.0.1:1", "--patience", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("http://127.0.0.1:1 cannot be reached")
    assert "Traceback" not in done.stderr
    assert not (folder.parent / "latents.npy").exists()


def test_an_empty_folder(tmp_path: Path) -> None:
    done = encode(tmp_path, "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "there are no images in" in done.stderr
