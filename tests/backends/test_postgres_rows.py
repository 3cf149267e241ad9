"""Rows that somebody edited by hand into nonsense, and how the server goes about a look-up."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import StoreCorrupt
from backends.postgres import PostgresKeyStore
from backends.postgres_queries import Queries
from backends.records import FoundKey
from tests.support.clock import START
from tests.support.keys import in_seconds, make_entry, make_key, make_organization
from tests.support.postgres_kind import PostgresKind, psql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEYS = 10_000


@pytest.fixture
async def schema(kind: PostgresKind) -> AsyncIterator[str]:
    """A migrated schema with the keys ``one`` and ``two``, of which nothing is checked any more."""
    name = f"gk{uuid.uuid4().hex}"
    async with kind.make(name) as made:
        await made.store.open()
        await made.store.add_organization(make_organization())
        await made.store.add(make_key("one"))
        await made.store.add(make_key("two"))
        await made.store.close()
        async with psql() as connection:
            await connection.execute(
                f"ALTER TABLE {name}.keys DROP CONSTRAINT keys_state, DROP CONSTRAINT keys_organization_id_fkey,"
                " DROP CONSTRAINT keys_api_key"
            )
            for column in NULLS:
                await connection.execute(f"ALTER TABLE {name}.keys ALTER {column} DROP NOT NULL")
            await connection.execute(f"ALTER TABLE {name}.organizations ALTER is_active DROP NOT NULL")
        yield name


@pytest.fixture
async def store(kind: PostgresKind, schema: str) -> AsyncIterator[PostgresKeyStore]:
    store = PostgresKeyStore.from_url(kind.url(schema, *kind.address()))
    await store.open()
    yield store
    await store.close()


NULLS = (
    "organization_id", "api_key", "secret", "domains", "scopes", "origins", "networks", "state", "critical", "name",
    "metadata", "created_at", "updated_at", "version",
)  # fmt: skip
CHANGES = {
    **{f"{column} NULL": f"{column} = NULL" for column in NULLS if column != "api_key"},
    "no such state": "state = 'Active '",
    "empty secret": "secret = ''",
    "unknown hash": "secret = 'hmac-sha512:1:' || repeat('0', 64)",
    "hash cut short": "secret = 'hmac-sha256:1:00'",
    "broken previous secret": "previous_secret = 'x'",
    "metadata no JSON": "metadata = '{'",
    "metadata no object": "metadata = '[]'",
    "metadata nested without end": "metadata = repeat('[', 100000)",
    "metadata with a huge number": "metadata = '{\"a\":' || repeat('1', 5000) || '}'",
    "nothing in the domains": "domains = ARRAY[NULL]",
    "empty text in the scopes": "scopes = ARRAY['']",
    "a table of networks": "networks = ARRAY[ARRAY['a'], ARRAY['b']]",
    "never": "expires_at = 'infinity'",
    "always": "created_at = '-infinity'",
    "before the calendar": "rotated_at = '0044-03-15 BC'",
    "after the calendar": "expires_at = '10000-01-01'",
    "negative version": "version = -1",
    "negative grace": "previous_grace = -1",
    "organization of nobody": "organization_id = 'nobody'",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_nonsense_denies_this_key_and_no_other(store: PostgresKeyStore, schema: str, change: str) -> None:
    """Its look-up says so, its neighbour is found, and a listing leaves it out."""
    async with psql() as connection:
        await connection.execute(f"UPDATE {schema}.keys SET {change} WHERE key_id = 'key_one'")  # noqa: S608 - ours
    with pytest.raises(StoreCorrupt) as caught:
        await store.find("one")
    assert "hmac" not in str(caught.value)
    assert await store.find("two") == FoundKey(make_key("two"), organization_is_active=True)
    assert await store.find("three") is None
    listed = [record.api_key for record in (await store.list_keys()).items]
    assert listed == ([*["one"] * (change == "organization_id = 'nobody'"), "two"])
    await store.count_keys(now=make_key().created_at)


async def test_an_organization_without_a_state_denies_its_keys(store: PostgresKeyStore, schema: str) -> None:
    """Whether it is active cannot be known."""
    async with psql() as connection:
        await connection.execute(f"UPDATE {schema}.organizations SET is_active = NULL")  # noqa: S608 - ours
    with pytest.raises(StoreCorrupt):
        await store.find("one")
    with pytest.raises(StoreCorrupt):
        await store.get_organization("acme")
    assert (await store.list_organizations()).items == ()


async def test_two_keys_with_one_handle_are_none(store: PostgresKeyStore, schema: str) -> None:
    """Which one was meant cannot be known."""
    async with psql() as connection:
        await connection.execute(f"UPDATE {schema}.keys SET api_key = 'one'")  # noqa: S608 - ours
    with pytest.raises(StoreCorrupt):
        await store.find("one")


async def test_a_corrupt_key_can_be_deleted(store: PostgresKeyStore, schema: str) -> None:
    """Otherwise the operator could only repair it by hand."""
    async with psql() as connection:
        await connection.execute(f"UPDATE {schema}.keys SET metadata = '{{' WHERE key_id = 'key_one'")  # noqa: S608 - ours
    assert await store.delete("key_one") is True
    assert await store.find("one") is None


@pytest.mark.parametrize("asked", ["o\0ne", "\0", "\ud800", "one\udfff"])
async def test_what_postgres_cannot_hold_is_not_there(store: PostgresKeyStore, asked: str) -> None:
    """NUL and half characters: an answer as any other, not a fault."""
    assert await store.find(asked) is None
    assert await store.delete(asked) is False
    assert (await store.list_keys(after=asked)).items == ()
    with pytest.raises(ValueError, match="NUL"):
        await store.add(make_key("three", name=asked))
    with pytest.raises(ValueError, match="NUL"):
        await store.add_many([], [make_key("three"), make_key("four", scopes=(asked,))])
    assert await store.find("three") is None


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(found for child in plan.get("Plans", ()) for found in nodes(child))]


async def test_a_look_up_reads_unique_indexes_only(kind: PostgresKind) -> None:
    """With 10,000 keys of 200 organizations: one row of each, and the organization's from its index alone."""
    name = f"gk{uuid.uuid4().hex}"
    async with kind.make(name) as made:
        await made.store.open()
        await made.store.add_many(
            [make_organization(f"org-{number}") for number in range(200)],
            [make_key(f"k{number:05}", organization_id=f"org-{number % 200}") for number in range(KEYS)],
        )
        await made.store.close()
        async with psql() as connection:
            await connection.execute(f"VACUUM ANALYZE {name}.keys, {name}.organizations, {name}.meta")
            find = Queries(name).find
            text = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {find}", "k04711"))
            (row,) = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {find}", "k04711")
    print(text)  # noqa: T201 - the plan, for whoever runs this with -s
    found = {node.get("Alias"): node for node in nodes(json.loads(row[0])[0]["Plan"]) if "Alias" in node}
    assert found["k"]["Node Type"] == "Index Scan"
    assert found["k"]["Index Name"] == "keys_api_key"
    assert found["o"]["Node Type"] == "Index Only Scan"
    assert found["o"]["Index Name"] == "organizations_state"
    assert found["o"]["Heap Fetches"] == 0
    assert {node["Actual Rows"] for node in found.values()} == {1}


async def test_a_chain_is_known_by_its_head_or_by_its_entries(store: PostgresKeyStore, schema: str) -> None:
    """So that one whose head somebody took away is still told; a prune leaves what is left of it alone."""
    for organization_id in ("acme", "other"):
        await store.journal.append_audit(make_entry(organization_id=organization_id))
    async with psql() as connection:
        await connection.execute(f"DELETE FROM {schema}.audit_heads WHERE organization_id = 'acme'")  # noqa: S608 - ours
        await connection.execute(f"DELETE FROM {schema}.audit WHERE organization_id = 'other'")  # noqa: S608 - ours
    assert await store.journal.audit_chains() == ("acme", "other")
    await store.journal.prune(now=START, audit_before=in_seconds(9_999_999))
    assert (await store.journal.list_audit("acme")).items == (make_entry(),)
