"""``gatekey check``: validate the settings and the policies and print them, secrets masked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.auth.secret import Secret
from service.cli.common import Failed, settings_or_fail
from service.settings import SETTINGS

if TYPE_CHECKING:
    from service.policies import Policy
    from service.settings import Settings

__all__ = ["command"]


@click.command("check", short_help="Validate the settings and policies, and print them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(*, as_json: bool) -> None:
    """Validate the settings and the policies, and print them; secrets are masked.

    Exit status 0 when they are right, 1 when not (a line on standard error for each problem).

    \b
    Examples:
      gatekey check
      GATEKEY_CONFIG=/etc/gatekey/gatekey.toml gatekey check --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    try:
        settings = settings_or_fail()
    except Failed as failed:
        if as_json:
            click.echo(json.dumps({"valid": False, "problems": failed.problems}, indent=2))
        raise
    shown = {f"GATEKEY_{name.upper()}": _shown(settings, name) for name in SETTINGS}
    policies = {name: _policy(policy) for name, policy in sorted(settings.policies.items())}
    if as_json:
        document = {"valid": True, "settings": shown, "policies": policies, "notes": settings.notes}
        click.echo(json.dumps(document, indent=2))
        return
    width = max(map(len, shown))
    for name, value in shown.items():
        click.echo(f"{name:{width}}  {_text(value)}")
    for name, fields in policies.items():
        click.echo(f"policy.{name}: " + "; ".join(f"{field} = {_text(value)}" for field, value in fields.items()))
    for note in settings.notes:
        click.echo(f"gatekey: {note}", err=True)


def _shown(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if name == "workers":
        return settings.worker_count
    if name == "admin_listen":
        return None if value is None else _address(*value)
    if isinstance(value, Secret):
        scheme, separator, rest = value.reveal().partition("://")
        is_url = name in ("store_url", "store_listen_url")
        return f"{scheme}{separator}{'[secret]' if rest else ''}" if is_url else str(value)
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _policy(policy: Policy) -> dict[str, Any]:
    return {
        "organization": policy.organization,
        "scopes": list(policy.scopes),
        "client": policy.client,
        "credentials": sorted(policy.credentials),
        "preflight": policy.preflight,
        "cors_origins": sorted(policy.cors_origins),
        "mode": policy.mode,
    }


def _text(value: Any) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
