"""Where settings come from: the environment, ``gatekey.toml`` and the files that hold secrets (contract 5).

Only names and places are looked at here; a problem never repeats a value.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.policies import Policy, read_policies

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["PREFIX", "config_path", "read_document", "read_values", "variable"]

PREFIX: Final = "GATEKEY_"
_CONFIG: Final = "GATEKEY_CONFIG"
_USUAL_CONFIG: Final = "gatekey.toml"
_IGNORED: Final = ("GATEKEY_SERVICE_", "GATEKEY_PORT_", "GATEKEY_TEST_")
"""Kubernetes describes a service called ``gatekey`` in variables like these; ours for tests are no settings either."""

_MAX_SECRET_FILE: Final = 64 * 1024  # bytes
_MAX_SHOWN: Final = 64  # characters of a name that is no setting
_POSITION: Final = re.compile(r"at (?:line \d+, column \d+|end of document)")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def config_path(environ: Mapping[str, str]) -> Path | None:
    """The configuration file: the one that is named, else ``gatekey.toml`` where the command runs, if there is one."""
    named = environ.get(_CONFIG)
    if named:
        return Path(named).absolute()
    usual = Path(_USUAL_CONFIG)
    return usual.absolute() if usual.is_file() else None


def read_document(path: Path | None, problems: list[str]) -> tuple[dict[str, Any], dict[str, Policy]]:
    """The configuration file's settings (not yet checked) and its policies."""
    if path is None:
        return {}, read_policies({})[0]
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{_CONFIG}: the file cannot be read ({error.strerror})")
        return {}, {}
    except tomllib.TOMLDecodeError as error:  # its text may hold a piece of the file
        position = _POSITION.search(str(error))
        problems.append(f"{_CONFIG}: the file is not valid TOML" + (f" ({position[0]})" if position else ""))
        return {}, {}
    except RecursionError:
        problems.append(f"{_CONFIG}: the file is nested too deeply")
        return {}, {}
    except ValueError:
        problems.append(f"{_CONFIG}: the file is not text in UTF-8")
        return {}, {}
    policies, found = read_policies(document.pop("policy", {}))
    problems += [f"{path.name}: {problem}" for problem in found]
    return document, policies


def read_values(
    environ: Mapping[str, str],
    document: dict[str, Any],
    problems: list[str],
    *,
    names: Collection[str],
    secrets: Collection[str],
) -> dict[str, Any]:
    """The given settings by name, unchecked: the environment over the document, secret files read."""
    known = [*names, *(f"{name}_file" for name in secrets)]
    from_environment = _from_environment(environ, known, problems)
    from_document = _from_document(document, known, problems)
    for name in secrets:
        pair = {name, f"{name}_file"}
        for given in (from_environment, from_document):
            if pair <= given.keys():
                problems.append(f"{variable(name)}: is set, and {variable(name)}_FILE too; set one of them")
                del given[f"{name}_file"]
        if pair & from_environment.keys():
            for other in pair:
                from_document.pop(other, None)
    values = from_document | from_environment
    for name in secrets:
        if f"{name}_file" in values:
            secret = _secret_file(values.pop(f"{name}_file"), f"{variable(name)}_FILE", problems)
            if secret is not None:
                values[name] = secret
    return values


def _from_environment(environ: Mapping[str, str], known: list[str], problems: list[str]) -> dict[str, Any]:
    by_variable = {variable(name): name for name in known}
    values: dict[str, Any] = {}
    for given, value in environ.items():
        if not given.startswith(PREFIX) or given == _CONFIG or given.startswith(_IGNORED):
            continue
        if given == variable("port") and value.startswith("tcp://"):
            continue  # Kubernetes again
        name = by_variable.get(given)
        if name is None:
            problems.append(f"{_shown(given)}: is no setting{_meant(given.upper(), [*by_variable, _CONFIG])}")
        elif value:  # an empty variable is one that is not set
            values[name] = value
    return values


def _from_document(document: dict[str, Any], known: list[str], problems: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in known:
            bare = name.lower().removeprefix(PREFIX.lower())
            problems.append(f"{_shown(name)} in the configuration file: is no setting{_meant(bare, known)}")
        elif value != "":
            values[name] = value
    return values


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _shown(name: str) -> str:
    """A name on one line: whoever sets variables can put anything into their names."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in name[:_MAX_SHOWN])


def _secret_file(path: Any, named: str, problems: list[str]) -> str | None:
    """What a file holds, without the line end that editors add (just as ``$(cat file)`` gives it)."""
    try:
        if not isinstance(path, str):
            raise ValueError("no path")  # noqa: TRY004, TRY301 - one message for all that is no path and no text
        with Path(path).open("rb") as file:
            data = file.read(_MAX_SECRET_FILE + 1)
        text = data.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        problems.append(f"{named}: the file cannot be read ({error.strerror})")
    except ValueError:
        problems.append(f"{named}: must name a file of text in UTF-8")
    else:
        if text and len(data) <= _MAX_SECRET_FILE:
            return text
        problems.append(f"{named}: the file is {'too large' if text else 'empty'}")
    return None
