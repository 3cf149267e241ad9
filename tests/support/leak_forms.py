"""In how many ways a secret can be written down: whoever encodes it has leaked it too."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["forms"]


def forms(secret: str) -> tuple[str, ...]:
    """Each text that stands for the secret and nothing else, plain text first; the same one is named once."""
    data = secret.encode("utf-8", "surrogatepass")
    found = dict.fromkeys((secret, *_escaped(secret, data), data.hex(), data.hex().upper()))
    for text in _base64(data):
        found |= dict.fromkeys((text, quote(text, safe="")))
    return tuple(found)


def _escaped(secret: str, data: bytes) -> Iterator[str]:
    for inner in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        yield inner
        yield json.dumps(inner)[1:-1]  # an object in a text of another one
    every_byte = "".join(f"%{byte:02X}" for byte in data)
    for percent in (quote(data, safe=""), quote(data), quote_plus(data), quote_plus(data, safe="/"), every_byte):
        yield percent
        yield percent.replace("%", "%25")  # a URL as a parameter of another one
        yield _lower(percent)
    yield html.escape(secret)
    yield html.escape(secret).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")  # as templates do it
    yield repr(secret)[1:-1]
    yield json.dumps(repr(secret)[1:-1])[1:-1]  # a local variable in a traceback that is logged
    yield repr(data)[2:-1]
    yield secret.encode("ascii", "backslashreplace").decode()


def _lower(percent: str) -> str:
    """With the digits of each escaped byte in lower case."""
    head, *rest = percent.split("%")
    return "%".join((head, *(part[:2].lower() + part[2:] for part in rest)))


def _base64(data: bytes) -> Iterator[str]:
    """Its characters depend on how many bytes stand before the secret; those that it shares with others are left out."""
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        inner = whole[-(-before * 8 // 6) : len(whole) - (1 if (before + len(data)) % 3 else 0)]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")
