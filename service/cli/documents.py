"""Results for programs: one JSON document, the same for a key, an organization or an entry as the API gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from service.web.schemas.answers import OrganizationView, view_of_in_force
from service.web.schemas.key_answers import KeyView
from service.web.schemas.report_answers import AuditEntryView, ImportedLines

if TYPE_CHECKING:
    from datetime import datetime

    from backends.journal import AuditEntry, LastUse
    from backends.records import KeyRecord, Organization
    from service.manage.manager import ImportReport, InForce

__all__ = [
    "entry_document",
    "import_document",
    "in_force_document",
    "key_document",
    "organization_document",
    "print_json",
]


def print_json(document: Any) -> None:
    """The one document on standard output."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def organization_document(organization: Organization) -> dict[str, Any]:
    """The organization."""
    return OrganizationView.of(organization).model_dump(mode="json")


def key_document(record: KeyRecord, last: LastUse | None, *, now: datetime) -> dict[str, Any]:
    """The key without any secret."""
    return KeyView.of(record, last, now=now).model_dump(mode="json")


def in_force_document(in_force: InForce) -> dict[str, Any]:
    """When a change counts."""
    return {"in_force": view_of_in_force(in_force).model_dump(mode="json")}


def entry_document(entry: AuditEntry) -> dict[str, Any]:
    """The entry of an audit trail."""
    return AuditEntryView.of(entry).model_dump(mode="json")


def import_document(report: ImportReport, in_force: InForce | None) -> dict[str, Any]:
    """What became of an import; ``in_force`` is ``None`` where nothing was stored."""
    return ImportedLines.of(report, in_force).model_dump(mode="json")
