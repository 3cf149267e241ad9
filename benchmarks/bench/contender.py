"""What a contender is: how it is started, what is asked of it, and what it must answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from benchmarks.bench.wrk import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["Contender", "Kind", "Launch", "Place", "Request", "selected"]

Kind: TypeAlias = Literal["gatekey", "rival", "limit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one start of a contender happens: a free port, and an empty folder that is removed afterwards."""

    port: int
    folder: Path

    @property
    def key_file(self) -> Path:
        """Where a contender that makes up its key writes it down."""
        return self.folder / "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A command and the variables that it needs besides the harness's own environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``{key}`` in a header's value stands for the key that the contender made up."""

    path: str
    headers: Mapping[str, str]
    expected: int = 200

    def changed(self, *, expected: int, **headers: str) -> Request:
        """With other values of headers (named with underscores) and another answer."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, expected=expected, headers={**self.headers, **names})

    def with_key(self, key: str) -> Request:
        """As it is sent."""
        return replace(self, headers={name: value.replace("{key}", key) for name, value in self.headers.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """``name`` is for ``make bench ONLY=…``; ``title`` and ``setup`` are for the reader of the results."""

    name: str
    title: str
    setup: str
    kind: Kind
    launch: Callable[[Place], Launch]
    request: Request
    refused: Request
    """A wrong secret, to see that there is a check at all."""
    makes_key: bool = False
    missing: Callable[[], str] = lambda: ""
    """What this machine lacks to run it, empty where nothing."""
    workers: int = 1
    """Processes that answer; each gets a core where there are enough."""
    connections: int = CONNECTIONS
    """Callers at the same time; with one, the rate is how long a request takes."""
    latency: bool = True
    """Whether it is measured at 70 % of its top rate, too."""
    batch: bool = True
    """Whether its threads run under ``SCHED_BATCH``, having a core of their own."""
    versions: tuple[str, ...] = ()
    """The packages and programs to name."""


def selected(names: list[str], only: str) -> list[str]:
    """Those of ``names`` that ``only`` means: words between commas or blanks, each a name or the beginning of some.

    ``flask`` means ``flask-granian`` and ``flask-async``. Raises ``ValueError`` where a word means none.
    """
    words = only.replace(",", " ").split()
    chosen = set(names if not words else ())
    for word in words:
        found = [name for name in names if name == word or name.startswith(f"{word}-")]
        if not found:
            raise ValueError(f"there is no contender {word!r}; there are: {', '.join(names)}")
        chosen.update(found)
    return [name for name in names if name in chosen]
