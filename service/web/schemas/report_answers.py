"""The bodies of answers about what keys did and what was done to them, imports, and failures."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import orjson
from pydantic import ConfigDict, Field

from service.web.schemas.answers import AnswerModel, InForceView, view_of_in_force

if TYPE_CHECKING:
    from backends.journal import AuditEntry, HourCount
    from service.manage.manager import ImportReport, InForce

__all__ = ["AuditEntryView", "AuditPage", "ImportedLines", "Problem", "UsageView"]


class LineProblem(AnswerModel):
    """A line that was refused, counted from 1."""

    line: int
    problem: str


class ImportedLines(AnswerModel):
    """What became of an import."""

    created: int
    unchanged: int
    refused: int
    lines: Annotated[tuple[LineProblem, ...], Field(description="The first 1,000 refused lines.")]
    notes: tuple[str, ...]
    digest: Annotated[str, Field(description="Of the body, as in the audit trail; made with the pepper.")]
    in_force: InForceView | None

    @classmethod
    def of(cls, report: ImportReport, in_force: InForce | None) -> Self:
        """As it is shown; ``in_force`` is ``None`` where nothing was stored."""
        return cls(
            created=report.created,
            unchanged=report.unchanged,
            refused=report.refused,
            lines=tuple(LineProblem(line=item.line, problem=item.problem) for item in report.reports),
            notes=report.notes,
            digest=report.digest,
            in_force=None if in_force is None else view_of_in_force(in_force),
        )


class UsageCountView(AnswerModel):
    """Allowed requests in the hour or UTC day that begins at ``start``."""

    start: datetime
    count: int


class UsageView(AnswerModel):
    """How much a key is used; steps without a request are left out."""

    key_id: str
    by: Literal["hour", "day"]
    since: datetime
    until: datetime
    total: int
    items: tuple[UsageCountView, ...]

    @classmethod
    def of(cls, counts: tuple[HourCount, ...], **fields: Any) -> Self:
        """As it is shown."""
        items = tuple(UsageCountView(start=item.hour, count=item.count) for item in counts)
        return cls(**fields, total=sum(item.count for item in counts), items=items)


class AuditEntryView(AnswerModel):
    """Who did what, when, from where. Each entry's hash covers the one before."""

    organization_id: str
    seq: int
    at: datetime
    actor: str
    actor_organization_id: str
    action: str
    target: str
    client_ip: str
    request_id: str
    before: Any
    after: Any
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """As it is shown."""
        fields = {name: getattr(entry, name) for name in entry.__slots__}
        return cls(**{**fields, "before": _shown(entry.before), "after": _shown(entry.after)})


def _shown(text: str) -> Any:
    """What somebody spoilt by hand is shown as the text that it is: `gatekey audit verify` says that it was changed."""
    try:
        found = orjson.loads(text)
        orjson.dumps([[[[found]]]])  # raises TypeError where it nests too deep to be shown inside an answer
    except (ValueError, TypeError):
        return text
    return found


class AuditPage(AnswerModel):
    """A page of the trail, newest first."""

    items: tuple[AuditEntryView, ...]
    next_cursor: str | None


class FieldProblem(AnswerModel):
    """One field that is wrong."""

    field: str
    problem: str


class Problem(AnswerModel):
    """Every failed request (RFC 9457)."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False, extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Field(description="For programs; see the list of codes.")]
    request_id: str
    message: Annotated[str, Field(description="The same as detail, for clients of older handlers.")]
    errors: Annotated[tuple[FieldProblem, ...], Field(description="Which fields are wrong (422).")] | None = None
    report: Annotated[ImportedLines, Field(description="Of an import that was refused as a whole (422).")] | None = None
