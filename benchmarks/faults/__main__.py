"""``make faults``: measure, print, and write docs/reliability.md's figures anew. Exit status 1 when a promise is broken."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.faults import imports, matrix, revocation
from benchmarks.faults.report import broken_promises, figures
from benchmarks.faults.stores import STORES

_PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
_RAW: Final = Path(__file__).with_name("results.json")
_BETWEEN: Final = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def main() -> int:
    """Exit status 0, or 1 where a promise of docs/reliability.md was not kept."""
    options = _options()
    delays: dict[str, revocation.Delays] = {}
    imported: dict[str, float] = {}
    seen: dict[str, dict[str, matrix.Seen]] = {}
    for store in options.store or STORES:
        delays[store], imported[store], seen[store] = asyncio.run(_measure(store, options.rounds))
    text = figures(delays, imported, seen, machine=_machine())
    print(text)  # noqa: T201 - what the command is for
    problems = broken_promises(delays, imported, seen)
    for problem in problems:
        print(f"NOT KEPT: {problem}", file=sys.stderr)  # noqa: T201 - as above
    if options.keep:
        _PAGE.write_text(_BETWEEN.sub(lambda found: found[1] + text + found[2], _PAGE.read_text(encoding="utf-8")))
        raw = {
            "revocation": {name: asdict(value) for name, value in delays.items()},
            "machine": _machine(),
            "import": imported,
        }
        raw["faults"] = {
            store: {fault: asdict(value) for fault, value in faults.items()} for store, faults in seen.items()
        }
        _RAW.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    return 1 if problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--store", action="append", choices=list(STORES), help="only this one (may be repeated)")
    parser.add_argument("--rounds", type=int, default=20, help="writes of each kind, hot and idle (default 20)")
    parser.add_argument("--keep", action="store_true", help="write docs/reliability.md and results.json anew")
    return parser.parse_args()


async def _measure(store: str, rounds: int) -> tuple[revocation.Delays, float, dict[str, matrix.Seen]]:
    async with STORES[store]() as prepared:
        delays = await revocation.measure(
            prepared.direct, rounds=rounds, report=lambda done, of: _say(f"{store}: revocation {done}/{of}")
        )
    async with STORES[store]() as prepared:
        _say(f"{store}: import of {imports.KEYS:,} keys")
        imported = await imports.measure(prepared.direct)
    async with STORES[store]() as prepared:
        seen = await matrix.watch(
            prepared.url,
            prepared.faults,
            seed_url=prepared.direct,
            revoke=prepared.revoke,
            report=lambda fault: _say(f"{store}: {fault}"),
        )
    _say("")
    return delays, imported, seen


def _say(text: str) -> None:
    """Where one is, for people at a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)  # noqa: T201 - a progress line


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"


if __name__ == "__main__":
    sys.exit(main())
