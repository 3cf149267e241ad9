"""Latency under a constant rate: requests are due at fixed times, and a latency counts from when its request was due.

A closed loop, as wrk's, sends nothing while a server is stuck, so the requests that would have suffered are missing
from its percentiles (wrk2 calls it coordinated omission). Here a request that finds no free connection waits in a queue
and its waiting is counted. The generator sleeps until something is due or has come, as real clients do: one that spins
takes a third of the server's speed where both cores are hyper-threads of one. How late it woke in spite of that is part
of the result. One Python process sends about 20,000 requests a second at most, which is its limit.
"""

from __future__ import annotations

import gc
import select
import socket
import sys
import time
from array import array
from collections import deque
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

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
_READ: Final = 1 << 18  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``rate`` requests a second for ``seconds``, over ``connections``.

    With ``strangers`` only one request in ten is ``request``, and the others are theirs in turn, over as many connections
    of their own: nobody's client waits until a stranger has been answered. Their answers may be the expected ones or 503,
    and only ``request``'s latencies count.
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


class _Callers:
    """Those who share some connections: whoever finds none free waits in a queue."""

    def __init__(self, requests: Sequence[bytes], expected: frozenset[int], connections: int, port: int) -> None:
        self.expected = expected
        self.latencies = array("d")
        self.usual = -1
        """The length of the last response: one of that length needs no parsing."""
        self.connections = [_Connection(self, port) for _ in range(connections)]
        self._requests = requests
        self._sent = 0
        self._idle = deque(self.connections)
        self._waiting: deque[float] = deque()

    def call(self, due: float) -> None:
        """Send a request that was due then, now or as soon as a connection is free."""
        if self._idle:
            self._send(self._idle.popleft(), due)
        else:
            self._waiting.append(due)

    def answered(self, connection: _Connection, due: float) -> None:
        """The connection is free."""
        self.latencies.append(time.perf_counter() - due)
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _send(self, connection: _Connection, due: float) -> None:
        connection.send(self._requests[self._sent % len(self._requests)], due)
        self._sent += 1


class _Connection:
    """One request at a time."""

    def __init__(self, callers: _Callers, port: int) -> None:
        self._callers = callers
        self.due = -1.0
        self._got = b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes, due: float) -> None:
        """A request fits into the socket's buffer."""
        self.due = due
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Whether a whole answer is there now. Raises ``BadRun`` where it is not the expected one."""
        callers = self._callers
        try:
            data = self._got + self.socket.recv(_READ)
        except ConnectionError as error:
            raise BadRun(f"the server closed a connection ({error})") from None
        if len(data) == len(self._got):
            raise BadRun("the server closed a connection (no error)")
        try:
            length = len(data) if len(data) == callers.usual else response_end(data)
            if length is None:
                self._got = data
                return False
            status = status_of(data)
        except ValueError as error:
            raise BadRun(str(error)) from None
        if status not in callers.expected or length != len(data) or self.due < 0:
            wanted = " or ".join(map(str, sorted(callers.expected)))
            raise BadRun(f"an answer was {status} with {len(data)} bytes, expected was {wanted}")
        callers.usual = length
        due, self.due, self._got = self.due, -1.0, b""
        callers.answered(self, due)
        return True


def measure(plan: Plan) -> Latency:
    """Raises ``BadRun`` where an answer was not the expected one, or did not come, and ``OSError`` without a server."""
    port, total = plan.port, max(1, round(plan.rate * plan.seconds))
    known = _Callers(
        [request_bytes(plan.request, port=port)], frozenset({plan.request.expected}), plan.connections, port
    )
    groups = [known]
    if plan.strangers:
        requests = [request_bytes(stranger, port=port) for stranger in plan.strangers]
        expected = frozenset({_SHED, *(stranger.expected for stranger in plan.strangers)})
        groups.append(_Callers(requests, expected, plan.connections, port))
    with suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")  # else it wakes 50 us late
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        connections = {}
        for connection in (each for group in groups for each in group.connections):
            stack.enter_context(closing(connection.socket))
            connections[connection.socket.fileno()] = connection
            poll.register(connection.socket, select.EPOLLIN)
        gc.collect()
        gc.disable()
        stack.callback(gc.enable)
        late, idle, elapsed = _drive(plan.rate, total, groups, poll, connections)
    return summary(known.latencies, late, seconds=elapsed, idle=idle)


def _drive(
    rate: float, total: int, groups: Sequence[_Callers], poll: select.epoll, connections: dict[int, _Connection]
) -> tuple[array[float], float, float]:
    """Send each request when it is due and take every answer; how late each was noticed, and seconds idle and in all."""
    late, idle, due, answers = array("d"), 0.0, 0, 0
    start = now = time.perf_counter()
    until = start + total / rate + _PATIENCE
    while answers < total:
        if now > until:
            raise BadRun(f"{answers} of {total} answers had come {_PATIENCE:g} s after the last was due")
        while due < total and (at := start + due / rate) <= now:
            late.append(now - at)
            groups[bool(due % _ONE_IN) if len(groups) > 1 else 0].call(at)
            due += 1
        before = time.perf_counter()
        wait = (start + due / rate if due < total else until) - before
        # An epoll's own time-out counts in milliseconds, that of select in microseconds.
        is_any = bool(select.select([poll], [], [], max(0.0, wait))[0])
        now = time.perf_counter()
        idle += now - before
        for fileno, _ in poll.poll(0) if is_any else ():
            answers += connections[fileno].receive()
    return late, idle, time.perf_counter() - start


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
        found: dict[str, Any] = asdict(measure(plan))
    except (BadRun, OSError) as error:
        found = {"problem": str(error)}
    sys.stdout.buffer.write(orjson.dumps(found))
    return 1 if "problem" in found else 0


if __name__ == "__main__":
    sys.exit(main())
