"""``gatekey keys create``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from service.cli.inputs import a_duration, a_json_object, a_time, as_json_option
from service.cli.keys.written import Written, print_document, print_secret, written
from service.cli.on_store import on_store, operator
from service.manage.manager import KeyDraft

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from service.app import Management

__all__ = ["command"]


@click.command("create", short_help="Make a key, and show its secret once.")
@click.option("--organization", required=True, metavar="ORG", help="Who owns the key.")
@click.option("--domain", "domains", required=True, multiple=True, help="Where it may be used; may be repeated.")
@click.option("--scope", "scopes", multiple=True, help="What it may do; may be repeated.")
@click.option("--origin", "origins", multiple=True, help="Only from pages of this origin; may be repeated.")
@click.option("--network", "networks", multiple=True, metavar="CIDR", help="Only from this network; may be repeated.")
@click.option(
    "--expires-in", callback=a_duration, metavar="90d", help="How long it lives: a number and s, m, h, d or w."
)
@click.option(
    "--expires-at", callback=a_time, metavar="TIME", help="Until when it lives, such as 2027-01-31T12:00:00Z."
)
@click.option("--critical", is_flag=True, help="Never let it pass while the store does not answer.")
@click.option("--env", type=click.Choice(["live", "test"]), default="live", show_default=True, help="In the api_key.")
@click.option("--name", default="", help="Its name, for people.")
@click.option("--metadata", callback=a_json_object, default="{}", metavar="JSON", help="An object of up to 8 KiB.")
@as_json_option
def command(
    *,
    organization: str,
    domains: tuple[str, ...],
    scopes: tuple[str, ...],
    origins: tuple[str, ...],
    networks: tuple[str, ...],
    expires_in: timedelta | None,
    expires_at: datetime | None,
    critical: bool,
    env: Literal["live", "test"],
    name: str,
    metadata: str,
    as_json: bool,
) -> None:
    """Make a key of an organization, and print its secret: this once, to standard output only.

    A domain is a host (api.example.com, *.example.com), host:port, an origin, or a URL prefix (https://example.com/v1).

    \b
    Examples:
      gatekey keys create --organization acme --domain api.example.com --scope orders:read --expires-in 90d
      gatekey keys create --organization acme --domain '*.example.com' --network 192.0.2.0/24 --name batch
      gatekey keys create --organization acme --domain api.example.com --json > key.json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    if expires_in is not None and expires_at is not None:
        raise click.UsageError("--expires-in and --expires-at exclude each other")
    if expires_in is not None and not expires_in:
        raise click.BadParameter("must be more than 0", param_hint="--expires-in")

    async def make(parts: Management) -> Written:
        draft = KeyDraft(
            organization_id=organization,
            domains=domains,
            scopes=scopes,
            origins=origins,
            networks=networks,
            expires_at=expires_at if expires_in is None else parts.clock.now() + expires_in,
            critical=critical,
            env=env,
            name=name,
            metadata=metadata,
        )
        issued = await parts.manager.create_key(operator(), draft)
        return await written(parts, issued.record, issued.secret)

    result = on_store(make)
    if as_json:
        print_document(result)
    else:
        print_secret(result)
