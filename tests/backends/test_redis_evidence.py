"""What a server says is believed only with its marker; what a hand has broken hurts that one key."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backends.errors import Conflict, NotFound, StoreCorrupt, StoreNotReady, StoreUnfit
from backends.records import FoundKey, KeyState
from backends.redis_keys import BUCKETS
from backends.redis_records import SCHEMA, encode_record
from tests.support.clock import START
from tests.support.keys import in_seconds, make_entry, make_key, make_organization
from tests.support.recorder import EVERYTHING, HEARTBEAT, watching
from tests.support.redis_kind import by_hand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backends.contract import KeyStore
    from tests.support.redis_kind import Hand
    from tests.support.redis_server import RedisServer

ONE, TWO = (FoundKey(make_key(name), organization_is_active=True) for name in ("one", "two"))


CALLS: dict[str, Callable[[KeyStore], Awaitable[object]]] = {
    "ping": lambda store: store.ping(),
    "find": lambda store: store.find("one"),
    "find, unknown": lambda store: store.find("nobodys"),
    "get": lambda store: store.get("key_one"),
    "list_keys": lambda store: store.list_keys(),
    "count_keys": lambda store: store.count_keys(now=START),
    "get_organization": lambda store: store.get_organization("acme"),
    "list_organizations": lambda store: store.list_organizations(),
    "add": lambda store: store.add(make_key("new")),
    "add_many": lambda store: store.add_many([make_organization("new")], []),
    "set_state": lambda store: store.set_state("key_one", KeyState.REVOKED, now=START),
    "delete": lambda store: store.delete("key_one"),
    "add_organization": lambda store: store.add_organization(make_organization("new")),
    "claim": lambda store: store.journal.claim("c", "f", now=START, until=START),
    "audit_head": lambda store: store.journal.audit_head("acme"),
}


# -- markers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_wiped_server_is_not_ready_and_says_nothing_of_any_key(
    hand: Hand, call: Callable[[KeyStore], Awaitable[object]]
) -> None:
    """It would answer "no such key" to everything; and it takes no write, which nobody would find again."""
    assert await hand.store.find("one") == ONE
    hand.ask("DEL", *hand.ask("KEYS", f"{hand.prefix}:*"))
    with pytest.raises(StoreNotReady, match="marker is missing"):
        await call(hand.store)
    assert hand.ask("KEYS", f"{hand.prefix}:*") == []


async def test_another_database_is_not_ready(hand: Hand) -> None:
    """The number in the URL is easily wrong."""
    store = hand.another(hand.server.url(prefix=hand.prefix, db=1))
    await store.open()
    with pytest.raises(StoreNotReady, match="database number"):
        await store.find("one")
    await store.close()


async def test_a_restart_without_its_data_is_not_ready(own_server: RedisServer) -> None:
    """Then, as soon as somebody migrates it again, it is another epoch: an empty store."""
    async with by_hand(own_server) as hand, watching(hand.store) as recorder:
        own_server.kill()
        own_server.wipe()
        await asyncio.to_thread(own_server.start)
        with pytest.raises(StoreNotReady):
            await hand.store.find("one")
        await recorder.until(HEARTBEAT)
        await hand.store.migrate()
        assert EVERYTHING in await recorder.until(EVERYTHING)
        assert await hand.store.find("one") is None


async def test_a_restart_with_its_data_goes_on(own_server: RedisServer) -> None:
    """The first call finds its pooled connection closed, and takes a new one."""
    async with by_hand(own_server) as hand:
        own_server.kill()
        await asyncio.to_thread(own_server.start)
        assert await hand.store.find("one") == ONE
        assert await hand.store.set_state("key_one", KeyState.DISABLED, now=START)


async def test_a_bucket_without_its_marker_is_not_ready_alone(hand: Hand) -> None:
    """Its keys are gone, or may be; the others' evidence is whole. ``migrate`` makes one new epoch of it."""
    hand.ask("DEL", hand.marker("one"))
    with pytest.raises(StoreNotReady):
        await hand.store.find("one")
    assert await hand.store.find("two") == TWO
    with pytest.raises(StoreNotReady, match=f"missing in 1 of {BUCKETS} buckets"):
        await hand.store.ping()
    async with watching(hand.store) as recorder:
        assert len(await hand.store.migrate()) == 2
        await recorder.until(EVERYTHING)
    assert await hand.store.find("one") == ONE
    await hand.store.ping()
    assert await hand.store.migrate() == ()


