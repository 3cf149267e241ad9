"""The measurements as tables of Markdown, and which promises they break."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.faults.imports import KEYS
from benchmarks.faults.matrix import CALLERS, SECONDS

if TYPE_CHECKING:
    from benchmarks.faults.matrix import Seen, Watched
    from benchmarks.faults.revocation import Delays

__all__ = ["broken_promises", "figures"]

_TITLES: Final = (
    "Known key",
    "Key not in the cache",
    "Stranger",
    "Change of a key",
    "All well again after",
    "Revoked meanwhile, refused after",
)
_REVOCATION: Final = (
    "Hot keys: p50",
    "p99",
    "longest",
    "Idle keys that still worked after 0.1 s",
    "Announced within 0.1 s (mean)",
    "Load meanwhile",
)
_REVOKED: Final = 0.1  # seconds, at the 99th percentile
_IMPORTED: Final = 60.0  # seconds
_ANSWERED: Final = 0.5  # seconds: the store's time-out of 0.25 s, and what a busy machine adds
_RECOVERED: Final = 2.0  # seconds
_WRITTEN: Final = 10.5  # seconds: a change reads and then writes, and each has 5


def figures(
    delays: dict[str, Delays], imported: dict[str, float], seen: dict[str, dict[str, Seen]], *, machine: str
) -> str:
    """All tables."""
    parts = [_revocation(delays), _matrix(seen), _imports(imported)]
    return "\n".join([f"Measured on {machine}.", *(line for part in parts for line in ("", *part)), ""])


def broken_promises(
    delays: dict[str, Delays], imported: dict[str, float], seen: dict[str, dict[str, Seen]]
) -> list[str]:
    """A line for each."""
    problems = [
        f"{store}: {KEYS:,} keys were imported in {seconds:.0f} s only"
        for store, seconds in imported.items()
        if seconds > _IMPORTED
    ]
    for store, found in delays.items():
        if found.quantile(0.99) > _REVOKED:
            problems.append(f"{store}: a hot key worked for {_ms(found.quantile(0.99))} after its end (p99)")
        late = [delay for delay in found.idle if delay > _REVOKED]
        if len(late) > len(found.idle) // 100:
            problems.append(f"{store}: {len(late)} of {len(found.idle)} idle keys still worked after 100 ms")
        if found.wrong_answers:
            problems.append(f"{store}: {found.wrong_answers} wrong answers to other callers")
    for store, faults in seen.items():
        for fault, one in faults.items():
            problems += [f"{store}, {fault}: {problem}" for problem in _broken(one)]
    return problems


def _broken(seen: Seen) -> list[str]:
    problems = []
    if seen.wrong:
        problems.append(f"{seen.wrong} answers were neither right nor 503")
    if seen.during["known"].statuses.keys() != {200}:
        problems.append("a known key did not pass all the time")
    problems += [
        f"a {name} waited for {_ms(watched.slowest)}"
        for name, watched in seen.during.items()
        if watched.slowest > (_WRITTEN if name == "write" else _ANSWERED)
    ]
    if seen.recovery > _RECOVERED:
        problems.append(f"all was well only {seen.recovery:.1f} s after its end")
    return problems


def _imports(imported: dict[str, float]) -> list[str]:
    lines = [f"| Store | `gatekey keys import` of {KEYS:,} keys |", "|---|---|"]
    return lines + [f"| {store} | {seconds:.0f} s |" for store, seconds in imported.items()]


def _revocation(delays: dict[str, Delays]) -> list[str]:
    lines = [
        f"| Store | {' | '.join(_REVOCATION)} |",
        "|---" + "|---" * len(_REVOCATION) + "|",
    ]
    for store, found in delays.items():
        late = sum(delay > 0 for delay in found.idle)
        cells = [_ms(found.quantile(share)) for share in (0.5, 0.99, 1.0)]
        count, soon, mean = found.announced
        cells += [f"{late} of {len(found.idle)}", f"{soon:.0f} of {count:.0f} ({_ms(mean)})"]
        load = f"{found.load_requests} requests, {found.wrong_answers} wrong"
        lines.append(f"| {store} | {' | '.join([*cells, load])} |")
    return lines


def _matrix(seen: dict[str, dict[str, Seen]]) -> list[str]:
    lines = [
        f"| Store | Fault, for {SECONDS:g} s | {' | '.join(_TITLES)} |",
        "|---|---" + "|---" * len(_TITLES) + "|",
    ]
    for store, faults in seen.items():
        for fault, one in faults.items():
            cells = " | ".join(_watched(one.during[name]) for name in CALLERS)
            lines.append(f"| {store} | {fault} | {cells} | {one.recovery:.2f} s | {one.revoked_late:.2f} s |")
    return lines


def _watched(watched: Watched) -> str:
    total = sum(watched.statuses.values())
    often = sorted(watched.statuses.items(), key=lambda item: -item[1])
    shares = [f"{status or 'no answer'}: {100 * count / total:.0f} %" for status, count in often]
    return f"{', '.join(shares)}; at most {_ms(watched.slowest)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
