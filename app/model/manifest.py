"""Manifest of a model folder, model.json: what training writes down about a model and serving checks."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from app.errors import ModelFolderError

MANIFEST_NAME = "model.json"
FORMAT: Final = 1
"""Version of the layout of model.json itself; a reader refuses any other."""

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
PositiveInt = Annotated[int, Field(gt=0)]
Deviation = Annotated[float, Field(ge=0)]
Precision = Literal["fp32", "int8"]
PrecisionChoice = Literal["auto", Precision]


@dataclass(frozen=True, config=STRICT)
class ImageSize:
    """Size of the model's images in pixels."""

    width: PositiveInt
    height: PositiveInt


@dataclass(frozen=True, config=STRICT)
class ModelFile:
    """A file of the folder: its plain name (never a path that leads elsewhere), its digest and its size."""

    path: PlainName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class Int8Loss:
    """What int8 costs against float32, measured at export.

    Attributes:
        pictures: how many it was measured on; it was calibrated on others.
        psnr: dB lost from image to image; negative where int8 happens to be closer.
        latents: length of the error of the means, relative to their own.
    """

    pictures: PositiveInt
    psnr: float
    latents: Deviation


@dataclass(frozen=True, config=STRICT)
class Int8Files:
    """The graphs whose products run in 8-bit integers, for CPUs."""

    encoder: ModelFile
    decoder: ModelFile
    loss: Int8Loss


@dataclass(frozen=True, config=STRICT)
class ModelFiles:
    """The files of the folder; a model may be without a fitted prior, int8 graphs and a refiner."""

    encoder: ModelFile
    decoder: ModelFile
    prior: ModelFile | None = None
    int8: Int8Files | None = None
    refiner: ModelFile | None = None

    def graphs(self, precision: Precision) -> tuple[ModelFile, ModelFile]:
        """The encoder and the decoder of a precision.

        Raises:
            ModelFolderError: the model has none of this precision.
        """
        if precision == "fp32":
            return self.encoder, self.decoder
        if self.int8 is None:
            raise ModelFolderError(
                "this model has no int8 graphs; set CAR_VAE_PRECISION=fp32 or export it again"
            )
        return self.int8.encoder, self.int8.decoder

    def decoders(self) -> dict[Precision, ModelFile]:
        """The decoder in each precision there is."""
        fp32: dict[Precision, ModelFile] = {"fp32": self.decoder}
        return fp32 if self.int8 is None else fp32 | {"int8": self.int8.decoder}

    def all(self) -> tuple[ModelFile, ...]:
        """Every file there is."""
        int8 = () if self.int8 is None else (self.int8.encoder, self.int8.decoder)
        optional = tuple(file for file in (self.prior, self.refiner) if file is not None)
        return (self.encoder, self.decoder, *optional, *int8)


@dataclass(frozen=True, config=STRICT)
class CodeFiles:
    """What the model's codes are written and read by.

    Attributes:
        tag: the first byte of each code, which names format and model.
        tables: of both layers.
        filter: a network for the picture that they give; None is none.
    """

    tag: Annotated[int, Field(ge=0, le=255)]
    tables: ModelFile
    filter: ModelFile | None = None

    def all(self) -> tuple[ModelFile, ...]:
        """Every file there is."""
        return (self.tables,) if self.filter is None else (self.tables, self.filter)


@dataclass(frozen=True, config=STRICT)
class AtlasFiles:
    """What is known of the model's latents beside their prior.

    Attributes:
        tables: named directions, likeness and the seeds of the map; see app.model.atlas.
        sheet: the cars of the map in one WebP file, row by row.
    """

    tables: ModelFile
    sheet: ModelFile

    def all(self) -> tuple[ModelFile, ...]:
        """Every file there is."""
        return (self.tables, self.sheet)


@dataclass(frozen=True, config=STRICT)
class Parity:
    """Largest absolute differences between the ONNX graphs and torch, measured at export."""

    encoder_mean: Deviation
    encoder_log_variance: Deviation
    decoder_grey_levels: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class Manifest:
    """The contents of model.json. Values are checked on construction too: what is written can be read."""

    name: PlainName
    version: PositiveInt
    image_size: ImageSize
    fit: Literal["contain-replicate-blur"]
    latent_dim: PositiveInt
    parameters: PositiveInt
    opset: PositiveInt
    files: ModelFiles
    parity: Parity
    recipe: dict[str, Any]
    data: dict[str, Any]
    metrics: dict[str, float]
    codes: CodeFiles | None = None
    atlas: AtlasFiles | None = None
    format: Literal[1] = FORMAT

    @property
    def id(self) -> str:
        """The model's name on the wire, such as car-vae/1."""
        return f"{self.name}/{self.version}"

    def all_files(self) -> tuple[ModelFile, ...]:
        """Every file of the folder, those of its codes and of its atlas too."""
        parts = (self.codes, self.atlas)
        return self.files.all() + tuple(file for part in parts if part is not None for file in part.all())


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """A model folder that was read once: its manifest, and the files it names as they were verified."""

    manifest: Manifest
    contents: Mapping[ModelFile, bytes]

    def content(self, file: ModelFile) -> bytes:
        """The bytes of one of the manifest's files."""
        return self.contents[file]

    def only(self, files: Collection[ModelFile]) -> "ModelFolder":
        """The same folder with the bytes of these files alone, so that those of all others may go."""
        return ModelFolder(self.manifest, {file: self.contents[file] for file in files})


def read_model_folder(folder: Path) -> ModelFolder:
    """Read model.json strictly, and read and verify the files it names.

    Raises:
        ModelFolderError: something is missing, altered or not understood; the message names it in one line.
    """
    manifest = read_manifest(folder)
    return ModelFolder(manifest, {file: read_model_file(folder, file) for file in manifest.all_files()})


def read_manifest(folder: Path) -> Manifest:
    """Read model.json strictly, and none of the files it names.

    Raises:
        ModelFolderError: it is missing or not understood.
    """
    path = folder / MANIFEST_NAME
    try:
        document = path.read_bytes()
    except OSError as error:
        raise ModelFolderError(
            f"{path} cannot be read ({error.strerror}); point the model folder at an exported model"
        ) from error
    return _parse(path, document)


def _parse(path: Path, document: bytes) -> Manifest:
    try:
        found = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path} is not valid JSON; export the model again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ModelFolderError(
            f"{path} is not of format {FORMAT}, the only one this version reads; export the model again"
        )
    try:
        return TypeAdapter(Manifest).validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelFolderError(f"{path}: {place}: {first['msg']}; export the model again") from error


def read_model_file(folder: Path, file: ModelFile) -> bytes:
    """Read a file of the folder whole and verify it: what is returned is what was hashed.

    Raises:
        ModelFolderError: the file is missing, or is not the one the manifest was written for.
    """
    path = folder / file.path
    if not path.is_file():
        raise ModelFolderError(f"{path} is missing; copy the folder again")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if len(content) != file.bytes:
        raise ModelFolderError(
            f"{path} has {len(content)} bytes, {MANIFEST_NAME} says {file.bytes}; copy the folder again"
        )
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ModelFolderError(
            f"{path} was altered: its sha256 is not the one in {MANIFEST_NAME}; copy the folder again"
        )
    return content


def describe_file(path: Path) -> ModelFile:
    """The manifest's entry for a file that has just been written into a model folder."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelFile(path=path.name, sha256=digest, bytes=path.stat().st_size)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write model.json atomically; the same manifest gives the same bytes."""
    document = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    temporary = folder / f".{MANIFEST_NAME}.{os.getpid()}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / MANIFEST_NAME)
