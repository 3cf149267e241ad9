"""The type of every secret in the process: it cannot be printed, formatted, compared by accident or put into a log."""

from __future__ import annotations

from typing import Final, NoReturn

__all__ = ["Secret"]

_MASK: Final = "[secret]"


class Secret:
    """Text that only ``reveal`` gives back.

    ``repr``, ``str`` and ``format`` are masked; comparing or hashing raises ``TypeError``, because ``==`` on secrets
    leaks time and a secret is no dictionary key. It pickles (workers are handed their settings that way) and nothing else.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; the caller answers for where it goes."""
        return self._text

    def __repr__(self) -> str:
        return _MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(_MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("secrets are compared through a digest, in constant time")

    __hash__ = None  # type: ignore[assignment]  # unhashable on purpose
