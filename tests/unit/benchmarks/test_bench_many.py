"""The keys that a million are made of: as the product makes them, and all there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.sqlite import SqliteKeyStore
from benchmarks.bench.many import grow
from benchmarks.bench.many_keys import name_of, record_of
from service.auth.tokens import api_key_problem
from tests.support.clock import START
from tests.support.keys import make_key, make_organization

if TYPE_CHECKING:
    from pathlib import Path


def test_made_up_keys_have_the_products_form_and_differ() -> None:
    """Or their checksum would be refused before the cache is asked."""
    names = {name_of(number) for number in range(500)}
    assert len(names) == 500
    assert not any(api_key_problem(name) for name in names)
    assert record_of(7).api_key == name_of(7)
    assert record_of(7).key_id != record_of(107).key_id


async def test_a_store_is_filled_with_copies_that_pass_like_the_key_itself(tmp_path: Path) -> None:
    """And each can be looked up."""
    store = SqliteKeyStore(tmp_path / "keys.db")
    await store.open()
    try:
        await store.migrate()
        await store.add_many([make_organization()], [make_key("one")])
        grow(tmp_path / "keys.db", 50)
        assert sum((await store.count_keys(now=START)).values()) == 51
        found = await store.find("copy-50")
        assert found is not None
        assert found.key.domains == make_key("one").domains
    finally:
        await store.close()
