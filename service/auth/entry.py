"""What the cache holds for one key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from service.auth.loaded import LoadedKey

__all__ = ["CacheEntry"]

_NEVER: Final = float("-inf")  # once: a number made anew would be 32 bytes for each entry


class CacheEntry:
    """What one load found. ``loaded`` is ``None`` for a key that does not exist."""

    __slots__ = ("loaded", "loaded_at", "refresh_at", "reread_at", "unanswered_at", "used")

    def __init__(self, loaded: LoadedKey | None, loaded_at: float, refresh_at: float) -> None:
        self.loaded = loaded
        self.loaded_at = loaded_at
        """``Clock.age`` at the *start* of the load: what it found may have changed since then, not since its end."""
        self.refresh_at = refresh_at
        self.reread_at = loaded_at
        self.unanswered_at = _NEVER
        """When the store was last asked for this key without an answer."""
        self.used = False
