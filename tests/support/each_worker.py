"""Each worker of a running service by itself: one connection that it has accepted, over which it alone answers."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.support.processes import CONTEXT, HOST
from tests.support.raw_http import RawConnection, render
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.raw_http import Lines, RawResponse
    from tests.support.servers import GatekeyServer

DOOR = "/auth/forward/default"
_numbers = count()


class WorkerLine:
    """The connection to one worker."""

    def __init__(self, server: GatekeyServer, connection: RawConnection) -> None:
        self._server = server
        self._connection = connection

    def get(self, target: str, lines: Lines = ()) -> RawResponse:
        self._connection.send(render("GET", target, [*HOST, *lines]))
        return self._connection.receive()

    def decide(self, lines: Lines) -> tuple[int, dict[str, Any]]:
        """The status of a request at the forward door, and the line that the worker logged of it."""
        name = f"of-one-worker-{next(_numbers)}"
        answer = self.get(DOOR, [*CONTEXT, *lines, ("X-Request-Id", name)])
        (line,) = self._server.decisions(1, request_id=name)
        return answer.status, line


@contextmanager
def each_worker(server: GatekeyServer, workers: int, lines: Lines) -> Iterator[dict[str, WorkerLine]]:
    """A line to each worker by its ``boot_id``. ``lines`` are those of a key, which every worker is asked for once or more."""
    found: dict[str, WorkerLine] = {}
    with ExitStack() as stack:

        def one_more() -> bool:
            line = WorkerLine(server, stack.enter_context(RawConnection(server.port)))
            found.setdefault(line.decide(lines)[1]["boot_id"], line)
            return len(found) == workers

        wait_until(one_more, f"{workers} workers have accepted a connection")
        yield found
