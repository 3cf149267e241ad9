"""What each field of a key may hold; the one place of these rules, whether a key is made, changed or imported.

A problem names the field and says what it must be, never what stands there.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from backends.records import KeyState, SecretHash
from service.auth.domains import canonical_domain
from service.auth.rules import MAX_SCOPES, canonical_network, canonical_origin, canonical_scope
from service.auth.tokens import api_key_problem, secret_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.auth.peppers import Peppers

__all__ = [
    "DEFAULT_GRACE",
    "DEFAULT_LIMIT",
    "KEY_ID",
    "MAX_ROTATION",
    "MAX_RULES",
    "NO_KEY_IDS",
    "RULES",
    "SLUG",
    "FieldProblem",
    "api_key",
    "aware_time",
    "flag",
    "key_id",
    "metadata",
    "metadata_text",
    "name",
    "organization_id",
    "read_json",
    "rules",
    "seconds",
    "secret_hash",
    "secret_token",
    "state",
    "time_text",
]

SLUG: Final = r"[a-z0-9][a-z0-9-]{0,62}"
"""An organization's identifier."""
KEY_ID: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}"
"""A key's identifier: nothing that a command takes for an option, and none of ``NO_KEY_IDS``."""
NO_KEY_IDS: Final = "export|import|verify"
"""The words that stand in the place of one in an address."""

_HASH: Final = re.compile(r"(?:hmac-sha256:(?P<version>[0-9]{1,9})|sha256):(?P<digest>[0-9A-Fa-f]{64})")
_MAX_METADATA: Final = 8192  # bytes
_MAX_DEPTH: Final = (
    32  # of lists and objects in each other: it is shown inside other JSON, and encoders give up at some depth
)
_MAX_NAME: Final = 200
MAX_RULES: Final = 100  # far more than a key needs, far less than what would make reading it slow
DEFAULT_GRACE: Final = timedelta(hours=24)
"""How long the secret from before a rotation lives after the new one's first use."""
DEFAULT_LIMIT: Final = timedelta(days=30)
"""How long it lives at most."""
MAX_ROTATION: Final = timedelta(days=366)
"""The most that either may be: whoever needs longer wants two keys."""

_MAX_SECONDS: Final = 10**9

RULES: Final[Mapping[str, tuple[Callable[[str], str], int]]] = {
    "domains": (canonical_domain, MAX_RULES),
    "scopes": (canonical_scope, MAX_SCOPES),
    "origins": (canonical_origin, MAX_RULES),
    "networks": (canonical_network, MAX_RULES),
}
"""The lists of a key, how an entry of each is brought into canonical form, and how many there may be."""


class FieldProblem(ValueError):
    """A field has a value that it must not have."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def organization_id(value: Any) -> str:
    """A slug."""
    return _matching("organization_id", value, SLUG, "must be lower-case letters, digits and -")


def key_id(value: Any) -> str:
    """What can be part of an address."""
    return _matching(
        "key_id",
        value,
        f"(?!(?:{NO_KEY_IDS})$){KEY_ID}",
        "must be 1 to 64 of letters, digits, _ and -, not begin with -, and be none of export, import, verify",
    )


def api_key(value: Any) -> str:
    """A public handle, of our own form or of another."""
    problem = api_key_problem(_text("api_key", value))
    if problem:
        raise FieldProblem("api_key", problem)
    return str(value)


def secret_token(value: Any) -> str:
    """A secret's text."""
    problem = secret_problem(_text("secret_token", value))
    if problem:
        raise FieldProblem("secret_token", problem)
    return str(value)


def secret_hash(field: str, value: Any, peppers: Peppers, *, prehashed: bool, any_pepper: bool = False) -> SecretHash:
    """One of the two forms of a hash; ``prehashed`` says what a peppered one was made of (see ``SecretHash``).

    ``any_pepper``: where the secret is never checked again, its pepper may be gone.
    """
    match = _HASH.fullmatch(_text(field, value))
    if match is None:
        raise FieldProblem(field, "must be hmac-sha256:<pepper version>:<64 hex> or sha256:<64 hex>")
    digest = bytes.fromhex(match["digest"])
    if match["version"] is None:
        return peppers.wrap_sha256(digest)
    version = int(match["version"])
    if version not in peppers.versions and not any_pepper:
        raise FieldProblem(field, "names a pepper version that is not configured")
    return SecretHash(version, digest, prehashed)


