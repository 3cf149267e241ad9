"""Where everything of one demo is: its folder, its loopback ports, and what its processes see of the environment."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["ROOT", "Places", "choose_ports", "environment"]

ROOT: Final = Path(__file__).parents[1]
_USUAL: Final = {
    "site": 8080, "valkey-site": 8081, "docs": 8082, "gatekey": 8000, "gatekey-valkey": 8001,
    "prometheus": 9090, "alertmanager": 9093,
    "postgres": 0, "valkey": 0, "application": 0, "caddy-admin": 0,
}  # fmt: skip
"""As in compose.yaml, if nobody else is there; 0 is any."""


@dataclass(frozen=True, slots=True)
class Places:
    """``ports`` are those of ``choose_ports``."""

    folder: Path
    ports: dict[str, int]

    def at(self, name: str) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.ports[name]}"

    def url(self, name: str, path: str = "") -> str:
        """Of what listens there."""
        return f"http://{self.at(name)}{path}"

    def hosts(self, name: str) -> list[str]:
        """What clients may call it."""
        return [f"{host}:{self.ports[name]}" for host in ("127.0.0.1", "localhost")]

    def log(self, name: str) -> Path:
        """What a part prints."""
        return self.folder / "logs" / f"{name}.log"

    def secret(self, name: str) -> str:
        """The file with one."""
        return str(self.folder / "secrets" / name)

    def settings(self, service: str) -> dict[str, str]:
        """What a command needs to work on the store of ``gatekey`` or ``gatekey-valkey``."""
        return {
            "GATEKEY_CONFIG": str(ROOT / "deploy/demo/policies.toml"),
            "GATEKEY_STORE_URL_FILE": self.secret(f"{service}/store-url"),
            "GATEKEY_PEPPER_FILE": self.secret(f"{service}/pepper"),
            "GATEKEY_SECRET_KEY_FILE": self.secret(f"{service}/secret-key"),
        }


def choose_ports(*, free: bool) -> dict[str, int]:
    """The usual ports, and others for those that are taken (or for all)."""
    chosen: dict[str, int] = {}
    held = []  # until all are chosen, so that none is chosen twice
    try:
        for name, usual in _USUAL.items():
            for port in (0,) if free else (usual, 0):
                probe = socket.socket()
                held.append(probe)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                chosen[name] = int(probe.getsockname()[1])
                break
    finally:
        for probe in held:
            probe.close()
    return chosen


def environment() -> dict[str, str]:
    """This process's, without settings of Gatekey's that are meant for somebody else, importing from this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEKEY_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
