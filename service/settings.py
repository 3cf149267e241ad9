"""The settings: environment over ``gatekey.toml``, typed, checked as a whole before anything starts (contract 5).

A problem names the variable and says what is wrong, never what was given: it may be a secret in the wrong place.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import secrets
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from service.auth.domains import parse_target_url
from service.auth.peppers import Peppers
from service.auth.rules import canonical_origin
from service.auth.secret import Secret
from service.policies import SLUG, Policy, read_policies

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SECRETS", "Settings", "SettingsError", "load_settings", "read_policy_file"]

PREFIX: Final = "GATEKEY_"
SECRETS: Final = ("store_url", "store_listen_url", "pepper", "peppers", "secret_key")
"""Settings that are secret; each may also be read from a file, ``<NAME>_FILE``."""

_IGNORED: Final = ("GATEKEY_SERVICE_", "GATEKEY_PORT_", "GATEKEY_TEST_")
_MIN_PEPPER: Final = 32  # bytes
_MIN_SECRET_KEY: Final = 16  # characters

Network = IPv4Network | IPv6Network


class SettingsError(Exception):
    """All that is wrong with the settings, one text for each problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _networks(value: Any) -> Any:
    try:
        return tuple(ip_network(item) for item in _listed(value))
    except (ValueError, TypeError):
        raise ValueError("must be IP networks such as 10.0.0.0/8, separated by commas") from None


def _slug(value: Any) -> Any:
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise ValueError("must be an organization's identifier (lower-case letters, digits and -)")
    return value


def _public_url(value: Any) -> Any:
    if not isinstance(value, str):
        raise TypeError("must be text")
    return canonical_origin(value.rstrip("/"))


def _login_url(value: Any) -> Any:
    local = isinstance(value, str) and value.startswith("/") and not value.startswith("//") and value.isprintable()
    remote = isinstance(value, str) and "://" in value and parse_target_url(value) is not None
    if not (local or remote) or "\\" in value or " " in value:
        raise ValueError("must be a path that begins with one /, or an http(s) URL")
    return value


def _next_hosts(value: Any) -> Any:
    hosts = tuple(_listed(value))
    for host in hosts:
        if not isinstance(host, str) or parse_target_url(host.removeprefix(".")) is None or "/" in host:
            raise ValueError("must be host names, separated by commas; .example.com covers its sub-domains")
    return hosts


def _address(value: Any) -> Any:
    """``host:port``."""
    host, colon, port = str(value).rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) <= 65535:  # noqa: PLR2004 - ports
        raise ValueError("must be host:port")
    return host.strip("[]"), int(port)


def _secret(value: Any) -> Any:
    return value if isinstance(value, Secret) else Secret(str(value))


def _switch(value: Any) -> Any:
    return {"on": True, "off": False}.get(value, value) if isinstance(value, str) else value


_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
_PRIVATE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10")
_SecretField = Annotated[Secret, BeforeValidator(_secret)]
_Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]


