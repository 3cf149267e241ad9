"""Gatekey: decides for every request whether the caller's API key and secret are valid for the domain it calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.app import create_app
    from service.web.protect import api_key_required, current_key

__all__ = ["__version__", "api_key_required", "create_app", "current_key"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded on first use: the command line must start quickly, and its tools need no Flask.
    if name == "create_app":
        from service.app import create_app

        return create_app
    if name in ("api_key_required", "current_key"):
        from service.web import protect

        return getattr(protect, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
