"""Import files: one key a line in JSON (contract 6), checked line by line, before anything is stored.

A problem names the line and the field, never what stands there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from backends.records import KeyRecord, KeyState, Organization, SecretHash
from service.auth import key_fields as fields
from service.auth.key_fields import DEFAULT_GRACE, DEFAULT_LIMIT, MAX_ROTATION, FieldProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from service.auth.peppers import Peppers

__all__ = ["KeyFileError", "KeyLine", "LineProblem", "Seed", "read_key_lines", "read_lines"]

_FIELD: Final = re.compile(r"[a-z_]{1,30}")  # a mistyped name is told; whatever else stands there could be a secret
_MAX_PROBLEMS: Final = 100
_REQUIRED: Final = frozenset({"organization_id", "api_key", "domains"})
_OPTIONAL: Final = frozenset(
    {
        "secret_token", "secret_hash", "secret_prehashed", "previous_secret_hash", "previous_secret_prehashed",
        "previous_expires_at", "previous_grace", "scopes", "networks", "origins", "is_active", "expires_at", "name",
        "metadata", "key_id", "state", "created_at", "critical",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LineProblem:
    """What is wrong with a line, counted from 1."""

    line: int
    problem: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}"


class KeyFileError(Exception):
    """The file cannot be imported; ``problems`` are its first 100 defects."""

    def __init__(self, problems: list[LineProblem]) -> None:
        super().__init__(f"{len(problems)} problems in the import file")
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Seed:
    """What a file holds, ready to be stored; secrets only as hashes. ``notes`` are worth telling the operator."""

    organizations: tuple[Organization, ...]
    records: tuple[KeyRecord, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One line that is not blank: its key, or its problem; ``is_repeated`` where an earlier line said the same."""

    line: int
    record: KeyRecord | None = None
    problem: str = ""
    is_repeated: bool = False

    @property
    def note(self) -> str:
        """What is worth telling the operator, ``""`` when nothing is."""
        if self.record is not None and (":" in self.record.api_key or "." in self.record.api_key):
            return f"line {self.line}: this api_key holds : or . and works by the two headers only"
        return ""


def read_lines(
    lines: Iterable[bytes],
    *,
    peppers: Peppers,
    now: datetime,
    check: Callable[[KeyRecord], None] = lambda _: None,
) -> Iterator[KeyLine]:
    """Each line in turn, read when it is asked for. ``check`` may raise ``ValueError`` to refuse a key that is well formed."""
    records: dict[str, KeyRecord] = {}
    key_ids: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _record(_parsed(line), peppers, now)
            check(record)
            known = records.get(record.api_key)
            if known is not None and known != record:
                raise FieldProblem("api_key", "stands on an earlier line already, with other fields")
            if known is None and record.key_id in key_ids:
                raise FieldProblem("key_id", "stands on an earlier line already")
        except ValueError as error:
            yield KeyLine(number, problem=str(error))
            continue
        if known is None:
            records[record.api_key] = record
            key_ids.add(record.key_id)
        yield KeyLine(number, record, is_repeated=known is not None)


