"""What a demo says: where to look, what to paste, and what a shell needs for the commands of the runbooks."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from demo.load import read_keys
from demo.prepare import KEY_ID

if TYPE_CHECKING:
    from demo.state import State

__all__ = ["banner", "shell"]

_SETTING: Final = re.compile("GATEKEY_[A-Z_]+")
"""Names are not quoted: nothing else may stand in a line that a shell evaluates."""


def banner(addresses: dict[str, str], again: str) -> str:
    """For a person who has just started it."""
    asks = "curl -H 'x-api-key: demo-key' -H 'x-secret-token: demo-secret'"
    alertmanager = [f"  Alertmanager   {addresses['alertmanager']}"] if "alertmanager" in addresses else []
    return "\n".join(
        [
            "Gatekey runs over Postgres and over Valkey, behind Caddy, under a small load.",
            "",
            f"  the API        {addresses['site']}   (over Valkey: {addresses['valkey-site']})",
            f"  Gatekey        {addresses['gatekey']}/docs   (over Valkey: {addresses['gatekey-valkey']}/docs)",
            f"  Prometheus     {addresses['prometheus']}/alerts",
            *alertmanager,
            f"  runbooks       {addresses['docs']}/runbooks/README.md",
            f"  logs           {addresses['logs']}",
            "",
            f"  allowed:       {asks} {addresses['site']}",
            f"  denied:        curl {addresses['site']}",
            f"  break it:      {again} fault store-down",
            f'  for runbooks:  eval "$({again} env)"',
            "",
            "Ctrl-C ends it and removes everything.",
        ]
    )


def shell(state: State, folder: Path) -> str:
    """Lines for ``eval``; the spare key's secret stays in its file until it is asked for."""
    addresses = state.addresses
    site = urlsplit(addresses["site"])
    secret = read_keys(folder / "secrets/keys/keys.jsonl")[KEY_ID]
    values = {
        "PROM": addresses["prometheus"],
        "GATEKEY": addresses["gatekey"],
        "SITE": addresses["site"],
        "DOMAIN": site.netloc,
        "ORG": "demo",
        "KEY_ID": KEY_ID,
        "API_KEY": KEY_ID,
        "SECRET": secret,
        **{name: value for name, value in state.settings.items() if _SETTING.fullmatch(name)},
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    log = shlex.quote(str(folder / "logs/gatekey.log"))
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
    lines.append(f"logs() {{ grep -h '^{{' {log}; }}")
    return "\n".join(lines)
