"""Where one is: a line that changes on a terminal, lines in a log."""

from __future__ import annotations

import sys

__all__ = ["say"]


def say(text: str, *, keep: bool = False) -> None:
    """On standard error; ``keep`` is for what should stay on the screen. Nothing (``""``) clears the line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="\n" if keep else "", file=sys.stderr, flush=True)  # noqa: T201 - a progress line
    elif text:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - as above
