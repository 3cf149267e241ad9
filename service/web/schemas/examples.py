"""What the API's description shows. The checksums are wrong on purpose, so that nothing here can be used anywhere."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["EXAMPLE_KEY", "EXAMPLE_SECRET", "IN_FORCE", "KEY"]

EXAMPLE_KEY: Final = "gk_live_0123456789ABCDEFGHIJKLexampl"
EXAMPLE_SECRET: Final = "gks_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgexampl"  # noqa: S105 - no secret: its checksum is wrong
KEY: Final[dict[str, Any]] = {
    "key_id": "key_0197a1b2c3d40123456789abcdef0123",
    "organization_id": "acme",
    "api_key": EXAMPLE_KEY,
    "name": "orders",
    "domains": ["api.example.com"],
    "scopes": ["orders:*"],
    "origins": [],
    "networks": ["192.0.2.0/24"],
    "state": "active",
    "is_active": True,
    "critical": False,
    "expires_at": "2027-01-31T12:00:00Z",
    "metadata": {"team": "checkout"},
    "created_at": "2026-11-02T12:00:00Z",
    "updated_at": "2026-11-02T12:00:00Z",
    "version": 1,
    "rotation": None,
    "last_used_at": None,
}
IN_FORCE: Final[dict[str, Any]] = {"here": True, "everywhere_by": "2026-11-02T12:05:00Z", "durable": True}
