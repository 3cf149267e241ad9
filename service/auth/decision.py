"""What is asked (``AccessRequest``) and what is answered (``Decision``)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from service.auth.reasons import REASONS, Outcome, Reason

if TYPE_CHECKING:
    from service.auth.credentials import Credentials
    from service.auth.domains import Target
    from service.auth.loaded import LoadedKey
    from service.observe.tracing import DecisionSpan

__all__ = ["AccessRequest", "Decision", "Door", "Source"]


class Source(StrEnum):
    """Where the record behind a decision came from; a metric label."""

    CACHE = "cache"
    NEGATIVE = "negative"
    STALE = "stale"
    STORE = "store"
    NONE = "none"


class Door(StrEnum):
    """Through which door a request came; in the log line only."""

    FORWARD = "forward"
    NGINX = "nginx"
    ENVOY = "envoy"
    API = "api"
    VERIFY = "verify"
    APP = "app"


class AccessRequest:
    """One question: may this credential do this? Plain slots, made once per request, never shared.

    The first group decides; the second only describes the request in the log line.
    """

    __slots__ = (
        "client_ip",
        "credentials",
        "door",
        "method",
        "organization_id",
        "origin",
        "own_path",
        "path",
        "policy",
        "request_id",
        "required_scopes",
        "span",
        "started",
        "target",
        "trace_id",
        "user_agent",
    )

    def __init__(
        self,
        *,
        credentials: Credentials | Reason,
        target: Target | None,
        door: Door,
        started: float,
        own_path: bool = False,
        organization_id: str = "",
        required_scopes: tuple[str, ...] = (),
        origin: str | None = None,
        client_ip: str = "",
        method: str = "",
        path: str = "",
        policy: str = "",
        user_agent: str = "",
        request_id: str = "",
        trace_id: str = "",
    ) -> None:
        self.credentials = credentials
        """What was presented, or why nothing usable was (``MISSING_CREDENTIALS``, ``MALFORMED_KEY``)."""
        self.target = target
        """Scheme, host, port and path that the caller addresses; ``None`` where the host is missing or malformed."""
        self.own_path = own_path
        """The request addresses Gatekey's own paths, where the domain ``@gatekey`` matches."""
        self.organization_id = organization_id
        """Only this organization's keys pass; ``""`` for any."""
        self.required_scopes = required_scopes
        self.origin = origin
        self.client_ip = client_ip
        """Canonical text of the client's address, ``""`` when unknown."""
        self.door = door
        self.started = started
        """Monotonic seconds at which handling began."""
        self.method = method
        self.path = path
        self.policy = policy
        self.user_agent = user_agent
        self.request_id = request_id
        self.trace_id = trace_id
        self.span: DecisionSpan | None = None
        """Set where traces are on, before anything is decided."""


class Decision:
    """The answer to one ``AccessRequest``: made once, then only read."""

    __slots__ = ("duration", "in_shadow", "key", "reason", "shadowed", "source", "store_seconds", "used_previous")

    def __init__(
        self,
        reason: Reason,
        *,
        source: Source = Source.NONE,
        key: LoadedKey | None = None,
        store_seconds: float = 0.0,
        used_previous: bool = False,
    ) -> None:
        self.reason = reason
        self.source = source
        self.key = key
        """The known key (also on most denials), ``None`` where none was found."""
        self.store_seconds = store_seconds
        """Time spent waiting for the store, in seconds."""
        self.used_previous = used_previous
        """Whether the secret was the one from before a rotation, whose days are numbered."""
        self.duration = 0.0
        """Seconds from the request's start to the decision; set when it is observed."""
        self.in_shadow = False
        """Whether the answer was given in shadow mode, where everything passes."""
        self.shadowed: Reason | None = None
        """In shadow mode, the reason that would have counted; ``reason`` is then ``SHADOW``."""

    @property
    def outcome(self) -> Outcome:
        """Allow, deny or error."""
        return REASONS[self.reason].outcome

    @property
    def allowed(self) -> bool:
        """Whether the request may pass."""
        return REASONS[self.reason].outcome is Outcome.ALLOW

    @property
    def status(self) -> int:
        """The HTTP status that belongs to the reason."""
        return REASONS[self.reason].status
