"""The announcing connection: changes by any hand, gaps, and what stands behind it when announcements are lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from backends.records import KeyState, Origin
from backends.redis_announcements import Announcements
from backends.redis_keys import Names
from backends.redis_records import encode_record
from tests.support.clock import START
from tests.support.fault_proxy import FaultProxy, Mode
from tests.support.keys import make_key, make_organization
from tests.support.recorder import EVERYTHING, HEARTBEAT, Recorder, told_by, watching
from tests.support.redis_kind import by_hand

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.redis_kind import Hand
    from tests.support.redis_server import RedisServer


# -- by hand --------------------------------------------------------------------------------------------------------------

BY_HAND: dict[str, tuple[Callable[[Hand], object], str]] = {
    "set": (lambda hand: hand.ask("SET", hand.record("one"), encode_record(make_key("one", name="x"))), "one"),
    "delete": (lambda hand: hand.ask("DEL", hand.record("two")), "two"),
    "a new one": (lambda hand: hand.ask("SET", hand.record("three"), "x"), "three"),
    "expire": (lambda hand: hand.ask("PEXPIRE", hand.record("one"), 1), "one"),
    "append": (lambda hand: hand.ask("APPEND", hand.record("one"), " "), "one"),
    "rename": (lambda hand: hand.ask("RENAME", hand.record("one"), hand.own("elsewhere")), "one"),
    "a key that has a marker's name": (lambda hand: hand.ask("SET", hand.record("epoch"), "x"), "epoch"),
    "a marker": (lambda hand: hand.ask("DEL", hand.marker("one")), EVERYTHING),
    "a list of the disabled": (
        lambda hand: hand.ask("SET", hand.marker("one").replace(b"epoch", b"disabled"), "[]"),
        EVERYTHING,
    ),
    "bytes that are no text": (lambda hand: hand.ask("SET", hand.record("x") + b"\xff", "x"), EVERYTHING),
}


@pytest.mark.parametrize(("change", "told"), BY_HAND.values(), ids=BY_HAND)
async def test_a_change_by_hand_is_told(hand: Hand, change: Callable[[Hand], object], told: str) -> None:
    """By the server's own tracking: nobody announced it."""
    async with watching(hand.store) as recorder:
        change(hand)
        assert told in await recorder.until(told)
        assert await recorder.changes(hand.store) <= {told}


async def test_a_flush_by_hand_is_told(own_server: RedisServer) -> None:
    """A push without names."""
    async with by_hand(own_server) as hand, watching(hand.store) as recorder:
        hand.ask("FLUSHALL")
        await recorder.until(EVERYTHING)


async def test_many_changes_by_hand_at_once_are_told_as_one(hand: Hand) -> None:
    """A listener is not called thousands of times for a script of somebody's."""
    async with watching(hand.store) as recorder:
        names = [hand.record(f"x{number}") for number in range(2_000)]
        hand.ask("MSET", *(part for name in names for part in (name, b"x")))
        told = await recorder.until(EVERYTHING)
        assert {event for event in told if event != HEARTBEAT} == {EVERYTHING}


async def test_the_same_name_in_another_database_is_heard_and_harmless(hand: Hand) -> None:
    """The server's tracking knows no databases: whoever reads again finds what it had."""
    async with watching(hand.store) as recorder:
        hand.server.ask("SET", hand.record("one"), "x", db=1)
        await recorder.until("one")
        assert (await hand.store.get("key_one")).api_key == "one"
        hand.server.ask("DEL", hand.record("one"), db=1)


async def test_nothing_beside_the_keys_is_told(hand: Hand) -> None:
    """Else use counts would empty every cache."""
    async with watching(hand.store) as recorder:
        journal = hand.store.journal
        await journal.claim("c", "f", now=START, until=START)
        await journal.prune(now=START)
        await hand.store.add_organization(make_organization("more"))
        assert await recorder.changes(hand.store) == set()


# -- announcements of our own ---------------------------------------------------------------------------------------------------


