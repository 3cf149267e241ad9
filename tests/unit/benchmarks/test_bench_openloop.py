"""The open-loop generator, against a server whose answers and pauses are known."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.bench.contender import Request
from benchmarks.bench.errors import BadRun
from benchmarks.bench.openloop import Plan, measure, summary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
DENIED = b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno"


@asynccontextmanager
async def server(
    answer: Callable[[int], bytes],
    *,
    to_strangers: Callable[[int], bytes] | None = None,
    strangers_after: asyncio.Event | None = None,
    silent_for: float = 0.0,
) -> AsyncIterator[int]:
    """Answers the n-th request with ``answer(n)``, nobody for ``silent_for`` seconds from the first; yields its port.

    ``to_strangers`` is for requests with a key, which wait for ``strangers_after``.
    """
    seen = 0
    begin: float | None = None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen, begin
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                now = asyncio.get_running_loop().time()
                begin = now + silent_for if begin is None else begin
                await asyncio.sleep(begin - now)
                seen += 1
                say = to_strangers if to_strangers is not None and b"x-api-key" in request else answer
                if say is to_strangers and strangers_after is not None:
                    async with asyncio.timeout(10):
                        await strangers_after.wait()
                said = say(seen)
                writer.write(said)
                if not said:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


def plan(port: int, *, requests: int = 100, connections: int = 4) -> Plan:
    request = Request(path="/", headers={})
    return Plan(port=port, request=request, rate=1000.0, seconds=requests / 1000, connections=connections)


async def test_every_request_that_is_due_is_sent_and_answered() -> None:
    """No more and no fewer."""
    async with server(lambda _: OK) as port:
        found = await asyncio.to_thread(measure, plan(port))
    assert found.requests == 100
    assert 0 < found.p50 <= found.p99 <= found.p999 <= found.slowest
    assert 0 < found.busy <= 1


async def test_waiting_for_a_free_connection_counts() -> None:
    """While the server says nothing for 0.5 s, requests go on being due: they waited, though they were not sent.

    All are due within 0.1 s, so each has waited for 0.4 s at least, however slow the machine is. A closed loop with two
    connections would have seen two slow requests of a hundred.
    """
    async with server(lambda _: OK, silent_for=0.5) as port:
        found = await asyncio.to_thread(measure, plan(port, connections=2))
    assert found.requests == 100
    assert found.p50 >= 400


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda number: DENIED if number == 50 else OK, "an answer was 401"),
        (lambda number: b"" if number == 50 else OK, "the server closed a connection"),
        (lambda _: b"SSH-2.0-x\r\n", "no HTTP/1.1 response"),
        (lambda _: OK + OK, "an answer was 200 with"),
    ],
)
async def test_one_wrong_answer_is_no_result(answer: Callable[[int], bytes], message: str) -> None:
    """Whatever the others were."""
    async with server(answer) as port:
        with pytest.raises(BadRun, match=message):
            await asyncio.to_thread(measure, plan(port))


async def test_answers_in_pieces_are_put_together() -> None:
    """A response may come in two reads."""
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n" + b"x" * 400_000
    async with server(lambda _: long) as port:
        found = await asyncio.to_thread(measure, plan(port, requests=5))
    assert found.requests == 5


async def test_only_one_request_in_ten_counts_among_strangers() -> None:
    """Their refusals and 503 are as they should be, and a 200 for one of them is not."""
    stranger = Request(path="/", headers={"x-api-key": "nobody"}, expected=401)
    shed = DENIED.replace(b"401", b"503")

    def refuse(number: int) -> bytes:
        return shed if number % 3 else DENIED

    async with server(lambda _: OK, to_strangers=refuse) as port:
        found = await asyncio.to_thread(measure, replace(plan(port, connections=1), strangers=(stranger,)))
        assert found.requests == 10
        assert found.rate > found.requests
    async with server(lambda _: OK) as port:
        with pytest.raises(BadRun, match=r"an answer was 200 .* expected was 401 or 503"):
            await asyncio.to_thread(measure, replace(plan(port, connections=1), strangers=(stranger,)))


async def test_nobody_waits_until_a_stranger_has_been_answered() -> None:
    """They come over connections of their own, as other people's clients do: all ten are answered before any of them."""
    stranger = Request(path="/", headers={"x-api-key": "nobody"}, expected=401)
    answers = 0
    are_all = asyncio.Event()

    def answer(_: int) -> bytes:
        nonlocal answers
        answers += 1
        if answers == 10:
            are_all.set()
        return OK

    async with server(answer, to_strangers=lambda _: DENIED, strangers_after=are_all) as port:
        found = await asyncio.to_thread(measure, replace(plan(port, connections=1), strangers=(stranger,)))
    assert found.requests == 10


def test_the_summary_is_in_milliseconds() -> None:
    """And the rate is that of the answers."""
    found = summary([0.001 * value for value in range(1, 1001)], [0.002] * 1000, seconds=2.0, idle=0.5)
    assert (found.requests, found.rate, found.late, found.busy) == (1000, 500, 2, 0.75)
    assert [round(value) for value in (found.p50, found.p99, found.p999, found.slowest)] == [500, 990, 999, 1000]
