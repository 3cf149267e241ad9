"""The management API as one blueprint, and how its addresses are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import Blueprint
from werkzeug.routing import BaseConverter

from service.auth.key_fields import KEY_ID, NO_KEY_IDS, SLUG
from service.web import audit, keys, management_rotation, management_transfer, organizations

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["add_management"]

NAME: Final = "gatekey_management"


class _KeyId(BaseConverter):
    """An identifier of a key; the words that are addresses themselves are none, so that a wrong method there is a 405."""

    regex = f"(?!(?:{NO_KEY_IDS})(?:/|$)){KEY_ID}"


class _Slug(BaseConverter):
    """An identifier of an organization; anything else is at no address, and reaches no store."""

    regex = SLUG


def add_management(app: Flask) -> None:
    """Route the management API."""
    app.url_map.converters["key"] = _KeyId
    app.url_map.converters["slug"] = _Slug
    whole = Blueprint(NAME, __name__, url_prefix="/v1")
    for part in (organizations, keys, management_rotation, management_transfer, audit):
        whole.register_blueprint(part.blueprint)
    app.register_blueprint(whole)
