"""Reading the credentials of a request: exactly one pair, in one of three forms, or the reason why not (contract 2).

Every defect has its answer here, before cache or store are asked; nothing in this module raises.
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from service.auth.reasons import Reason
from service.auth.secret import Secret
from service.auth.tokens import MAX_LENGTH, api_key_problem, secret_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Credentials", "Form", "read_credentials"]


class Form(StrEnum):
    """The ways to present a pair; a policy may read only some of them."""

    HEADERS = "headers"
    BASIC = "basic"
    BEARER = "bearer"


_READABLE: Final = frozenset({"basic", "bearer"})


class Credentials:
    """A well-formed pair."""

    __slots__ = ("api_key", "secret")

    def __init__(self, api_key: str, secret: Secret) -> None:
        self.api_key = api_key
        self.secret = secret

    def __repr__(self) -> str:
        return "Credentials([hidden])"  # the api_key is public, but what was presented may be anything


def read_credentials(
    api_keys: Sequence[str],
    secret_tokens: Sequence[str],
    authorizations: Sequence[str],
    forms: frozenset[Form],
) -> tuple[Credentials | Reason, bool]:
    """The one pair that was presented, or ``MISSING_CREDENTIALS`` or ``MALFORMED_KEY``; and whether any was presented.

    The sequences are the lines of ``x-api-key``, ``x-secret-token`` and ``Authorization``. A form that is not in
    ``forms`` is neither read nor counted. The same pair in two forms is one.
    """
    found: list[tuple[str, str]] = []
    presented = half = False
    if Form.HEADERS in forms and (api_keys or secret_tokens):
        presented = True
        if api_keys and secret_tokens:
            if len(api_keys) > 1 or len(secret_tokens) > 1:
                return Reason.MALFORMED_KEY, True
            found.append((api_keys[0], secret_tokens[0]))
        else:
            half = True  # whatever it holds: presence is asked before form
    if authorizations:
        pair = _from_authorization(authorizations, forms)
        if pair is Reason.MALFORMED_KEY:
            return Reason.MALFORMED_KEY, True
        if pair is not None:
            presented = True
            found.append(pair)  # type: ignore[arg-type]  # the only reason was handled above
    if half:
        return (Reason.MALFORMED_KEY if found else Reason.MISSING_CREDENTIALS), True
    if not found:
        return Reason.MISSING_CREDENTIALS, presented
    api_key, secret = found[0]
    if (len(found) > 1 and found[1] != found[0]) or _refused(api_key) or secret_problem(secret):
        return Reason.MALFORMED_KEY, True
    return Credentials(api_key, Secret(secret)), True


def _refused(api_key: str) -> bool:
    """Whether a public handle is malformed; what is too long must not fill the memory of the known ones."""
    return len(api_key) > MAX_LENGTH or _refused_key(api_key)


@lru_cache(maxsize=4096)
def _refused_key(api_key: str) -> bool:
    """Remembered, because the same keys come again and again."""
    return api_key_problem(api_key) is not None


def _from_several(lines: Sequence[str], forms: frozenset[Form]) -> Reason | None:
    """``MALFORMED_KEY`` when one of several lines, also of lines that a server joined, is of a form that is read.

    The order must not matter: whoever reads another one of them sees another caller. The parameters of a scheme that
    is not read hold commas too (``Digest username=x, realm=y``), and are no lines.
    """
    parts = [part.strip() for line in lines for part in line.split(",")]
    schemes = {part.partition(" ")[0].lower() for part in parts} & _READABLE
    return Reason.MALFORMED_KEY if any(Form(scheme) in forms for scheme in schemes) else None


def _from_authorization(lines: Sequence[str], forms: frozenset[Form]) -> tuple[str, str] | Reason | None:
    """The pair in ``Authorization`` (RFC 9110 11.6.2), ``MALFORMED_KEY``, or ``None`` when no form that is read is there."""
    if len(lines) > 1 or "," in lines[0]:
        return _from_several(lines, forms)
    scheme, space, rest = lines[0].partition(" ")
    name = scheme.lower()
    if name not in _READABLE or Form(name) not in forms:
        return None
    if not space or not rest.isascii():
        return Reason.MALFORMED_KEY
    if name == "bearer":
        api_key, dot, secret = rest.partition(".")
        return (api_key, secret) if dot else Reason.MALFORMED_KEY
    try:
        text = base64.b64decode(rest, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return Reason.MALFORMED_KEY
    api_key, colon, secret = text.partition(":")
    return (api_key, secret) if colon else Reason.MALFORMED_KEY
