"""The policies of the proxy doors: blocks ``[policy.<name>]`` of ``gatekey.toml``.

They are checked as a whole and put in force as a whole; a problem names the policy and the field, never the value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from service.auth.credentials import Form
from service.auth.key_fields import SLUG
from service.auth.rules import MAX_SCOPES, canonical_origin, canonical_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Policy", "PolicyBook", "read_policies"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")  # never a dot segment: it is part of a path
_MAX_SHOWN: Final = 64  # characters of a field that is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a door demands. The defaults are those of ``default``: a valid key, of whichever organization."""

    name: str
    organization: str = ""
    scopes: tuple[str, ...] = ()
    client: Literal["auto", "api", "browser"] = "auto"
    credentials: frozenset[Form] = frozenset(Form)
    preflight: Literal["deny", "pass"] = "deny"
    cors_origins: frozenset[str] = frozenset()
    mode: Literal["enforce", "shadow"] = "enforce"


class PolicyBook:
    """The policies in force; ``replace`` swaps all of them in one step."""

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._policies = dict(policies)

    def find(self, name: str) -> Policy | None:
        """The policy of this name."""
        return self._policies.get(name)

    def replace(self, policies: Mapping[str, Policy]) -> None:
        """Put other policies in force."""
        self._policies = dict(policies)

    def __len__(self) -> int:
        """Number of policies."""
        return len(self._policies)


class _Problem(ValueError):
    """What is wrong with a field, without its value."""


def _choice(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise _Problem(f"must be one of {', '.join(allowed)}")
        return cast("str", value)

    return read


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Problem("must be a list of strings")
    return value


def _organization(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(SLUG, value):
        raise _Problem("must be an organization's identifier (lower-case letters, digits and -)")
    return value


def _scopes(value: Any) -> tuple[str, ...]:
    scopes = tuple(dict.fromkeys(canonical_scope(item) for item in _texts(value)))
    if len(scopes) > MAX_SCOPES:
        raise _Problem(f"must be at most {MAX_SCOPES} scopes: no key has more")
    return scopes


def _forms(value: Any) -> frozenset[Form]:
    forms = frozenset(_texts(value))
    if not forms or not forms <= set(Form):
        raise _Problem(f"must be a list of at least one of {', '.join(Form)}")
    return frozenset(Form(form) for form in forms)


def _origins(value: Any) -> frozenset[str]:
    return frozenset(canonical_origin(item) for item in _texts(value))


_FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "organization": _organization,
    "scopes": _scopes,
    "client": _choice("auto", "api", "browser"),
    "credentials": _forms,
    "preflight": _choice("deny", "pass"),
    "cors_origins": _origins,
    "mode": _choice("enforce", "shadow"),
}


def read_policies(table: Any) -> tuple[dict[str, Policy], list[str]]:
    """The policies of the TOML table ``policy`` and all its problems (``policy.<name>.<field>: …``, never a value)."""
    policies = {"default": Policy(name="default")}
    problems: list[str] = []
    if not isinstance(table, dict):
        return policies, ["policy: must be tables, [policy.<name>]"]
    for name, block in table.items():
        if not _NAME.fullmatch(name):
            problems.append("policy: a name has 1 to 64 letters, digits, _ . and -, and does not begin with a dot")
        elif not isinstance(block, dict):
            problems.append(f"policy.{name}: must be a table, [policy.{name}]")
        else:
            policies[name] = Policy(name=name, **_fields(name, block, problems))
    return policies, problems


def _fields(name: str, block: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for field, value in block.items():
        read = _FIELDS.get(field)
        if read is None:
            shown = field[:_MAX_SHOWN].encode("ascii", "replace").decode() if field.isprintable() else "?"
            problems.append(f"policy.{name}.{shown}: is no field of a policy; there are {', '.join(_FIELDS)}")
            continue
        try:
            fields[field] = read(value)
        except ValueError as error:
            problems.append(f"policy.{name}.{field}: {error}")
    return fields