async def test_a_change_is_told_once_though_both_ways_carry_it(hand: Hand) -> None:
    """With the time of the server, by which its delay is measured."""
    async with watching(hand.store) as recorder:
        for number in range(20):
            state = KeyState.ACTIVE if number % 2 else KeyState.DISABLED
            await hand.store.set_state("key_one", state, now=START)
        await hand.store.barrier()
        told = [told for told in recorder.told if told.what == "one"]
        assert len(told) == 20
        seconds, micros = hand.ask("TIME")
        now = int(seconds) + int(micros) / 1e6
        assert all(item.at is not None and 0 <= now - item.at < 60 for item in told)


async def test_a_hand_and_a_script_at_once_are_both_told(hand: Hand) -> None:
    """Suppressing the echo of one never hides the other."""
    async with watching(hand.store) as recorder:
        for round_number in range(20):
            recorder.events.clear()
            await hand.store.set_state("key_one", KeyState.DISABLED, now=START)
            hand.ask("SET", hand.record("one"), encode_record(make_key("one", name=f"{round_number}", version=9)))
            await recorder.wait_for(lambda: recorder.events.count("one") >= 2)
            await hand.store.replace(make_key("one"), expected_version=9)
            await recorder.wait_for(lambda: recorder.events.count("one") >= 3)


async def test_an_import_of_many_keys_is_told_as_one(hand: Hand) -> None:
    """However many steps it took; and one that fails is not told at all."""
    records = [make_key(f"k{number}") for number in range(600)]
    async with watching(hand.store) as recorder:
        await hand.store.add_many([make_organization("more")], records)
        await hand.store.barrier()
        changes = [event for event in recorder.events if event != HEARTBEAT]
        assert changes == [EVERYTHING]
        recorder.events.clear()
        with pytest.raises(Exception, match="taken"):
            await hand.store.add_many([], [*(make_key(f"n{n}") for n in range(600)), make_key("x", key_id="key_one")])
        await hand.store.barrier()
        assert set(recorder.events) == {HEARTBEAT}


async def test_switching_an_organization_is_told_once(hand: Hand) -> None:
    """Though it writes a list into every bucket."""
    async with watching(hand.store) as recorder:
        await hand.store.set_organization_active("acme", is_active=False, now=START)
        await hand.store.barrier()
        assert recorder.events.count(EVERYTHING) == 1


async def test_an_organization_that_is_added_switched_off_is_not_told(hand: Hand) -> None:
    """Though it stands in every bucket's list from then on: it has no keys yet. What a hand does to a list is told still."""
    async with watching(hand.store) as recorder:
        await hand.store.add_organization(make_organization("off", is_active=False))
        assert await recorder.changes(hand.store) == set()
        hand.ask("SET", hand.marker("one").replace(b"epoch", b"disabled"), '["off","acme"]')
        await recorder.until(EVERYTHING)


# -- what is behind them ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is looked through at every sign of life."""
    monkeypatch.setattr("backends.redis_watch._LOG", 0.0)


@pytest.mark.usefixtures("hasty")
async def test_a_change_that_was_not_announced_is_found_in_the_log(hand: Hand) -> None:
    """With the time of its writing; a change of everything too."""
    async with watching(hand.store) as recorder:
        hand.ask("XADD", hand.own("log"), "*", "k", "silent", "at", "1700000000000000")
        hand.ask("XADD", hand.own("log"), "*", "a", "", "at", "1700000000000000")
        await hand.store.set_state("key_one", KeyState.DISABLED, now=START)
        await recorder.until("silent")
        await recorder.wait_for(lambda: any(told.what == "one" for told in recorder.told))
        await recorder.wait_for(lambda: any(told.origin is Origin.CHANGE_LOG for told in recorder.told[-2:]))
        (found,) = [told for told in recorder.told if told.what == "silent"]
        assert (found.origin, found.at) == (Origin.CHANGE_LOG, 1_700_000_000.0)
        origins = [told.origin for told in recorder.told if told.what == "one"]
        assert origins == [Origin.KEY], "what was announced is not told again"


