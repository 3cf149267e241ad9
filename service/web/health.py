"""Liveness, readiness and the metrics' page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, abort, request

from service.doors.peers import parse_address
from service.observe.exposition import Unanswered
from service.web.protect import gatekey_of_app

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Network, IPv6Network

__all__ = ["blueprint"]

blueprint = Blueprint("gatekey_health", __name__)


@blueprint.get("/livez")
def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@blueprint.get("/readyz")
def readyz() -> tuple[dict[str, Any], int]:
    """Send requests here, or not; a store that was lost later only degrades, because known keys still pass."""
    gatekey = gatekey_of_app()
    problems = gatekey.lifecycle.problems(loop_alive=gatekey.portal.is_alive())
    if problems:
        return {"status": "not_ready", "problems": problems}, 503
    return {"status": "ready", "degraded": gatekey.lifecycle.degraded()}, 200


@blueprint.get("/metrics")
def metrics() -> Response:
    """The scrape, for allowed peers that did not come through a proxy; to everybody else there is no such page."""
    gatekey = gatekey_of_app()
    environ = request.environ
    if not _is_near(environ, gatekey.settings.metrics_allow) or _came_through_proxy(environ):
        abort(404)
    try:
        body, content_type = gatekey.metrics.render(request.headers.get("Accept", ""))
    except Unanswered:
        abort(503)
    return Response(body, content_type=content_type)


def _is_near(environ: Mapping[str, Any], allowed: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether the peer is in an allowed network; who may open a Unix socket is decided by its file's permissions."""
    text = environ.get("REMOTE_ADDR") or ""
    peer = parse_address(text)
    return not text or (peer is not None and any(peer in network for network in allowed))


def _came_through_proxy(environ: Mapping[str, Any]) -> bool:
    return any(name.startswith("HTTP_X_FORWARDED_") or name in ("HTTP_FORWARDED", "HTTP_VIA") for name in environ)
