"""How each contender is started: the command, the environment and the files that it needs.

One worker process each. What people would use instead of Gatekey has its access log off; all of it runs in an environment
of its own, with the same versions of what both need.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from benchmarks.bench.contender import Launch
from benchmarks.contenders import known
from tests.support.servers import ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.bench.contender import Place

__all__ = [
    "RIVALS_BIN",
    "fill_store",
    "gatekey_environment",
    "granian",
    "gunicorn",
    "import_line",
    "missing_lua",
    "nginx",
    "nginx_lua",
    "serve",
    "serve_workers",
    "uvicorn",
]

RIVALS_BIN: Final = ROOT / ".venv-bench" / "bin"
_APPS: Final = "benchmarks.contenders"


def import_line() -> bytes:
    """The one key, as ``gatekey serve --import`` reads it."""
    line = {"organization_id": "acme", "api_key": known.API_KEY, "secret_token": known.SECRET}
    return orjson.dumps({**line, "domains": [known.DOMAIN], "scopes": ["orders:read"]}) + b"\n"


def gatekey_environment(port: int, **more: str) -> dict[str, str]:
    """Of ``gatekey serve`` with one worker."""
    settings = {"GATEKEY_PORT": str(port), "GATEKEY_WORKERS": "1", "GATEKEY_DRAIN": "0", "GATEKEY_PEPPER": known.PEPPER}
    return {**settings, "GATEKEY_SECRET_KEY": "a secret key for measurements", **more}


def fill_store(keys: Path, environment: Mapping[str, str]) -> None:
    """Prepare the store that the environment names and import a file of keys, by Gatekey's own commands."""
    for arguments in (("migrate",), ("keys", "import", str(keys))):
        command = [sys.executable, "-m", "service", *arguments]
        everything = {**clean_environment(), **environment}
        subprocess.run(command, env=everything, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - our own command


def serve(place: Place) -> Launch:
    """``gatekey serve`` on ``memory://``, with the one key imported."""
    keys = place.folder / "keys.jsonl"
    keys.write_bytes(import_line())
    command = (sys.executable, "-m", "service", "serve", "--import", str(keys))
    return Launch(command=command, environment=gatekey_environment(place.port))


def serve_workers(number: int) -> Callable[[Place], Launch]:
    """``memory://`` keeps keys in one process, so several workers need a store."""

    def launch(place: Place) -> Launch:
        keys = place.folder / "keys.jsonl"
        keys.write_bytes(import_line())
        url = f"sqlite:///{place.folder / 'keys.db'}"
        environment = gatekey_environment(place.port, GATEKEY_STORE_URL=url, GATEKEY_WORKERS=str(number))
        fill_store(keys, environment)
        return Launch(command=(sys.executable, "-m", "service", "serve"), environment=environment)

    return launch


def granian(app: str, *options: str, own: bool = False, interface: str = "wsgi") -> Callable[[Place], Launch]:
    """Granian; ``own`` is for an application that imports Gatekey, which lives in the harness's environment."""
    bin_folder = Path(sys.executable).parent if own else RIVALS_BIN

    def launch(place: Place) -> Launch:
        keys = place.folder / "keys.jsonl"
        keys.write_bytes(import_line())
        address = ("--host", "127.0.0.1", "--port", str(place.port))
        usual = ("--interface", interface, "--workers", "1", "--log-level", "error")
        return Launch(
            command=(str(bin_folder / "granian"), *address, *usual, *options, f"{_APPS}.{app}"),
            environment={
                known.KEY_FILE: str(place.key_file),
                known.IMPORT_FILE: str(keys),
                "GATEKEY_PEPPER": known.PEPPER,
                "GATEKEY_SECRET_KEY": "a secret key for measurements",
            },
        )

    return launch


def uvicorn(app: str) -> Callable[[Place], Launch]:
    """With uvloop and httptools, which uvicorn takes where they are installed."""

    def launch(place: Place) -> Launch:
        options = ("--host", "127.0.0.1", "--port", str(place.port), "--no-access-log", "--log-level", "warning")
        return Launch(
            command=(str(RIVALS_BIN / "uvicorn"), *options, f"{_APPS}.{app}"),
            environment={known.KEY_FILE: str(place.key_file)},
        )

    return launch


def gunicorn(place: Place) -> Launch:
    """The threaded worker, which is the one for applications that wait."""
    options = ("--worker-class", "gthread", "--workers", "1", "--threads", "4", "--bind", f"127.0.0.1:{place.port}")
    command = (str(RIVALS_BIN / "gunicorn"), *options, "--log-level", "error", f"{_APPS}.classic:app")
    return Launch(command=command)


_MODULES: Final = tuple(Path(folder) for folder in ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"))


def nginx() -> str | None:
    """Where the program is, which is not in every user's PATH."""
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


def _lua_modules() -> Path | None:
    return next((folder for folder in _MODULES if (folder / "ngx_http_lua_module.so").exists()), None)


def missing_lua() -> str:
    """What this machine lacks for ``nginx_lua``."""
    return (
        "" if nginx() and _lua_modules() else "needs nginx with Lua (Debian: apt install nginx libnginx-mod-http-lua)"
    )


def nginx_lua(place: Place) -> Launch:
    """The configuration filled in."""
    values = {
        "@FOLDER@": str(place.folder),
        "@MODULES@": str(_lua_modules()),
        "@PORT@": str(place.port),
        "@API_KEY@": known.API_KEY,
        "@SECRET@": known.SECRET,
    }
    text = (ROOT / "benchmarks" / "contenders" / "nginx-lua.conf").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(name, value)
    path = place.folder / "nginx.conf"
    path.write_text(text, encoding="utf-8")
    return Launch(command=(str(nginx()), "-p", str(place.folder), "-e", "stderr", "-c", str(path)))
