import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.errors import ModelFolderError
from app.model.manifest import (
    ImageSize,
    describe_file,
    read_model_file,
    read_model_folder,
    write_manifest,
)
from tests.tiny_model import add_int8, write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_what_was_written_is_read(folder: Path) -> None:
    manifest = read_model_folder(folder).manifest
    assert manifest.id == "tiny-vae/1"
    assert manifest.image_size == ImageSize(width=24, height=16)
    assert manifest.latent_dim == 8
    assert manifest.files.encoder == describe_file(folder / "encoder.onnx")
    assert manifest.metrics == {"psnr": 10.0}


def test_writing_again_gives_the_same_bytes_and_leaves_nothing_else(folder: Path) -> None:
    before = (folder / "model.json").read_bytes()
    write_manifest(folder, read_model_folder(folder).manifest)
    assert (folder / "model.json").read_bytes() == before
    assert sorted(os.listdir(folder)) == ["decoder.onnx", "encoder.onnx", "model.json", "prior.npz"]


def test_the_manifest_is_readable_by_other_users(folder: Path) -> None:
    created = folder / "created"
    created.touch()
    assert (folder / "model.json").stat().st_mode == created.stat().st_mode


def test_a_failed_write_keeps_the_old_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_model_folder(folder).manifest

    def full_disk(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_manifest(folder, replace(manifest, version=2))
    assert read_model_folder(folder).manifest == manifest


def test_the_prior_is_optional(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, prior=False)
    assert read_model_folder(folder).manifest.files.prior is None
    edit(folder, lambda document: document["files"].pop("prior"))
    assert read_model_folder(folder).manifest.files.prior is None


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda document: document.update(latent_dim="8"), "latent_dim"),
        (lambda document: document.update(latent_dim=0), "latent_dim"),
        (lambda document: document.update(version=1.5), "version"),
        (lambda document: document.update(fit="crop"), "fit"),
        (lambda document: document.update(surprise=1), "surprise"),
        (lambda document: document.pop("opset"), "opset"),
        (lambda document: document["image_size"].update(width=-24), "image_size.width"),
        (lambda document: document["metrics"].update(psnr=float("nan")), "metrics.psnr"),
        (lambda document: document["metrics"].update(psnr="high"), "metrics.psnr"),
        (lambda document: document["files"].pop("decoder"), "files.decoder"),
        (lambda document: document["files"]["encoder"].update(sha256="abc"), "files.encoder.sha256"),
        (lambda document: document["files"]["encoder"].update(path="../encoder.onnx"), "files.encoder.path"),
        (lambda document: document["files"]["encoder"].update(path="/etc/passwd"), "files.encoder.path"),
        (lambda document: document["files"]["encoder"].update(path=".."), "files.encoder.path"),
        (lambda document: document["files"]["encoder"].update(path="encoder.onnx\n"), "files.encoder.path"),
        (lambda document: document.update(name="car vae/../x"), "name"),
    ],
)
def test_a_wrong_field_is_named(folder: Path, change: Callable[[dict[str, Any]], object], place: str) -> None:
    edit(folder, change)
    with pytest.raises(ModelFolderError, match=rf"model\.json: {place}: ") as caught:
        read_model_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [lambda document: document.update(format=2), lambda document: document.pop("format")]
)
def test_another_format_is_refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(folder, change)
    with pytest.raises(ModelFolderError, match="not of format 1"):
        read_model_folder(folder)


@pytest.mark.parametrize("document", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"null"])
def test_a_broken_document_is_refused(folder: Path, document: bytes) -> None:
    (folder / "model.json").write_bytes(document)
    with pytest.raises(ModelFolderError, match=r"model\.json is not"):
        read_model_folder(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"nowhere/model\.json cannot be read"):
        read_model_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "prior.npz"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=rf"{name} is missing"):
        read_model_folder(folder)


def test_a_pipe_in_place_of_a_file_does_not_hang(folder: Path) -> None:
    (folder / "decoder.onnx").unlink()
    os.mkfifo(folder / "decoder.onnx")
    with pytest.raises(ModelFolderError, match=r"decoder\.onnx is missing"):
        read_model_folder(folder)


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "decoder.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFolderError, match=r"decoder\.onnx has 12479 bytes"):
        read_model_folder(folder)


def test_one_altered_bit_is_refused(folder: Path) -> None:
    path = folder / "prior.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFolderError, match=r"prior\.npz was altered"):
        read_model_folder(folder)


def test_the_bytes_given_are_those_that_were_verified(folder: Path) -> None:
    file = read_model_folder(folder).manifest.files.encoder
    assert read_model_file(folder, file) == (folder / "encoder.onnx").read_bytes()


def test_what_could_not_be_read_cannot_be_written(folder: Path) -> None:
    manifest = read_model_folder(folder).manifest
    with pytest.raises(ValidationError):
        replace(manifest, latent_dim=0)
    with pytest.raises(ValidationError):
        replace(manifest, metrics={"psnr": float("inf")})


def test_a_folder_written_before_there_were_int8_graphs_is_read(folder: Path) -> None:
    edit(folder, lambda document: document["files"].pop("int8"))
    files = read_model_folder(folder).manifest.files
    assert files.int8 is None
    assert files.graphs("fp32") == (files.encoder, files.decoder)
    with pytest.raises(ModelFolderError, match="no int8 graphs; set CAR_VAE_PRECISION=fp32") as caught:
        files.graphs("int8")
    assert "\n" not in str(caught.value)


def test_int8_graphs_are_given_when_asked_for(folder: Path) -> None:
    add_int8(folder, b"encoder", b"decoder")
    files = read_model_folder(folder).manifest.files
    assert [file.path for file in files.graphs("fp32")] == ["encoder.onnx", "decoder.onnx"]
    assert [file.path for file in files.graphs("int8")] == ["encoder-int8.onnx", "decoder-int8.onnx"]
    assert files.int8 is not None
    assert files.int8.loss.psnr == -0.01


def test_a_folder_written_before_there_were_refiners_is_read(folder: Path) -> None:
    edit(folder, lambda document: document["files"].pop("refiner"))
    assert read_model_folder(folder).manifest.files.refiner is None


def test_a_refiner_is_verified_too(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, refiner=True)
    read = read_model_folder(folder)
    assert read.manifest.files.refiner is not None
    assert read.content(read.manifest.files.refiner) == (folder / "refiner.onnx").read_bytes()
    (folder / "refiner.onnx").write_bytes(b"altered")
    with pytest.raises(ModelFolderError, match=r"refiner\.onnx has 7 bytes"):
        read_model_folder(folder)


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_int8_graphs_are_verified_too(folder: Path, half: str) -> None:
    add_int8(folder, b"encoder", b"decoder")
    (folder / f"{half}-int8.onnx").write_bytes(b"altered")
    with pytest.raises(ModelFolderError, match=rf"{half}-int8\.onnx was altered"):
        read_model_folder(folder)


def test_half_a_pair_of_int8_graphs_is_refused(folder: Path) -> None:
    add_int8(folder, b"encoder", b"decoder")
    edit(folder, lambda document: document["files"]["int8"].pop("decoder"))
    with pytest.raises(ModelFolderError, match=r"files\.int8\.decoder: "):
        read_model_folder(folder)
