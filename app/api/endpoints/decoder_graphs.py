"""Endpoints that give files of the model away: the decoder itself, as the ONNX file that this service runs,
for those who decode without requests, and the map of drawn cars."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api.openapi import file_answer, kept, parameters, problems
from app.api.routing import Router
from app.api.schemas import FileQuery
from app.api.validation import from_query
from app.errors import NotOffered
from app.inference.vae import Vae
from app.model.manifest import ModelFile, ModelFolder, Precision
from app.server.entity_tags import is_known
from app.state import AppState, state_of

MEDIA_TYPE = "application/octet-stream"
"""There is no registered one for ONNX."""
CHUNK_BYTES = 64 * 2**10
"""Sent at a time, so that no connection to a slow client holds a copy of the whole file."""

MAP = "/map.webp"
PATHS: dict[Precision, str] = {"fp32": "/model/decoder.onnx", "int8": "/model/decoder-int8.onnx"}

router = Router(tags=["model"], default_response_class=Response)
DESCRIBED = kept(file_answer(MEDIA_TYPE)) | problems(404, 422, 503)


@router.get(PATHS["fp32"], summary="The decoder", openapi_extra=parameters(FileQuery), responses=DESCRIBED)
async def decoder_graph(request: Request) -> Response:
    """The decoder in float32, where the service gives it away: latents (N, latent_dim) float32 to `pictures`
    (N, height, width, 3) uint8. `/model` names the address under which it may be kept for good."""
    return _graph(request, "fp32")


@router.get(
    PATHS["int8"], summary="The decoder, int8", openapi_extra=parameters(FileQuery), responses=DESCRIBED
)
async def decoder_graph_int8(request: Request) -> Response:
    """The same in 8-bit integers, where the model has it: smaller, and faster on a CPU."""
    return _graph(request, "int8")


@router.get(
    MAP,
    summary="The map of drawn cars",
    openapi_extra=parameters(FileQuery),
    responses=kept(file_answer("image/webp")) | problems(404, 422, 503),
)
async def map_sheet(request: Request) -> Response:
    """Some hundreds of drawn cars in a grid, each beside others that look like it, as one image. `/model`
    says which cars they are, and names the address under which the image may be kept for good."""
    state = state_of(request)
    vae, _ = state.parts()
    files = vae.manifest.atlas
    query = from_query(FileQuery, request.query_params)
    if vae.atlas is None or files is None:
        raise NotOffered("the model that is served has no map")
    _check_digest("map", files.sheet, query)
    headers = _headers(state, files.sheet, query)
    if is_known(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(vae.atlas.sheet, headers=headers, media_type="image/webp")


def map_of(vae: Vae) -> dict[str, object] | None:
    """What GET /model says of the map."""
    files = vae.manifest.atlas
    if vae.atlas is None or files is None:
        return None
    return {"seeds": vae.atlas.map_seeds, "url": f"{MAP.removeprefix('/')}?sha256={files.sheet.sha256}"}


def decoder_list(state: AppState) -> list[dict[str, object]]:
    """What GET /model says of the decoders that may be loaded: none unless the service gives them away."""
    offered = {} if state.decoders is None else state.decoders.manifest.files.decoders()
    return [
        {
            "precision": precision,
            "url": f"{PATHS[precision].removeprefix('/')}?sha256={file.sha256}",
            "sha256": file.sha256,
            "bytes": file.bytes,
        }
        for precision, file in offered.items()
    ]


def _graph(request: Request, precision: Precision) -> Response:
    state = state_of(request)
    state.parts()
    query = from_query(FileQuery, request.query_params)
    folder, file = _offered(state, precision)
    _check_digest("decoder", file, query)
    headers = _headers(state, file, query)
    if is_known(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(file.bytes)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=MEDIA_TYPE)
    return StreamingResponse(_chunks(folder.content(file)), headers=headers, media_type=MEDIA_TYPE)


def _check_digest(what: str, file: ModelFile, query: FileQuery) -> None:
    if query.sha256 not in (None, file.sha256):
        raise NotOffered(f"the {what} with this sha256 is not served here; /model lists the one that is")


def _headers(state: AppState, file: ModelFile, query: FileQuery) -> dict[str, str]:
    reach = "private" if state.settings.needs_key else "public"
    # The address without a digest leads to another file when another model is served.
    lifetime = "no-cache" if query.sha256 is None else "max-age=31536000, immutable"
    return {"ETag": f'"{file.sha256}"', "Cache-Control": f"{reach}, {lifetime}"}


def _offered(state: AppState, precision: Precision) -> tuple[ModelFolder, ModelFile]:
    if state.decoders is None:
        raise NotOffered("this service keeps its decoder to itself; CAR_VAE_SERVE_DECODER would give it away")
    file = state.decoders.manifest.files.decoders().get(precision)
    if file is None:
        raise NotOffered(f"the model that is served has no {precision} decoder; /model lists those there are")
    return state.decoders, file


async def _chunks(content: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(content)
    for begin in range(0, len(view), CHUNK_BYTES):
        yield view[begin : begin + CHUNK_BYTES]
