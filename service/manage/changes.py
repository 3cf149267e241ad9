"""What each operation makes of a key: pure functions from record to record, checked field by field.

Where nothing changes they return the record itself; the caller then writes, records and counts nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from backends.errors import Conflict
from backends.records import KeyRecord, KeyState
from service.auth import key_fields as fields
from service.auth.key_fields import MAX_ROTATION, FieldProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from backends.journal import LastUse
    from backends.records import SecretHash
    from service.manage.model import KeyDraft

__all__ = [
    "cancelled",
    "cut",
    "drafted",
    "first_used",
    "has_previous",
    "previous_use",
    "rotated",
    "switched",
    "updated",
    "without_ended",
]

_SHOWABLE: Final = re.compile(r"[a-z_]{1,30}")


def drafted(draft: KeyDraft, *, key_id: str, api_key: str, secret: SecretHash, now: datetime) -> KeyRecord:
    """The record of a new key; raises ``FieldProblem``."""
    return KeyRecord(
        key_id=key_id if draft.key_id is None else fields.key_id(draft.key_id),
        organization_id=draft.organization_id,
        api_key=api_key,
        secret=secret,
        domains=_domains(draft.domains),
        scopes=fields.rules("scopes", draft.scopes),
        origins=fields.rules("origins", draft.origins),
        networks=fields.rules("networks", draft.networks),
        expires_at=_future(draft.expires_at, now),
        critical=fields.flag("critical", draft.critical),
        name=fields.name(draft.name),
        metadata=fields.metadata_text(draft.metadata),
        created_at=now,
        updated_at=now,
    )


def updated(record: KeyRecord, changes: Mapping[str, Any], now: datetime) -> KeyRecord:
    """The record with the changes; raises ``FieldProblem``, and ``Conflict`` for one that would bring back a revoked key."""
    values: dict[str, Any] = {}
    for field, value in changes.items():
        read = _CHANGEABLE.get(field)
        if read is None:
            raise FieldProblem(field if _SHOWABLE.fullmatch(field) else "changes", "is no field that can be changed")
        values[field] = read(value)
    if "expires_at" in values and values["expires_at"] != record.expires_at:
        values["expires_at"] = _future(values["expires_at"], now)
    if "is_active" in values:
        is_active = values.pop("is_active")
        if is_active or record.state is not KeyState.REVOKED:
            values["state"] = _state(record, KeyState.ACTIVE if is_active else KeyState.DISABLED)
    return _changed(record, now, **values)


def switched(record: KeyRecord, state: KeyState, now: datetime) -> KeyRecord:
    """The record in another state; raises ``Conflict`` for a revoked one."""
    return _changed(record, now, state=_state(record, state))


def rotated(record: KeyRecord, secret: SecretHash, *, grace: timedelta, limit: timedelta, now: datetime) -> KeyRecord:
    """The record with a new secret; the one in force becomes the previous one, for a time, unless ``grace`` is 0.

    While the secret of a rotation was never used, another rotation takes its place: the secret that is in use stays the
    previous one, or whoever did not get the answer to the first attempt would lose it by the second.
    Raises ``FieldProblem``, and ``Conflict`` for a revoked key.
    """
    seconds = math.ceil(grace.total_seconds())
    if not 0 <= seconds <= MAX_ROTATION.total_seconds():
        raise FieldProblem("grace", f"must be 0 to {MAX_ROTATION.days} days")
    if seconds and not timedelta(0) < limit <= MAX_ROTATION:
        raise FieldProblem("limit", f"must be more than 0 and at most {MAX_ROTATION.days} days")
    if record.state is KeyState.REVOKED:
        raise Conflict("a revoked key gets no new secret")
    previous: Mapping[str, Any] = _NO_PREVIOUS
    if seconds:
        previous = {
            "previous_secret": record.previous_secret if _is_unused(record, now) else record.secret,
            "previous_expires_at": now + limit,
            "previous_grace": seconds,
        }
    return _changed(record, now, secret=secret, rotated_at=now, **previous)


def cancelled(record: KeyRecord, now: datetime) -> KeyRecord:
    """The record with its old secret as the only one; raises ``Conflict`` when there is none that still counts."""
    if record.state is KeyState.REVOKED:
        raise Conflict("a revoked key stays as it is")
    if record.previous_secret is None or not has_previous(record, now):
        raise Conflict("there is no rotation that could be cancelled")
    return _changed(record, now, secret=record.previous_secret, rotated_at=None, **_NO_PREVIOUS)


def cut(record: KeyRecord, now: datetime) -> KeyRecord:
    """The record without its old secret; raises ``Conflict`` when there is none that still counts."""
    if not has_previous(record, now):
        raise Conflict("there is no old secret that could be cut")
    return _changed(record, now, **_NO_PREVIOUS)


def first_used(record: KeyRecord, *, rotated_at: datetime | None, at: datetime, now: datetime) -> KeyRecord:
    """The record after the first use, ``at``, of the new secret of the rotation at ``rotated_at``.

    From then on the old secret lives for the grace only, unless somebody rotated again or cancelled meanwhile.
    """
    if record.previous_grace is None or record.rotated_at != rotated_at:
        return record
    end = at + timedelta(seconds=record.previous_grace)
    if record.previous_expires_at is not None:
        end = min(end, record.previous_expires_at)
    return _changed(record, now, previous_expires_at=end, previous_grace=None)


def without_ended(record: KeyRecord, now: datetime) -> KeyRecord:
    """The record without an old secret whose time is over."""
    if record.previous_secret is None or has_previous(record, now):
        return record
    return _changed(record, now, **_NO_PREVIOUS)


def has_previous(record: KeyRecord, now: datetime) -> bool:
    """Whether the secret from before a rotation is still accepted."""
    return record.previous_secret is not None and (
        record.previous_expires_at is None or record.previous_expires_at > now
    )


def previous_use(record: KeyRecord, last: LastUse | None) -> datetime | None:
    """When the secret from before the rotation was last used since then; an earlier rotation's is of no interest."""
    used = None if last is None else last.previous_secret_used_at
    return None if used is None or (record.rotated_at is not None and used < record.rotated_at) else used


