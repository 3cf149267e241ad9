"""``gatekey serve``: run the service."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from backends.errors import StoreError
from service.auth.keyfile import KeyFileError, Seed, read_key_lines
from service.auth.tokens import generate_api_key, generate_secret_token
from service.cli.common import Failed, settings_or_fail
from service.server import AddressInUse, serve

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["command"]

DEMO_DOMAIN = "api.example.com"
_WSGI_NOTES = (
    "--interface wsgi: this server reads X_Api_Key as X-Api-Key; the proxy in front must drop header names with _",
)


@click.command("serve")
@click.option("--demo", is_flag=True, help="Add a demo organization and key (memory:// only) and print lines to try.")
@click.option(
    "--import",
    "import_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Load keys from a file of JSON lines before serving.",
)
@click.option(
    "--interface",
    type=click.Choice(["rsgi", "wsgi"]),
    default="rsgi",
    show_default=True,
    help="rsgi is faster and safer; wsgi serves everything through WSGI, for comparison.",
)
def command(*, demo: bool, import_file: Path | None, interface: str) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    Settings come from GATEKEY_* variables and gatekey.toml; `gatekey check` shows them.

    \b
    Examples:
      gatekey serve --demo
      gatekey serve --import keys.jsonl
      GATEKEY_HOST=0.0.0.0 GATEKEY_PORT=9000 gatekey serve
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    settings = settings_or_fail()
    if demo and sys.stdout.isatty() and "log_format" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_format": "console"})
    seed = _read_seed(settings, import_file) if import_file is not None else None
    credentials: tuple[str, str] | None = None
    if demo:
        credentials = _demo_credentials(settings)
        seed = _with_demo_key(settings, seed, credentials)
    for note in (*settings.notes, *(_WSGI_NOTES if interface == "wsgi" else ())):
        click.echo(f"gatekey: {note}", err=True)

    def announce() -> None:
        _print_banner(settings, credentials)

    try:
        serve(settings, seed=seed, interface="wsgi" if interface == "wsgi" else "rsgi", on_ready=announce)
    except (AddressInUse, StoreError, ValueError) as error:
        raise Failed(str(error)) from None
    except KeyboardInterrupt:  # before anything was served: that is no failure either
        raise SystemExit(0) from None


def _read_seed(settings: Settings, path: Path) -> Seed:
    try:
        with path.open("rb") as lines:
            seed = read_key_lines(lines, peppers=settings.make_peppers(), now=datetime.now(UTC))
    except KeyFileError as error:
        *others, last = map(str, error.problems)
        raise Failed([*others, f"{last}; nothing was imported"]) from None
    except OSError as error:
        raise Failed(f"--import: the file cannot be read ({error.strerror})") from None
    for note in seed.notes:
        click.echo(f"gatekey: {note}", err=True)
    keys, organizations = _counted(len(seed.records), "key"), _counted(len(seed.organizations), "organization")
    click.echo(f"gatekey: imported {keys} of {organizations}", err=True)
    return seed


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _demo_credentials(settings: Settings) -> tuple[str, str]:
    """Published ones where only this machine can reach the port, random ones anywhere else."""
    if not settings.in_memory:
        raise Failed("--demo needs GATEKEY_STORE_URL=memory://; a published key must not get into a real store")
    if settings.uds is not None or _is_loopback(settings.host):
        return "demo-key", "demo-secret"
    return generate_api_key("test"), generate_secret_token().reveal()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _with_demo_key(settings: Settings, seed: Seed | None, credentials: tuple[str, str]) -> Seed:
    line = orjson.dumps(
        {
            "organization_id": "demo",
            "api_key": credentials[0],
            "secret_token": credentials[1],
            "name": "demo key",
            "domains": ["@gatekey", DEMO_DOMAIN],
            "scopes": ["gatekey:verify", "orders:read"],
        }
    )
    made = read_key_lines([line], peppers=settings.make_peppers(), now=datetime.now(UTC))
    if seed is None:
        return made
    if any(record.api_key == credentials[0] for record in seed.records):
        raise Failed("--import: the file holds the demo key's api_key; leave out --demo")
    organizations = {item.organization_id: item for item in (*seed.organizations, *made.organizations)}
    return Seed(tuple(organizations.values()), (*seed.records, *made.records))


def _print_banner(settings: Settings, credentials: tuple[str, str] | None) -> None:
    base = _address(settings)
    if base is None:
        lines = [f"Gatekey listens on the Unix socket {settings.uds}"]
        base = "http://localhost"
        option = f"--unix-socket {settings.uds} "
    else:
        lines, option = [f"Gatekey listens on {base}"], ""
    if credentials is not None:
        api_key, secret = credentials
        who = f"{base}/v1/whoami"
        lines += [
            "",
            "  allowed:  " + f"curl {option}-H 'x-api-key: {api_key}' -H 'x-secret-token: {secret}' {who}",
            "  denied:   " + f"curl {option}-H 'x-api-key: {api_key}' -H 'x-secret-token: wrong' {who}",
            f"  login:    {base}{settings.login_url}"
            if settings.login_url.startswith("/")
            else f"  login:    {settings.login_url}",
            "",
            "Ctrl-C ends it.",
        ]
    click.echo("\n".join(lines))
    sys.stdout.flush()


def _address(settings: Settings) -> str | None:
    if settings.uds is not None:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - compared, for people
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{settings.port}"