class Settings(BaseModel):
    """All settings of contract 5 by their names in lower case, with their defaults. Times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    store_url: _SecretField = Secret("memory://")
    store_listen_url: _SecretField | None = None
    store_timeout: Annotated[float, Field(ge=0.01, le=60)] = 0.25
    organization_id: Annotated[str, BeforeValidator(_slug)] = ""
    pepper: _SecretField | None = None
    peppers: _SecretField | None = None
    pepper_current: Annotated[int, Field(ge=0)] | None = None
    secret_key: _SecretField | None = None
    cache_ttl: Annotated[float, Field(ge=0, le=86400)] = 900.0
    cache_negative_ttl: Annotated[float, Field(ge=0, le=3600)] = 5.0
    cache_max_entries: Annotated[int, Field(ge=1, le=100_000_000)] = 100_000
    cache_stale_if_error: Annotated[float, Field(ge=0, le=86400)] = 300.0
    trusted_proxies: _Networks = tuple(map(ip_network, _LOOPBACK))
    unsure_client: Literal["api", "browser"] = "api"
    public_url: Annotated[str, BeforeValidator(_public_url)] = ""
    login_url: Annotated[str, BeforeValidator(_login_url)] = "/login"
    login_next_hosts: Annotated[tuple[str, ...], BeforeValidator(_next_hosts)] = ()
    metrics_allow: _Networks = tuple(map(ip_network, (*_LOOPBACK, *_PRIVATE)))
    admin_listen: Annotated[tuple[str, int], BeforeValidator(_address)] | None = None
    mode: Literal["enforce", "shadow"] = "enforce"
    role: Literal["all", "doors", "app"] = "all"
    host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    uds: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    workers: Annotated[int, Field(ge=1, le=512)] | None = None
    drain: Annotated[float, Field(ge=0, le=600)] = 5.0
    shutdown_timeout: Annotated[float, Field(ge=0.1, le=600)] = 10.0
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    log_summarize: Annotated[bool, BeforeValidator(_switch)] = True

    policies: dict[str, Policy] = Field(default_factory=lambda: {"default": Policy(name="default")}, exclude=True)
    config_path: Path | None = Field(default=None, exclude=True)

    @property
    def in_memory(self) -> bool:
        """Whether keys live in the process only, so that nothing outlives it and one process must do."""
        return self.store_url.reveal().startswith("memory:")

    @property
    def worker_count(self) -> int:
        """How many worker processes serve."""
        return 1 if self.in_memory else (self.workers or os.cpu_count() or 1)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth a line at the start."""
        if self.in_memory:
            return ("memory:// keeps keys in one process: one worker serves, whatever GATEKEY_WORKERS says",)
        return ()

    def make_peppers(self) -> Peppers:
        """The configured peppers; settings that were loaded always have one."""
        by_version, current, problems = _read_peppers(self)
        if problems:
            raise SettingsError(problems)
        return Peppers(by_version, current=current)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of the environment (default ``os.environ``) and the configuration file; raises ``SettingsError``."""
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    config_path = _config_path(environ)
    document, policies = _read_document(config_path, problems)
    values = _from_document(document, problems) | _from_environment(environ, problems)
    _read_secret_files(values, problems)
    settings = _validated(values, problems)
    if settings is not None:
        problems += _cross_checks(settings)
    if problems or settings is None:
        raise SettingsError(problems)
    made: dict[str, Any] = {"policies": policies, "config_path": config_path}
    if settings.in_memory:
        if settings.pepper is None and settings.peppers is None:
            made["pepper"] = Secret(secrets.token_urlsafe(48))
        if settings.secret_key is None:
            made["secret_key"] = Secret(secrets.token_urlsafe(48))
    return settings.model_copy(update=made)


def read_policy_file(path: Path) -> dict[str, Policy]:
    """The policies of the configuration file alone, for a reload; raises ``SettingsError``."""
    problems: list[str] = []
    _, policies = _read_document(path, problems)
    if problems:
        raise SettingsError(problems)
    return policies


def _config_path(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("GATEKEY_CONFIG")
    if named:
        return Path(named).absolute()
    usual = Path("gatekey.toml")
    return usual.absolute() if usual.is_file() else None


def _read_document(path: Path | None, problems: list[str]) -> tuple[dict[str, Any], dict[str, Policy]]:
    if path is None:
        return {}, read_policies({})[0]
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"GATEKEY_CONFIG: the file cannot be read ({error.strerror})")
        return {}, {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        problems.append("GATEKEY_CONFIG: the file is not valid TOML")
        return {}, {}
    policies, found = read_policies(document.pop("policy", {}))
    problems += [f"{path.name}: {problem}" for problem in found]
    return document, policies


def _names() -> list[str]:
    own = [name for name in Settings.model_fields if name not in ("policies", "config_path")]
    return [*own, *(f"{name}_file" for name in SECRETS)]


def _from_document(document: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    known = _names()
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name in known and not isinstance(value, dict):
            values[name] = value
        else:
            problems.append(f"{name} in the configuration file: is no setting{_meant(name, known)}")
    return values


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    known = _names()
    values: dict[str, Any] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable == "GATEKEY_CONFIG" or variable.startswith(_IGNORED):
            continue
        if variable == "GATEKEY_PORT" and value.startswith("tcp://"):
            continue  # Kubernetes describes a service called gatekey
        name = variable.removeprefix(PREFIX).lower()
        if name not in known:
            problems.append(f"{variable}: is no setting{_meant(name, known, prefix=PREFIX)}")
        elif value != "":  # an empty variable is one that is not set
            values[name] = value
    return values


def _meant(name: str, known: list[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if not close:
        return ""
    return f"; did you mean {prefix}{close[0].upper() if prefix else close[0]}?"


def _read_secret_files(values: dict[str, Any], problems: list[str]) -> None:
    for name in SECRETS:
        path = values.pop(f"{name}_file", None)
        if path is None:
            continue
        variable = f"{PREFIX}{name.upper()}"
        if name in values:
            problems.append(f"{variable}: is set, and {variable}_FILE too; set one of them")
            continue
        try:
            values[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            problems.append(f"{variable}_FILE: the file cannot be read ({why})")


def _validated(values: dict[str, Any], problems: list[str]) -> Settings | None:
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{PREFIX}{str(item['loc'][0]).upper()}: {message}")
        return None


def _cross_checks(settings: Settings) -> list[str]:
    problems: list[str] = []
    if "://" not in settings.store_url.reveal():
        problems.append("GATEKEY_STORE_URL: must be a URL such as memory://")
    if not settings.in_memory:
        if settings.pepper is None and settings.peppers is None:
            problems.append(
                "GATEKEY_PEPPER: is required outside memory://; at least 32 bytes, kept apart from the store"
            )
        if settings.secret_key is None:
            problems.append("GATEKEY_SECRET_KEY: is required outside memory://")
    if settings.secret_key is not None and len(settings.secret_key.reveal()) < _MIN_SECRET_KEY:
        problems.append(f"GATEKEY_SECRET_KEY: must have at least {_MIN_SECRET_KEY} characters")
    if settings.pepper is not None or settings.peppers is not None:
        problems += _read_peppers(settings)[2]
    elif settings.pepper_current is not None:
        problems.append("GATEKEY_PEPPER_CURRENT: needs GATEKEY_PEPPERS")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        problems.append("GATEKEY_TLS_CERT and GATEKEY_TLS_KEY: need each other")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        problems.append("GATEKEY_TLS_CLIENT_CA: needs GATEKEY_TLS_CERT and GATEKEY_TLS_KEY")
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        path: Path | None = getattr(settings, name)
        if path is not None and not os.access(path, os.R_OK):
            problems.append(f"{PREFIX}{name.upper()}: the file cannot be read")
    return problems


def _read_peppers(settings: Settings) -> tuple[dict[int, bytes], int, list[str]]:
    """The peppers by version, the current version, and what is wrong with them."""
    if settings.pepper is not None and settings.peppers is not None:
        return {}, 0, ["GATEKEY_PEPPER: is set, and GATEKEY_PEPPERS too; set one of them"]
    if settings.peppers is None:
        data = b"" if settings.pepper is None else settings.pepper.reveal().encode()
        if len(data) < _MIN_PEPPER:
            return {}, 0, [f"GATEKEY_PEPPER: must have at least {_MIN_PEPPER} bytes"]
        return {1: data}, 1, []
    by_version: dict[int, bytes] = {}
    for item in settings.peppers.reveal().split(","):
        version, _, encoded = item.strip().partition(":")
        try:
            data = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            data = b""
        if not version.isdecimal() or len(data) < _MIN_PEPPER or int(version) in by_version:
            form = "<version>:<base64 of at least 32 bytes>, separated by commas, each version once"
            return {}, 0, [f"GATEKEY_PEPPERS: must be {form}"]
        by_version[int(version)] = data
    current = settings.pepper_current if settings.pepper_current is not None else max(by_version)
    if current not in by_version:
        return {}, 0, ["GATEKEY_PEPPER_CURRENT: is none of the versions in GATEKEY_PEPPERS"]
    return by_version, current, []
