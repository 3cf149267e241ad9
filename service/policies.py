"""The policies of the proxy doors: blocks ``[policy.<name>]`` of ``gatekey.toml``, checked as a whole, reloaded whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from service.auth.credentials import Form
from service.auth.rules import canonical_origin, canonical_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SLUG", "Policy", "PolicyBook", "read_policies"]

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""An organization's identifier."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


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
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise _Problem("must be an organization's identifier (lower-case letters, digits and -)")
    return value


def _scopes(value: Any) -> tuple[str, ...]:
    return tuple(canonical_scope(item) for item in _texts(value))


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
            problems.append("policy: a name may have letters, digits, _ . and -, at most 64 of them")
        elif not isinstance(block, dict):
            problems.append(f"policy.{name}: must be a table")
        else:
            fields: dict[str, Any] = {}
            for field, value in block.items():
                read = _FIELDS.get(field)
                try:
                    if read is None:
                        raise _Problem(f"is no field of a policy; there are {', '.join(_FIELDS)}")
                    fields[field] = read(value)
                except ValueError as error:
                    problems.append(f"policy.{name}.{field}: {error}")
            policies[name] = Policy(name=name, **fields)
    return policies, problems
