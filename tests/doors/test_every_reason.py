"""Every reason of contract 2 through every door: those that a failing store causes, and those whose causes are to come."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from backends.errors import StoreCorrupt, StoreNotReady, StoreUnavailable
from service import api_key_required
from service.auth.authenticator import Authenticator
from service.auth.decision import Decision
from service.auth.reasons import Reason
from tests.support.cases import CONTRACT, VERIFIER, VERIFIER_SECRET, five, pair
from tests.support.in_process import ask, logged_gatekey
from tests.support.keys import DOMAIN
from tests.support.servers import key_line, wait_until
from tests.support.stores import GatedStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.auth.decision import AccessRequest
    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse

LINES = [
    key_line("plain"),
    key_line(
        VERIFIER, organization_id="gatekey", secret=VERIFIER_SECRET, domains=["@gatekey"], scopes=["gatekey:verify"]
    ),
]
QUESTION = (("Host", DOMAIN), *five(proto="http"), *pair())
VERIFY = (("Host", "gatekey.example"), *pair(VERIFIER, VERIFIER_SECRET), ("Content-Type", "application/json"))
BODY = orjson.dumps({"api_key": "plain", "secret_token": dict(pair())["x-secret-token"], "domain": DOMAIN})

TO_COME = ("csrf", "rate_limited", "quota_exceeded", "throttled")
"""Reasons that sessions and limits will cause: only their rendering is tested here."""


@contextmanager
def _views(store: GatedStore | None = None, environ: dict[str, str] | None = None) -> Iterator[LoggedGatekey]:
    """Gatekey with an async and a sync view of an application; the back end's own key is in the cache already."""
    with logged_gatekey(LINES, store=store, environ=environ) as logged:

        @logged.app.get("/sync")
        @api_key_required
        def sync_view() -> str:
            return "passed"

        @logged.app.get("/async")
        @api_key_required
        async def async_view() -> str:
            return "passed"

        verified = ask(logged.app, "POST", "/v1/keys/verify", VERIFY, BODY.replace(b"plain", b"other"))
        assert verified.json() == {"valid": False, "code": "invalid_credentials"}
        logged.events()
        yield logged


def _check_everywhere(logged: LoggedGatekey, reason: str, *, at_verify: bool = True) -> None:
    """Each door answers, counts and logs the reason as the contract says."""
    outcome, status, code = CONTRACT[reason]
    app = logged.app
    before = _counted(logged, reason)
    for target in ("/auth/forward/default", "/auth/envoy/default/x", "/sync", "/async", "/v1/whoami"):
        _check_refusal(ask(app, "GET", target, QUESTION), status, code)
    nginx = ask(app, "GET", "/auth/nginx/default", QUESTION)
    assert nginx.status == (503 if outcome == "error" else 401 if status == 401 else 403)
    assert (nginx.body, nginx.has("www-authenticate")) == (b"", False)
    assert nginx.has("retry-after") == (outcome == "error")
    ticket = nginx.header("x-gatekey-denial")
    _check_refusal(ask(app, "GET", "/auth/nginx/default/denied", [("X-Gatekey-Denial", ticket)]), status, code)
    lines = logged.decisions()
    assert [line["door"] for line in lines] == ["forward", "envoy", "app", "app", "api", "nginx"]
    assert {(line["outcome"], line["reason"]) for line in lines} == {(outcome, reason)}
    if at_verify:
        answer = ask(app, "POST", "/v1/keys/verify", VERIFY, BODY)
        caller, verified = logged.decisions()
        assert (caller["door"], caller["reason"]) == ("api", "ok")
        assert (verified["door"], verified["outcome"], verified["reason"]) == ("verify", outcome, reason)
        _check_refusal(answer, status, code)
    assert _counted(logged, reason) - before == len(lines) + at_verify


def _counted(logged: LoggedGatekey, reason: str) -> float:
    labels = {"outcome": CONTRACT[reason][0], "reason": reason}
    count = logged.gatekey.metrics.registry.get_sample_value("gatekey_decisions_total", labels)
    assert count is not None
    return count


def _check_refusal(answer: RawResponse, status: int, code: str) -> None:
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert answer.has("retry-after") == (status in (429, 503))
    assert answer.header("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreUnavailable("down"), "store_unavailable"),
        (StoreNotReady("no marker"), "store_unavailable"),
        (StoreCorrupt("not a record"), "store_corrupt"),
        (RuntimeError("a defect of the store"), "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_a_store_that_fails_is_503_everywhere_and_never_a_401(error: Exception, reason: str) -> None:
    """No evidence, no 401; no verified record, no 200."""
    store = GatedStore()
    with _views(store) as logged:
        store.error = error
        _check_everywhere(logged, reason)
        store.error = None
        wait_until(  # the breaker asks by itself whether the store is back
            lambda: ask(logged.app, "GET", "/auth/forward/default", QUESTION).status == 200, "all is well again"
        )


def test_too_many_look_ups_under_way_are_503_everywhere() -> None:
    """What cannot be asked is not decided; known keys are not affected."""
    with _views() as logged:
        logged.gatekey.cache._loads._max_waiting = 0
        _check_everywhere(logged, "overloaded")
        assert ask(logged.app, "GET", "/v1/whoami", VERIFY[:3]).status == 200


def test_a_hanging_store_is_503_within_the_budget() -> None:
    """``GATEKEY_STORE_TIMEOUT`` is all that a request waits; the look-up itself goes on."""
    store = GatedStore()
    with _views(store, {"GATEKEY_STORE_TIMEOUT": "0.25"}) as logged:
        loop = logged.gatekey.portal
        loop.run(_on_loop, store.hold)
        try:
            _check_everywhere(logged, "store_unavailable")
        finally:
            loop.run(_on_loop, store.release)


async def _on_loop(function: Any) -> None:
    function()


class _Decided(Authenticator):
    """An authenticator that has made up its mind; it needs nothing to decide with."""

    def __init__(self, reason: Reason) -> None:
        self._reason = reason

    def decide_cached(self, request: AccessRequest) -> Decision | None:  # noqa: ARG002 - see the class
        return Decision(self._reason)

    async def decide(self, request: AccessRequest) -> Decision:  # noqa: ARG002 - see the class
        return Decision(self._reason)


@pytest.mark.parametrize("reason", [reason for reason, (outcome, *_) in CONTRACT.items() if outcome != "allow"])
def test_every_reason_is_rendered_by_every_door(reason: str) -> None:
    """Whatever will cause it: status, code, Retry-After, log line and metric are the contract's."""
    with _views() as logged:
        decided = _Decided(Reason(reason))
        logged.gatekey.authenticator = logged.gatekey.doors.authenticator = decided
        _check_everywhere(logged, reason, at_verify=False)


@pytest.mark.parametrize("reason", TO_COME)
def test_verify_says_the_code_of_reasons_that_are_to_come(reason: str) -> None:
    """A back end learns the public code; only what cannot be decided is an error of the call."""
    with _views() as logged:
        gatekey = logged.gatekey
        real, decided = gatekey.authenticator, _Decided(Reason(reason))

        class CallerPasses(_Decided):
            def decide_cached(self, request: AccessRequest) -> Decision | None:
                return (real if request.door == "api" else decided).decide_cached(request)

            async def decide(self, request: AccessRequest) -> Decision:
                return await (real if request.door == "api" else decided).decide(request)

        gatekey.authenticator = CallerPasses(Reason(reason))
        answer = ask(logged.app, "POST", "/v1/keys/verify", VERIFY, BODY)
        assert (answer.status, answer.json()) == (200, {"valid": False, "code": CONTRACT[reason][2]})
