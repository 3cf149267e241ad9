"""What operators may see: organizations, keys, their use, the audit trail, exports, explanations.

What belongs to another organization does not exist for an actor that does not reach it: same exception, same text, same work.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from backends.errors import NotFound, StoreCorrupt
from backends.journal import HourCount
from backends.paging import check_limit
from backends.records import KeyFilter, Page
from service.manage.errors import Invalid
from service.manage.explain import explain
from service.manage.imports import NO_ORGANIZATION
from service.manage.views import export_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from datetime import datetime

    from backends.contract import KeyStore
    from backends.journal import AuditEntry, LastUse
    from backends.records import KeyRecord, Organization
    from service.auth.clock import Clock
    from service.auth.peppers import Peppers
    from service.manage.actor import Actor
    from service.manage.explain import Explanation, Question

__all__ = ["NO_KEY", "KeyReader"]

NO_KEY: Final = "there is no such key"

_PAGE: Final = 1_000
_BREATH: Final = 50  # lines, some 2 ms, after which other work of the same event loop goes on


class KeyReader:
    """The half of ``KeyManager`` that changes nothing."""

    def __init__(self, store: KeyStore, *, peppers: Peppers, clock: Clock) -> None:
        self._store = store
        self._peppers = peppers
        self._clock = clock

    async def get_organization(self, actor: Actor, organization_id: str) -> Organization:
        """The organization; ``NotFound``."""
        try:
            organization = await self._store.get_organization(organization_id)
        except NotFound:
            raise NotFound(NO_ORGANIZATION) from None
        if not actor.reaches(organization_id):
            raise NotFound(NO_ORGANIZATION)
        return organization

    async def list_organizations(self, actor: Actor, *, after: str = "", limit: int = 100) -> Page[Organization]:
        """Those that the actor reaches, by ``organization_id``."""
        if actor.reaches_everything:
            return await self._store.list_organizations(after=after, limit=limit)
        check_limit(limit)
        if actor.organization_id <= after:
            return Page((), None)
        return Page((await self.get_organization(actor, actor.organization_id),), None)

    async def get_key(self, actor: Actor, key_id: str) -> KeyRecord:
        """The key; ``NotFound``. ``StoreCorrupt`` for one that cannot be decoded, told to operators only."""
        try:
            record = await self._store.get(key_id)
        except NotFound:
            raise NotFound(NO_KEY) from None
        except StoreCorrupt:
            if actor.reaches_everything:
                raise
            raise NotFound(NO_KEY) from None  # nobody can say whose it is
        if not actor.reaches(record.organization_id):
            raise NotFound(NO_KEY)
        return record

    async def list_keys(self, actor: Actor, where: KeyFilter, *, after: str = "", limit: int = 100) -> Page[KeyRecord]:
        """Keys that match, of organizations that the actor reaches; ``NotFound`` for another one in ``where``."""
        organization_id = await self._whose(actor, where.organization_id)
        return await self._store.list_keys(
            where=replace(where, organization_id=organization_id), after=after, limit=limit
        )

    async def last_use(self, actor: Actor, records: Iterable[KeyRecord]) -> Mapping[str, LastUse]:
        """When they were last used, by ``key_id``; those that never were are left out."""
        return await self._store.journal.last_use(
            [record.key_id for record in records if actor.reaches(record.organization_id)]
        )

    async def usage(
        self, actor: Actor, key_id: str, *, since: datetime, until: datetime, by: Literal["hour", "day"]
    ) -> tuple[HourCount, ...]:
        """Allowed requests by hour or UTC day (then ``hour`` is the day's start), only where there are any.

        ``NotFound``, ``Invalid``.
        """
        for field, value in (("since", since), ("until", until)):
            if value.tzinfo is None:
                raise Invalid(field, "needs a time zone, for instance a final Z")
        if since >= until:
            raise Invalid("since", "must be before until")
        await self.get_key(actor, key_id)
        hours = await self._store.journal.usage(key_id, since=since, until=until)
        return hours if by == "hour" else _by_day(hours)

    async def export(self, actor: Actor, organization_id: str | None = None) -> AsyncIterator[bytes]:
        """One line of JSON for each key, of one organization or of all that the actor reaches; hashes only.

        Raises ``NotFound`` at its first step. With the same peppers the lines can be imported again.
        """
        where = KeyFilter(organization_id=await self._whose(actor, organization_id))
        after: str | None = ""
        while after is not None:
            page = await self._store.list_keys(where=where, after=after, limit=_PAGE)
            for number, record in enumerate(page.items):
                if number % _BREATH == 0:
                    await asyncio.sleep(0)
                yield export_line(record, self._clock.now())
            after = page.next_after

    async def list_audit(
        self, actor: Actor, organization_id: str | None = None, *, after: str = "", limit: int = 100
    ) -> Page[AuditEntry]:
        """The organization's audit entries, newest first; the actor's own organization's without one. ``NotFound``."""
        if organization_id is None:
            organization_id = actor.organization_id
        if organization_id != actor.organization_id:  # one's own chain is there even where nobody made the organization
            await self.get_organization(actor, organization_id)
        return await self._store.journal.list_audit(organization_id, after=after, limit=limit, newest_first=True)

    async def explain(self, actor: Actor, question: Question) -> Explanation:
        """Why such a request is or would be denied, step by step; a key that the actor does not reach is unknown."""
        return await explain(
            self._store,
            question,
            peppers=self._peppers,
            wall=self._clock.wall(),
            knows=lambda record: actor.reaches(record.organization_id),
        )

    async def _whose(self, actor: Actor, organization_id: str | None) -> str | None:
        """The organization that a listing is restricted to; ``None`` for all of them."""
        if organization_id is None:
            return None if actor.reaches_everything else actor.organization_id
        await self.get_organization(actor, organization_id)
        return organization_id


def _by_day(hours: Iterable[HourCount]) -> tuple[HourCount, ...]:
    days: dict[datetime, int] = {}
    for item in hours:
        day = item.hour.replace(hour=0)
        days[day] = days.get(day, 0) + item.count
    return tuple(HourCount(day, count) for day, count in days.items())
