"""The bodies of requests. Types and sizes are checked here; what a domain or a scope may be, by whoever stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from service.auth.domains import Target, parse_target_url
from service.auth.rules import MAX_SCOPES, canonical_scope
from service.doors.peers import parse_address
from service.manage.manager import DEFAULT_GRACE, DEFAULT_LIMIT, KeyDraft
from service.web.schemas.examples import EXAMPLE_KEY, EXAMPLE_SECRET
from service.web.schemas.fields import (  # noqa: TC001 - pydantic reads the annotations
    Domains,
    Duration,
    Flag,
    Metadata,
    Name,
    ScopeTexts,
    Texts,
    Time,
)
from service.web.schemas.reading import Body

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "ChangeKey",
    "ChangeOrganization",
    "CreateKey",
    "CreateOrganization",
    "RotateKey",
    "VerifyRequest",
]


class VerifyRequest(Body):
    """Somebody's credentials, and what they would be used for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"api_key": EXAMPLE_KEY, "secret_token": EXAMPLE_SECRET, "domain": "api.example.com"},
            ]
        }
    )

    api_key: Annotated[str, Field(max_length=4096, repr=False, description="What was presented to you.")]
    secret_token: Annotated[str, Field(max_length=4096, repr=False, description="What was presented to you.")]
    domain: Annotated[
        str, Field(max_length=8192, description="Where it is used: a host (then by https), host:port or a URL.")
    ]
    scopes: Annotated[tuple[str, ...], Field(max_length=MAX_SCOPES, description="What the key must have.")] = ()
    client_ip: Annotated[str, Field(max_length=64, description="The client's address.")] | None = None
    origin: Annotated[str, Field(max_length=1024, description="The request's Origin.")] | None = None

    @field_validator("domain")
    @classmethod
    def _domain_is_addressable(cls, value: str) -> str:
        if parse_target_url(value) is None:
            raise ValueError("must be a host name, host:port or an http(s) URL")
        return value

    @field_validator("scopes", mode="before")
    @classmethod
    def _scopes_are_scopes(cls, value: Any) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > MAX_SCOPES or not all(isinstance(item, str) for item in value):
            raise ValueError(f"must be a list of at most {MAX_SCOPES} scopes")
        return tuple(canonical_scope(item) for item in value)

    @field_validator("client_ip")
    @classmethod
    def _client_ip_is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        address = parse_address(value)
        if address is None:
            raise ValueError("must be an IP address")
        return str(address)

    @property
    def target(self) -> Target | None:
        """What the key would be used for."""
        return parse_target_url(self.domain)


class CreateOrganization(Body):
    """A new tenant."""

    organization_id: Annotated[
        str,
        StringConstraints(max_length=63),
        Field(description="Lower-case letters, digits and hyphens, not beginning with a hyphen.", examples=["acme"]),
    ]
    name: Name = ""


class ChangeOrganization(Body):
    """What can change about an organization."""

    is_active: Flag


class _Expiry(Body):
    """A key's end: a time, or a duration from now."""

    expires_at: Annotated[Time | None, Field(description="When the key ends; null for never.")] = None
    expires_in: Annotated[Duration | None, Field(description="Instead of expires_at: how long from now.")] = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.expires_at is not None and self.expires_in is not None:
            raise ValueError("expires_at and expires_in contradict each other; give one of them")
        return self

    def end(self, now: datetime) -> datetime | None:
        """When the key ends; ``None`` for never."""
        return self.expires_at if self.expires_in is None else now + self.expires_in


class CreateKey(_Expiry):
    """A new key. Empty ``origins`` and ``networks`` restrict nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "orders", "domains": ["api.example.com"], "scopes": ["orders:*"], "expires_in": "90d"},
            ]
        }
    )

    domains: Annotated[Domains, Field(description="Where the key may be used.")]
    scopes: Annotated[ScopeTexts, Field(description="What it may do.")] = ()
    origins: Annotated[Texts, Field(description="The only browser origins that may use it.")] = ()
    networks: Annotated[Texts, Field(description="The only client networks that may use it (CIDR).")] = ()
    critical: Annotated[Flag, Field(description="Never served from the cache while the store is down.")] = False
    env: Literal["live", "test"] = "live"
    name: Name = ""
    metadata: Annotated[Metadata, Field(json_schema_extra={"default": {}})] = "{}"

    def draft(self, organization_id: str, *, now: datetime, key_id: str | None) -> KeyDraft:
        """What is to be made."""
        return KeyDraft(
            organization_id=organization_id,
            domains=self.domains,
            scopes=self.scopes,
            origins=self.origins,
            networks=self.networks,
            expires_at=self.end(now),
            critical=self.critical,
            env=self.env,
            name=self.name,
            metadata=self.metadata,
            key_id=key_id,
        )


_UNCHANGED: Any = None  # stands for "not given"; which fields were given is told by ``model_fields_set``


class ChangeKey(_Expiry):
    """What is to change; fields that are not given stay as they are, lists and ``metadata`` are replaced as a whole."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"is_active": False}]})

    domains: Domains = _UNCHANGED
    scopes: ScopeTexts = _UNCHANGED
    origins: Texts = _UNCHANGED
    networks: Texts = _UNCHANGED
    critical: Flag = _UNCHANGED
    name: Name = _UNCHANGED
    metadata: Metadata = _UNCHANGED
    is_active: Annotated[Flag, Field(description="false disables the key, true enables it again.")] = _UNCHANGED

    @model_validator(mode="after")
    def _something_changes(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("names nothing to change")
        return self

    def changes(self, now: datetime) -> dict[str, Any]:
        """The fields to change with their values."""
        given = {name: getattr(self, name) for name in self.model_fields_set if not name.startswith("expires_")}
        if self.model_fields_set & {"expires_at", "expires_in"}:
            given["expires_at"] = self.end(now)
        return given


class RotateKey(Body):
    """A new secret (the default), or what becomes of the old one of a rotation before."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace": "24h", "limit": "30d"}]})

    grace: Annotated[
        Duration,
        Field(
            description="How long the old secret lives after the new one's first use; 0 ends it now.",
            json_schema_extra={"default": "24h"},
        ),
    ] = DEFAULT_GRACE
    limit: Annotated[
        Duration,
        Field(description="How long the old secret lives at most.", json_schema_extra={"default": "30d"}),
    ] = DEFAULT_LIMIT
    cancel: Annotated[Flag, Field(description="Undo the rotation: the old secret is the only one again.")] = False
    cut: Annotated[Flag, Field(description="The old secret dies now.")] = False

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if self.cancel + self.cut + bool(self.model_fields_set & {"grace", "limit"}) > 1:
            raise ValueError("a new secret, cancel and cut contradict each other; ask for one of them")
        return self
