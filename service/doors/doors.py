"""The three proxy doors: one question of a proxy in, one answer out; the same under every server.

A door never redirects on its own path, takes every method, and refuses a body before anything else.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from service.answers.answer import Answer
from service.answers.client_kind import is_browser, is_form_post
from service.answers.denial import Denial
from service.answers.identity import EMPTY_IDENTITY, identity_headers, rotation_headers
from service.answers.responder import RETRY_AFTER
from service.auth.decision import AccessRequest, Decision, Door
from service.auth.reasons import REASONS, Outcome, Reason
from service.doors.attempt import credentials_of, shadowed
from service.doors.context import ForwardedContext, read_context
from service.observe.request_ids import request_id_for, trace_id_of

if TYPE_CHECKING:
    from service.answers.next_url import NextUrls
    from service.answers.responder import Responder
    from service.answers.tickets import Tickets
    from service.auth.authenticator import Authenticator
    from service.auth.clock import Clock
    from service.doors.peers import TrustedProxies
    from service.doors.raw import RawRequest
    from service.observe.metrics import Metrics
    from service.observe.observer import Observer
    from service.policies import Policy, PolicyBook
    from service.settings import Settings

__all__ = ["DoorCall", "DoorKind", "Doors"]


class DoorKind(StrEnum):
    """The contracts that a proxy can speak, and nginx's second call that renders a denial."""

    FORWARD = "forward"
    NGINX = "nginx"
    ENVOY = "envoy"
    DENIED = "denied"


class DoorCall(NamedTuple):
    """A door and the name of the policy it was asked for."""

    kind: DoorKind
    policy: str


_DOORS: Final = {DoorKind.FORWARD: Door.FORWARD, DoorKind.NGINX: Door.NGINX, DoorKind.ENVOY: Door.ENVOY}
_ROUTES: Final = {kind: f"door_{kind.value}" for kind in _DOORS}
_COMMON: Final = (
    ("cache-control", "no-store"),
    ("vary", "Authorization, Cookie, X-Api-Key, X-Secret-Token"),
)
_MAX_REMEMBERED: Final = 128  # characters of a path; strangers choose it
_CLOSE: Final = ("connection", "close")  # a body is still on its way, and nobody will read it


