"""Random sequences of calls, against a model so plain that it can be trusted; few names, so that they collide."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from backends.errors import Conflict, NotFound, StoreError, VersionConflict
from backends.journal import UsageCount
from backends.records import FoundKey, KeyFilter, KeyRecord, KeyState, Organization, SecretHash
from tests.support.clock import START
from tests.support.keys import in_seconds, make_key, make_organization
from tests.support.stores import KINDS, WRAPPERS

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import datetime

    from backends.contract import KeyStore
    from tests.support.stores import StoreKind

HANDLES = st.sampled_from(["a", "b", "B", "c"])
KEY_IDS = st.sampled_from(["key_1", "key_2", "key_3", "key_A"])
OWNERS = st.sampled_from(["acme", "other", "nobody"])
STATES = st.sampled_from(list(KeyState))
TIMES = st.integers(0, 5).map(in_seconds)
HASHES = st.sampled_from([SecretHash(version, bytes(32)) for version in (1, 2, 3)])
RECORDS = st.builds(
    make_key,
    api_key=HANDLES,
    key_id=KEY_IDS,
    organization_id=OWNERS,
    state=STATES,
    expires_at=st.none() | TIMES,
    name=st.sampled_from(["", "n", "N2"]),
    secret=HASHES,
    previous_secret=st.none() | HASHES,
    previous_grace=st.sampled_from([None, 0, 60]),
)
FILTERS = st.builds(
    KeyFilter,
    organization_id=st.none() | OWNERS,
    name=st.sampled_from([None, None, "n", "2"]),
    states=st.just(frozenset(KeyState)) | st.frozensets(STATES),
    expires_before=st.none() | TIMES,
    last_used_before=st.none() | TIMES,
)


class Model:
    """What a store must do, in the fewest words; ``None`` or an error's type where a call fails."""

    def __init__(self) -> None:
        self.organizations: dict[str, Organization] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.last_uses: dict[str, datetime] = {}

    def by_handle(self, api_key: str) -> KeyRecord | None:
        return next((record for record in self.keys.values() if record.api_key == api_key), None)

    def find(self, api_key: str) -> FoundKey | None:
        record = self.by_handle(api_key)
        return None if record is None else FoundKey(record, self.organizations[record.organization_id].is_active)

    def add(self, record: KeyRecord) -> type[StoreError] | None:
        if record.organization_id not in self.organizations:
            return NotFound
        if record.key_id in self.keys or self.by_handle(record.api_key):
            return Conflict
        self.keys[record.key_id] = record
        return None

    def add_many(self, organizations: list[Organization], records: list[KeyRecord]) -> int | type[StoreError]:
        before = dict(self.organizations), dict(self.keys)
        for organization in organizations:
            self.organizations.setdefault(organization.organization_id, organization)
        for record in records:
            known = self.by_handle(record.api_key)
            if known is not None and known.organization_id == record.organization_id:
                continue
            error = self.add(record)
            if error is not None:
                self.organizations, self.keys = before
                return error
        return len(self.keys) - len(before[1])

    def set_state(self, key_id: str, state: KeyState, now: Any) -> bool | type[StoreError]:
        record = self.keys.get(key_id)
        if record is None:
            return NotFound
        if record.state is state:
            return False
        if record.state is KeyState.REVOKED:
            return Conflict
        self.keys[key_id] = replace(record, state=state, updated_at=now, version=record.version + 1)
        return True

    def rehash(self, key_id: str, old: SecretHash, new: SecretHash) -> bool:
        record = self.keys.get(key_id)
        if record is None or old not in (record.secret, record.previous_secret):
            return False
        secrets = [new if secret == old else secret for secret in (record.secret, record.previous_secret)]
        self.keys[key_id] = replace(record, secret=secrets[0] or record.secret, previous_secret=secrets[1])
        return True

    def matches(self, record: KeyRecord, where: KeyFilter) -> bool:
        last_use = self.last_uses.get(record.key_id)
        return all(
            [
                where.organization_id in (None, record.organization_id),
                where.name is None or where.name.lower() in record.name.lower(),  # all are ASCII here
                record.state in where.states,
                where.expires_before is None
                or (record.expires_at is not None and record.expires_at < where.expires_before),
                where.last_used_before is None or last_use is None or last_use < where.last_used_before,
            ]
        )

    def replace(self, record: KeyRecord, expected_version: int) -> KeyRecord | set[type[StoreError]]:
        current = self.keys.get(record.key_id)
        if current is None:
            return {NotFound}
        errors: set[type[StoreError]] = set()
        if current.version != expected_version:
            errors.add(VersionConflict)
        if (record.api_key, record.organization_id) != (current.api_key, current.organization_id):
            errors.add(Conflict)
        if current.state is KeyState.REVOKED and record.state is not KeyState.REVOKED:
            errors.add(Conflict)
        if not errors:
            self.keys[record.key_id] = replace(record, version=current.version + 1)
        return errors or self.keys[record.key_id]


