"""An application of one's own with Gatekey's decorator: the same view once async and once sync."""

from __future__ import annotations

import os
from typing import Final

from benchmarks.contenders.known import IMPORT_FILE
from service import api_key_required, create_app

__all__ = ["app"]

app: Final = create_app(import_file=os.environ[IMPORT_FILE])


@app.get("/async")
@api_key_required
async def orders_async() -> str:
    """Behind a decision on the event loop."""
    return "ok"


@app.get("/sync")
@api_key_required
def orders_sync() -> str:
    """Behind a decision on the server's own thread."""
    return "ok"
