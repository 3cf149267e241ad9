"""From ``sqlite:///relative.db`` and ``sqlite:////absolute.db`` to a path, with SQLAlchemy's meaning of the slashes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

__all__ = ["path_of_url"]

_OPTION: Final = re.compile(r"[a-z_]{1,32}")
_FORMS: Final = "sqlite:///relative.db or sqlite:////absolute.db"


def path_of_url(url: str) -> Path:
    """The path as it is written; raises ``ValueError``, whose message repeats nothing of the URL but the name of an option."""
    place, _, query = url.removeprefix("sqlite://").partition("?")
    if query:
        option = re.split("[=&]", query, maxsplit=1)[0]
        shown = option if _OPTION.fullmatch(option) else "(unreadable)"
        raise ValueError(f"sqlite:// does not know the option {shown}; it takes none")
    if not place.startswith("/"):
        raise ValueError(f"sqlite:// takes no host: {_FORMS}")
    name = place[1:]
    if name == ":memory:":
        raise ValueError(f"sqlite:// keeps keys in a file: {_FORMS}; the store that forgets them is memory://")
    if not name or name.endswith("/") or not name.isprintable():
        raise ValueError(f"sqlite:// must name a file: {_FORMS}")
    return Path(name)
