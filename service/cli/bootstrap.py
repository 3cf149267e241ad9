"""``gatekey bootstrap``: the reserved organization and its first key, without which nobody could use the API."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from backends.errors import Conflict
from backends.records import KeyFilter, KeyState
from service.cli.common import Failed, settings_or_fail
from service.cli.inputs import as_json_option
from service.cli.keys.written import Written, print_document, print_secret, written
from service.cli.on_store import on_store, operator
from service.manage.actor import OPERATORS
from service.manage.manager import KeyDraft

if TYPE_CHECKING:
    from service.app import Management

__all__ = ["command"]

_SCOPES: Final = ("gatekey:read", "gatekey:write", "gatekey:verify")
_CLAIM: Final = "command bootstrap"
_TIME_LIMIT: Final = timedelta(minutes=1)
_NEVER_PASSES: Final = (
    "gatekey: GATEKEY_ORGANIZATION_ID names another organization, so a service with this setting refuses the operators'"
    " key; use it with a service of the same store that has no such setting"
)


@click.command("bootstrap", short_help="Make the operators' first key.")
@click.option("--again", is_flag=True, help="Make one more, although there is one already.")
@as_json_option
def command(*, again: bool, as_json: bool) -> None:
    """Make the reserved organization `gatekey` and its first key, and print its secret once.

    The key has the scopes gatekey:read, gatekey:write and gatekey:verify and is good for Gatekey's own API only. Where
    there is one already, nothing is made and the exit status is 1.

    \b
    Examples:
      gatekey bootstrap
      gatekey bootstrap --json > operator.json
      gatekey bootstrap --again
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not

    async def bootstrap(parts: Management) -> Written:
        now = parts.clock.now()
        if await parts.store.journal.claim(_CLAIM, "", now=now, until=now + _TIME_LIMIT) is not None:
            raise Failed("another `gatekey bootstrap` is under way")
        try:
            return await _first_key(parts, again=again)
        finally:
            await parts.store.journal.release(_CLAIM)

    only = settings_or_fail().organization_id
    result = on_store(bootstrap)
    if as_json:
        print_document(result)
    else:
        print_secret(result)
    if only not in (None, "", OPERATORS):
        click.echo(_NEVER_PASSES, err=True)


async def _first_key(parts: Management, *, again: bool) -> Written:
    try:
        await parts.manager.create_organization(operator(), OPERATORS, name="Operators of this installation")
    except Conflict:
        existing = None if again else await _existing(parts)
        if existing is not None:
            raise Failed(f"there is an operators' key already, {existing}; --again makes one more") from None
    draft = KeyDraft(organization_id=OPERATORS, domains=("@gatekey",), scopes=_SCOPES, name="first operator's key")
    issued = await parts.manager.create_key(operator(), draft)
    return await written(parts, issued.record, issued.secret)


async def _existing(parts: Management) -> str | None:
    """An active key with which keys can be managed; one that is revoked or has expired helps nobody."""
    where = KeyFilter(organization_id=OPERATORS, states=frozenset({KeyState.ACTIVE}))
    after: str | None = ""
    while after is not None:
        page = await parts.manager.list_keys(operator(), where, after=after)
        for record in page.items:
            if "gatekey:write" in record.scopes and (
                record.expires_at is None or record.expires_at > parts.clock.now()
            ):
                return record.key_id
        after = page.next_after
    return None
