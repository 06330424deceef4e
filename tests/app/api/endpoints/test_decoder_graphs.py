"""The decoder as a file: whole, cached by its digest, given to those who may have it."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest

from app.api.endpoints.decoder_graphs import CHUNK_BYTES
from tests.app.api.requests import LATENTS, check_problem
from tests.app.conftest import Serve, state_behind
from tests.images import array_of
from tests.tiny_model import add_int8, write_tiny_model

FP32, INT8 = "/model/decoder.onnx", "/model/decoder-int8.onnx"
FOR_GOOD = "max-age=31536000, immutable"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a second pair of graphs, which stands for the one in int8."""
    parent = tmp_path_factory.mktemp("models")
    folder = write_tiny_model(parent / "1")
    other = write_tiny_model(parent / "2", seed=1)
    graphs = [(other / f"{half}.onnx").read_bytes() for half in ("encoder", "decoder")]
    add_int8(folder, *graphs)
    return folder


@pytest.fixture
async def giving(serve: Serve, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that gives its decoders away."""
    async with serve(model_dir=folder, precision="fp32", serve_decoder=True) as client:
        yield client


@pytest.mark.parametrize(("path", "name"), [(FP32, "decoder.onnx"), (INT8, "decoder-int8.onnx")])
async def test_the_file_is_the_one_in_the_folder(
    giving: httpx.AsyncClient, folder: Path, path: str, name: str
) -> None:
    answer = await giving.get(path)
    content = (folder / name).read_bytes()
    assert answer.status_code == 200
    assert answer.content == content
    assert len(content) != CHUNK_BYTES
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert answer.headers["cache-control"] == "public, no-cache"
    head = await giving.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert {name: head.headers[name] for name in ("etag", "content-length", "cache-control")} == {
        name: answer.headers[name] for name in ("etag", "content-length", "cache-control")
    }


async def test_a_file_of_several_chunks_comes_whole(giving: httpx.AsyncClient) -> None:
    decoders = state_behind(giving).decoders
    file = decoders.manifest.files.decoder
    large = bytes(np.random.RandomState(0).bytes(2 * CHUNK_BYTES + 1))
    state_behind(giving).decoders = replace(decoders, contents={file: large})
    file_of_that_size = replace(file, bytes=len(large))
    files = replace(decoders.manifest.files, decoder=file_of_that_size)
    state_behind(giving).decoders = replace(
        decoders, manifest=replace(decoders.manifest, files=files), contents={file_of_that_size: large}
    )
    assert (await giving.get(FP32)).content == large


async def test_it_decodes_as_the_service_does(giving: httpx.AsyncClient) -> None:
    graph = (await giving.get(FP32)).content
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (pictures,) = session.run(["pictures"], {"latents": np.array(LATENTS[:1], np.float32)})
    served = array_of((await giving.post("/decode", json={"latents": LATENTS[:1]})).content)
    np.testing.assert_array_equal(pictures[0], served)


async def test_the_model_names_addresses_that_may_be_kept_for_good(
    giving: httpx.AsyncClient, folder: Path
) -> None:
    listed = (await giving.get("/model")).json()["decoders"]
    assert [each["precision"] for each in listed] == ["fp32", "int8"]
    for each, name in zip(listed, ("decoder.onnx", "decoder-int8.onnx"), strict=True):
        content = (folder / name).read_bytes()
        assert each["sha256"] == hashlib.sha256(content).hexdigest()
        assert each["bytes"] == len(content)
        answer = await giving.get(str(httpx.URL("http://service/model").join(each["url"])))
        assert answer.content == content
        assert answer.headers["cache-control"] == f"public, {FOR_GOOD}"


async def test_what_is_known_is_not_sent_again(giving: httpx.AsyncClient) -> None:
    etag = (await giving.get(FP32)).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        for method in ("GET", "HEAD"):
            again = await giving.request(method, FP32, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
            assert again.headers["cache-control"] == "public, no-cache"
    for other in ('"other"', etag.strip('"'), (await giving.get(INT8)).headers["etag"]):
        assert (await giving.get(FP32, headers={"If-None-Match": other})).status_code == 200


async def test_a_digest_leads_to_its_file_or_to_none(giving: httpx.AsyncClient) -> None:
    of_int8 = (await giving.get(INT8)).headers["etag"].strip('"')
    for digest in ("0" * 64, of_int8):
        refused = await giving.get(FP32, params={"sha256": digest})
        assert "/model lists" in check_problem(refused, 404)["detail"]
        assert refused.headers["cache-control"] == "no-store"
    for wrong in ("", "0" * 63, of_int8.upper()):
        errors = check_problem(await giving.get(FP32, params={"sha256": wrong}), 422)["errors"]
        assert [error["place"] for error in errors] == ["query.sha256"]
    unknown = check_problem(await giving.get(FP32, params={"sha": of_int8}), 422)
    assert "sha256" in unknown["detail"]


async def test_kept_to_itself_unless_it_is_switched_on(client: httpx.AsyncClient) -> None:
    for path in (FP32, INT8):
        problem = check_problem(await client.get(path), 404)
        assert problem["type"] == "urn:car-vae:problem:not-offered"
        assert "CAR_VAE_SERVE_DECODER" in problem["detail"]
    assert (await client.get("/model")).json()["decoders"] == []
    assert state_behind(client).decoders is None, "no memory for what is not given"


async def test_a_model_without_int8(serve: Serve) -> None:
    async with serve(serve_decoder=True) as client:
        assert (await client.get(FP32)).status_code == 200
        assert "no int8 decoder" in check_problem(await client.get(INT8), 404)["detail"]
        assert [each["precision"] for each in (await client.get("/model")).json()["decoders"]] == ["fp32"]


async def test_only_the_decoders_are_kept_in_memory(giving: httpx.AsyncClient) -> None:
    decoders = state_behind(giving).decoders
    assert set(decoders.contents) == set(decoders.manifest.files.decoders().values())


async def test_with_keys_it_needs_one_and_stays_out_of_shared_caches(serve: Serve, folder: Path) -> None:
    async with serve(model_dir=folder, serve_decoder=True, api_keys="key") as client:
        for path in (FP32, INT8):
            check_problem(await client.get(path), 401)
            answer = await client.get(path, headers={"X-API-Key": "key"})
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "private, no-cache"
        digest = (await client.get("/model")).json()["decoders"][0]["sha256"]
        kept = await client.get(FP32, params={"sha256": digest}, headers={"X-API-Key": "key"})
        assert kept.headers["cache-control"] == f"private, {FOR_GOOD}"


async def test_pages_of_other_origins_may_load_it_where_they_may_call(serve: Serve, folder: Path) -> None:
    page = "https://page.example"
    async with serve(model_dir=folder, serve_decoder=True, cors_origins=page) as client:
        answer = await client.get(FP32, headers={"Origin": page})
        assert answer.headers["access-control-allow-origin"] == page
        other = await client.get(FP32, headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_it_is_refused_while_draining(giving: httpx.AsyncClient) -> None:
    state_behind(giving).draining = True
    check_problem(await giving.get(FP32), 503)
