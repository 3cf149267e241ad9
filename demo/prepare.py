"""Make what the stack needs before it starts: secrets that exist nowhere else, keys, and configurations with its addresses.

A secret is made once and kept; everything else is written anew each time, so that a changed file counts.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KEY_ID", "ORGANIZATIONS", "configure", "make_secrets"]

ORGANIZATIONS: Final = ("acme", "globex", "initech")
KEY_ID: Final = "demo-spare"
"""A key to rotate, revoke and look at: nothing else uses it."""

_KEYS: Final = 5  # of each organization
_SCOPES: Final = ["orders:read"]
_OWNERS: Final = {"postgres": (70, 70), "valkey": (999, 1000), "grafana": (472, 0)}
_GATEKEY: Final = (65532, 65532)
"""The users of the images. Several services are one user, so a container is shown the folders that it reads and no others."""


def make_secrets(
    folder: Path, *, postgres: str, valkey: str, domains: Sequence[str], owners: Mapping[str, tuple[int, int]]
) -> None:
    """One folder for each part: passwords, peppers, and the keys with their secrets; nothing where they are already.

    ``postgres`` and ``valkey`` are ``host:port/name``, ``owners`` who reads the folder of that name.
    """
    if (folder / "keys" / "keys.jsonl").exists():
        return
    postgres_password, valkey_password = _password(), _password()
    files = {
        "postgres/password": postgres_password,
        "valkey/valkey.conf": f"requirepass {valkey_password}\nappendonly yes\nmaxmemory-policy noeviction\n",
        "valkey/password": valkey_password,
        "grafana/password": _password(),
        "gatekey/store-url": f"postgresql://gatekey:{postgres_password}@{postgres}",
        "gatekey-valkey/store-url": f"redis://:{valkey_password}@{valkey}",
    }
    for service in ("gatekey", "gatekey-valkey"):
        files |= {f"{service}/pepper": _password(), f"{service}/secret-key": _password()}
    files["keys/keys.jsonl"] = "".join(
        json.dumps(key) + "\n" for key in _keys(domains)
    )  # the last: it says that all are there
    for name, text in files.items():
        _write(folder / name, text, owners.get(name.partition("/")[0]))


def _keys(domains: Sequence[str]) -> list[dict[str, object]]:
    """The published key of ``make serve``, those of the load (two are refused), the operator's, and one to try things on."""
    found = [
        _key("demo-key", "demo", domains, secret_token="demo-secret", name="demo key"),  # noqa: S106 - published; loopback only
        _key(KEY_ID, "demo", domains, name="to rotate, revoke and look at"),
        _key("operator", "gatekey", ["@gatekey"], scopes=["gatekey:read", "gatekey:write"], name="the load's operator"),
        _key("globex-expired", "globex", domains, expires_at="2020-01-01T00:00:00Z"),
        _key("initech-stopped", "initech", domains, is_active=False),
    ]
    for organization in ORGANIZATIONS:
        found += [_key(f"{organization}-{number}", organization, domains) for number in range(1, _KEYS + 1)]
    return found


def _key(api_key: str, organization: str, domains: Sequence[str], **fields: object) -> dict[str, object]:
    line = {"organization_id": organization, "api_key": api_key, "key_id": api_key, "domains": list(domains)}
    return {**line, "secret_token": _password(), "scopes": _SCOPES, **fields}


def _password() -> str:
    return secrets.token_urlsafe(36)


def _write(path: Path, text: str, owner: tuple[int, int] | None) -> None:
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.parent.chmod(0o755)  # whatever the umask: what lies in it is closed file by file
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # of a start that was cut short; it may be somebody else's by now
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="utf-8") as file:
        file.write(text)
    if owner is not None:
        os.chown(new, *owner)
    new.replace(path)  # in one step, whole and its reader's


def configure(source: Path, folder: Path, changes: Mapping[str, str]) -> None:
    """Copy Prometheus' configuration, the rules and the dashboards of the checkout, with other addresses in them."""
    copies = {folder / "prometheus.yml": source / "deploy/demo/prometheus.yml"}
    copies |= {folder / "rules" / path.name: path for path in source.glob("dashboards/rules/*.yml")}
    copies |= {folder / "dashboards" / path.name: path for path in source.glob("dashboards/gatekey-*.json")}
    for target, original in copies.items():
        text = original.read_text(encoding="utf-8")
        for old, new in changes.items():
            text = text.replace(old, new)
        target.parent.mkdir(mode=0o755, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(0o644)
        target.parent.chmod(0o755)


def main(arguments: Sequence[str]) -> int:
    """What the container ``prepare`` does."""
    parser = argparse.ArgumentParser(description="Make the secrets and configurations of compose.yaml.")
    parser.add_argument("--source", type=Path, required=True, help="the checkout")
    parser.add_argument("--secrets", type=Path, required=True, help="folder for what is secret")
    parser.add_argument("--config", type=Path, required=True, help="folder for what is not")
    parser.add_argument("--domain", action="append", default=[], help="where the keys may be used")
    parser.add_argument("--change", action="append", default=[], metavar="OLD=NEW", help="an address to be replaced")
    chosen = parser.parse_args(arguments)
    owners = {**_OWNERS, **dict.fromkeys(("gatekey", "gatekey-valkey", "keys"), _GATEKEY)}
    stores = {"postgres": "postgres:5432/gatekey", "valkey": "valkey:6379/0"}
    make_secrets(chosen.secrets, **stores, domains=chosen.domain, owners=owners)
    configure(chosen.source, chosen.config, dict(change.split("=", 1) for change in chosen.change))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
