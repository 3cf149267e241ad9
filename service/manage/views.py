"""A key as text: what the audit trail keeps of it, and its line in an export. Never a secret; hashes in the export only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from service.manage.changes import has_previous

if TYPE_CHECKING:
    from datetime import datetime

    from backends.records import KeyRecord, SecretHash

__all__ = ["as_json", "difference", "export_line", "public_fields"]

_PUBLIC: Final = (
    "key_id", "organization_id", "api_key", "name", "domains", "scopes", "origins", "networks", "state", "expires_at",
    "critical", "metadata", "created_at", "rotated_at", "previous_expires_at", "previous_grace",
)  # fmt: skip
"""Written out, so that a new field of a record is not shown before somebody decides so."""


def as_json(values: dict[str, Any]) -> bytes:
    """One JSON object, its names sorted; times in UTC with a final Z."""
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def public_fields(record: KeyRecord) -> dict[str, Any]:
    """What everybody who reaches the key may see, for ``as_json``."""
    return {**{name: getattr(record, name) for name in _PUBLIC}, "metadata": orjson.Fragment(record.metadata)}


def difference(before: KeyRecord, after: KeyRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """The public fields in which the two differ: as they were, and as they are."""
    old, new = public_fields(before), public_fields(after)
    changed = [name for name in _PUBLIC if getattr(before, name) != getattr(after, name)]
    return {name: old[name] for name in changed}, {name: new[name] for name in changed}


def export_line(record: KeyRecord, now: datetime) -> bytes:
    """The key as one line of an import file (contract 6); with the same peppers it can be imported again.

    An old secret that is over is left out: its pepper may be gone already.
    """
    line = {
        "organization_id": record.organization_id,
        "api_key": record.api_key,
        **_secret("secret", record.secret),
        "domains": record.domains,
        "scopes": record.scopes,
        "networks": record.networks,
        "origins": record.origins,
        "is_active": record.state == "active",
        "expires_at": record.expires_at,
        "name": record.name,
        "metadata": orjson.Fragment(record.metadata),
        "key_id": record.key_id,
        "state": record.state,
        "created_at": record.created_at,
        "critical": record.critical,
    }
    if record.previous_secret is not None and has_previous(record, now):
        line |= _secret("previous_secret", record.previous_secret)
        line |= {"previous_expires_at": record.previous_expires_at, "previous_grace": record.previous_grace}
    return orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)


def _secret(name: str, stored: SecretHash) -> dict[str, Any]:
    """The hash in the contract's form; what it was made of is a field of its own where it was not the secret itself."""
    found: dict[str, Any] = {f"{name}_hash": f"hmac-sha256:{stored.pepper_version}:{stored.digest.hex()}"}
    return {**found, f"{name}_prehashed": True} if stored.prehashed else found
