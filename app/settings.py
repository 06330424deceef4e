"""Everything that can be configured, read from the environment in this one place."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB = 2**20


class Settings(BaseSettings):
    """The service's settings; each is read from the environment variable CAR_VAE_<NAME IN CAPITALS>."""

    model_config = SettingsConfigDict(env_prefix="CAR_VAE_", frozen=True, hide_input_in_errors=True)

    model_dir: Path = Field(
        default=Path("models/car-vae/1"),
        description="Model folder: encoder.onnx, decoder.onnx, prior.npz and model.json.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where the model runs. `cuda` refuses to start without a working GPU; `auto` takes the "
        "GPU when it truly works, else the CPU.",
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
        description="Largest picture accepted, in pixels, read from its header before decoding.",
    )
    max_output_pixels: int = Field(
        default=16_000_000,
        ge=1,
        description="Most pixels in the pictures of one answer, all of them together.",
    )
    body_timeout: float = Field(
        default=30.0, gt=0, description="Seconds within which a request's body has to arrive."
    )
    max_batch_rows: int = Field(
        default=16, ge=1, le=1024, description="Most pictures or latents in one run of the model."
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
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        keys = value.split(",") if isinstance(value, str) else value
        if isinstance(keys, list) and not all(isinstance(key, str) and key.strip() for key in keys):
            raise ValueError("an empty API key would let everyone in; unset the variable to need none")
        return [key.strip() for key in keys] if isinstance(keys, list) else keys

    @model_validator(mode="after")
    def _largest_request_fits_the_queue(self) -> Self:
        if self.queue_rows < self.max_items:
            raise ValueError(
                "queue_rows must be at least max_items, or the largest request could never be taken"
            )
        return self
