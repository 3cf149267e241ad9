"""Rows that somebody edited by hand: nonsense spoils its own key and no other, sense is obeyed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backends.errors import NotFound, StoreCorrupt
from backends.records import FoundKey, KeyState
from backends.sqlite import SqliteKeyStore
from backends.sqlite_rows import KEY_COLUMNS, key_of_row, row_of_key
from tests.support.clock import START
from tests.support.keys import hash_secret, in_seconds, make_entry, make_key, make_organization
from tests.support.sqlite_kind import by_hand, folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NEIGHBOURS = (make_key("after"), make_key("before"))
STALE = "telltale"


@pytest.fixture
def path() -> Iterator[Path]:
    with folder("gk-rows-") as place:
        yield Path(place, "keys.db")


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteKeyStore]:
    """With the key ``one`` and two others."""
    store = SqliteKeyStore(path)
    await store.open()
    await store.add_organization(make_organization())
    await store.add_many([], [*NEIGHBOURS, make_key("one")])
    yield store
    await store.close()


NONSENSE = [
    "secret = NULL",
    "secret = ''",
    "secret = 'telltale'",
    "secret = 'hmac-sha256:1:telltale'",
    "secret = 'argon2:1:' || substr(secret, 15)",
    "secret = secret || '0'",
    "secret = CAST(x'ff00fe' AS TEXT)",
    "secret = CAST(x'74656c6c74616c65ff' AS TEXT)",
    "previous_secret = ''",
    "previous_secret = 'telltale'",
    "previous_expires_at = 'soon'",
    "previous_grace = -1",
    "previous_grace = 9223372036854775807",
    "rotated_at = 'telltale'",
    "domains = NULL",
    "domains = ''",
    "domains = 'telltale'",
    "domains = 'null'",
    "domains = '{}'",
    "domains = '\"*\"'",
    "domains = '[\"telltale\"'",
    "domains = '[1]'",
    "domains = '[\"\"]'",
    "domains = '[[\"telltale\"]]'",
    "domains = '[\"\\ud800\"]'",
    "scopes = NULL",
    "scopes = '[null]'",
    "origins = NULL",
    "networks = 'NaN'",
    f"networks = '{'[' * 100_000}'",
    f"scopes = '[{'9' * 5_000}]'",
    "state = NULL",
    "state = ''",
    "state = 'Active '",
    "state = 'ACTIVE'",
    "expires_at = 'soon'",
    "expires_at = ''",
    "expires_at = '0'",
    "expires_at = '9999-99-99'",
    "expires_at = '2026-01-01T00:00:00'",
    "expires_at = 'infinity'",
    "expires_at = '0001-01-01T00:00:00+23:00'",
    "critical = NULL",
    "critical = 2",
    "name = NULL",
    "name = CAST(x'c3' AS TEXT)",
    "metadata = NULL",
    "metadata = ''",
    "metadata = '[]'",
    f"metadata = '{{\"n\":{'9' * 5_000}}}'",
    "metadata = 'telltale'",
    "created_at = NULL",
    "updated_at = 'telltale'",
    "version = NULL",
    "version = 0",
    "version = -1",
    "version = 9223372036854775807",
    "organization_id = 'nobody'",
    "key_id = ''",
]


@pytest.mark.parametrize("assignment", NONSENSE, ids=[text[:40] for text in NONSENSE])
async def test_nonsense_in_a_row_spoils_that_key_alone(store: SqliteKeyStore, path: Path, assignment: str) -> None:
    """By no other exception, with a message that repeats nothing; the others are found and listed as before."""
    by_hand(path, f"UPDATE api_keys SET {assignment} WHERE api_key = 'one'")  # noqa: S608 - from the table above
    with pytest.raises(StoreCorrupt) as caught:
        await store.find("one")
    error: BaseException | None = caught.value
    while error is not None:
        assert STALE not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for record in NEIGHBOURS:
        assert await store.find(record.api_key) == FoundKey(record, organization_is_active=True)
    if "organization_id" not in assignment:  # a listing does not look at organizations
        assert (await store.list_keys()).items == NEIGHBOURS
    assert sum((await store.count_keys(now=START)).values()) >= len(NEIGHBOURS)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE organizations SET is_active = NULL",
        "UPDATE organizations SET is_active = 2",
        "DELETE FROM organizations",
    ],
)
async def test_a_key_whose_organization_is_nonsense_is_corrupt(
    store: SqliteKeyStore, path: Path, statement: str
) -> None:
    """Neither active nor inactive."""
    by_hand(path, statement)
    with pytest.raises(StoreCorrupt):
        await store.find("one")


@pytest.mark.parametrize("assignment", ["is_active = NULL", "name = NULL", "created_at = 'telltale'"])
async def test_an_organization_that_is_nonsense_is_left_out(store: SqliteKeyStore, path: Path, assignment: str) -> None:
    """The others are listed."""
    await store.add_organization(make_organization("other"))
    by_hand(path, f"UPDATE organizations SET {assignment} WHERE organization_id = 'acme'")  # noqa: S608 - likewise
    with pytest.raises(StoreCorrupt):
        await store.get_organization("acme")
    assert (await store.list_organizations()).items == (make_organization("other"),)


async def test_pages_pass_keys_that_cannot_be_read(store: SqliteKeyStore, path: Path) -> None:
    """A page of nothing but nonsense says that there is more."""
    await store.add_many([], [make_key(f"n{number}") for number in range(9)])
    by_hand(path, "UPDATE api_keys SET secret = 'x' WHERE api_key BETWEEN 'n1' AND 'n6'")
    listed, after = [], ""
    while True:
        page = await store.list_keys(after=after, limit=2)
        listed += [record.api_key for record in page.items]
        if page.next_after is None:
            break
        after = page.next_after
    assert listed == ["after", "before", "n0", "n7", "n8", "one"]


async def test_a_nonsensical_key_can_be_repaired_and_removed(store: SqliteKeyStore, path: Path) -> None:
    """Without the shell."""
    by_hand(path, "UPDATE api_keys SET scopes = '!' WHERE api_key = 'one'")
    repaired = await store.replace(make_key("one", name="again"), expected_version=1)
    assert await store.find("one") == FoundKey(repaired, organization_is_active=True)
    by_hand(path, "UPDATE api_keys SET secret = NULL WHERE api_key = 'one'")
    assert await store.delete("key_one")
    assert await store.find("one") is None


async def test_a_sensible_change_by_hand_is_obeyed(store: SqliteKeyStore, path: Path) -> None:
    """Times in whatever zone and form of ISO 8601."""
    by_hand(
        path,
        "UPDATE api_keys SET state = 'disabled', expires_at = '2026-05-01 14:00:00+02:00', scopes = '[\"a\"]'"
        " WHERE api_key = 'one'",
    )
    found = await store.find("one")
    assert found is not None
    assert found.key == replace(
        make_key("one"),
        state=KeyState.DISABLED,
        expires_at=datetime(2026, 5, 1, 12, tzinfo=UTC),
        scopes=("a",),
    )


@pytest.mark.parametrize("surrogate", ["\ud800", "one\udcff"])
async def test_what_cannot_be_stored_is_not_found(store: SqliteKeyStore, surrogate: str) -> None:
    """A lone surrogate is no text, so no key has it; storing it is refused."""
    assert await store.find(surrogate) is None
    assert (await store.list_keys(after=surrogate)).items == ()
    assert not await store.delete(surrogate)
    assert not await store.rehash(surrogate, old=hash_secret("old-secret"), new=hash_secret("new-secret"))
    for call in (
        store.get(surrogate),
        store.get_organization(surrogate),
        store.set_state(surrogate, KeyState.REVOKED, now=START),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(ValueError, match="surrogate"):
        await store.add(make_key("new", name=surrogate))
    assert await store.find("new") is None


def test_times_are_of_one_width_in_the_order_of_time() -> None:
    """Filters compare them as text."""
    times = [
        datetime.min.replace(tzinfo=UTC),
        START,
        in_seconds(0.000001),
        in_seconds(1),
        datetime.max.replace(tzinfo=UTC),
    ]
    place = KEY_COLUMNS.index("expires_at")
    texts = [row_of_key(make_key(expires_at=time))[place] for time in times]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {32}


def test_the_stored_form_of_a_row_is_this() -> None:
    """Whoever changes it needs a migration."""
    record = make_key(
        secret=hash_secret("telltale-secret"),
        scopes=("a", "é"),
        expires_at=in_seconds(0.5),
        critical=True,
        previous_grace=60,
    )
    digest = record.secret.digest.hex()
    row = (
        *("key_key-one", "acme", "key-one", f"hmac-sha256:1:{digest}", None, None, 60, None),
        *('["api.example.com"]', '["a","é"]', "[]", "[]", "active", "2026-01-02T03:04:05.500000+00:00", 1, "", "{}"),
        *("2026-01-02T03:04:05.000000+00:00", "2026-01-02T03:04:05.000000+00:00", 1),
    )
    assert row_of_key(record) == row
    assert key_of_row(row) == record


async def test_a_chain_is_known_by_its_head_or_by_its_entries(store: SqliteKeyStore, path: Path) -> None:
    """So that one whose head somebody took away is still told; a prune leaves what is left of it alone."""
    for organization_id in ("acme", "other"):
        await store.journal.append_audit(make_entry(organization_id=organization_id))
    history = path.with_name(f"{path.name}.history")
    by_hand(
        history,
        "DELETE FROM audit_heads WHERE organization_id = 'acme'",
        "DELETE FROM audit WHERE organization_id = 'other'",
    )
    assert await store.journal.audit_chains() == ("acme", "other")
    await store.journal.prune(now=START, audit_before=in_seconds(9_999_999))
    assert (await store.journal.list_audit("acme")).items == (make_entry(),)
