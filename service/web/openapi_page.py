"""``/openapi.json`` and ``/docs``: the API's description for programs and for people, public and without any other host.

The page is Swagger UI as its package has it; it may load and ask nothing but this service.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import flask_swagger_ui  # type: ignore[import-untyped]  # it has no types
import orjson
from flask import Blueprint, Response, abort, current_app, request, send_from_directory

from service.web.openapi import describe_api

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["blueprint"]

_FOLDER: Final = Path(flask_swagger_ui.__file__).with_name("dist")
_ASSETS: Final = ("swagger-ui-bundle.js", "swagger-ui.css")
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API · Gatekey</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="stylesheet" href="/docs/page.css">
</head>
<body>
<noscript><p>This page needs JavaScript. The same is in <a href="/openapi.json">openapi.json</a>.</p></noscript>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START: Final = """"use strict";
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
_STYLE: Final = (
    "body { margin: 0; background: #fff; } noscript p { margin: 2rem; font: 1rem/1.5 system-ui, sans-serif; }\n"
)
_OWN: Final[Mapping[str, tuple[str, str]]] = {
    "start.js": (_START, "text/javascript"),
    "page.css": (_STYLE, "text/css"),
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)

blueprint = Blueprint("gatekey_docs", __name__)


@blueprint.get("/openapi.json")
def document() -> Response:
    """The description; made when it is first asked for, since most processes never are."""
    made = current_app.extensions.get("gatekey_openapi")
    if made is None:
        made = current_app.extensions["gatekey_openapi"] = orjson.dumps(describe_api(current_app))
    response = Response(made, mimetype="application/json")
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    return _plain(response.make_conditional(request))  # type: ignore[arg-type]  # werkzeug types its own class


@blueprint.get("/docs")
def page() -> Response:
    """The description for people."""
    response = Response(_PAGE, mimetype="text/html")
    response.headers["Cache-Control"] = "no-cache"
    return _plain(response)


@blueprint.get("/docs/<name>")
def asset(name: str) -> Response:
    """What the page is made of, and nothing else of the package."""
    if name in _OWN:
        text, mimetype = _OWN[name]
        response = Response(text, mimetype=mimetype)
        response.headers["Cache-Control"] = "no-cache"
        return _plain(response)
    if name not in _ASSETS:
        abort(404)
    return _plain(send_from_directory(_FOLDER, name))


def _plain(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
