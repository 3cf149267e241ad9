"""Latency under a constant rate: requests are due at fixed times, and a latency counts from when its request was due.

A closed loop, as wrk's, sends nothing while a server is stuck, so the requests that would have suffered are missing
from its percentiles (wrk2 calls it coordinated omission). Here a request that finds no free connection waits in a queue
and its waiting is counted. The event loop never sleeps, because timers are too coarse and the generator has a core to
itself; how late it was in spite of that is part of the result. One Python process sends about 30,000 requests a second
at most, which is its limit.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from array import array
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
import uvloop

from benchmarks.bench.contender import Request
from benchmarks.bench.errors import BadRun
from benchmarks.bench.figures import quantile
from benchmarks.bench.wire import request_bytes, response_end, status_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Latency", "Plan", "measure", "summary"]

_PATIENCE: Final = 15.0  # seconds that the last answers may take
_ONE_IN: Final = 10
"""Requests of which one is not a stranger's, where there are strangers."""
_SHED: Final = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``rate`` requests a second for ``seconds``, over ``connections``.

    With ``strangers`` only one request in ten is ``request``, and the others are theirs in turn. Their answers may be the
    expected ones or 503, and only ``request``'s latencies count.
    """

    port: int
    request: Request
    rate: float
    seconds: float
    connections: int
    strangers: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """In milliseconds. ``late`` (p99) is how long after it was due the generator noticed a request.

    ``busy`` is the share of the time in which it had something to do: near 1 it was the limit, and not the server.
    """

    requests: int
    rate: float
    p50: float
    p99: float
    p999: float
    slowest: float
    late: float
    busy: float


class _Generator:
    def __init__(self, plan: Plan, finished: asyncio.Future[None]) -> None:
        self.request = request_bytes(plan.request, port=plan.port)
        self.expected = plan.request.expected
        self.total = max(1, round(plan.rate * plan.seconds))
        self.answers = 0
        self.strangers = [request_bytes(stranger, port=plan.port) for stranger in plan.strangers]
        self.for_strangers = {stranger.expected for stranger in plan.strangers} | {_SHED}
        self.usual = -1
        """The length of the last response: one of that length needs no parsing."""
        self.idle: deque[_Connection] = deque()
        self.latencies = array("d")
        self.late = array("d")
        self._waiting: deque[tuple[float, int]] = deque()
        self._due = 0
        self._answered_before = 0
        self._turned = 0.0
        self.idle_seconds = 0.0
        self._rate = plan.rate
        self._start = 0.0
        self._finished = finished
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        self._start = self._turned = time.perf_counter()
        self._tick()

    def _tick(self) -> None:
        """Send what is due by now, and come back in the loop's next turn."""
        now = time.perf_counter()
        due_before, answered = self._due, self.answers
        while self._due < self.total and (due := self._start + self._due / self._rate) <= now:
            self.late.append(now - due)
            if self.idle:
                self.idle.popleft().send(due, self._due)
            else:
                self._waiting.append((due, self._due))
            self._due += 1
        if due_before == self._due and answered == self._answered_before:
            self.idle_seconds += now - self._turned
        self._turned, self._answered_before = now, answered
        if not self._finished.done():
            self._loop.call_soon(self._tick)

    def answered(self, connection: _Connection) -> None:
        self.answers += 1
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self.idle.append(connection)
            if self.answers == self.total and not self._finished.done():
                self._finished.set_result(None)

    def failed(self, problem: str) -> None:
        if not self._finished.done():
            self._finished.set_exception(BadRun(problem))


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, generator: _Generator) -> None:
        self._generator = generator
        self._due = -1.0
        self._is_stranger = False
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, due: float, number: int) -> None:
        self._due = due
        strangers = self._generator.strangers
        self._is_stranger = bool(strangers) and number % _ONE_IN != 0
        self._transport.write(strangers[number % len(strangers)] if self._is_stranger else self._generator.request)

    def data_received(self, data: bytes) -> None:
        generator = self._generator
        if self._got:
            data = self._got + data
        try:
            length = len(data) if len(data) == generator.usual else response_end(data)
            if length is None:
                self._got = data
                return
            status = status_of(data)
        except ValueError as error:
            generator.failed(str(error))
            return
        is_right = status in generator.for_strangers if self._is_stranger else status == generator.expected
        if not is_right or length != len(data) or self._due < 0:
            who = "a stranger's" if self._is_stranger else "an"
            generator.failed(f"{who} answer was {status} with {len(data)} bytes, expected was {generator.expected}")
            return
        if not self._is_stranger:
            generator.usual = length
            generator.latencies.append(time.perf_counter() - self._due)
        self._due, self._got = -1.0, b""
        generator.answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._generator.failed(f"the server closed a connection ({exc or 'no error'})")


async def measure(plan: Plan) -> Latency:
    """Raises ``BadRun`` where an answer was not the expected one, or did not come, and ``OSError`` without a server."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    generator = _Generator(plan, finished)
    made = [
        await loop.create_connection(lambda: _Connection(generator), "127.0.0.1", plan.port)
        for _ in range(plan.connections)
    ]
    generator.idle.extend(protocol for _, protocol in made)
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    try:
        generator.begin()
        async with asyncio.timeout(plan.seconds + _PATIENCE):
            await finished
    except TimeoutError:
        answers = f"{generator.answers} of {generator.total}"
        raise BadRun(f"{answers} answers had come {_PATIENCE:g} s after the last was due") from None
    finally:
        gc.enable()
        elapsed = time.perf_counter() - started
        if not finished.done():
            finished.cancel()
        for transport, _ in made:
            transport.abort()
    return summary(generator.latencies, generator.late, seconds=elapsed, idle=generator.idle_seconds)


def summary(latencies: Sequence[float], late: Sequence[float], *, seconds: float, idle: float) -> Latency:
    """Of times in seconds."""
    ordered = sorted(latencies)
    return Latency(
        requests=len(ordered),
        rate=len(late) / seconds,
        p50=quantile(ordered, 0.5) * 1000,
        p99=quantile(ordered, 0.99) * 1000,
        p999=quantile(ordered, 0.999) * 1000,
        slowest=ordered[-1] * 1000,
        late=quantile(sorted(late), 0.99) * 1000,
        busy=1 - idle / seconds,
    )


def main() -> int:
    """A plan as JSON on standard input, the result or the problem as JSON on standard output."""
    given: dict[str, Any] = orjson.loads(sys.stdin.buffer.read())
    strangers = tuple(Request(**stranger) for stranger in given["strangers"])
    plan = Plan(**{**given, "request": Request(**given["request"]), "strangers": strangers})
    try:
        found: dict[str, Any] = asdict(uvloop.run(measure(plan)))
    except (BadRun, OSError) as error:
        found = {"problem": str(error)}
    sys.stdout.buffer.write(orjson.dumps(found))
    return 1 if "problem" in found else 0


if __name__ == "__main__":
    sys.exit(main())
