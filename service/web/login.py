"""The login page. Sign-in itself is not part of this version; the page says so instead of failing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, g

from service.web.answers import flask_response
from service.web.protect import gatekey_of_app

if TYPE_CHECKING:
    from flask import Response

__all__ = ["blueprint"]

blueprint = Blueprint("gatekey_login", __name__)


@blueprint.get("/login")
def login() -> Response:
    """Where a refused browser lands."""
    responder = gatekey_of_app().responder
    return flask_response(responder.login_page(g.gatekey_request_id))
