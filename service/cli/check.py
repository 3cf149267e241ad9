"""``gatekey check``: validate the settings and print them, secrets masked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from service.auth.secret import Secret
from service.cli.common import settings_or_fail
from service.settings import SECRETS, Settings

__all__ = ["command"]


@click.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(*, as_json: bool) -> None:
    r"""Validate the settings and the policies, and print them; secrets are masked.

    Exit status 0 when they are right, 1 when not (each problem a line on standard error).

    \b
    Examples:
      gatekey check
      GATEKEY_CONFIG=/etc/gatekey/gatekey.toml gatekey check --json
    """
    settings = settings_or_fail()
    shown = {f"GATEKEY_{name.upper()}": _shown(settings, name) for name in _names()}
    policies = sorted(settings.policies)
    if as_json:
        document = {"settings": shown, "policies": policies, "notes": list(settings.notes)}
        click.echo(json.dumps(document, indent=2))
        return
    width = max(map(len, shown))
    for name, value in shown.items():
        click.echo(f"{name:{width}}  {_text(value)}")
    click.echo(f"{'policies':{width}}  {', '.join(policies)}")
    for note in settings.notes:
        click.echo(f"note: {note}", err=True)
    sys.stdout.flush()


def _names() -> list[str]:
    return [name for name in Settings.model_fields if name not in ("policies", "config_path")]


def _shown(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if name in ("store_url", "store_listen_url") and isinstance(value, Secret):
        return value.reveal().partition("://")[0] + "://" + ("[hidden]" if value.reveal().partition("://")[2] else "")
    if name in SECRETS:
        return None if value is None else "[secret]"
    if isinstance(value, tuple):
        return [str(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list):
        return ",".join(value) or "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
