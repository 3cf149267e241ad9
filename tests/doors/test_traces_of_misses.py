"""Many misses at once on Granian's loop: each look-up is in its own decision's trace."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from service.front import Front
from tests.support.app import built_gatekey
from tests.support.cases import five, pair
from tests.support.faulty_store import FaultyStore
from tests.support.otlp import Receiver, receiver_here
from tests.support.raw_http import RawConnection, render
from tests.support.rsgi_server import rsgi_server
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from service.runtime import Gatekey

MANY = 40
"""More than may be under way at a time, so that some get their turn from another one's end; fewer than a flood."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver_here(monkeypatch) as found:
        yield found


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def port(store: FaultyStore, collector: Receiver) -> Iterator[int]:  # noqa: ARG001 - where the spans go
    environ = {"GATEKEY_TRACES": "on", "GATEKEY_STORE_TIMEOUT": "8"}
    with built_gatekey(store=store, environ=environ) as gatekey:
        front = Front(gatekey)
        with rsgi_server(_Requests(front), life=lambda: _life(gatekey, front)) as found:
            yield found


class _Requests:
    """The front without its own begin and end, which want a loop that does not run yet."""

    def __init__(self, front: Front) -> None:
        self.__rsgi__ = front.__rsgi__


@asynccontextmanager
async def _life(gatekey: Gatekey, front: Front) -> AsyncIterator[None]:
    gatekey.portal.attach(asyncio.get_running_loop())
    await gatekey.start()
    yield
    gatekey.portal.detach()
    front._bridge.close()
    await gatekey.stop()


def _trace(number: int) -> str:
    return f"{number + 1:032x}"


def test_each_look_up_lies_below_the_decision_that_asked_for_it(
    port: int, store: FaultyStore, collector: Receiver
) -> None:
    """Also of those that had to wait for a turn, which somebody else's end gave them."""
    store.hang()
    with ExitStack() as stack:
        connections = [stack.enter_context(RawConnection(port)) for _ in range(MANY)]
        for number, connection in enumerate(connections):
            lines = [
                ("Host", "gatekey"),
                *five(),
                *pair(f"stranger-{number}"),
                ("Traceparent", f"00-{_trace(number)}-00f067aa0ba902b7-01"),
            ]
            connection.send(render("GET", "/auth/forward/default", lines))
        wait_until(lambda: store.calls["find"] >= 24, "as many as may are under way")
        under_way = store.calls["find"]
        store.release()
        assert {connection.receive().status for connection in connections} == {401}
        assert under_way < MANY == store.calls["find"]
    decisions = {span.trace_id: span for span in collector.named("auth.decision", MANY)}
    calls = {span.trace_id: span for span in collector.named("store.find", MANY)}
    assert decisions.keys() == calls.keys() == {_trace(number) for number in range(MANY)}
    assert all(calls[trace].parent_id == decisions[trace].span_id for trace in decisions)


def test_who_joins_a_look_up_makes_none_of_its_own(port: int, store: FaultyStore, collector: Receiver) -> None:
    """One call of the store, in the trace of who asked first."""
    store.hang()
    lines = [("Host", "gatekey"), *five(), *pair("one-stranger")]
    with RawConnection(port) as first, RawConnection(port) as second:
        first.send(render("GET", "/auth/forward/default", [*lines, ("Traceparent", f"00-{_trace(0)}-{1:016x}-01")]))
        wait_until(lambda: store.calls["find"] == 1, "the store is asked")
        second.send(render("GET", "/auth/forward/default", [*lines, ("Traceparent", f"00-{_trace(1)}-{1:016x}-01")]))
        wait_until(lambda: _coalesced(port) == 1, "the other one has joined")
        store.release()
        assert [first.receive().status, second.receive().status] == [401, 401]
    collector.named("auth.decision", 2)
    (call,) = collector.named("store.find")
    assert call.trace_id == _trace(0)


def _coalesced(port: int) -> float:
    with RawConnection(port) as scraper:
        scraper.send(render("GET", "/metrics", [("Host", "gatekey")]))
        body = scraper.receive().body.decode()
    return next(
        float(line.split()[1]) for line in body.splitlines() if line.startswith("gatekey_cache_coalesced_total")
    )
