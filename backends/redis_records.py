"""Between what Redis holds and what the store's code handles: markers, lists of the disabled, records, organizations.

Whoever decodes believes nothing: what is not exactly as this code writes it is not ready, not fit, or corrupt.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from backends.codec import record_to_json
from backends.errors import StoreCorrupt, StoreNotReady, StoreUnfit
from backends.records import KeyRecord, KeyState, Organization

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "SCHEMA",
    "Epochs",
    "Switches",
    "encode_record",
    "expiry_of",
    "import_of",
    "micros",
    "organization_from_json",
    "organization_to_json",
    "time_of",
]

SCHEMA: Final = 1
"""Version of the layout in ``backends.redis_keys``."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_IMPORT: Final = re.compile(rb',"import":"([0-9a-f]{16})"\}\Z')


def micros(time: datetime) -> int:
    """Microseconds since the Unix epoch."""
    return (time - _EPOCH) // _MICROSECOND


def time_of(number: int) -> datetime:
    """Inverse of ``micros``."""
    return _EPOCH + number * _MICROSECOND


def _schema_of(marker: bytes) -> int:
    """Of a marker; raises ``StoreNotReady`` where it is none."""
    try:
        value = json.loads(marker)
        schema, epoch = value["schema"], value["epoch"]
    except (ValueError, KeyError, TypeError, RecursionError):
        schema, epoch = None, None
    if type(schema) is not int or type(epoch) is not str:
        raise StoreNotReady("redis: the epoch marker is damaged: run gatekey migrate")
    return schema


class Epochs:
    """The markers that were seen; calls ``changed`` when one is another than before: the data may be others."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._newest: bytes | None = None
        self._seen: dict[int, bytes] = {}  # by bucket; each comes to the newest one in its own time

    def check(self, bucket: int, marker: bytes | None) -> None:
        """Raises ``StoreNotReady`` or ``StoreUnfit`` unless the marker is there and this code's."""
        if marker is not None and self._seen.get(bucket) == marker:
            return
        if marker is None:
            raise StoreNotReady(
                "redis: the epoch marker is missing, so nothing that the server says is believed: it was never prepared"
                " (run gatekey migrate), was wiped, lost its data at a restart, or the database number is wrong"
            )
        schema = _schema_of(marker)
        if schema != SCHEMA:
            what = "run gatekey migrate" if schema < SCHEMA else "update Gatekey"
            raise StoreUnfit(f"redis: the store has schema {schema}, this version of Gatekey needs {SCHEMA}: {what}")
        if marker != self._newest:
            if self._newest is not None:
                self._changed()
            self._newest = marker
        self._seen[bucket] = marker


@dataclass(frozen=True, slots=True)
class Switches:
    """A list ``disabled``, decoded."""

    raw: bytes
    organizations: frozenset[str]
    imports: frozenset[str]

    @classmethod
    def decode(cls, raw: bytes | None) -> Self:
        """Raises ``StoreNotReady`` for what is no such list: then no organization's state is known."""
        try:
            listed = None if raw is None else json.loads(raw)
        except (ValueError, RecursionError):
            listed = None
        if raw is None or not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
            raise StoreNotReady("redis: the list of disabled organizations is missing or damaged: run gatekey migrate")
        imports = frozenset(item.removeprefix("import:") for item in listed if item.startswith("import:"))
        return cls(raw, frozenset(item for item in listed if ":" not in item), imports)


def encode_record(record: KeyRecord, *, import_id: str | None = None) -> bytes:
    """The stored form; ``import_id`` marks it as not existing as long as that import is under way.

    Its inverse is the codec's, which passes over the mark.
    """
    text = record_to_json(record)
    return (text if import_id is None else f'{text[:-1]},"import":"{import_id}"}}').encode()


def import_of(raw: bytes) -> str | None:
    """The import that wrote this record."""
    match = _IMPORT.search(raw, max(0, len(raw) - 32))
    return None if match is None else match[1].decode()


def expiry_of(record: KeyRecord) -> bytes:
    """The place among the expiring keys; empty for none."""
    if record.expires_at is None or record.state is not KeyState.ACTIVE:
        return b""
    return b"%d" % micros(record.expires_at)


def organization_to_json(organization: Organization) -> bytes:
    """One line of JSON."""
    values = {
        "organization_id": organization.organization_id,
        "is_active": organization.is_active,
        "name": organization.name,
        "created_at": micros(organization.created_at),
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def organization_from_json(raw: bytes) -> Organization:
    """Inverse of ``organization_to_json``; raises ``StoreCorrupt``."""
    try:
        values: dict[str, Any] = json.loads(raw)
        checked = {name: _typed(values[name], kind) for name, kind in _ORGANIZATION.items()}
        return Organization(**{**checked, "created_at": time_of(checked["created_at"])})
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise StoreCorrupt("a stored organization cannot be decoded") from None


_ORGANIZATION: Final = {"organization_id": str, "is_active": bool, "name": str, "created_at": int}


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value
