"""The few pages that people see: self-contained, readable without scripts, styled by one inline sheet that CSP names."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from service.answers.http_errors import HttpError

__all__ = ["Pages"]

_FOLDER: Final = Path(__file__).with_name("templates")


class Pages:
    """Renders the templates; loaded once."""

    def __init__(self) -> None:
        environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
        self._style = (_FOLDER / "style.css").read_text(encoding="utf-8")
        self._error = environment.get_template("error.html")
        self._login = environment.get_template("login.html").render(style=self._style)
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self.content_security_policy = "; ".join(
            (
                "default-src 'none'",
                "img-src data:",  # the empty icon, which saves the request for /favicon.ico
                f"style-src 'sha256-{digest}'",
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )

    def error(self, status: int, said: HttpError, request_id: str) -> str:
        """The page of an error."""
        return self._error.render(
            style=self._style, status=status, title=said.title, detail=said.detail, request_id=request_id
        )

    def login(self) -> str:
        """The login page."""
        return self._login
