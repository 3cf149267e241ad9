"""The settings: environment over ``gatekey.toml``, typed, checked as a whole before anything starts (contract 5).

A problem names the variable and says what is wrong, never what was given: it may be a secret in the wrong place.
"""

from __future__ import annotations

import os
import secrets
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from service import setting_types as types
from service.auth.peppers import Peppers
from service.auth.secret import Secret
from service.observe.trace_settings import trace_problems
from service.policies import Policy
from service.setting_sources import config_path, read_document, read_values, variable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["SECRETS", "SETTINGS", "Settings", "SettingsError", "load_settings", "read_policy_file"]

SECRETS: Final = ("store_url", "store_listen_url", "pepper", "peppers", "secret_key")
"""Settings that are secret; each may also be read from a file, ``<NAME>_FILE``."""

_MIN_SECRET_KEY: Final = 16  # characters
_MAX_SOCKET_PATH: Final = 103  # bytes: what every system takes
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
_PRIVATE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10")

_Secret = Annotated[Secret, BeforeValidator(types.secret_text)]
_StoreUrl = Annotated[Secret, BeforeValidator(types.store_url)]
_Networks = Annotated[tuple[types.Network, ...], BeforeValidator(types.networks)]
_File = Annotated[Path, BeforeValidator(types.file_path())]


class SettingsError(Exception):
    """All that is wrong with the settings, one text for each problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Settings(BaseModel):
    """All settings of contract 5 by their names in lower case, with their defaults.

    Times are seconds, but ``…_retention`` are days.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    store_url: _StoreUrl = Secret("memory://")
    store_listen_url: _StoreUrl | None = None
    store_timeout: Annotated[float, BeforeValidator(types.number(0.01, 60))] = 0.25
    organization_id: Annotated[str, BeforeValidator(types.slug)] = ""
    pepper: _Secret | None = None
    peppers: _Secret | None = None
    pepper_current: Annotated[int, BeforeValidator(types.whole_number(0, 999_999_999))] | None = None
    secret_key: _Secret | None = None
    cache_ttl: Annotated[float, BeforeValidator(types.number(0, 86400))] = 900.0
    cache_negative_ttl: Annotated[float, BeforeValidator(types.number(0, 3600))] = 5.0
    cache_max_entries: Annotated[int, BeforeValidator(types.whole_number(1, 100_000_000))] = 100_000
    cache_stale_if_error: Annotated[float, BeforeValidator(types.number(0, 86400))] = 300.0
    trusted_proxies: _Networks = tuple(map(ip_network, _LOOPBACK))
    unsure_client: Annotated[Literal["api", "browser"], BeforeValidator(types.choice("api", "browser"))] = "api"
    public_url: Annotated[str, BeforeValidator(types.public_url)] = ""
    login_url: Annotated[str, BeforeValidator(types.login_url)] = "/login"
    login_next_hosts: Annotated[tuple[str, ...], BeforeValidator(types.hosts)] = ()
    metrics_allow: _Networks = tuple(map(ip_network, (*_LOOPBACK, *_PRIVATE)))
    admin_listen: Annotated[tuple[str, int], BeforeValidator(types.host_port)] | None = None
    mode: Annotated[Literal["enforce", "shadow"], BeforeValidator(types.choice("enforce", "shadow"))] = "enforce"
    role: Annotated[Literal["all", "doors", "app"], BeforeValidator(types.choice("all", "doors", "app"))] = "all"
    host: Annotated[str, BeforeValidator(types.host_name)] = "127.0.0.1"
    port: Annotated[int, BeforeValidator(types.whole_number(1, 65535))] = 8000
    uds: Annotated[Path, BeforeValidator(types.file_path(_MAX_SOCKET_PATH))] | None = None
    tls_cert: _File | None = None
    tls_key: _File | None = None
    tls_client_ca: _File | None = None
    workers: Annotated[int, BeforeValidator(types.whole_number(1, 512))] | None = None
    drain: Annotated[float, BeforeValidator(types.number(0, 600))] = 5.0
    shutdown_timeout: Annotated[float, BeforeValidator(types.number(0.1, 600))] = 10.0
    usage_retention: Annotated[int, BeforeValidator(types.whole_number(0, 36_500))] = 400
    audit_retention: Annotated[int, BeforeValidator(types.whole_number(0, 36_500))] = 0
    log_format: Annotated[Literal["json", "console"], BeforeValidator(types.choice("json", "console"))] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        BeforeValidator(types.choice("debug", "info", "warning", "error", "critical")),
    ] = "info"
    log_summarize: Annotated[bool, BeforeValidator(types.switch)] = True
    traces: Annotated[bool, BeforeValidator(types.switch)] = False

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
        notes = []
        if self.in_memory:
            notes.append(
                "one worker serves, because memory:// keeps keys in one process, and they are gone when it ends"
            )
        if self.mode == "shadow":
            notes.append("GATEKEY_MODE=shadow: requests that would be refused are allowed, and only logged and counted")
        return tuple(notes)

    def make_peppers(self) -> Peppers:
        """The configured peppers; settings that were loaded always have one."""
        by_version, current, problems = _read_peppers(self)
        if problems:
            raise SettingsError(problems)
        return Peppers(by_version, current=current)


