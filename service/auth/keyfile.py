"""Import files: one key a line in JSON (contract 6), checked as a whole before anything is stored.

A problem names the line and the field, never what stands there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from backends.records import KeyRecord, KeyState, Organization, SecretHash
from service.auth.domains import canonical_domain
from service.auth.rules import MAX_SCOPES, canonical_network, canonical_origin, canonical_scope
from service.auth.tokens import api_key_problem, secret_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from service.auth.peppers import Peppers

__all__ = ["KeyFileError", "LineProblem", "Seed", "read_key_lines"]

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASH: Final = re.compile(r"(?:hmac-sha256:(?P<version>[0-9]{1,9})|sha256):(?P<digest>[0-9A-Fa-f]{64})")
_FIELD: Final = re.compile(r"[a-z_]{1,30}")  # a mistyped name is told; whatever else stands there could be a secret
_MAX_PROBLEMS: Final = 100
_MAX_METADATA: Final = 8192  # bytes
_MAX_NAME: Final = 200
_REQUIRED: Final = frozenset({"organization_id", "api_key", "domains"})
_OPTIONAL: Final = frozenset(
    {
        "secret_token", "secret_hash", "previous_secret_hash", "scopes", "networks", "origins", "is_active", "expires_at",
        "name", "metadata", "key_id", "state", "created_at", "critical",
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


class _Problem(ValueError):
    pass


def read_key_lines(lines: Iterable[bytes], *, peppers: Peppers, now: datetime) -> Seed:
    """All keys of an import file; raises ``KeyFileError`` if any line is wrong.

    Lines that are blank or say the same as an earlier one are counted, and otherwise nothing.
    """
    problems: list[LineProblem] = []
    records: dict[str, KeyRecord] = {}
    key_ids: set[str] = set()
    notes: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _record(_parsed(line), peppers, now)
            if records.get(record.api_key) == record:
                continue  # the same key once more changes nothing
            if record.api_key in records:
                raise _Problem("api_key: stands on an earlier line already, with other fields")
            if record.key_id in key_ids:
                raise _Problem("key_id: stands on an earlier line already")
        except ValueError as error:
            problems.append(LineProblem(number, str(error)))
            if len(problems) >= _MAX_PROBLEMS:
                break
            continue
        records[record.api_key] = record
        key_ids.add(record.key_id)
        if ":" in record.api_key or "." in record.api_key:
            notes.append(f"line {number}: this api_key holds : or . and works by the two headers only")
    if problems:
        raise KeyFileError(problems)
    slugs = sorted({record.organization_id for record in records.values()})
    organizations = tuple(Organization(organization_id=slug, created_at=now) for slug in slugs)
    return Seed(organizations, tuple(records.values()), tuple(notes))


def _parsed(line: bytes) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _Problem("a field stands twice")
        return found

    try:
        data = json.loads(
            line.decode("utf-8"), object_pairs_hook=no_duplicates, parse_float=_finite, parse_constant=_finite
        )
    except _Problem:
        raise
    except (ValueError, RecursionError):
        raise _Problem("is not JSON in UTF-8") from None
    if not isinstance(data, dict):
        raise _Problem("is not a JSON object")
    unknown = data.keys() - _REQUIRED - _OPTIONAL
    if unknown:
        name = min(unknown)
        raise _Problem(f"{name}: is no field" if _FIELD.fullmatch(name) else "holds something that is no field")
    missing = _REQUIRED - data.keys()
    if missing:
        raise _Problem(f"{min(missing)}: is missing")
    return data


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Problem("holds a number that is not finite")
    return number


def _record(data: dict[str, Any], peppers: Peppers, now: datetime) -> KeyRecord:
    created_at = _time(data, "created_at") or now
    return KeyRecord(
        key_id=_key_id(data),
        organization_id=_matching(data, "organization_id", _SLUG, "must be lower-case letters, digits and -"),
        api_key=_api_key(data),
        secret=_secret(data, peppers),
        previous_secret=None
        if data.get("previous_secret_hash") is None
        else _hash(data, "previous_secret_hash", peppers),
        domains=_rules(data, "domains", canonical_domain),
        scopes=_scopes(data),
        origins=_rules(data, "origins", canonical_origin),
        networks=_rules(data, "networks", canonical_network),
        state=_state(data),
        expires_at=_time(data, "expires_at"),
        critical=_flag(data, "critical", default=False),
        name=_name(data),
        metadata=_metadata(data),
        created_at=created_at,
        updated_at=created_at,
    )


def _text(data: dict[str, Any], field: str) -> str:
    value = data[field]
    if not isinstance(value, str):
        raise _Problem(f"{field}: must be text")
    return value


def _matching(data: dict[str, Any], field: str, pattern: re.Pattern[str], problem: str) -> str:
    value = _text(data, field)
    if not pattern.fullmatch(value):
        raise _Problem(f"{field}: {problem}")
    return value


def _api_key(data: dict[str, Any]) -> str:
    value = _text(data, "api_key")
    problem = api_key_problem(value)
    if problem:
        raise _Problem(f"api_key: {problem}")
    return value


def _key_id(data: dict[str, Any]) -> str:
    """The given one, or one that follows from the ``api_key``: importing a line again must not make another key."""
    if data.get("key_id") is not None:
        return _matching(data, "key_id", _KEY_ID, "must be 1 to 64 of letters, digits, _ and -")
    return "key_" + hashlib.sha256(_api_key(data).encode()).hexdigest()[:32]


def _secret(data: dict[str, Any], peppers: Peppers) -> SecretHash:
    token, hashed = data.get("secret_token"), data.get("secret_hash")
    if (token is None) == (hashed is None):
        raise _Problem("secret_token: give this or secret_hash, one of the two")
    if token is not None:
        value = _text(data, "secret_token")
        problem = secret_problem(value)
        if problem:
            raise _Problem(f"secret_token: {problem}")
        return peppers.hash(value)
    return _hash(data, "secret_hash", peppers)


def _hash(data: dict[str, Any], field: str, peppers: Peppers) -> SecretHash:
    match = _HASH.fullmatch(_text(data, field))
    if match is None:
        raise _Problem(f"{field}: must be hmac-sha256:<pepper version>:<64 hex> or sha256:<64 hex>")
    digest = bytes.fromhex(match["digest"])
    if match["version"] is None:
        return peppers.wrap_sha256(digest)
    version = int(match["version"])
    if version not in peppers.versions:
        raise _Problem(f"{field}: names a pepper version that is not configured")
    return SecretHash(version, digest)


def _rules(data: dict[str, Any], field: str, canonical: Callable[[str], str]) -> tuple[str, ...]:
    value = data.get(field, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Problem(f"{field}: must be a list of text")
    try:
        return tuple(dict.fromkeys(canonical(item) for item in value))
    except ValueError as error:
        raise _Problem(f"{field}: {error}") from None


def _scopes(data: dict[str, Any]) -> tuple[str, ...]:
    scopes = _rules(data, "scopes", canonical_scope)
    if len(scopes) > MAX_SCOPES:
        raise _Problem(f"scopes: at most {MAX_SCOPES}")
    return scopes


def _flag(data: dict[str, Any], field: str, *, default: bool) -> bool:
    value = data.get(field, default)
    if not isinstance(value, bool):
        raise _Problem(f"{field}: must be true or false")
    return value


def _state(data: dict[str, Any]) -> KeyState:
    active = _flag(data, "is_active", default=True)
    if data.get("state") is None:
        return KeyState.ACTIVE if active else KeyState.DISABLED
    state = _text(data, "state")
    if state not in set(KeyState):
        raise _Problem(f"state: must be one of {', '.join(KeyState)}")
    if "is_active" in data and active != (state == KeyState.ACTIVE):
        raise _Problem("state: contradicts is_active")
    return KeyState(state)


def _time(data: dict[str, Any], field: str) -> datetime | None:
    if data.get(field) is None:
        return None
    try:
        value = datetime.fromisoformat(_text(data, field))
    except ValueError:
        raise _Problem(f"{field}: must be a time such as 2027-01-31T12:00:00Z") from None
    if value.tzinfo is None:
        raise _Problem(f"{field}: needs a time zone, for instance a final Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise _Problem(f"{field}: is out of range") from None


def _name(data: dict[str, Any]) -> str:
    value = data.get("name")
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_NAME or not value.isprintable():
        raise _Problem(f"name: must be printable text of at most {_MAX_NAME} characters")
    return value


def _metadata(data: dict[str, Any]) -> str:
    value = data.get("metadata")
    if value is None:
        return "{}"
    if not isinstance(value, dict):
        raise _Problem("metadata: must be an object")
    try:
        encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise _Problem("metadata: holds a number or a text that cannot be stored") from None
    if len(encoded) > _MAX_METADATA:
        raise _Problem(f"metadata: at most {_MAX_METADATA} bytes")
    return encoded.decode()
