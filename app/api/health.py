"""What is asked about the service and not of the model: health, description, metrics."""

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.server.metrics import MEDIA_TYPE as METRICS_TYPE
from app.state import service_of

FRESH = {"Cache-Control": "no-store"}


def _json(content: object) -> Response:
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, headers=FRESH, media_type="application/json")


async def live(_: Request) -> Response:
    """200 while the process can answer."""
    return _json({"status": "ok"})


async def ready(request: Request) -> Response:
    """200 when the model is loaded, warmed and answering and the service is not draining.

    After a failed batch the model is asked itself, with one row: it may be well again.
    """
    vae, pool = service_of(request).parts()
    pool.check()
    if not vae.health().healthy:
        await vae.probe()
    return _json({"status": "ok"})


async def model(request: Request) -> Response:
    """What is served, and on what it runs."""
    service = service_of(request)
    vae, _ = service.parts()
    manifest = vae.manifest
    return _json(
        {
            "id": manifest.id,
            "name": manifest.name,
            "version": manifest.version,
            "image_size": {"width": manifest.image_size.width, "height": manifest.image_size.height},
            "latent_dim": manifest.latent_dim,
            "parameters": manifest.parameters,
            "provider": vae.provider,
            "precision": service.settings.precision,
            "max_items": service.settings.max_items,
            "metrics": manifest.metrics,
            "directions": vae.directions,
        }
    )


async def metrics(request: Request) -> Response:
    """The metrics of this process in Prometheus' text format."""
    service = service_of(request)
    if service.vae is not None:
        for half, rows in service.vae.queued_rows().items():
            service.metrics.queued(half, rows)
    return Response(service.metrics.render(), headers=FRESH, media_type=METRICS_TYPE)


ROUTES = (
    Route("/health/live", live),
    Route("/health/ready", ready),
    Route("/model", model),
    Route("/metrics", metrics),
)
