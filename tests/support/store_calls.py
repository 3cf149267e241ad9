"""One call of every method of the contract, for tests that hold for all of them alike.

The calls are made on a store with the organization ``acme``; those that change something change things of their own, so
that they can be made at once, in any order, and looked at one by one afterwards. ``prepare`` puts there what they need.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backends.errors import NotFound
from backends.journal import Claim, UsageCount
from backends.records import FoundKey, KeyFilter, KeyState
from tests.support.clock import START
from tests.support.keys import PEPPERS, in_seconds, make_entry, make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backends.contract import KeyStore

SOON = in_seconds(60)
OTHER_HASH = PEPPERS.hash("secret-after-rotation-7c2f")
ONE = FoundKey(make_key("one"), organization_is_active=True)

READS: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    "ping": lambda store: store.ping(),
    "find": lambda store: store.find("one"),
    "get": lambda store: store.get("key_one"),
    "list_keys": lambda store: store.list_keys(),
    "list_keys, filtered": lambda store: store.list_keys(where=KeyFilter(name="x", last_used_before=START)),
    "count_keys": lambda store: store.count_keys(now=START),
    "count_expiring": lambda store: store.count_expiring(now=START, until=[SOON]),
    "get_organization": lambda store: store.get_organization("acme"),
    "list_organizations": lambda store: store.list_organizations(),
    "journal.usage": lambda store: store.journal.usage("key_one", since=START, until=SOON),
    "journal.last_use": lambda store: store.journal.last_use(["key_one"]),
    "journal.audit_head": lambda store: store.journal.audit_head("acme"),
    "journal.list_audit": lambda store: store.journal.list_audit("acme"),
    "journal.audit_chains": lambda store: store.journal.audit_chains(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A call that changes something, what it returns, and how to see whether it happened: before or after, never between."""

    call: Callable[[KeyStore], Awaitable[object]]
    answer: object
    look: Callable[[KeyStore], Awaitable[object]]
    before: object
    after: object


async def _key(store: KeyStore, key_id: str) -> object:
    try:
        return await store.get(key_id)
    except NotFound:
        return None


async def _organizations(store: KeyStore, organization_id: str) -> object:
    found = (await store.list_organizations(limit=1_000)).items
    return [item.is_active for item in found if item.organization_id == organization_id]


async def _imported(store: KeyStore) -> object:
    keys = (await store.list_keys(where=KeyFilter(organization_id="imported"), limit=1_000)).items
    return len(keys), await _organizations(store, "imported")


async def _usage(store: KeyStore) -> object:
    hours = [await store.journal.usage(key_id, since=START, until=SOON) for key_id in ("key_used", "key_used2")]
    last = await store.journal.last_use(["key_used", "key_used2"])
    return [[hour.count for hour in found] for found in hours], len(last)


async def _uses(store: KeyStore, key_id: str) -> object:
    hours = await store.journal.usage(key_id, since=START, until=SOON)
    return [hour.count for hour in hours], len(await store.journal.last_use([key_id]))


async def _audit(store: KeyStore) -> object:
    head = await store.journal.audit_head("trail")
    return head.seq, [entry.seq for entry in (await store.journal.list_audit("trail")).items]


async def _pruned(store: KeyStore) -> object:
    head = await store.journal.audit_head("pruned")
    return head.pruned_seq, [entry.seq for entry in (await store.journal.list_audit("pruned")).items]


async def _claim(store: KeyStore, name: str) -> object:
    """Whose it is; looking for it would take it, so it is taken until a time that is over."""
    return await store.journal.claim(name, "looked at", now=in_seconds(1), until=in_seconds(1))


