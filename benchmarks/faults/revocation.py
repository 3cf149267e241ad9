"""How long a key goes on working after the write that ends it was answered, in every process, under load."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Final

from benchmarks.faults.client import Client
from benchmarks.faults.fleet import Fleet, fleet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.faults.client import Answer

__all__ = ["Delays", "measure"]

_PROCESSES: Final = 4
_LOAD: Final = 150  # requests a second for each process, besides those that measure
_LOAD_KEYS: Final = 200
_LIMIT: Final = 10.0  # seconds after which a key that still works is a failure
_PAUSE: Final = 0.002  # seconds between two looks at a hot key
_IDLE: Final = 0.1  # seconds after the write at which an idle key is first asked for


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds until the last process refused, one sample for each process and write; ``idle`` counts the late ones."""

    hot: tuple[float, ...]
    idle: tuple[float, ...]
    load_requests: int
    wrong_answers: int
    """Answers to the load that were not 200: must be 0."""
    announced: tuple[float, float, float]
    """The processes' own measure, from a write's time stamp to its effect: how many, within 0.1 s, mean in seconds."""

    def quantile(self, share: float) -> float:
        """Of the hot keys' samples."""
        ordered = sorted(self.hot)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def _revoke(running: Fleet, process: int, key: str) -> Answer:
    return await running.manage(process, "POST", f"/v1/keys/{key}/revoke")


async def _disable(running: Fleet, process: int, key: str) -> Answer:
    return await running.manage(process, "PATCH", f"/v1/keys/{key}", {"is_active": False})


async def _delete(running: Fleet, process: int, key: str) -> Answer:
    return await running.manage(process, "DELETE", f"/v1/keys/{key}")


async def _rotate(running: Fleet, process: int, key: str) -> Answer:
    return await running.manage(process, "POST", f"/v1/keys/{key}/rotate", {"grace": 0})


async def _move(running: Fleet, process: int, key: str) -> Answer:
    return await running.manage(process, "PATCH", f"/v1/keys/{key}", {"domains": ["elsewhere.example.com"]})


async def _close_organization(running: Fleet, process: int, key: str) -> Answer:
    return await running.manage(process, "PATCH", f"/v1/organizations/org-{key}", {"is_active": False})


WRITES: Final[dict[str, Callable[[Fleet, int, str], Awaitable[Answer]]]] = {
    "revoke": _revoke,
    "disable": _disable,
    "delete": _delete,
    "rotate": _rotate,
    "domains changed": _move,
    "organization disabled": _close_organization,
}


async def measure(url: str, *, rounds: int, report: Callable[[int, int], None]) -> Delays:
    """``rounds`` writes of each kind on hot keys, and as many on idle ones, spread over the processes."""
    names = [f"{heat}{index}" for heat in ("hot", "idle") for index in range(rounds * len(WRITES))]
    keys = {name: f"org-{name}" for name in names} | {f"load{index}": "load" for index in range(_LOAD_KEYS)}
    async with fleet(url, processes=_PROCESSES, keys=keys) as running:
        await asyncio.gather(*(_warm(running, process, keys) for process in range(_PROCESSES)))
        load = _Load(running)
        async with asyncio.TaskGroup() as group:
            sources = [group.create_task(load.run(process)) for process in range(_PROCESSES)]
            hot: list[float] = []
            idle: list[float] = []
            for index, (name, write) in enumerate(zip(names, cycle(WRITES.values()), strict=False)):
                watch, samples = (_hot, hot) if name.startswith("hot") else (_idle, idle)
                samples += await watch(running, index % _PROCESSES, name, write)
                report(index + 1, len(names))
            for source in sources:
                source.cancel()
        announced = await _announced(running)
        return Delays(tuple(hot), tuple(idle), load.answered, load.wrong, announced)


async def _announced(running: Fleet) -> tuple[float, float, float]:
    name = "gatekey_invalidation_delay_seconds"
    pages = [(await client.ask("/metrics", {})).body.decode() for client in running.clients]

    def total(series: str) -> float:
        return sum(float(re.findall(rf"^{re.escape(series)} (\S+)$", page, re.MULTILINE)[0]) for page in pages)

    count = total(f"{name}_count")
    return count, total(f'{name}_bucket{{le="0.1"}}'), total(f"{name}_sum") / max(1.0, count)


async def _warm(running: Fleet, process: int, keys: dict[str, str]) -> None:
    for key in keys:
        answer = await running.ask(process, key)
        if answer.status != 200:  # noqa: PLR2004 - HTTP
            raise RuntimeError(f"a key that was just made is answered with {answer.status}")


class _Load:
    def __init__(self, running: Fleet) -> None:
        self._running = running
        self.answered = 0
        self.wrong = 0

    async def run(self, process: int) -> None:
        client = Client(self._running.servers[process].port)
        try:
            for index in cycle(range(_LOAD_KEYS)):
                answer = await self._running.ask(process, f"load{index}", client=client)
                self.answered += 1
                self.wrong += answer.status != 200  # noqa: PLR2004 - HTTP
                await asyncio.sleep(1 / _LOAD)
        finally:
            client.close()


async def _hot(
    running: Fleet, process: int, key: str, write: Callable[[Fleet, int, str], Awaitable[Answer]]
) -> list[float]:
    """A hot key is asked for all the time, in every process."""
    lookouts = [asyncio.create_task(_last_allowed(running, index, key)) for index in range(_PROCESSES)]
    await asyncio.sleep(0.02)
    written = await _written(running, process, key, write)
    return [max(0.0, await lookout - written) for lookout in lookouts]


async def _idle(
    running: Fleet, process: int, key: str, write: Callable[[Fleet, int, str], Awaitable[Answer]]
) -> list[float]:
    """An idle key is cached, and asked for a tenth of a second after the write."""
    written = await _written(running, process, key, write)
    await asyncio.sleep(_IDLE)
    lookouts = [asyncio.create_task(_last_allowed(running, index, key)) for index in range(_PROCESSES)]
    return [max(0.0, await lookout - written) for lookout in lookouts]


async def _written(
    running: Fleet, process: int, key: str, write: Callable[[Fleet, int, str], Awaitable[Answer]]
) -> float:
    answer = await write(running, process, key)
    if answer.status != 200:  # noqa: PLR2004 - HTTP
        raise RuntimeError(f"a write was answered with {answer.status}: {answer.body.decode()}")
    return answer.at


async def _last_allowed(running: Fleet, process: int, key: str) -> float:
    """The time at which the last request that was allowed had begun; 0 if none was, the end of the wait if it still works."""
    last = 0.0
    until = time.monotonic() + _LIMIT
    while time.monotonic() < until:
        answer = await running.ask(process, key)
        if answer.status != 200:  # noqa: PLR2004 - HTTP
            return last
        last = answer.at - answer.seconds
        await asyncio.sleep(_PAUSE)
    return until
