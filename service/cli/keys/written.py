"""What is printed after a key was changed: by ``--json`` the key itself, the secret only where it is new."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from backends.errors import StoreError
from service.cli.documents import in_force_document, key_document, print_json
from service.cli.on_store import operator
from service.cli.output import fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from backends.journal import LastUse
    from backends.records import KeyRecord
    from service.app import Management
    from service.auth.secret import Secret
    from service.manage.manager import InForce

__all__ = ["Written", "print_document", "print_secret", "written"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A key as it was stored just now."""

    record: KeyRecord
    last: LastUse | None
    secret: Secret | None
    in_force: InForce
    now: datetime


async def written(parts: Management, record: KeyRecord, secret: Secret | None = None) -> Written:
    """The key, and when that counts; a last use that cannot be read must not lose what may be the only secret."""
    last: Mapping[str, LastUse] = {}
    with suppress(StoreError):
        last = await parts.manager.last_use(operator(), [record])
    in_force = await parts.manager.in_force(wait=False)
    return Written(record=record, last=last.get(record.key_id), secret=secret, in_force=in_force, now=parts.clock.now())


def print_document(result: Written) -> None:
    """For ``--json``; a new secret stands near the top, where somebody looks for it."""
    document = key_document(result.record, result.last, now=result.now)
    first = {name: document.pop(name) for name in ("key_id", "organization_id", "api_key")}
    new = {} if result.secret is None else {"secret_token": result.secret.reveal()}
    print_json({**first, **new, **document, **in_force_document(result.in_force)})


def print_secret(result: Written) -> None:
    """For people, this once."""
    record = result.record
    fields(
        [
            ("key_id", record.key_id),
            ("organization", record.organization_id),
            ("api_key", record.api_key),
            ("secret_token", "-" if result.secret is None else result.secret.reveal()),
        ]
    )
    click.echo("The secret is shown this once and kept nowhere: put it where it is needed now.")