@pytest.mark.usefixtures("hasty")
async def test_a_log_without_what_was_there_means_that_anything_may_have_changed(hand: Hand) -> None:
    """It was cut shorter than what was missed, or is another server's."""
    async with watching(hand.store) as recorder:
        hand.ask("DEL", hand.own("log"))
        await recorder.wait_for(lambda: Origin.CHANGE_LOG in {told.origin for told in recorder.told})
        assert [told.what for told in recorder.told if told.origin is Origin.CHANGE_LOG] == [EVERYTHING]
        hand.ask("XADD", hand.own("log"), "*", "k", "silent", "at", "1")
        await recorder.until("silent")


async def test_the_log_is_kept_short(hand: Hand) -> None:
    """Some ten thousand entries."""
    hand.ask("EVAL", "for i = 1, 20000 do redis.call('XADD', KEYS[1], '*', 'k', i) end", 1, hand.own("log"))
    await hand.store.set_state("key_one", KeyState.DISABLED, now=START)
    assert 10_000 <= hand.ask("XLEN", hand.own("log")) < 10_500


# -- a connection that breaks ---------------------------------------------------------------------------------------------------


async def test_a_killed_connection_is_made_anew_and_everything_forgotten(hand: Hand) -> None:
    """The driver's own pub/sub would go on as if nothing had been said meanwhile."""
    async with watching(hand.store) as recorder:
        for _ in range(3):
            hand.ask("CLIENT", "KILL", "TYPE", "pubsub")
            told = await recorder.until(EVERYTHING)
            assert HEARTBEAT not in told[told.index(EVERYTHING) :]
            assert recorder.told[-1].origin is Origin.RECONNECT
            await recorder.until(HEARTBEAT)
        await hand.store.set_state("key_one", KeyState.DISABLED, now=START)
        await recorder.until("one")


async def test_a_server_that_stands_still_gives_no_sign_and_then_everything_is_forgotten(
    own_server: RedisServer,
) -> None:
    """The socket stays open all the time: only the missing sign tells."""
    async with by_hand(own_server) as hand, watching(hand.store) as recorder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("backends.redis_watch._MISSING", 0.2)
            await recorder.until(HEARTBEAT)
            own_server.pause()
            recorder.events.clear()
            clients = hand.another()
            await clients.open()
            with pytest.raises(Exception, match="no answer"):
                await clients.find("one")  # 1 s, in which the sign is missed
            await clients.close()
            assert HEARTBEAT not in recorder.events
            own_server.resume()
            await recorder.until(EVERYTHING)
        await recorder.until(HEARTBEAT)
        await hand.store.set_state("key_one", KeyState.DISABLED, now=START)
        await recorder.until("one")


async def test_the_age_of_a_sign_counts_from_when_it_was_sent(hand: Hand) -> None:
    """What was announced after that may not have come."""
    async with FaultProxy(hand.server.host, hand.server.port) as proxy:
        store = hand.another(hand.url.replace(f":{hand.server.port}/", f":{proxy.port}/"))
        await store.open()
        recorder = Recorder()
        async with told_by(store, recorder):
            await recorder.until(HEARTBEAT)
            await proxy.become(Mode.SLOW, pause=0.15)
            barrier = asyncio.ensure_future(store.barrier())
            await barrier
            assert max(told.delay or 0 for told in recorder.told) >= 0.15
        await store.close()


