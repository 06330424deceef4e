"""Settings: everything that can be configured, read from the environment, and the hard limits it is checked
against."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import KeysUnreadable
from app.model.default_model import default_model_dir
from app.model.manifest import PrecisionChoice

MIB = 2**20
MAX_FRAMES = 64
"""Hard limit that no setting moves: most frames of one interpolation."""
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?")


class Settings(BaseSettings):
    """The service's settings; each is read from the environment variable CAR_VAE_<NAME IN CAPITALS>."""

    model_config = SettingsConfigDict(env_prefix="CAR_VAE_", frozen=True, hide_input_in_errors=True)

    model_dir: Path = Field(
        default_factory=default_model_dir,
        description="Model folder: encoder.onnx, decoder.onnx, prior.npz and model.json. Unset: the one that"
        " the package brings.",
    )
    older_models: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Comma-separated folders of other models whose codes are read too: a link outlives the "
        "model that it was made with. Each is opened when it is first needed, on the CPU. Unset: none.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where the model runs. `cuda` refuses to start without a working GPU; `auto` takes the "
        "GPU when it truly works, else the CPU.",
    )
    precision: PrecisionChoice = Field(
        default="auto",
        description="`auto` takes the model's int8 decoder on a CPU where a self-check at the start finds it "
        "near enough to float32 and faster, and float32 for all else, so that latents are the same on every "
        "machine. `fp32` takes float32 for all, `int8` both int8 graphs unchecked: it refuses to start with "
        "`cuda`, and where the model has none.",
    )
    refine: bool = Field(
        default=True,
        description="Whether `refine=true` is answered, where the model has a refiner. `false` loads none.",
    )
    refine_queue_rows: int | None = Field(
        default=None,
        ge=1,
        description="Most pictures waiting to be refined; beyond it they get 429. Unset: twice max_items.",
    )
    device_id: int = Field(default=0, ge=0, description="The GPU, by its number.")
    gpu_mem_limit: int | None = Field(
        default=None,
        ge=2**26,
        description="Most bytes of GPU memory for each half of the model. Unset: no limit.",
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port to listen on.")
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes, each with its own copy of the model; on a CPU one per core is best.",
    )
    threads: int = Field(default=1, ge=1, le=64, description="CPU threads of one inference, in each process.")
    picture_threads: int = Field(
        default=2, ge=1, le=64, description="Threads that decode and encode pictures, in each process."
    )
    max_items: int = Field(default=64, ge=2, le=1024, description="Most pictures or latents in one request.")
    max_body_bytes: int = Field(default=32 * MIB, ge=1024, description="Largest request body in bytes.")
    max_held_bytes: int = Field(
        default=256 * MIB,
        ge=1024,
        description="Most bytes of request bodies held at once, over all requests of a process.",
    )
    max_pixels: int = Field(
        default=64_000_000,
        ge=1,
        description="Largest JPEG accepted, in pixels, read from its header before decoding; other formats"
        " may have half as many, since they cannot be decoded at a smaller scale.",
    )
    max_output_pixels: int = Field(
        default=16_000_000,
        ge=1,
        description="Most pixels in the pictures of one answer, all of them together.",
    )
    body_timeout: float = Field(
        default=30.0, gt=0, description="Seconds within which a request's body has to arrive."
    )
    header_timeout: float = Field(
        default=10.0, gt=0, description="Seconds within which a request's headers have to arrive."
    )
    send_timeout: float = Field(
        default=20.0,
        gt=0,
        description="Seconds within which a client has to take the next 64 KiB of its answer.",
    )
    keep_alive_timeout: float = Field(
        default=5.0,
        gt=0,
        description="Seconds after an answer in which a connection waits for the next request. Keep it above "
        "that of a load balancer's connections to the service.",
    )
    max_connections: int = Field(
        default=768,
        ge=1,
        description="Most open connections of a process; beyond it the one that has been idle for longest is "
        "closed. Keep it below the limit of open files.",
    )
    decode_timeout: float = Field(
        default=10.0,
        gt=0,
        description="Seconds that the decoding of one picture may take; where it becomes a code, of the"
        " processor's time.",
    )
    max_batch_rows: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Most pictures or latents in one run of the model. Unset: 16 on a CPU, 64 on a GPU.",
    )
    queue_rows: int = Field(
        default=512,
        ge=1,
        description="Most pictures or latents waiting for the model; beyond it requests get 429.",
    )
    queue_timeout: float = Field(
        default=10.0, gt=0, description="Seconds a request may wait in the queue before it gets 504."
    )
    drain_timeout: int = Field(
        default=20,
        ge=1,
        description="Seconds accepted requests have to finish after SIGTERM; give the orchestrator more.",
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Comma-separated keys; every inference request must carry one. Unset: none needed.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="File with more keys, one a line, such as a mounted secret; read at the start.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Comma-separated origins, such as https://example.org, whose pages may call the service "
        "from a browser. Unset: none but its own.",
    )
    serve_decoder: bool = Field(
        default=False,
        description="Whether clients may load the decoder itself, at /model/decoder.onnx, to decode without "
        "requests. It gives the weights away, and keeps them in memory.",
    )
    tracing: bool = Field(
        default=False,
        description="Send a trace of each request by OpenTelemetry, whose variables `OTEL_*` say where to and"
        " how many. Needs the extra `otel`, which the images have.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Lines for people, or one JSON object a line."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged; requests are `info`, probes `debug`."
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, values: dict[str, Any]) -> dict[str, Any]:
        """As in lines of an env file that nobody filled in; but without a key that was meant, all get in."""
        return {name: value for name, value in values.items() if value != "" or name.startswith("api_keys")}

    @field_validator("port", mode="before")
    @classmethod
    def _no_port_of_kubernetes(cls, value: object) -> object:
        if isinstance(value, str) and value.startswith("tcp://"):
            raise ValueError(
                f"{value!r} is no port; Kubernetes sets this variable for a service named car-vae: give that "
                "service another name, or its pods enableServiceLinks: false"
            )
        return value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        keys = value.split(",") if isinstance(value, str) else value
        if isinstance(keys, list) and not all(isinstance(key, str) and key.strip() for key in keys):
            raise ValueError("an empty API key would let everyone in; unset the variable to need none")
        return [key.strip() for key in keys] if isinstance(keys, list) else keys

    @field_validator("older_models", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        return [folder.strip() for folder in value.split(",")] if isinstance(value, str) else value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        origins = [origin.strip() for origin in value.split(",")] if isinstance(value, str) else value
        if isinstance(origins, list) and not all(ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError("each origin must be like https://example.org or http://localhost:3000")
        return origins

    @model_validator(mode="after")
    def _largest_request_fits_the_queue(self) -> Self:
        if self.queue_rows < max(self.max_items, MAX_FRAMES):
            raise ValueError(
                f"queue_rows must be at least max_items and {MAX_FRAMES}, or the largest request could never"
                " be taken"
            )
        if self.refine_queue_rows is not None and self.refine_queue_rows < self.max_items:
            raise ValueError(
                "refine_queue_rows must be at least max_items, or the largest request could never be taken"
            )
        return self

    @property
    def max_refine_rows(self) -> int:
        """Most rows that may wait to be refined; 0 where nothing is refined."""
        return (self.refine_queue_rows or 2 * self.max_items) if self.refine else 0

    @property
    def max_pack_rows(self) -> int:
        """Most pictures that may wait to be packed."""
        return 2 * self.max_items

    @property
    def needs_key(self) -> bool:
        """Whether inference requests must carry an API key."""
        return bool(self.api_keys) or self.api_keys_file is not None

    def read_keys(self) -> tuple[str, ...]:
        """All API keys, those of the file too; none where none is needed.

        Raises:
            KeysUnreadable: there is a file and it cannot be read or has no keys.
        """
        keys = tuple(key.get_secret_value() for key in self.api_keys)
        if self.api_keys_file is None:
            return keys
        try:
            lines = self.api_keys_file.read_text(encoding="ascii").split("\n")
        except (OSError, ValueError) as error:
            raise KeysUnreadable(f"CAR_VAE_API_KEYS_FILE: {self.api_keys_file} cannot be read") from error
        found = tuple(line.strip() for line in lines if line.strip())
        if not found:
            raise KeysUnreadable(
                f"CAR_VAE_API_KEYS_FILE: {self.api_keys_file} has no keys; unset the variable to need none"
            )
        return keys + found
