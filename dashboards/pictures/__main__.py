"""``make pictures``: run the service under a load with faults, and draw every dashboard as people would have seen it.

Without arguments one run with several faults is drawn into docs/images; with ``faults``, the overview is drawn once for each
of six faults into docs/faults. Both take some minutes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dashboards import files
from dashboards.pictures.drawing import View, draw, missing
from tests.support.observed import Observed, observed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["FAULTS", "main"]

_ROOT: Final = Path(__file__).parents[2]
_RULES: Final = sorted(_ROOT.glob("dashboards/rules/*.yml"))
_BEFORE: Final = 45.0  # seconds of peace, so that a fault stands out
_DURING: Final = 30.0
_NEW: Final = 20.0


async def _worker_killed(running: Observed) -> None:
    until = time.monotonic() + _DURING
    while time.monotonic() < until:  # again and again: one that is killed once is replaced between two scrapes
        await running.worker_killed()
        await asyncio.sleep(0.7)


async def _expired(_: Observed) -> None:
    await asyncio.sleep(_DURING)  # their time was up when this began


FAULTS: Final[Mapping[str, Callable[[Observed], Awaitable[None]]]] = {
    "store-down": lambda running: running.store_down(_DURING),
    "keys-expired": _expired,
    "keys-guessed": lambda running: running.guessed(_DURING),
    "store-slow": lambda running: running.store_slow(_DURING, pause=0.03),
    "link-lost": lambda running: running.link_lost(_DURING),
    "worker-killed": _worker_killed,
}


async def _every_dashboard(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gatekey-pictures-") as folder:
        async with observed(Path(folder), rules=_RULES) as running:
            running.begin()
            await asyncio.sleep(60)
            await running.revoked(14)
            await asyncio.sleep(25)
            await running.guessed(20)
            await asyncio.sleep(25)
            await running.store_slow(20, pause=0.03)
            await asyncio.sleep(25)
            down = asyncio.create_task(running.store_down(75))
            await asyncio.sleep(73)
            view = await _view(running)
            await down
            await running.stop()
            for name, text in files():
                await _drawn(json.loads(text), running, view, target / f"{Path(name).stem}.png")


async def _one_fault(name: str, target: Path) -> None:
    expires = _BEFORE + 8 if name == "keys-expired" else None
    with tempfile.TemporaryDirectory(prefix="gatekey-pictures-") as folder:
        async with observed(Path(folder), rules=_RULES, expires_in=expires) as running:
            running.begin()
            await asyncio.sleep(_BEFORE)
            fault = asyncio.create_task(_as_task(FAULTS[name](running)))
            await asyncio.sleep(_DURING - 2)
            view = await _view(running)
            await fault
            await running.stop()
            overview = dict(files())["gatekey-overview.json"]
            await _drawn(json.loads(overview), running, view, target / f"{name}.png")


async def _view(running: Observed) -> View:
    """Of the moment; the first seconds, in which everything was new, are left out."""
    lines = [line for line in running.server.events if line.get("outcome") in ("deny", "error")]
    now = time.time()
    return View(to=now, range=int(now - running.started - _NEW), lines=lines[-14:][::-1])


async def _as_task(awaited: Awaitable[None]) -> None:
    await awaited


async def _drawn(dashboard: dict[str, object], running: Observed, view: View, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    done = await asyncio.to_thread(draw, dashboard, running.prometheus.base, view, target)
    print(target.name, json.dumps(done))  # noqa: T201 - what a script says


def main(arguments: list[str]) -> None:
    """Draw what is asked for."""
    if lacks := missing():
        raise SystemExit(lacks)
    if arguments[:1] == ["faults"]:
        for name in arguments[1:] or FAULTS:
            asyncio.run(_one_fault(name, _ROOT / "docs" / "faults"))
    else:
        asyncio.run(_every_dashboard(_ROOT / "docs" / "images"))


if __name__ == "__main__":
    main(sys.argv[1:])