class StoreMachine(RuleBasedStateMachine):
    """Every call goes to the store and to the model; their answers must be the same."""

    def __init__(self, kind: StoreKind) -> None:
        super().__init__()
        self.model = Model()
        self.runner = asyncio.Runner()
        self.exits = AsyncExitStack()
        self.store = self.runner.run(self.exits.enter_async_context(kind.make(f"gk_model_{id(self)}"))).store
        self.runner.run(self.store.open())
        self.add_organization("acme")

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.run(self.exits.aclose())
        self.runner.close()

    def answer(self, call: Coroutine[Any, Any, object]) -> object:
        """What the call returned, or the type of error it raised."""
        try:
            return self.runner.run(call)
        except StoreError as error:
            return type(error)

    @rule(organization_id=OWNERS.filter(lambda name: name != "nobody"))
    def add_organization(self, organization_id: str) -> None:
        organization = make_organization(organization_id)
        expected = Conflict if organization_id in self.model.organizations else None
        self.model.organizations.setdefault(organization_id, organization)
        assert self.answer(self.store.add_organization(organization)) == expected

    @rule(organization_id=OWNERS, is_active=st.booleans(), now=TIMES)
    def switch_organization(self, organization_id: str, *, is_active: bool, now: Any) -> None:
        current = self.model.organizations.get(organization_id)
        expected: object = NotFound if current is None else current.is_active is not is_active
        if current is not None:
            self.model.organizations[organization_id] = replace(current, is_active=is_active)
        call = self.store.set_organization_active(organization_id, is_active, now=now)
        assert self.answer(call) == expected

    @rule(record=RECORDS)
    def add(self, record: KeyRecord) -> None:
        assert self.answer(self.store.add(record)) == self.model.add(record)

    @rule(owners=st.lists(OWNERS, max_size=2, unique=True), records=st.lists(RECORDS, max_size=4))
    def add_many(self, owners: list[str], records: list[KeyRecord]) -> None:
        organizations = [make_organization(name) for name in owners if name != "nobody"]
        expected = self.model.add_many(organizations, records)
        assert self.answer(self.store.add_many(organizations, records)) == expected

    @rule(key_id=KEY_IDS, state=STATES, now=TIMES)
    def set_state(self, key_id: str, state: KeyState, now: Any) -> None:
        expected = self.model.set_state(key_id, state, now)
        assert self.answer(self.store.set_state(key_id, state, now=now)) == expected

    @rule(record=RECORDS, key_id=KEY_IDS, same_identity=st.booleans(), version_error=st.sampled_from([0, 0, 0, -1, 1]))
    def replace(self, record: KeyRecord, key_id: str, *, same_identity: bool, version_error: int) -> None:
        current = self.model.keys.get(key_id)
        record = replace(record, key_id=key_id)
        if current is not None and same_identity:
            record = replace(record, api_key=current.api_key, organization_id=current.organization_id)
        version = (1 if current is None else current.version) + version_error
        expected = self.model.replace(record, version)
        answer = self.answer(self.store.replace(record, expected_version=version))
        assert answer in expected if isinstance(expected, set) else answer == expected

    @rule(key_id=KEY_IDS)
    def delete(self, key_id: str) -> None:
        expected = self.model.keys.pop(key_id, None) is not None
        assert self.answer(self.store.delete(key_id)) is expected

    @rule()
    def open_again(self) -> None:
        self.runner.run(self.store.close())
        self.runner.run(self.store.open())

    @rule(key_id=KEY_IDS)
    def get(self, key_id: str) -> None:
        assert self.answer(self.store.get(key_id)) == self.model.keys.get(key_id, NotFound)

    @rule(key_id=KEY_IDS, old=HASHES, new=HASHES)
    def rehash(self, key_id: str, old: SecretHash, new: SecretHash) -> None:
        assert self.answer(self.store.rehash(key_id, old=old, new=new)) is self.model.rehash(key_id, old, new)

    @rule(key_id=KEY_IDS, at=TIMES)
    def use(self, key_id: str, at: datetime) -> None:
        self.model.last_uses[key_id] = max(at, self.model.last_uses.get(key_id, at))
        used = UsageCount(key_id=key_id, hour=START, count=1, last_used_at=at)
        self.runner.run(self.store.journal.add_usage([used]))

    @rule(where=FILTERS, after=st.just("") | KEY_IDS, limit=st.integers(1, 5))
    def list_keys(self, where: KeyFilter, after: str, limit: int) -> None:
        expected = [
            self.model.keys[key_id]
            for key_id in sorted(self.model.keys)
            if key_id > after and self.model.matches(self.model.keys[key_id], where)
        ]
        found, cursor = self.runner.run(some_keys(self.store, where, after, limit))
        assert found == expected[: len(found)]
        assert len(found) == len(expected) or (len(found) >= limit and cursor)

    @rule(now=TIMES)
    def count_keys(self, now: Any) -> None:
        counts = dict.fromkeys(["active", "disabled", "revoked", "expired"], 0)
        for record in self.model.keys.values():
            is_over = record.expires_at is not None and record.expires_at <= now
            counts["expired" if is_over and record.state is KeyState.ACTIVE else record.state] += 1
        assert dict(self.runner.run(self.store.count_keys(now=now))) == counts

    @rule(now=TIMES, until=st.lists(TIMES, max_size=3))
    def count_expiring(self, now: Any, until: Any) -> None:
        active = [record for record in self.model.keys.values() if record.state is KeyState.ACTIVE]
        ends = [record.expires_at for record in active if record.expires_at is not None and record.expires_at > now]
        expected = tuple(sum(end <= moment for end in ends) for moment in until)
        assert self.runner.run(self.store.count_expiring(now=now, until=until)) == expected

    @invariant()
    def every_look_up_agrees(self) -> None:
        async def found() -> list[FoundKey | None]:
            return [await self.store.find(api_key) for api_key in ("a", "b", "B", "c")]

        assert self.runner.run(found()) == [self.model.find(api_key) for api_key in ("a", "b", "B", "c")]


async def some_keys(store: KeyStore, where: KeyFilter, after: str, limit: int) -> tuple[list[KeyRecord], str | None]:
    """Pages until there are ``limit`` keys or no more pages: one page may be shorter than asked."""
    found: list[KeyRecord] = []
    cursor: str | None = after
    while cursor is not None and len(found) < limit:
        page = await store.list_keys(where=where, after=cursor, limit=limit)
        assert len(page.items) <= limit
        assert page.next_after is None or page.next_after > cursor
        found += page.items
        cursor = page.next_after
    return found, cursor


def test_the_store_does_what_the_model_does(kind: StoreKind) -> None:
    """Whatever is called in whatever order."""

    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(kind)

    examples = 25 if kind in (KINDS["memory"], *WRAPPERS.values()) else 8  # a disk and a network take their time
    run_state_machine_as_test(Machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None))