def read_key_lines(lines: Iterable[bytes], *, peppers: Peppers, now: datetime) -> Seed:
    """All keys of an import file; raises ``KeyFileError`` if any line is wrong.

    Lines that are blank or say the same as an earlier one are counted, and otherwise nothing.
    """
    problems: list[LineProblem] = []
    records: list[KeyRecord] = []
    notes: list[str] = []
    for item in read_lines(lines, peppers=peppers, now=now):
        if item.record is None:
            problems.append(LineProblem(item.line, item.problem))
            if len(problems) >= _MAX_PROBLEMS:
                break
        elif not item.is_repeated:
            records.append(item.record)
            if item.note:
                notes.append(item.note)
    if problems:
        raise KeyFileError(problems)
    slugs = sorted({record.organization_id for record in records})
    organizations = tuple(Organization(organization_id=slug, created_at=now) for slug in slugs)
    return Seed(organizations, tuple(records), tuple(notes))


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not JSON in UTF-8") from None
    data = fields.read_json(text)
    if not isinstance(data, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - every defect of a line is one kind of error
    unknown = data.keys() - _REQUIRED - _OPTIONAL
    if unknown:
        name = min(unknown)
        if _FIELD.fullmatch(name):
            raise FieldProblem(name, "is no field")
        raise ValueError("holds something that is no field")
    missing = _REQUIRED - data.keys()
    if missing:
        raise FieldProblem(min(missing), "is missing")
    return data


def _record(data: dict[str, Any], peppers: Peppers, now: datetime) -> KeyRecord:
    created_at = _time(data, "created_at") or now
    organization_id = fields.organization_id(data["organization_id"])
    api_key = fields.api_key(data["api_key"])
    state = _state(data)
    return KeyRecord(
        key_id=_derived_key_id(organization_id, api_key)
        if data.get("key_id") is None
        else fields.key_id(data["key_id"]),
        organization_id=organization_id,
        api_key=api_key,
        secret=_secret(data, peppers, state),
        **_previous(data, peppers, state, now),
        domains=fields.rules("domains", data["domains"]),
        scopes=fields.rules("scopes", data.get("scopes", ())),
        origins=fields.rules("origins", data.get("origins", ())),
        networks=fields.rules("networks", data.get("networks", ())),
        state=state,
        expires_at=_time(data, "expires_at"),
        critical=_flag(data, "critical"),
        name="" if data.get("name") is None else fields.name(data["name"]),
        metadata="{}" if data.get("metadata") is None else fields.metadata(data["metadata"]),
        created_at=created_at,
        updated_at=created_at,
    )


def _derived_key_id(organization_id: str, api_key: str) -> str:
    """One that follows from the two: importing a line again must not make another key, nor that of another owner."""
    return "key_" + hashlib.sha256(f"{organization_id}\0{api_key}".encode()).hexdigest()[:32]


def _secret(data: dict[str, Any], peppers: Peppers, state: KeyState) -> SecretHash:
    token, hashed = data.get("secret_token"), data.get("secret_hash")
    if (token is None) == (hashed is None):
        raise FieldProblem("secret_token", "give this or secret_hash, one of the two")
    if token is not None:
        return peppers.hash(fields.secret_token(token))
    prehashed, any_pepper = _flag(data, "secret_prehashed"), state is KeyState.REVOKED
    return fields.secret_hash("secret_hash", hashed, peppers, prehashed=prehashed, any_pepper=any_pepper)


def _previous(data: dict[str, Any], peppers: Peppers, state: KeyState, now: datetime) -> dict[str, Any]:
    """The secret from before a rotation, and how long it lives, never for ever; ``{}`` where there is none."""
    hashed, grace, ends = (
        data.get("previous_secret_hash"),
        data.get("previous_grace"),
        _time(data, "previous_expires_at"),
    )
    if hashed is None:
        if grace is not None or ends is not None:
            raise FieldProblem("previous_secret_hash", "is missing")
        return {}
    if ends is not None and ends > now + MAX_ROTATION:
        raise FieldProblem("previous_expires_at", f"must be at most {MAX_ROTATION.days} days ahead")
    is_over = ends is not None and ends <= now
    prehashed, any_pepper = _flag(data, "previous_secret_prehashed"), is_over or state is KeyState.REVOKED
    secret = fields.secret_hash("previous_secret_hash", hashed, peppers, prehashed=prehashed, any_pepper=any_pepper)
    if grace is not None and fields.seconds("previous_grace", grace) > MAX_ROTATION.total_seconds():
        raise FieldProblem("previous_grace", f"must be at most {MAX_ROTATION.days} days")
    if is_over:
        return {}
    if ends is None:  # as a rotation without options would have it
        ends, grace = now + DEFAULT_LIMIT, int(DEFAULT_GRACE.total_seconds()) if grace is None else grace
    return {"previous_secret": secret, "previous_expires_at": ends, "previous_grace": grace}


def _flag(data: dict[str, Any], field: str, *, default: bool = False) -> bool:
    return fields.flag(field, data.get(field, default))


def _state(data: dict[str, Any]) -> KeyState:
    active = _flag(data, "is_active", default=True)
    if data.get("state") is None:
        return KeyState.ACTIVE if active else KeyState.DISABLED
    state = fields.state(data["state"])
    if "is_active" in data and active != (state is KeyState.ACTIVE):
        raise FieldProblem("state", "contradicts is_active")
    return state


def _time(data: dict[str, Any], field: str) -> datetime | None:
    return None if data.get(field) is None else fields.time_text(field, data[field])
