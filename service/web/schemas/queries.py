"""The queries of requests."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from backends.paging import MAX_PAGE
from backends.records import KeyFilter, KeyState
from service.auth.key_fields import SLUG
from service.web.schemas.fields import Name, Switch, Time, printable, whole_number_of
from service.web.schemas.reading import Query

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AuditQuery",
    "ExportQuery",
    "ImportQuery",
    "KeysQuery",
    "NoQuery",
    "OrganizationKeysQuery",
    "OrganizationsQuery",
    "UsageQuery",
    "WriteQuery",
]

_SPANS: Final[Mapping[str, timedelta]] = {"hour": timedelta(days=1), "day": timedelta(days=30)}
_LONGEST: Final = timedelta(days=400)

Limit = Annotated[
    int, Field(ge=1, le=MAX_PAGE, description="Items of a page, at most."), BeforeValidator(whole_number_of)
]
Cursor = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$"),
    Field(description="`next_cursor` of the page before; without it, the first page."),
]
OrganizationId = Annotated[str, StringConstraints(pattern=f"^{SLUG}$")]


class NoQuery(Query):
    """No parameters."""


class WriteQuery(Query):
    """Every write takes these."""

    wait: Annotated[Switch, Field(description="Answer once the change is in force in the process that answers.")] = (
        False
    )


class ImportQuery(WriteQuery):
    """How an import treats lines that cannot be used."""

    keep_going: Annotated[
        Switch, Field(alias="continue", description="Store the good lines of a file that has bad ones.")
    ] = False


class ExportQuery(Query):
    """Whose keys."""

    organization_id: OrganizationId | None = None


class OrganizationsQuery(Query):
    """A page."""

    limit: Limit = 100
    cursor: Cursor | None = None


class OrganizationKeysQuery(Query):
    """A page of keys, and which of them."""

    limit: Limit = 100
    cursor: Cursor | None = None
    name: Annotated[Name, AfterValidator(printable), Field(description="A part of the name, in any case.")] | None = (
        None
    )
    active: Annotated[Switch, Field(description="Only active keys, or only others.")] | None = None
    state: Literal["active", "disabled", "revoked"] | None = None
    expiring_before: Annotated[Time, Field(description="Only keys that end, and before this time.")] | None = None
    last_used_before: (
        Annotated[Time, Field(description="Only keys that were last used before this time, or never.")] | None
    ) = None

    @model_validator(mode="after")
    def _states_agree(self) -> Self:
        if not self._states():
            raise ValueError("state and active contradict each other")
        return self

    def _states(self) -> frozenset[KeyState]:
        return frozenset(
            state
            for state in KeyState
            if self.state in (None, state) and self.active in (None, state is KeyState.ACTIVE)
        )

    def where(self, organization_id: str | None) -> KeyFilter:
        """The same as a filter."""
        return KeyFilter(
            organization_id=organization_id,
            name=self.name or None,
            states=self._states(),
            expires_before=self.expiring_before,
            last_used_before=self.last_used_before,
        )


class KeysQuery(OrganizationKeysQuery):
    """The same over all organizations that the caller reaches, or one of them."""

    organization_id: OrganizationId | None = None


class UsageQuery(Query):
    """Which uses, and in which steps."""

    by: Literal["hour", "day"] = "day"
    since: Annotated[Time, Field(description="Default: a day (by hour) or 30 days (by day) before until.")] | None = (
        None
    )
    until: Annotated[Time, Field(description="Default: now.")] | None = None

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From when until when; raises ``ValueError`` where that is no span, or too long a one."""
        until = self.until or now
        since = self.since or _before(until, _SPANS[self.by])
        if not timedelta(0) < until - since <= _LONGEST:
            raise ValueError("must be earlier than until, by 400 days at most")
        return since, until


class AuditQuery(Query):
    """A page of one organization's trail."""

    organization_id: Annotated[OrganizationId, Field(description="Default: the caller's own.")] | None = None
    limit: Limit = 100
    cursor: (
        Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$"), Field(description="As in every list.")] | None
    ) = None


def _before(time: datetime, span: timedelta) -> datetime:
    try:
        return time - span
    except OverflowError:
        return time
