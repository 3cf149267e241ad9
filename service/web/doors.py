"""The proxy doors as Flask views, for every server that is not Granian's RSGI (there ``service/front.py`` answers first)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import request
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter, Rule

from service.web.answers import flask_response
from service.web.protect import gatekey_of_app
from service.web.wsgi_request import WsgiRequest

if TYPE_CHECKING:
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


async def door(rest: str) -> Response:  # noqa: ARG001 - the door reads the path itself
    """One question of a proxy."""
    gatekey = gatekey_of_app()
    call = gatekey.doors.find(request.environ["PATH_INFO"])
    if call is None:
        raise NotFound
    return flask_response(await gatekey.doors.answer(call, WsgiRequest(request.environ)))
