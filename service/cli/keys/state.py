"""``gatekey keys revoke``, ``disable``, ``enable`` and ``delete``: what cannot be undone is asked about on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backends.records import KeyState
from service.cli.documents import in_force_document, print_json
from service.cli.inputs import as_json_option, asks, confirm, yes_option
from service.cli.keys.written import Written, print_document, written
from service.cli.on_store import on_store, operator
from service.cli.output import say_in_force

if TYPE_CHECKING:
    from backends.records import KeyRecord
    from service.app import Management
    from service.manage.manager import InForce

__all__ = ["delete", "disable", "enable", "revoke"]


@click.command("revoke", short_help="Refuse a key for ever.")
@click.argument("key_id")
@yes_option
@as_json_option
def revoke(key_id: str, *, sure: bool, as_json: bool) -> None:
    """Refuse the key KEY_ID for ever; it stays in the list. On a terminal it asks before.

    \b
    Examples:
      gatekey keys revoke KEY_ID
      gatekey keys revoke KEY_ID --yes --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    _ask("Revoke {key}? This is final.", key_id, sure=sure)
    _switch(key_id, KeyState.REVOKED, "revoked for ever", as_json=as_json)


@click.command("disable", short_help="Refuse a key until it is enabled again.")
@click.argument("key_id")
@as_json_option
def disable(key_id: str, *, as_json: bool) -> None:
    """Refuse the key KEY_ID until it is enabled again.

    \b
    Examples:
      gatekey keys disable KEY_ID
      gatekey keys disable KEY_ID --json
    """  # noqa: D301 - as above
    _switch(key_id, KeyState.DISABLED, "disabled", as_json=as_json)


@click.command("enable", short_help="Let a disabled key pass again.")
@click.argument("key_id")
@as_json_option
def enable(key_id: str, *, as_json: bool) -> None:
    """Let the disabled key KEY_ID pass again. A revoked key stays revoked.

    \b
    Examples:
      gatekey keys enable KEY_ID
      gatekey keys enable KEY_ID --json
    """  # noqa: D301 - as above
    _switch(key_id, KeyState.ACTIVE, "enabled", as_json=as_json)


@click.command("delete", short_help="Forget a key.")
@click.argument("key_id")
@yes_option
@as_json_option
def delete(key_id: str, *, sure: bool, as_json: bool) -> None:
    """Forget the key KEY_ID; only the audit trail remembers it. On a terminal it asks before.

    Revoke a key rather than delete it while somebody may still ask what it was.

    \b
    Examples:
      gatekey keys delete KEY_ID
      gatekey keys delete KEY_ID --yes
    """  # noqa: D301 - as above
    _ask("Delete {key}? It cannot be brought back.", key_id, sure=sure)

    async def forget(parts: Management) -> InForce:
        await parts.manager.delete_key(operator(), key_id)
        return await parts.manager.in_force(wait=False)

    in_force = on_store(forget)
    if as_json:
        print_json({"key_id": key_id, "deleted": True, **in_force_document(in_force)})
        return
    click.echo(f"Key {key_id} is deleted.")
    say_in_force(in_force)


def _ask(question: str, key_id: str, *, sure: bool) -> None:
    """The question names the key as people know it."""
    if not asks(sure=sure):
        return

    async def find(parts: Management) -> KeyRecord:
        return await parts.manager.get_key(operator(), key_id)

    record = on_store(find)
    name = f", {record.name}" if record.name else ""
    confirm(question.format(key=f"the key {key_id} ({record.organization_id}{name})"))


def _switch(key_id: str, state: KeyState, word: str, *, as_json: bool) -> None:
    async def switch(parts: Management) -> Written:
        return await written(parts, await parts.manager.set_state(operator(), key_id, state))

    result = on_store(switch)
    if as_json:
        print_document(result)
        return
    click.echo(f"Key {key_id} is {word}.")
    say_in_force(result.in_force)
