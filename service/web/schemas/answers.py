"""The bodies of answers. No hash of a secret has a place in them, and a secret only where it was made in this moment."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field

from backends.records import KeyState
from service.web.schemas.examples import EXAMPLE_KEY, EXAMPLE_SECRET, IN_FORCE, KEY

if TYPE_CHECKING:
    from backends.journal import AuditEntry, HourCount, LastUse
    from backends.records import KeyRecord, Organization
    from service.manage.manager import ImportReport, InForce

__all__ = [
    "AnswerModel",
    "AuditEntryView",
    "AuditPage",
    "DeletedKey",
    "ImportedLines",
    "InForceView",
    "IssuedKeyView",
    "KeyPage",
    "KeyView",
    "OrganizationPage",
    "OrganizationView",
    "Problem",
    "UsageView",
    "Verdict",
    "Whoami",
    "WrittenKey",
    "WrittenOrganization",
    "view_of_in_force",
]


class AnswerModel(BaseModel):
    """What every answer has in common: nothing can be changed once it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class InForceView(AnswerModel):
    """When a change counts."""

    here: Annotated[
        bool | None, Field(description="In the process that answers; null where nobody waited (see `wait`).")
    ]
    everywhere_by: Annotated[datetime, Field(description="In every process at the latest, whatever fails.")]
    durable: Annotated[bool, Field(description="false: fewer copies of the store confirmed it than it has.")]


class OrganizationView(AnswerModel):
    """A tenant."""

    organization_id: str
    name: str
    is_active: bool
    created_at: datetime

    @classmethod
    def of(cls, organization: Organization) -> Self:
        """As it is shown."""
        return cls(**_organization(organization))


class WrittenOrganization(OrganizationView):
    """A tenant that was changed."""

    in_force: InForceView

    @classmethod
    def after(cls, organization: Organization, in_force: InForce) -> Self:
        """As it is shown to whoever changed it."""
        return cls(**_organization(organization), in_force=view_of_in_force(in_force))


class RotationView(AnswerModel):
    """The secret from before a rotation, while it is still accepted."""

    rotated_at: datetime | None
    previous_expires_at: Annotated[datetime | None, Field(description="At the latest.")]
    grace_seconds: Annotated[
        int | None,
        Field(description="How long it lives after the new secret's first use; null once that has happened."),
    ]
    previous_secret_used_at: Annotated[datetime | None, Field(description="Last time it was accepted.")]


class KeyView(AnswerModel):
    """A key, without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [KEY]})

    key_id: str
    organization_id: str
    api_key: Annotated[str, Field(description="What clients send in x-api-key; public.", examples=[EXAMPLE_KEY])]
    name: str
    domains: tuple[str, ...]
    scopes: tuple[str, ...]
    origins: tuple[str, ...]
    networks: tuple[str, ...]
    state: Literal["active", "disabled", "revoked"]
    is_active: Annotated[bool, Field(description="Whether the state is active; an expired key may still be.")]
    critical: bool
    expires_at: datetime | None
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    version: Annotated[int, Field(description="Grows with each change; also the ETag.")]
    rotation: RotationView | None
    last_used_at: Annotated[datetime | None, Field(description="Some seconds behind.")]

    @classmethod
    def of(cls, record: KeyRecord, last: LastUse | None, *, now: datetime) -> Self:
        """As it is shown."""
        return cls(**_key(record, last, now))


class WrittenKey(KeyView):
    """A key that was changed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**KEY, "in_force": IN_FORCE}]})

    in_force: InForceView

    @classmethod
    def after(cls, record: KeyRecord, last: LastUse | None, in_force: InForce, *, now: datetime) -> Self:
        """As it is shown to whoever changed it."""
        return cls(**_key(record, last, now), in_force=view_of_in_force(in_force))


class IssuedKeyView(WrittenKey):
    """A key whose secret is new."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**KEY, "in_force": IN_FORCE, "secret_token": EXAMPLE_SECRET}]}
    )

    secret_token: Annotated[
        str | None,
        Field(
            repr=False,
            description="Shown this once; null where none was made, and in the replay of an idempotent request.",
            examples=[EXAMPLE_SECRET],
        ),
    ]


class DeletedKey(AnswerModel):
    """A key that is gone."""

    key_id: str
    in_force: InForceView


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
    digest: Annotated[str, Field(description="SHA-256 of the body, as in the audit trail.")]
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
        return cls(**{**fields, "before": orjson.loads(entry.before), "after": orjson.loads(entry.after)})


class OrganizationPage(AnswerModel):
    """A page of tenants."""

    items: tuple[OrganizationView, ...]
    next_cursor: str | None


class KeyPage(AnswerModel):
    """A page of keys; it may be shorter than asked for while there are more."""

    items: tuple[KeyView, ...]
    next_cursor: str | None


class AuditPage(AnswerModel):
    """A page of the trail, newest first."""

    items: tuple[AuditEntryView, ...]
    next_cursor: str | None


class Whoami(AnswerModel):
    """Who the credentials belong to."""

    organization_id: str
    key_id: str
    name: str
    scopes: tuple[str, ...]
    method: str


class Verdict(AnswerModel):
    """Whether somebody's credentials are valid; the last four only if they are, ``code`` only if not."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    valid: bool
    code: str | None = None
    organization_id: str | None = None
    key_id: str | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None


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


def view_of_in_force(in_force: InForce) -> InForceView:
    """As it is shown."""
    return InForceView(here=in_force.here, everywhere_by=in_force.everywhere_by, durable=in_force.durable)


def _organization(organization: Organization) -> dict[str, Any]:
    return {name: getattr(organization, name) for name in ("organization_id", "name", "is_active", "created_at")}


def _key(record: KeyRecord, last: LastUse | None, now: datetime) -> dict[str, Any]:
    same = (
        "key_id", "organization_id", "api_key", "name", "domains", "scopes", "origins", "networks", "critical",
        "expires_at", "created_at", "updated_at", "version",
    )  # fmt: skip
    return {
        **{name: getattr(record, name) for name in same},
        "state": record.state.value,
        "is_active": record.state is KeyState.ACTIVE,
        "metadata": orjson.loads(record.metadata),
        "rotation": _rotation(record, last, now),
        "last_used_at": None if last is None else last.last_used_at,
    }


def _rotation(record: KeyRecord, last: LastUse | None, now: datetime) -> RotationView | None:
    if record.previous_secret is None:
        return None
    if record.previous_expires_at is not None and record.previous_expires_at <= now:
        return None
    return RotationView(
        rotated_at=record.rotated_at,
        previous_expires_at=record.previous_expires_at,
        grace_seconds=record.previous_grace,
        previous_secret_used_at=None if last is None else last.previous_secret_used_at,
    )
