"""A dashboard's JSON and a live Prometheus become a PNG: Grafana's panel components in a headless Chromium.

What they are made of is installed once for each version of package.json, in the folder for temporary files.
"""

from __future__ import annotations

import hashlib
import html
import http.server
import json
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["View", "draw", "missing"]

_SOURCE: Final = Path(__file__).with_name("renderer")
_WIDTH: Final = 1440
_CELL: Final = 38  # pixels of a row of Grafana's grid, as in app.tsx
_HEAD: Final = 60
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
_QUIET: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=30000",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """``range`` seconds that end at ``to``, a point every ``step`` seconds; ``rate`` is what rates look back at."""

    to: float
    range: int
    step: int = 1
    rate: str = "10s"
    vars: Mapping[str, str] = field(default_factory=lambda: {"job": ".+", "instance": ".+"})
    lines: Sequence[Mapping[str, Any]] = ()
    """Of the log, for panels that show it."""


def missing() -> str:
    """What this machine lacks, ``""`` for nothing."""
    lacks = [name for name in ("node", "npm") if not shutil.which(name)]
    lacks += [] if any(map(shutil.which, _BROWSERS)) else ["chromium"]
    return f"install {', '.join(lacks)}" if lacks else ""


def draw(dashboard: dict[str, Any], prometheus: str, view: View, target: Path) -> dict[str, Any]:
    """Write the picture; returns how many panels were drawn, and the titles of those that are empty or failed."""
    bundle = _bundle()
    with _served(bundle, dashboard, prometheus, view) as address:
        height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * _CELL + _HEAD
        _browse(address, f"--window-size={_WIDTH},{height}", f"--screenshot={target.resolve()}")
        page = _browse(address, f"--window-size={_WIDTH},{height}", "--dump-dom")
    title = re.search(r"<title>READY (.*?)</title>", page)
    found: dict[str, Any] = json.loads(html.unescape(title[1])) if title else {"errors": ["the page did not finish"]}
    return found


def _bundle() -> Path:
    """The folder with the page's script and styles."""
    parts = hashlib.sha256((_SOURCE / "package.json").read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir(), f"gatekey-pictures-{parts}")
    folder.mkdir(exist_ok=True)
    sources = [_SOURCE / name for name in ("app.tsx", "build.mjs", "package.json")]
    for source in sources:
        shutil.copy(source, folder)
    if not (folder / "node_modules").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--legacy-peer-deps"]
        subprocess.run(command, cwd=folder, check=True)  # noqa: S603 - our own words
    subprocess.run(["node", "build.mjs"], cwd=folder, check=True)  # noqa: S607 - where it is differs
    return folder


@contextmanager
def _served(folder: Path, dashboard: dict[str, Any], prometheus: str, view: View) -> Iterator[str]:
    styles = folder / "node_modules/uplot/dist/uPlot.min.css"
    page = (
        "<!doctype html><meta charset=utf-8><link rel=stylesheet href=/uplot.css><div id=root></div>"
        f"<script>window.RENDER={json.dumps(asdict(view))}</script><script src=/app.js></script>"
    )
    files = {
        "/": ("text/html", page.encode()),
        "/dash.json": ("application/json", json.dumps(dashboard).encode()),
        "/app.js": ("text/javascript", (folder / "out/app.js").read_bytes()),
        "/uplot.css": ("text/css", styles.read_bytes()),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/api/"):
                code, kind, body = _passed_on(prometheus + self.path)
            else:
                kind, body = files.get(self.path, ("text/plain", b""))
                code = 200 if self.path in files else 404
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _passed_on(address: str) -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - the Prometheus of the run
            return answer.status, "application/json", answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "application/json", error.read()


def _browse(address: str, *options: str) -> str:
    browser = next(filter(None, map(shutil.which, _BROWSERS)))
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *_QUIET, f"--user-data-dir={profile}", *options, address]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False).stdout  # noqa: S603 - our own words