class Doors:
    """Answers proxies. ``answer`` belongs to the event loop; a decision that the cache can make never waits there."""

    def __init__(
        self,
        *,
        settings: Settings,
        policies: PolicyBook,
        authenticator: Authenticator,
        observer: Observer,
        metrics: Metrics,
        proxies: TrustedProxies,
        responder: Responder,
        tickets: Tickets,
        next_urls: NextUrls,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.policies = policies
        self.authenticator = authenticator
        self.observer = observer
        self.metrics = metrics
        self.proxies = proxies
        self.responder = responder
        self.tickets = tickets
        self.next_urls = next_urls
        self.clock = clock
        self._find_known = lru_cache(maxsize=1024)(self._find)

    def find(self, path: str) -> DoorCall | None:
        """The door at exactly this path, ``None`` where there is none (or this process's role has no doors)."""
        return self._find_known(path) if len(path) <= _MAX_REMEMBERED else self._find(path)

    def _find(self, path: str) -> DoorCall | None:
        if not path.startswith("/auth/") or self.settings.role == "app":
            return None
        kind, _, rest = path[6:].partition("/")
        policy, slash, tail = rest.partition("/")
        if not policy:
            return None
        if kind == "envoy":  # Envoy appends the client's path, which says nothing here
            return DoorCall(DoorKind.ENVOY, policy)
        if not slash:
            return DoorCall(DoorKind(kind), policy) if kind in ("forward", "nginx") else None
        return DoorCall(DoorKind.DENIED, policy) if kind == "nginx" and tail == "denied" else None

    async def answer(self, call: DoorCall, raw: RawRequest) -> Answer:
        """The answer to one question; never raises but for cancellation."""
        started = self.clock.age()
        if call.kind is DoorKind.DENIED:
            answer = self._render_ticket(raw)
            self.metrics.http_request("door_nginx", answer.status, self.clock.age() - started)
            return answer
        visit = _Visit(self, call, raw, started)
        decision = visit.decide_cached() or await visit.decide()
        answer = visit.conclude(decision)
        self.metrics.http_request(_ROUTES[call.kind], answer.status, decision.duration)
        return answer

    def _render_ticket(self, raw: RawRequest) -> Answer:
        """The answer that nginx's client sees. Decides, counts and logs nothing; without a valid ticket 503."""
        denial = self.tickets.read(raw.header("x-gatekey-denial"))
        if denial is None:
            denial = Denial(Reason.INTERNAL, request_id=request_id_for(raw.header("x-request-id")))
        elif _has_body(raw):
            denial = Denial(Reason.BAD_REQUEST, request_id=denial.request_id)
        answer = self.responder.denial(denial)
        if _has_body(raw):
            answer.headers.append(_CLOSE)
        return answer


class _Visit:
    """One question on its way through a door: context, decision, answer."""

    __slots__ = ("_call", "_context", "_doors", "_policy", "_presented", "_raw", "_request", "_started")

    _request: AccessRequest

    def __init__(self, doors: Doors, call: DoorCall, raw: RawRequest, started: float) -> None:
        self._doors = doors
        self._call = call
        self._raw = raw
        self._started = started
        self._policy: Policy | None = doors.policies.find(call.policy)
        self._context: ForwardedContext | None = None
        self._presented = False

    def decide_cached(self) -> Decision | None:
        """The decision as it counts, shadow mode included; ``None`` where the store must be asked."""
        refusal = self._refusal()
        self._request = request = self._described()
        decision: Decision | None
        if refusal is not None:
            decision = Decision(refusal)
        elif self._is_passing_preflight():
            decision = Decision(Reason.PREFLIGHT)
        else:
            decision = self._doors.authenticator.decide_cached(request)
        return None if decision is None else self._counting(decision)

    async def decide(self) -> Decision:
        """The decision as it counts, after ``decide_cached`` had none."""
        return self._counting(await self._doors.authenticator.decide_uncached(self._request))

    def _counting(self, decision: Decision) -> Decision:
        policy = self._policy
        if self._doors.settings.mode == "shadow" or (policy is not None and policy.mode == "shadow"):
            return shadowed(decision)
        return decision

    def _refusal(self) -> Reason | None:
        """Why the question itself cannot be answered, before any credential is looked at."""
        raw, doors = self._raw, self._doors
        if _has_body(raw):
            return Reason.BAD_REQUEST
        if not doors.proxies.trusts(raw.peer):
            return Reason.UNTRUSTED_PEER
        if self._policy is None:
            return Reason.UNKNOWN_POLICY
        self._context = read_context(raw, doors.proxies)
        return Reason.BAD_CONTEXT if self._context is None else None

    def _described(self) -> AccessRequest:
        raw, policy, context = self._raw, self._policy, self._context
        credentials: object = Reason.MISSING_CREDENTIALS
        if policy is not None:
            credentials, self._presented = credentials_of(raw, policy.credentials)
        request = AccessRequest(
            credentials=credentials,  # type: ignore[arg-type]  # object only until the line above
            target=None if context is None else context.target,
            door=_DOORS[self._call.kind],
            started=self._started,
            organization_id="" if policy is None else policy.organization,
            required_scopes=() if policy is None else policy.scopes,
            origin=raw.header("origin") or None,
            client_ip=raw.peer if context is None else context.client_ip,
            method=raw.method if context is None else context.method,
            path="" if context is None else context.path,
            policy=self._call.policy,
            user_agent=raw.header("user-agent"),
            request_id=request_id_for(raw.header("x-request-id")),
            trace_id=trace_id_of(raw.header("traceparent")),
        )
        tracing = self._doors.observer.tracing
        if tracing is not None:
            tracing.begin(request, raw.header("traceparent"))
        return request

    def _is_passing_preflight(self) -> bool:
        """A CORS preflight carries no credentials by its nature; a policy may let it through, without identity."""
        policy, context, raw = self._policy, self._context, self._raw
        return (
            policy is not None
            and policy.preflight == "pass"
            and context is not None
            and context.method == "OPTIONS"
            and bool(raw.header("origin"))
            and bool(raw.header("access-control-request-method"))
        )

    def conclude(self, decision: Decision) -> Answer:
        """Count and log the decision once, and render it as this proxy can carry it."""
        request = self._request
        if decision.allowed:
            key = decision.key if decision.reason is Reason.OK else None
            identity = EMPTY_IDENTITY if key is None else identity_headers(key)
            answer = Answer(200, [("x-request-id", request.request_id), *_COMMON, *identity])
            if key is not None and decision.used_previous:
                answer.headers += rotation_headers(key)
            if request.span is not None:
                answer.headers.append(("traceparent", request.span.traceparent))
        elif self._call.kind is DoorKind.NGINX:
            answer = self._denied_for_nginx(decision)
        else:
            answer = self._doors.responder.denial(self._denial(decision))
        if Reason.BAD_REQUEST in (decision.reason, decision.shadowed):
            answer.headers.append(_CLOSE)
        self._doors.observer.decided(request, decision, answer.status)
        return answer

    def _denied_for_nginx(self, decision: Decision) -> Answer:
        """``auth_request`` knows 2xx, 401 and 403, and makes 500 of all else; what the client sees is in the ticket."""
        info = REASONS[decision.reason]
        status = info.status if info.outcome is Outcome.ERROR or info.status == HTTPStatus.UNAUTHORIZED else 403
        ticket = self._doors.tickets.mint(self._denial(decision))
        headers = [("x-request-id", self._request.request_id), *_COMMON, ("x-gatekey-denial", ticket)]
        if status in RETRY_AFTER:
            headers.append(("retry-after", RETRY_AFTER[status]))
        return Answer(status, headers)

    def _denial(self, decision: Decision) -> Denial:
        raw, policy, context, doors = self._raw, self._policy, self._context, self._doors
        method = self._request.method
        browser = is_browser(
            method=method,
            header=raw.header,
            credential_presented=self._presented,
            client="auto" if policy is None else policy.client,
            unsure=doors.settings.unsure_client,
        )
        form_post = browser and is_form_post(method, raw.header)
        origin = raw.header("origin")
        return Denial(
            decision.reason,
            browser=browser,
            form_post=form_post,
            request_id=self._request.request_id,
            credential_presented=self._presented,
            login_location=self._login_location(context, form_post=form_post) if browser and context else "",
            cors_origin=origin if policy is not None and origin in policy.cors_origins else "",
        )

    def _login_location(self, context: ForwardedContext, *, form_post: bool) -> str:
        """The absolute address of the login page, with where to go afterwards (never back into a lost form post)."""
        doors = self._doors
        base = f"{context.scheme}://{context.host}"
        return doors.next_urls.login_location(base=base, destination=f"{base}/" if form_post else context.url)


def _has_body(raw: RawRequest) -> bool:
    """Whether a body is announced, in either way of HTTP/1.1 framing (RFC 9112 6)."""
    return bool(raw.header("transfer-encoding")) or raw.header("content-length").strip() not in ("", "0")