async def test_where_tracking_is_refused_our_own_announcements_go_on(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Which is said once, however often the connection is made anew."""
    async with by_hand(own_server) as hand:
        hand.ask("ACL", "SETUSER", "default", "-client|tracking")
        with caplog.at_level(logging.WARNING):
            async with watching(hand.store) as recorder:
                hand.server.ask("CLIENT", "KILL", "TYPE", "pubsub")
                await recorder.until(EVERYTHING)
                await recorder.until(HEARTBEAT)
                await hand.store.set_state("key_one", KeyState.DISABLED, now=START)
                await recorder.until("one")
                await hand.store.add_many([], [make_key("more")])
                await recorder.until(EVERYTHING)
        assert caplog.text.count("refuses CLIENT TRACKING") == 1
        assert caplog.text.count("connection is lost") == 1
        assert str(own_server.port) not in caplog.text


async def test_an_outage_is_said_once(own_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Not at every attempt."""
    async with by_hand(own_server) as hand, watching(hand.store) as recorder:
        with caplog.at_level(logging.WARNING):
            own_server.kill()
            attempts = hand.another()
            await attempts.open()
            for _ in range(5):
                with pytest.raises(Exception, match="no connection"):
                    await attempts.ping()
            await attempts.close()
            await asyncio.to_thread(own_server.start)
            await recorder.until(EVERYTHING)
            await recorder.until(HEARTBEAT)
    assert caplog.text.count("connection is lost") == 1


# -- what a push may hold -------------------------------------------------------------------------------------------------------

CHANGES = Names("gk", 0).changes
PUSHES: dict[str, tuple[list[Any], list[str]]] = {
    "no names": ([b"invalidate", None], [EVERYTHING]),
    "names that are none": ([b"invalidate", [None, 7]], [EVERYTHING]),
    "a key": ([b"invalidate", [b"gk:{b000}:one"]], ["one"]),
    "an unknown kind": ([b"tracking-redir-broken"], [EVERYTHING]),
    "nothing": ([], [EVERYTHING]),
    "an unknown channel": ([b"message", b"other", b"x"], [EVERYTHING]),
    "an empty message": ([b"message", CHANGES, b""], [EVERYTHING]),
    "a message of another version": ([b"message", CHANGES, b"z 1 2-0 one"], [EVERYTHING]),
    "a message cut off": ([b"message", CHANGES, b"k 1 2-0"], [EVERYTHING]),
    "a message that is no text": ([b"message", CHANGES, b"k 1 2-0 \xff"], [EVERYTHING]),
    "a message without a time": ([b"message", CHANGES, b"k x 2-0 one"], ["one"]),
    "a key with blanks": ([b"message", CHANGES, b"k 1 2-0 a b c"], ["a b c"]),
    "a change of everything": ([b"message", CHANGES, b"a 1 2-0 "], [EVERYTHING]),
    "quiet": ([b"message", CHANGES, b"q gk:{b000}:one"], []),
}


@pytest.mark.parametrize(("push", "told"), PUSHES.values(), ids=PUSHES)
async def test_what_cannot_be_read_may_have_been_anything(push: list[Any], told: list[str]) -> None:
    """And nothing that is told before the connection is announced itself."""
    recorder = Recorder()
    announcements = Announcements(recorder, Names("gk", 0), b"alive")
    announcements.take(push)
    assert recorder.events == []
    announcements.start()
    announcements.take(push)
    assert recorder.events == [EVERYTHING, *told]


async def test_only_the_sign_that_was_sent_last_counts() -> None:
    """An old one that arrives late proves nothing."""
    recorder = Recorder()
    announcements = Announcements(recorder, Names("gk", 0), b"alive")
    back = announcements.expect(5.0, lambda: 7.5)
    announcements.take([b"message", b"alive", b"4.0"])
    assert not back.done()
    announcements.take([b"message", b"alive", b"5.0"])
    assert back.done()
    assert [told.delay for told in recorder.told] == [2.5]


async def test_quiet_names_are_forgotten_with_the_next_push() -> None:
    """A later change of the same key is news."""
    recorder = Recorder()
    announcements = Announcements(recorder, Names("gk", 0), b"alive")
    announcements.tracking = True
    announcements.start()
    announcements.take([b"message", CHANGES, b"q gk:{b000}:one"])
    announcements.take([b"invalidate", [b"gk:{b000}:one", b"gk:{b000}:two"]])
    announcements.take([b"invalidate", [b"gk:{b000}:one"]])
    announcements.take([b"message", CHANGES, b"a 1 1-0 "])
    announcements.take([b"invalidate", [b"gk:{b000}:disabled"]])
    announcements.take([b"invalidate", [b"gk:{b000}:disabled"]])
    announcements.take([b"message", CHANGES, b"a 1 1-0 "])
    announcements.take([b"invalidate", [b"gk:{b000}:epoch"]])
    assert recorder.events == [EVERYTHING, "two", "one", EVERYTHING, EVERYTHING, EVERYTHING, EVERYTHING]
