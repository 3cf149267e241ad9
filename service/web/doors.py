"""The proxy doors as Flask views, for every server that is not Granian's RSGI (there ``service/front.py`` answers first)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g, request
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter, Rule

from service.web.answers import flask_response
from service.web.protect import gatekey_of_app
from service.web.wsgi_request import WsgiRequest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask, Response

__all__ = ["add_doors"]


class _Anything(BaseConverter):
    """All that follows, slashes and line feeds included: what Envoy appends is opaque."""

    part_isolating = False
    regex = "(?s:.*)"


def add_doors(app: Flask) -> None:
    """Route ``/auth/…`` of every method to the doors; a ``Rule`` without methods, because Flask's own would add a list."""
    app.url_map.converters["anything"] = _Anything
    app.url_map.add(Rule("/auth/<anything:rest>", endpoint="gatekey.door"))
    app.view_functions["gatekey.door"] = door
    app.wsgi_app = _without_host(app.wsgi_app)  # type: ignore[assignment, method-assign]  # Flask documents wrapping it so


def _without_host(application: WSGIApplication) -> WSGIApplication:
    """Whatever ``Host`` a proxy's question has, a door answers it: Flask would refuse an odd one with 400 in its routing."""

    def on_its_way(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/auth/"):
            environ["HTTP_HOST"] = "gatekey"
        return application(environ, start_response)

    return on_its_way


async def door(rest: str) -> Response:  # noqa: ARG001 - the door reads the path itself
    """One question of a proxy."""
    gatekey = gatekey_of_app()
    call = gatekey.doors.find(request.environ["PATH_INFO"])
    if call is None:
        raise NotFound
    answer = await gatekey.doors.answer(call, WsgiRequest(request.environ))
    g.gatekey_counted = True
    return flask_response(answer)
