"""What the management refuses on its own; ``NotFound``, ``Conflict`` and ``VersionConflict`` come from the store as they are.

::

    ManageError
    ├── Invalid       a field has a value that it must not have; names the field, never the value
    └── Forbidden     the actor may not do this (grant a scope that it has not, touch the reserved organization)
"""

from __future__ import annotations

__all__ = ["Forbidden", "Invalid", "ManageError"]


class ManageError(Exception):
    """Base of both."""


class Invalid(ManageError):
    """``field`` is the name of what is wrong, as callers know it; the text says what it must be."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class Forbidden(ManageError):
    """Told to whoever asked; holds nothing about other organizations."""
