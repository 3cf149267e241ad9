"""What callers of one process see while its store fails in each of the ways that stores fail, and how it comes back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from benchmarks.faults.client import Client
from benchmarks.faults.fleet import Fleet, fleet
from service.auth.tokens import generate_api_key

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from benchmarks.faults.client import Answer

__all__ = ["CALLERS", "SECONDS", "Fault", "Seen", "Watched", "watch"]

Fault: TypeAlias = "Callable[[], AbstractAsyncContextManager[None]]"
"""Makes the store fail while it is entered."""

CALLERS: Final = ("known", "cold", "stranger", "write")
"""A key in the cache, real keys that are not, keys that nobody has, and an operator's changes."""

SECONDS: Final = 5.0  # that a fault lasts: the link is down for long enough, and entries grow older than 5 s
_COLD: Final = 400
_LIMIT: Final = 20.0  # seconds in which everything must be as before
_PACE: Final = {"known": 0.01, "cold": 0.05, "stranger": 0.05, "write": 0.5}
_RIGHT: Final = {"known": {200}, "cold": {200}, "stranger": {401}, "write": {200}}
_HONEST: Final = {name: right | {503} for name, right in _RIGHT.items()}


@dataclass(slots=True)
class Watched:
    """Answers to one kind of caller: how often each status, and the slowest in seconds."""

    statuses: dict[int, int] = field(default_factory=dict)
    slowest: float = 0.0

    def note(self, answer: Answer) -> None:
        """Count it."""
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        self.slowest = max(self.slowest, answer.seconds)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one fault did. ``recovery`` is seconds from its end until every caller had the right answer again."""

    during: dict[str, Watched]
    recovery: float
    wrong: int
    """Answers that are neither right nor 503: a refusal without evidence, or worse. Must be 0."""
    revoked_late: float
    """Seconds from the fault's end until a key that was revoked meanwhile, past this process, was refused."""


async def watch(
    url: str,
    faults: dict[str, Fault],
    *,
    seed_url: str,
    revoke: Callable[[str], Coroutine[Any, Any, None]],
    report: Callable[[str], None],
) -> dict[str, Seen]:
    """One process over ``url`` lives through all faults; ``revoke`` ends a key directly, past the fault."""
    seen: dict[str, Seen] = {}
    for number, (fault, begin) in enumerate(faults.items()):
        keys = {f"{name}-{number}": "acme" for name in ("known", "gone", "changed")}
        keys |= {f"cold-{number}-{index}": "acme" for index in range(_COLD)}
        async with fleet(url, processes=1, keys=keys, seed_url=seed_url) as running:
            report(fault)
            seen[fault] = await _one(running, begin, number, revoke)
    return seen


async def _one(running: Fleet, begin: Fault, number: int, revoke: Callable[[str], Coroutine[Any, Any, None]]) -> Seen:
    callers = _Callers(running, number)
    await callers.until_right()
    gone = f"gone-{number}"
    answer = await running.ask(0, gone)
    if answer.status != 200:  # noqa: PLR2004 - HTTP
        raise RuntimeError(f"before the fault a good key is answered with {answer.status}")
    async with begin():
        revoking = asyncio.create_task(revoke(gone))
        during = await callers.watched(SECONDS)
    ended = time.monotonic()
    await asyncio.wait({revoking}, timeout=_LIMIT)
    revoking.result()
    late = asyncio.create_task(_until_refused(running, gone))
    await callers.until_right()
    recovery = time.monotonic() - ended
    refused = await late
    wrong = sum(
        count
        for name, watched in during.items()
        for status, count in watched.statuses.items()
        if status not in _HONEST[name]
    )
    callers.close()
    return Seen(during, recovery, wrong, max(0.0, refused - ended))


async def _until_refused(running: Fleet, key: str) -> float:
    client = Client(running.servers[0].port)
    try:
        answer = await running.ask(0, key, client=client)
        while answer.status == 200:  # noqa: PLR2004 - HTTP
            await asyncio.sleep(0.01)
            answer = await running.ask(0, key, client=client)
        return time.monotonic()
    finally:
        client.close()


class _Callers:
    def __init__(self, running: Fleet, number: int) -> None:
        self._running = running
        self._number = number
        self._cold = iter(range(_COLD))
        self._clients = {name: Client(running.servers[0].port) for name in CALLERS}
        self._changes = 0

    async def _ask(self, name: str) -> Answer:
        running, client, number = self._running, self._clients[name], self._number
        if name == "known":
            return await running.ask(0, f"known-{number}", client=client)
        if name == "cold":
            return await running.ask(0, f"cold-{number}-{next(self._cold)}", client=client)
        if name == "stranger":
            return await running.ask(0, generate_api_key("test"), client=client)
        self._changes += 1
        return await running.manage(0, "PATCH", f"/v1/keys/changed-{number}", {"name": f"change {self._changes}"})

    async def until_right(self) -> None:
        """Return once every caller has the right answer at the same time."""
        until = time.monotonic() + _LIMIT
        while True:
            answers = {name: (await self._ask(name)).status for name in CALLERS}
            if all(status in _RIGHT[name] for name, status in answers.items()):
                return
            if time.monotonic() > until:
                raise RuntimeError(f"after {_LIMIT:g} s callers still see {answers}")
            await asyncio.sleep(0.05)

    async def watched(self, seconds: float) -> dict[str, Watched]:
        """What they see for so long, each at its own pace."""
        found = {name: Watched() for name in CALLERS}
        async with asyncio.TaskGroup() as group:
            for name in CALLERS:
                group.create_task(self._watch(name, found[name], time.monotonic() + seconds))
        return found

    async def _watch(self, name: str, watched: Watched, until: float) -> None:
        while time.monotonic() < until:
            watched.note(await self._ask(name))
            await asyncio.sleep(_PACE[name])

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