def _is_unused(record: KeyRecord, now: datetime) -> bool:
    """Whether the secret in force comes from a rotation and nobody has used it, as far as is known."""
    return record.previous_grace is not None and has_previous(record, now)


def _changed(record: KeyRecord, now: datetime, **values: Any) -> KeyRecord:
    changed = replace(record, **values)
    return record if changed == record else replace(changed, updated_at=now)


def _state(record: KeyRecord, state: KeyState) -> KeyState:
    if record.state is KeyState.REVOKED and state is not KeyState.REVOKED:
        raise Conflict("a revoked key stays revoked")
    return state


def _domains(value: Any) -> tuple[str, ...]:
    domains = fields.rules("domains", value)
    if not domains:
        raise FieldProblem("domains", "must not be empty: the key would be good for nothing")
    return domains


def _future(value: Any, now: datetime) -> datetime | None:
    moment = _moment(value)
    if moment is not None and moment <= now:
        raise FieldProblem("expires_at", "must be in the future")
    return moment


def _moment(value: Any) -> datetime | None:
    return None if value is None else fields.aware_time("expires_at", value)


_NO_PREVIOUS: Final[Mapping[str, None]] = {
    "previous_secret": None,
    "previous_expires_at": None,
    "previous_grace": None,
}
_CHANGEABLE: Final[Mapping[str, Callable[[Any], Any]]] = {
    "name": fields.name,
    "domains": _domains,
    "scopes": lambda value: fields.rules("scopes", value),
    "origins": lambda value: fields.rules("origins", value),
    "networks": lambda value: fields.rules("networks", value),
    "expires_at": _moment,
    "critical": lambda value: fields.flag("critical", value),
    "metadata": fields.metadata_text,
    "is_active": lambda value: fields.flag("is_active", value),
}
