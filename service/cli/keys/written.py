"""What is printed after a key was changed: by ``--json`` the key itself, the secret only where it is new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from service.cli.documents import in_force_document, key_document, print_json
from service.cli.output import fields

if TYPE_CHECKING:
    from datetime import datetime

    from backends.records import KeyRecord
    from service.app import Management
    from service.auth.secret import Secret
    from service.manage.manager import InForce

__all__ = ["Written", "print_document", "print_secret", "written"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A key as it was stored just now."""

    record: KeyRecord
    secret: Secret | None
    in_force: InForce
    now: datetime


async def written(parts: Management, record: KeyRecord, secret: Secret | None = None) -> Written:
    """The key, and when that counts."""
    in_force = await parts.manager.in_force(wait=False)
    return Written(record=record, secret=secret, in_force=in_force, now=parts.clock.now())


def print_document(result: Written) -> None:
    """For ``--json``; a new secret stands near the top, where somebody looks for it."""
    document = key_document(result.record, now=result.now)
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
