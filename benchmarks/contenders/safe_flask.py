"""safe-api-keys in Flask: its decorator over its manager and its memory store.

Its ``VerifyCache`` is on, which its documentation advises "for very high traffic": even over memory it halves a check.
"""

from __future__ import annotations

from typing import Final

from flask import Flask
from safe_api_keys import KeyManager, VerifyCache  # type: ignore[import-not-found]  # installed in .venv-bench only
from safe_api_keys.contrib.flask import APIKeys  # type: ignore[import-not-found]  # as above
from safe_api_keys.stores import MemoryStore  # type: ignore[import-not-found]  # as above

from benchmarks.contenders.known import PEPPER, write_key

__all__ = ["app"]

manager: Final = KeyManager(MemoryStore(), prefix="acme_live", pepper=PEPPER.encode(), cache=VerifyCache())
write_key(manager.issue(owner="acme", scopes=["orders:read"]).raw_key)

app: Final = Flask(__name__)
keys: Final = APIKeys(manager)
keys.init_app(app)


@app.get("/api/orders")
@keys.required(scopes=["orders:read"])  # type: ignore[untyped-decorator]  # as above
def orders() -> str:
    """A protected view."""
    return "ok"