@pytest.mark.parametrize(
    ("schema", "text"),
    [(SCHEMA + 1, "update Gatekey"), (SCHEMA - 1, "run gatekey migrate")],
    ids=["newer", "older"],
)
async def test_another_schema_is_unfit(hand: Hand, schema: int, text: str) -> None:
    """Whatever it holds, this code would misread it. ``migrate`` brings an older one up and leaves a newer one alone."""
    marker = json.dumps({"schema": schema, "epoch": "of another version"})
    names = hand.ask("KEYS", f"{hand.prefix}:*epoch")
    assert len(names) == BUCKETS + 1
    hand.ask("MSET", *(part for name in names for part in (name, marker)))
    for call in CALLS.values():
        with pytest.raises(StoreUnfit, match=rf"schema {schema}\b.* {SCHEMA}: {text}"):
            await call(hand.store)
    if schema > SCHEMA:
        with pytest.raises(StoreUnfit, match=rf"schema {schema}, .* knows {SCHEMA}: update"):
            await hand.store.migrate()
        assert hand.ask("GET", hand.own("epoch")) == marker.encode()
    else:
        assert await hand.store.migrate()
        assert await hand.store.find("one") == ONE


async def test_another_epoch_is_told_to_whoever_watches(hand: Hand) -> None:
    """A backup was restored, or the like: whatever is cached may be wrong."""
    async with watching(hand.store) as recorder:
        await hand.store.find("one")
        hand.ask("SET", hand.marker("one"), json.dumps({"schema": SCHEMA, "epoch": "another"}))
        await recorder.until(EVERYTHING)  # which the server's tracking told
        assert await hand.store.find("one") == ONE
        assert EVERYTHING in recorder.events, "the look-up that saw it first tells it too"


async def test_several_that_migrate_at_once_make_one_epoch(hand: Hand) -> None:
    """Whoever comes second finds it done."""
    hand.ask("DEL", *hand.ask("KEYS", f"{hand.prefix}:*epoch"))
    stores = [hand.another() for _ in range(5)]
    done = await asyncio.gather(*(store.migrate() for store in stores))
    assert sorted(bool(lines) for lines in done) == [False] * 4 + [True]
    assert len({*hand.ask("MGET", *hand.ask("KEYS", f"{hand.prefix}:*epoch"))}) == 1


async def test_a_lost_list_of_the_disabled_lets_nobody_pass_until_it_is_restored(hand: Hand) -> None:
    """``migrate`` knows which organizations are disabled."""
    await hand.store.set_organization_active("acme", is_active=False, now=START)
    hand.ask("DEL", *(name for name in hand.ask("KEYS", f"{hand.prefix}:*disabled") if b"state" not in name))
    with pytest.raises(StoreNotReady, match="list of disabled organizations"):
        await hand.store.find("one")
    assert await hand.store.migrate() == ("redis: wrote the lists of disabled organizations",)
    assert await hand.store.find("one") == FoundKey(make_key("one"), organization_is_active=False)


# -- one broken key -------------------------------------------------------------------------------------------------------

