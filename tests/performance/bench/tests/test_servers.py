"""The list of servers, and the requirements of each."""

import sys
from email.message import Message
from http.client import HTTPMessage
from pathlib import Path

import pytest

from tests.performance.bench.servers import OURS, REPOSITORY, SERVERS, Server, interpreter

PEERS = [server for server in SERVERS if not server.ours]
FOLDER = Path(__file__).parents[1] / "peers"
SHARED = ("fastapi", "uvicorn", "onnxruntime", "pillow", "orjson", "python-multipart", "torch", "onnx")
"""What must not differ between this service and its peers, or the comparison is of versions."""


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name.partition("[")[0]: version for name, _, version in (line.partition("==") for line in lines)}


def test_names_are_unique_and_only_one_is_ours() -> None:
    assert len({server.name for server in SERVERS}) == len(SERVERS)
    assert [server for server in SERVERS if server.ours] == [OURS]


@pytest.mark.parametrize("server", PEERS, ids=lambda server: server.name)
def test_a_peer_has_its_file_and_exact_requirements_of_shared_versions(server: Server) -> None:
    ours = pins(REPOSITORY / "constraints.txt")
    theirs = pins(FOLDER / f"{server.module}.txt")
    assert (FOLDER / f"{server.module}.py").is_file()
    assert all(theirs.values())
    assert {name: theirs[name] for name in SHARED if name in theirs} == {
        name: ours[name] for name in SHARED if name in theirs
    }


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_the_environment_carries_the_model_and_the_settings(server: Server) -> None:
    for variant, settings in server.variants.items():
        env = server.environment(Path("/models/x"), 1234, variant)
        name = "CAR_VAE_MODEL_DIR" if server.ours else "BENCH_MODEL_DIR"
        assert env[name] == "/models/x"
        assert settings.items() <= env.items()
    assert server.command(Path("python"), 1234)[0] == "python"


def test_this_service_runs_where_the_harness_runs(tmp_path: Path) -> None:
    assert interpreter(OURS, tmp_path) == Path(sys.executable)
    assert not list(tmp_path.iterdir())


def test_tritons_wrapping_is_taken_off() -> None:
    (triton,) = (server for server in SERVERS if server.name == "triton")
    headers: Message = HTTPMessage()
    headers["Inference-Header-Content-Length"] = "7"
    body = b'{"a":1}' + (3).to_bytes(4, "little") + b"PNG" + b"more"
    assert isinstance(headers, HTTPMessage)
    assert triton.payload(headers, body) == b"PNG"
    assert triton.path("/encode") == "/v2/models/encode/infer"
    assert OURS.path("/encode") == "/encode"
