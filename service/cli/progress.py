"""A bar for what takes long: on a terminal, on standard error; nothing at all anywhere else."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["progress"]


@contextmanager
def progress(label: str, total: int | None, *, shown: bool = True, then: str = "") -> Iterator[Callable[[int], None]]:
    """A function that is told how many are done, of ``total`` where that is known; ``then`` says what follows the last."""
    if not shown or not sys.stderr.isatty():
        yield lambda _: None
    elif total is None:
        yield lambda done: click.echo(f"\r{label}  {done:,}", nl=False, err=True)
        click.echo(err=True)
    else:
        bar = _Bar(label, total, then)
        try:
            yield bar.reached
        finally:
            bar.close()


class _Bar:
    def __init__(self, label: str, total: int, then: str) -> None:
        self._bar = click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True)
        self._bar.render_progress()
        self._total = total
        self._then = then
        self._open = True

    def reached(self, done: int) -> None:
        """Move on; at the end of the bar the line is finished."""
        if self._open:
            self._bar.update(min(done, self._total) - self._bar.pos)
        if self._open and done >= self._total:
            self.close()
            if self._then:
                click.echo(self._then, err=True)

    def close(self) -> None:
        """Leave the line, whatever became of it."""
        if self._open:
            self._open = False
            self._bar.render_finish()