GOOD = json.loads(encode_record(make_key("one")))
NONSENSE: dict[str, Callable[[Hand], object]] = {
    "no JSON": lambda hand: hand.ask("SET", hand.record("one"), "{"),
    "empty": lambda hand: hand.ask("SET", hand.record("one"), ""),
    "no UTF-8": lambda hand: hand.ask("SET", hand.record("one"), b"\xff\xfe"),
    "no secret": lambda hand: hand.ask("SET", hand.record("one"), json.dumps({**GOOD, "secret": None})),
    "an unknown hash": lambda hand: hand.ask("SET", hand.record("one"), json.dumps({**GOOD, "secret": "md5:1:00"})),
    "another form": lambda hand: hand.ask("SET", hand.record("one"), json.dumps({**GOOD, "form": 2})),
    "another key": lambda hand: hand.ask("SET", hand.record("one"), encode_record(make_key("two"))),
    "cut off": lambda hand: hand.ask("SETRANGE", hand.record("one"), 100, "\0" * 500),
    "a list": lambda hand: (hand.ask("DEL", hand.record("one")), hand.ask("RPUSH", hand.record("one"), "x")),
    "a hash": lambda hand: (hand.ask("DEL", hand.record("one")), hand.ask("HSET", hand.record("one"), "x", "y")),
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
async def test_a_key_that_a_hand_broke_is_corrupt_and_no_other(hand: Hand, nonsense: Callable[[Hand], object]) -> None:
    """Not unknown: that would be a refusal without evidence. Deleting it works, and then adding it anew."""
    nonsense(hand)
    for call in (
        lambda: hand.store.find("one"),
        lambda: hand.store.get("key_one"),
        lambda: hand.store.set_state("key_one", KeyState.REVOKED, now=START),
        lambda: hand.store.replace(make_key("one"), expected_version=1),
    ):
        with pytest.raises(StoreCorrupt) as caught:
            await call()
        assert "one" not in str(caught.value).replace("stored key is another one than", "")
    assert await hand.store.find("two") == TWO
    assert [record.api_key for record in (await hand.store.list_keys()).items] == ["two"]
    with pytest.raises(Conflict):
        await hand.store.add(make_key("one"))
    assert await hand.store.delete("key_one") is True
    assert await hand.store.find("one") is None
    await hand.store.add(make_key("one"))
    assert await hand.store.find("one") == ONE


async def test_a_record_deleted_by_hand_is_gone_and_can_be_added_again(hand: Hand) -> None:
    """What still points to it is in nobody's way."""
    hand.ask("DEL", hand.record("one"))
    assert await hand.store.find("one") is None
    with pytest.raises(NotFound):
        await hand.store.get("key_one")
    assert [record.api_key for record in (await hand.store.list_keys()).items] == ["two"]
    await hand.store.add(make_key("elsewhere", key_id="key_one"))
    assert (await hand.store.get("key_one")).api_key == "elsewhere"
    hand.ask("DEL", hand.record("elsewhere"))
    assert await hand.store.delete("key_one") is False
    assert await hand.store.add_many([], [make_key("one")]) == 1
    assert [record.api_key for record in (await hand.store.list_keys()).items] == ["one", "two"]


async def test_a_record_changed_by_hand_counts(hand: Hand) -> None:
    """It is a record like any other."""
    changed = replace(make_key("one"), name="by hand", state=KeyState.DISABLED)
    hand.ask("SET", hand.record("one"), encode_record(changed))
    assert await hand.store.find("one") == FoundKey(changed, organization_is_active=True)
    assert await hand.store.set_state("key_one", KeyState.REVOKED, now=START)


async def test_a_broken_organization_is_left_out_and_hurts_no_key(hand: Hand) -> None:
    """Only whoever asks for it by name is told."""
    await hand.store.add_organization(make_organization("other"))
    hand.ask("HSET", hand.own("organizations"), "acme", "{")
    with pytest.raises(StoreCorrupt):
        await hand.store.get_organization("acme")
    assert (await hand.store.list_organizations()).items == (make_organization("other"),)
    assert await hand.store.find("one") == ONE


# -- what a look-up costs -----------------------------------------------------------------------------------------------------


def calls(hand: Hand) -> dict[str, int]:
    """How often the server ran each command since it was told to forget."""
    info = hand.ask("INFO", "commandstats")
    lines = info if isinstance(info, dict) else {}
    return {name.removeprefix("cmdstat_"): fields["calls"] for name, fields in lines.items()}


async def test_a_look_up_is_one_command(hand: Hand) -> None:
    """And that of an unknown key, which may hold another type than text, one short script more."""
    await hand.store.find("one")
    await hand.store.find("nobodys")  # from now on the server knows the script
    hand.ask("CONFIG", "RESETSTAT")
    for _ in range(10):
        await hand.store.find("one")
    assert calls(hand).get("mget") == 10
    others = {"config|resetstat", "config", "info", "auth", "hello", "client|setinfo", "replconf", "ping"}
    assert set(calls(hand)) - others == {"mget"}
    hand.ask("CONFIG", "RESETSTAT")
    assert await hand.store.find("nobodys") is None
    assert {name: number for name, number in calls(hand).items() if name not in others} == {
        "mget": 2,
        "type": 1,
        "evalsha": 1,
    }


async def test_a_chain_is_known_by_its_head_or_by_its_entries(hand: Hand) -> None:
    """So that one whose head somebody took away is still told; a prune leaves what is left of it alone."""
    journal = hand.store.journal
    for organization_id in ("acme", "other"):
        await journal.append_audit(make_entry(organization_id=organization_id))
    hand.ask("HDEL", hand.own("audit"), "acme")
    hand.ask("DEL", hand.own("audit:other"))
    assert await journal.audit_chains() == ("acme", "other")
    await journal.prune(now=START, audit_before=in_seconds(9_999_999))
    assert (await journal.list_audit("acme")).items == (make_entry(),)
