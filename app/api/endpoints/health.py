"""Endpoints about the service itself: health, the served model, metrics."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.endpoints.decoder_graphs import decoder_list, map_of
from app.api.openapi import answers, kept, problems, text_answer
from app.api.routing import Router
from app.api.service_schemas import HealthAnswer, ModelAnswer
from app.inference.older_models import OLDER_DECODER
from app.server.entity_tags import digest, is_known
from app.server.metrics import MEDIA_TYPE as METRICS_TYPE
from app.state import state_of

FRESH = {"Cache-Control": "no-store"}
ASKED_EACH_TIME = {"Cache-Control": "no-cache"}

router = Router(tags=["service"], default_response_class=Response)


@router.get("/health/live", summary="Is the process alive?", responses=answers(HealthAnswer))
async def live() -> Response:
    """200 while the process can answer."""
    return _json({"status": "ok"})


@router.get(
    "/health/ready", summary="Can requests be sent here?", responses=answers(HealthAnswer) | problems(503)
)
async def ready(request: Request) -> Response:
    """200 when the model is loaded, warmed and answering and the service is not draining.

    After a failed batch the model is asked itself, with one row: it may be well again.
    """
    vae, pool = state_of(request).parts()
    pool.check()
    if not vae.health().healthy:
        await vae.probe()
    return _json({"status": "ok"})


@router.get("/model", summary="The served model", responses=kept(answers(ModelAnswer)) | problems(503))
async def model(request: Request) -> Response:
    """What is served, and on what it runs. It may be kept, to be asked for again each time."""
    state = state_of(request)
    vae, _ = state.parts()
    manifest = vae.manifest
    content = {
        "id": manifest.id,
        "name": manifest.name,
        "version": manifest.version,
        "image_size": {"width": manifest.image_size.width, "height": manifest.image_size.height},
        "latent_dim": manifest.latent_dim,
        "parameters": manifest.parameters,
        "provider": vae.graphs.provider,
        "precision": vae.graphs.decoder,
        "encoder_precision": vae.graphs.encoder,
        "self_check": vae.graphs.check,
        "refines": vae.refines,
        "codes": state.codes is not None,
        "reads_codes_of": state.readable(),
        "max_items": state.settings.max_items,
        "metrics": manifest.metrics,
        "directions": vae.directions,
        "map": map_of(vae),
        "decoders": decoder_list(state),
    }
    text = _text(content)
    headers = ASKED_EACH_TIME | {"ETag": f'W/"{digest([text.decode()])}"'}  # weak, as it may be packed
    if is_known(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers | {"Vary": "Accept-Encoding"})
    return Response(text, headers=headers, media_type="application/json")


@router.get("/metrics", summary="Metrics of this process for Prometheus", responses=text_answer())
async def metrics(request: Request) -> Response:
    """The metrics of this process in Prometheus' text format."""
    state = state_of(request)
    if state.vae is not None:
        for graph, rows in state.vae.queued_rows().items():
            state.metrics.queued(graph, rows)
    if state.older is not None and state.older.opened:
        state.metrics.older_models(state.older.opened)
        state.metrics.queued(OLDER_DECODER, state.older.queued_rows)
    return Response(state.metrics.render(), headers=FRESH, media_type=METRICS_TYPE)


def _json(content: object) -> Response:
    return Response(_text(content), headers=FRESH, media_type="application/json")


def _text(content: object) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
