"""The management on a real memory store, a fake clock, and faults that a test can put at any of the store's calls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from backends.errors import StoreUnavailable
from backends.memory import MemoryKeyStore
from backends.memory_journal import MemoryJournal
from service.manage.actor import Actor
from service.manage.audit import AuditTrail
from service.manage.manager import IssuedKey, KeyDraft, KeyManager
from tests.support import leaks
from tests.support.clock import FakeClock
from tests.support.keys import DOMAIN, PEPPERS, make_organization

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence

    from backends.journal import AuditEntry, AuditHead, UsageCount
    from backends.records import FoundKey, KeyRecord, Organization, Page, SecretHash

DEADLINE = 20.0  # seconds; far beyond what any of it takes
ALL = ("gatekey:read", "gatekey:verify", "gatekey:write")
COMMAND = Actor(organization_id="gatekey", name="command:root", scopes=(), unlimited=True)
OPERATOR = Actor(
    organization_id="gatekey", name="key:key_op", scopes=ALL, client_ip="192.0.2.9", request_id="request-one"
)
LIMITED = Actor(organization_id="gatekey", name="key:key_limited", scopes=("gatekey:read", "gatekey:write"))
ACME = Actor(organization_id="acme", name="key:key_acme", scopes=("gatekey:read", "gatekey:write"))
GLOBEX = Actor(organization_id="globex", name="key:key_globex", scopes=ALL)


class Faults:
    """What happens at the calls of these names: an error instead, an error afterwards, or something else in between."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.unanswered: set[str] = set()
        """Done, but the answer is lost."""
        self.before: dict[str, Callable[[], Awaitable[Any]]] = {}
        """Once."""
        self.after: dict[str, Callable[[], Awaitable[Any]]] = {}
        """Once, when it was done already."""
        self.calls: dict[str, int] = {}

    async def around(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        self.calls[name] = self.calls.get(name, 0) + 1
        before = self.before.pop(name, None)
        if before is not None:
            await before()
        if name in self.errors:
            raise self.errors[name]
        result = await call()
        after = self.after.pop(name, None)
        if after is not None:
            await after()
        if name in self.unanswered:
            raise StoreUnavailable("the answer is lost")
        return result

    def stop(self, *names: str) -> None:
        self.errors.update({name: StoreUnavailable("the store is down") for name in names})


class FaultyJournal(MemoryJournal):
    def __init__(self, faults: Faults, is_open: Callable[[], bool]) -> None:
        super().__init__(is_open)
        self._faults = faults

    async def append_audit(self, entry: AuditEntry) -> None:
        await self._faults.around("append_audit", partial(super().append_audit, entry))

    async def audit_head(self, organization_id: str) -> AuditHead:
        head: AuditHead = await self._faults.around("audit_head", partial(super().audit_head, organization_id))
        return head

    async def list_audit(self, organization_id: str, **options: Any) -> Page[AuditEntry]:
        page: Page[AuditEntry] = await self._faults.around(
            "list_audit", partial(super().list_audit, organization_id, **options)
        )
        return page

    async def add_usage(self, batch: Sequence[UsageCount]) -> None:
        await self._faults.around("add_usage", partial(super().add_usage, batch))

    async def forget_uses(self, key_id: str) -> None:
        await self._faults.around("forget_uses", partial(super().forget_uses, key_id))

    async def prune(self, **options: Any) -> int:
        count: int = await self._faults.around("prune", partial(super().prune, **options))
        return count


class FaultyStore(MemoryKeyStore):
    def __init__(self) -> None:
        super().__init__()
        self.faults = Faults()
        self._journal: FaultyJournal = FaultyJournal(self.faults, lambda: self._open)

    async def find(self, api_key: str) -> FoundKey | None:
        found: FoundKey | None = await self.faults.around("find", partial(super().find, api_key))
        return found

    async def get(self, key_id: str) -> KeyRecord:
        record: KeyRecord = await self.faults.around("get", partial(super().get, key_id))
        return record

    async def add(self, record: KeyRecord) -> None:
        await self.faults.around("add", partial(super().add, record))

    async def add_many(self, organizations: Iterable[Organization], records: Iterable[KeyRecord]) -> int:
        count: int = await self.faults.around("add_many", partial(super().add_many, organizations, records))
        return count

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        stored: KeyRecord = await self.faults.around(
            "replace", partial(super().replace, record, expected_version=expected_version)
        )
        return stored

    async def delete(self, key_id: str) -> bool:
        done: bool = await self.faults.around("delete", partial(super().delete, key_id))
        return done

    async def rehash(self, key_id: str, *, old: SecretHash, new: SecretHash) -> bool:
        done: bool = await self.faults.around("rehash", partial(super().rehash, key_id, old=old, new=new))
        return done

    async def replicate(self) -> bool:
        done: bool = await self.faults.around("replicate", super().replicate)
        return done


class World:
    """``events`` is what was counted; ``journal`` the store's own."""

    def __init__(self) -> None:
        self.store = FaultyStore()
        self.faults = self.store.faults
        self.journal = self.store.journal
        self.clock = FakeClock()
        self.audit = AuditTrail(self.journal, clock=self.clock)
        self.events: list[tuple[str, int]] = []
        self.manager = KeyManager(
            self.store,
            peppers=PEPPERS,
            clock=self.clock,
            audit=self.audit,
            count=lambda event, number: self.events.append((event, number)),
        )

    async def key(self, organization_id: str = "acme", **fields: Any) -> IssuedKey:
        """A key made by a command, of which nobody is told."""
        draft = KeyDraft(**{"organization_id": organization_id, "domains": (DOMAIN,), **fields})
        issued = await self.manager.create_key(COMMAND, draft)
        leaks.register(issued.secret.reveal())
        self.events.clear()
        return issued

    async def entries(self, organization_id: str = "acme") -> list[AuditEntry]:
        """The organization's audit trail, oldest first."""
        return list((await self.journal.list_audit(organization_id, limit=1000)).items)

    async def actions(self, organization_id: str = "acme") -> list[str]:
        return [entry.action for entry in await self.entries(organization_id)]


async def new_world() -> World:
    """With the organizations ``acme``, ``globex`` and ``gatekey``, and no key."""
    world = World()
    await world.store.open()
    for organization_id in ("acme", "globex", "gatekey"):
        await world.store.add_organization(make_organization(organization_id))
    return world


@asynccontextmanager
async def running(run: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[asyncio.Task[None]]:
    """While inside, the background work goes on; afterwards it has ended by cancellation."""
    task = asyncio.create_task(run())
    try:
        yield task
    finally:
        ended = task.done()
        task.cancel()
        await asyncio.wait({task})
        assert not ended, task


async def until(condition: Callable[[], object], what: str) -> None:
    """Return when the condition holds; fails the test, naming ``what``, when it does not."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - what is waited for also happens on other threads
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"gave up waiting until {what}") from None
