"""No secret is ever stored, in whatever form could be turned back, and no error repeats what it was given."""

from __future__ import annotations

import base64
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from backends.errors import StoreError
from backends.records import KeyState
from service.auth.tokens import generate_secret_token
from tests.support import leaks
from tests.support.clock import START
from tests.support.keys import PEPPERS, make_entry, make_key, make_organization

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backends.contract import KeyStore
    from tests.support.stores import StoreKind, StoreUnderTest


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": lambda token: base64.urlsafe_b64encode(b"k" + token.encode()).decode(),
    "percent": lambda token: quote(token, safe=""),
    "hex": lambda token: token.encode().hex(),
}


async def test_the_text_of_a_secret_is_nowhere_in_what_is_stored(under_test: StoreUnderTest, store: KeyStore) -> None:
    """Seen through the back door, after every kind of write."""
    tokens = [generate_secret_token().reveal() for _ in range(4)]
    leaks.register(*tokens)
    hashes = [PEPPERS.hash(token) for token in tokens]
    record = replace(make_key("the-one-key"), secret=hashes[0])
    await store.add(record)
    await store.replace(replace(record, secret=hashes[1], previous_secret=hashes[0]), expected_version=1)
    await store.rehash("key_the-one-key", old=hashes[1], new=PEPPERS.hash(tokens[1]))
    await store.add_many([], [replace(make_key("another-key"), secret=hashes[2])])
    await store.add(replace(make_key("gone-key"), secret=hashes[3]))
    await store.delete("key_gone-key")
    stored = await under_test.stored()
    assert b"the-one-key" in stored, "the back door shows nothing"
    assert b"another-key" in stored, "the back door shows not everything"
    leaks.register(*(token[4:] for token in tokens))
    leaks.check_bytes(stored, "what is stored")


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
async def test_a_test_that_leaves_a_secret_in_its_store_fails(kind: StoreKind, encode: Callable[[str], str]) -> None:
    """Without asking for it: the search goes through the back door of every store."""
    token = f"a-secret/for+one-store-{uuid.uuid4().hex}"
    leaks.register(token)
    with pytest.raises(AssertionError, match=r"secret\(s\) of the tests stand in"):
        await with_a_key_named(encode(token), kind)


async def with_a_key_named(name: str, kind: StoreKind) -> None:
    """A whole test, as it were."""
    async with kind.make(f"gk{uuid.uuid4().hex}") as under_test:
        await under_test.store.open()
        await under_test.store.add_organization(make_organization())
        await under_test.store.add(make_key("one", name=name))
        await under_test.store.close()


FAILURES: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    "add, taken": lambda store: store.add(make_key("telltale-handle", key_id="key_2")),
    "add, no organization": lambda store: store.add(make_key("x", organization_id="telltale-owner")),
    "import": lambda store: store.add_many([], [make_key("x", key_id="key_telltale-handle")]),
    "import, other owner": lambda store: store.add_many(
        [make_organization("telltale-owner")], [make_key("telltale-handle", organization_id="telltale-owner")]
    ),
    "replace": lambda store: store.replace(make_key("telltale-handle"), expected_version=9),
    "revoked": lambda store: store.set_state("key_telltale-handle", KeyState.ACTIVE, now=START),
    "get": lambda store: store.get("telltale-key"),
    "organization": lambda store: store.get_organization("telltale-owner"),
    "audit": lambda store: store.journal.append_audit(make_entry(2, actor="telltale-actor", after="telltale-after")),
    "add organization": lambda store: store.add_organization(make_organization()),
}


@pytest.mark.parametrize("call", FAILURES.values(), ids=FAILURES)
async def test_an_error_repeats_nothing_that_it_was_given(
    store: KeyStore, call: Callable[[KeyStore], Awaitable[object]]
) -> None:
    """Messages end up in logs, with everything that is chained to them."""
    await store.add(make_key("telltale-handle", state=KeyState.REVOKED))
    with pytest.raises(StoreError) as caught:
        await call(store)
    error: BaseException | None = caught.value
    while error is not None:
        assert "telltale" not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