SETTINGS: Final = tuple(name for name in Settings.model_fields if name not in ("policies", "config_path"))
"""The names, in lower case, in the order of contract 5."""


def load_settings(environ: Mapping[str, str] | None = None, *, schemes: Collection[str] | None = None) -> Settings:
    """The settings of the environment (default ``os.environ``) and the configuration file; raises ``SettingsError``.

    ``schemes`` are those of the stores that exist; where they are not given, whoever makes the store finds out.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    path = config_path(environ)
    document, policies = read_document(path, problems)
    values = read_values(environ, document, problems, names=SETTINGS, secrets=SECRETS)
    settings = _validated(values, problems)
    if schemes is not None and _scheme(settings.store_url) not in schemes:
        problems.append(f"GATEKEY_STORE_URL: there is no store for this scheme; known: {', '.join(sorted(schemes))}")
    if settings.traces:
        problems += trace_problems(environ)
    if problems:
        raise SettingsError(problems)
    made: dict[str, Any] = {"policies": policies, "config_path": path}
    if settings.in_memory:
        if settings.pepper is None and settings.peppers is None:
            made["pepper"] = Secret(secrets.token_urlsafe(48))
        if settings.secret_key is None:
            made["secret_key"] = Secret(secrets.token_urlsafe(48))
    return settings.model_copy(update=made)


def read_policy_file(path: Path) -> dict[str, Policy]:
    """The policies of the configuration file alone, for a reload; raises ``SettingsError``."""
    problems: list[str] = []
    _, policies = read_document(path, problems)
    if problems:
        raise SettingsError(problems)
    return policies


def _validated(values: dict[str, Any], problems: list[str]) -> Settings:
    """The settings; those with a problem have their default, so that the others can be checked all the same."""
    unread = {name for name in SECRETS if any(problem.startswith(variable(name)) for problem in problems)}
    try:
        settings, wrong = Settings.model_validate(values), set[str]()
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        wrong = {str(item["loc"][0]) for item in found}
        problems += [f"{variable(str(item['loc'][0]))}: {item['msg'].removeprefix('Value error, ')}" for item in found]
        settings = Settings.model_validate({name: value for name, value in values.items() if name not in wrong})
    for problem in _cross_checks(settings):
        if not any(variable(name) in problem for name in wrong | unread):  # said already
            problems.append(problem)
    return settings


def _cross_checks(settings: Settings) -> list[str]:
    """What is wrong with settings that are right each by itself."""
    problems: list[str] = []
    if settings.pepper is not None or settings.peppers is not None or settings.pepper_current is not None:
        problems += _read_peppers(settings)[2]
    elif not settings.in_memory:
        problems.append("GATEKEY_PEPPER: is required outside memory://; at least 32 bytes, kept apart from the store")
    if settings.secret_key is not None and len(settings.secret_key.reveal()) < _MIN_SECRET_KEY:
        problems.append(f"GATEKEY_SECRET_KEY: must have at least {_MIN_SECRET_KEY} characters")
    elif settings.secret_key is None and not settings.in_memory:
        problems.append("GATEKEY_SECRET_KEY: is required outside memory://")
    if settings.store_listen_url is not None and _scheme(settings.store_listen_url) != _scheme(settings.store_url):
        problems.append("GATEKEY_STORE_LISTEN_URL: must have the scheme of GATEKEY_STORE_URL")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        problems.append("GATEKEY_TLS_CERT: needs GATEKEY_TLS_KEY, and the other way round")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        problems.append("GATEKEY_TLS_CLIENT_CA: needs GATEKEY_TLS_CERT and GATEKEY_TLS_KEY")
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        path: Path | None = getattr(settings, name)
        if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
            problems.append(f"{variable(name)}: the file cannot be read")
    return problems


def _scheme(url: Secret) -> str:
    return url.reveal().partition("://")[0]


def _read_peppers(settings: Settings) -> tuple[dict[int, bytes], int, list[str]]:
    """The peppers by version, the current version, and what is wrong with them."""
    if settings.pepper is not None and settings.peppers is not None:
        return {}, 0, ["GATEKEY_PEPPER: is set, and GATEKEY_PEPPERS too; set one of them"]
    if settings.peppers is None:
        if settings.pepper_current is not None:
            return {}, 0, ["GATEKEY_PEPPER_CURRENT: needs GATEKEY_PEPPERS"]
        data = b"" if settings.pepper is None else settings.pepper.reveal().encode()
        if len(data) < types.MIN_PEPPER:
            return {}, 0, [f"GATEKEY_PEPPER: must have at least {types.MIN_PEPPER} bytes"]
        return {1: data}, 1, []
    try:
        by_version = types.pepper_table(settings.peppers.reveal())
    except ValueError as error:
        return {}, 0, [f"GATEKEY_PEPPERS: {error}"]
    current = max(by_version) if settings.pepper_current is None else settings.pepper_current
    if current not in by_version:
        return {}, 0, ["GATEKEY_PEPPER_CURRENT: is none of the versions in GATEKEY_PEPPERS"]
    return by_version, current, []