def rules(field: str, value: Any) -> tuple[str, ...]:
    """One of the lists in ``RULES``, canonical, without repetitions."""
    canonical, most = RULES[field]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise FieldProblem(field, "must be a list of text")
    if not value:
        return ()
    try:
        found = tuple(dict.fromkeys(canonical(item) for item in value))
    except ValueError as error:
        raise FieldProblem(field, str(error)) from None
    if len(found) > most:
        raise FieldProblem(field, f"at most {most}")
    return found


def flag(field: str, value: Any) -> bool:
    """A truth value."""
    if not isinstance(value, bool):
        raise FieldProblem(field, "must be true or false")
    return value


def state(value: Any) -> KeyState:
    """A key's state by its name."""
    if _text("state", value) not in set(KeyState):
        raise FieldProblem("state", f"must be one of {', '.join(KeyState)}")
    return KeyState(value)


def seconds(field: str, value: Any) -> int:
    """A whole number of seconds."""
    if type(value) is not int or not 0 <= value <= _MAX_SECONDS:
        raise FieldProblem(field, "must be a whole number of seconds")
    return value


def time_text(field: str, value: Any) -> datetime:
    """A time in ISO 8601."""
    try:
        parsed = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise FieldProblem(field, "must be a time such as 2027-01-31T12:00:00Z") from None
    return aware_time(field, parsed)


def aware_time(field: str, value: Any) -> datetime:
    """The time in UTC."""
    if not isinstance(value, datetime):
        raise FieldProblem(field, "must be a time")
    if value.tzinfo is None:
        raise FieldProblem(field, "needs a time zone, for instance a final Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise FieldProblem(field, "is out of range") from None


def name(value: Any) -> str:
    """What people call it."""
    if not isinstance(value, str) or len(value) > _MAX_NAME or not value.isprintable():
        raise FieldProblem("name", f"must be printable text of at most {_MAX_NAME} characters")
    return value


def metadata(value: Any) -> str:
    """An object of the operator's own, as one canonical text."""
    if not isinstance(value, dict):
        raise FieldProblem("metadata", "must be an object")
    if _is_deep(value):
        raise FieldProblem("metadata", f"at most {_MAX_DEPTH} lists and objects within each other")
    try:
        encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise FieldProblem("metadata", "holds a number or a text that cannot be stored") from None
    if len(encoded) > _MAX_METADATA:
        raise FieldProblem("metadata", f"at most {_MAX_METADATA} bytes")
    return encoded.decode()


def _is_deep(value: Any) -> bool:
    """Level by level, not by recursion, whose own limit would come first."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, dict | list | tuple)]
        if not level:
            return False
    return True


def metadata_text(value: Any) -> str:
    """The same, given as JSON text."""
    try:
        parsed = read_json(_text("metadata", value))
    except FieldProblem:
        raise
    except ValueError as error:
        raise FieldProblem("metadata", str(error)) from None
    return metadata(parsed)


def read_json(text: str) -> Any:
    """Any JSON value; raises ``ValueError`` also for a name that stands twice and a number that is not finite."""
    try:
        return _DECODER.decode(text)
    except _Ambiguous:
        raise
    except (ValueError, RecursionError):
        raise ValueError("is not JSON in UTF-8") from None


class _Ambiguous(ValueError):
    """JSON that two readers would understand differently."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Ambiguous("a field stands twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Ambiguous("holds a number that is not finite")
    return number


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_float=_finite, parse_constant=_finite)


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise FieldProblem(field, "must be text")
    return value


def _matching(field: str, value: Any, pattern: str, problem: str) -> str:
    if not re.fullmatch(pattern, _text(field, value)):
        raise FieldProblem(field, problem)
    return str(value)