WRITES: dict[str, Write] = {
    "add": Write(
        call=lambda store: store.add(make_key("added")),
        answer=None,
        look=lambda store: _key(store, "key_added"),
        before=None,
        after=make_key("added"),
    ),
    "add_many": Write(
        call=lambda store: store.add_many(
            [make_organization("imported")],
            [make_key(f"imported-{number}", organization_id="imported") for number in range(20)],
        ),
        answer=20,
        look=_imported,
        before=(0, []),
        after=(20, [True]),
    ),
    "replace": Write(
        call=lambda store: store.replace(make_key("replaced", name="changed"), expected_version=1),
        answer=make_key("replaced", name="changed", version=2),
        look=lambda store: _key(store, "key_replaced"),
        before=make_key("replaced"),
        after=make_key("replaced", name="changed", version=2),
    ),
    "set_state": Write(
        call=lambda store: store.set_state("key_switched", KeyState.REVOKED, now=SOON),
        answer=True,
        look=lambda store: _key(store, "key_switched"),
        before=make_key("switched"),
        after=make_key("switched", state=KeyState.REVOKED, updated_at=SOON, version=2),
    ),
    "rehash": Write(
        call=lambda store: store.rehash("key_rehashed", old=make_key("rehashed").secret, new=OTHER_HASH),
        answer=True,
        look=lambda store: _key(store, "key_rehashed"),
        before=make_key("rehashed"),
        after=replace(make_key("rehashed"), secret=OTHER_HASH),
    ),
    "delete": Write(
        call=lambda store: store.delete("key_deleted"),
        answer=True,
        look=lambda store: _key(store, "key_deleted"),
        before=make_key("deleted"),
        after=None,
    ),
    "add_organization": Write(
        call=lambda store: store.add_organization(make_organization("founded")),
        answer=None,
        look=lambda store: _organizations(store, "founded"),
        before=[],
        after=[True],
    ),
    "set_organization_active": Write(
        call=lambda store: store.set_organization_active("shut", is_active=False, now=START),
        answer=True,
        look=lambda store: _organizations(store, "shut"),
        before=[True],
        after=[False],
    ),
    "journal.add_usage": Write(
        call=lambda store: store.journal.add_usage(
            [UsageCount(key_id=key_id, hour=START, count=3, last_used_at=START) for key_id in ("key_used", "key_used2")]
        ),
        answer=None,
        look=_usage,
        before=([[], []], 0),
        after=([[3], [3]], 2),
    ),
    "journal.forget_uses": Write(
        call=lambda store: store.journal.forget_uses("key_forgotten"),
        answer=None,
        look=lambda store: _uses(store, "key_forgotten"),
        before=([3], 1),
        after=([], 0),
    ),
    "journal.append_audit": Write(
        call=lambda store: store.journal.append_audit(make_entry(1, organization_id="trail", at=in_seconds(9_999))),
        answer=None,
        look=_audit,
        before=(0, []),
        after=(1, [1]),
    ),
    "journal.claim": Write(
        call=lambda store: store.journal.claim("claimed", "fingerprint", now=START, until=SOON),
        answer=None,
        look=lambda store: _claim(store, "claimed"),
        before=None,
        after=Claim("fingerprint", None),
    ),
    "journal.settle": Write(
        call=lambda store: store.journal.settle("settled", "answer", until=SOON),
        answer=None,
        look=lambda store: _claim(store, "settled"),
        before=Claim("fingerprint", None),
        after=Claim("fingerprint", "answer"),
    ),
    "journal.release": Write(
        call=lambda store: store.journal.release("released"),
        answer=None,
        look=lambda store: _claim(store, "released"),
        before=Claim("fingerprint", None),
        after=None,
    ),
    "journal.prune": Write(
        call=lambda store: store.journal.prune(now=START, audit_before=in_seconds(3)),
        answer=2,
        look=_pruned,
        before=(0, [1, 2, 3]),
        after=(2, [3]),
    ),
}

CALLS: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    **READS,
    **{name: write.call for name, write in WRITES.items()},
    "barrier": lambda store: store.barrier(),
    "replicate": lambda store: store.replicate(),
}
"""Every method but ``open``, ``close``, ``migrate`` and ``watch``."""


async def prepare(store: KeyStore) -> None:
    """What the writes change."""
    for name in ("one", "two", "replaced", "switched", "rehashed", "deleted"):
        await store.add(make_key(name))
    await store.journal.add_usage([UsageCount(key_id="key_forgotten", hour=START, count=3, last_used_at=START)])
    await store.add_organization(make_organization("shut"))
    for seq in (1, 2, 3):
        await store.journal.append_audit(make_entry(seq, organization_id="pruned"))
    for name in ("settled", "released"):
        await store.journal.claim(name, "fingerprint", now=START, until=SOON)
