"""Traces of decisions about views: the decorator, Gatekey's own API, and what the store is asked within a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service import api_key_required
from service.observe.trace_export import TraceExport
from service.observe.tracing import Tracing
from tests.support.cases import five
from tests.support.in_process import ask, logged_gatekey
from tests.support.keys import DOMAIN, SECRET
from tests.support.management_api import LINES, OPERATOR, Api
from tests.support.otlp import Receiver, receiver_here
from tests.support.servers import key_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.in_process import LoggedGatekey

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = ("Traceparent", f"00-{TRACE}-{PARENT}-01")
KEY = (("Host", DOMAIN), ("X-Api-Key", "known"), ("X-Secret-Token", SECRET))
TRACES = {"GATEKEY_TRACES": "on"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver_here(monkeypatch) as found:
        yield found


@pytest.fixture
def logged(collector: Receiver) -> Iterator[LoggedGatekey]:  # noqa: ARG001 - where its spans go
    with logged_gatekey([*LINES, key_line("known")], environ=TRACES) as found:

        def sync() -> str:
            return "passed"

        async def on_the_loop() -> str:
            return "passed"

        found.app.add_url_rule("/sync", "sync", api_key_required(sync))
        found.app.add_url_rule("/async", "async", api_key_required(on_the_loop))
        yield found


@pytest.mark.parametrize("view", ["sync", "async"])
def test_a_decision_of_the_decorator_is_a_span(logged: LoggedGatekey, collector: Receiver, view: str) -> None:
    """Below the caller's; the look-up that it needs lies below it, in whichever thread it is made."""
    assert ask(logged.app, "GET", f"/{view}", (*KEY, HEADER)).status == 200
    (line,) = logged.decisions()
    span = collector.of(line["span_id"])
    assert (span.trace_id, span.parent_id, line["trace_id"]) == (TRACE, PARENT, TRACE)
    assert (span.kind, span.attributes["gatekey.door"]) == ("server", "app")
    assert [call.name for call in collector.children(span.span_id)] == ["store.find"]


def test_a_door_behind_flask_is_traced_as_the_front_does_it(logged: LoggedGatekey, collector: Receiver) -> None:
    """Whoever passes gets Gatekey's own span for the application."""
    answer = ask(logged.app, "GET", "/auth/forward/default", (*five(), *KEY[1:], HEADER))
    (line,) = logged.decisions()
    span = collector.of(line["span_id"])
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
    assert answer.header("traceparent") == f"00-{TRACE}-{span.span_id}-01"
    assert [call.name for call in collector.children(span.span_id)] == ["store.find"]


def test_the_key_that_a_back_end_asks_about_is_decided_within_the_back_ends_own_decision(
    logged: LoggedGatekey, collector: Receiver
) -> None:
    """Two decisions, one below the other, in one trace; a client sent none."""
    body = {"api_key": "known", "secret_token": SECRET, "domain": DOMAIN}
    assert Api(logged.app).ask("POST", "/v1/keys/verify", body, key=OPERATOR).json()["valid"] is True
    caller, verified = (collector.of(line["span_id"]) for line in logged.decisions())
    assert (caller.attributes["gatekey.door"], verified.attributes["gatekey.door"]) == ("api", "verify")
    assert (caller.parent_id, verified.parent_id) == ("", caller.span_id)
    assert (caller.kind, verified.kind) == ("server", "internal")
    assert verified.trace_id == caller.trace_id


def test_what_a_management_request_asks_the_store_is_in_its_trace(logged: LoggedGatekey, collector: Receiver) -> None:
    """Reads and writes after the decision, too."""
    Api(logged.app).create("acme")
    (line,) = logged.decisions()
    calls = collector.children(line["span_id"], 3)
    assert {"store.find", "store.organizations", "store.write"} <= {call.name for call in calls}
    assert {call.trace_id for call in calls} == {line["trace_id"]}


def test_nothing_of_one_request_is_left_for_the_next_in_its_thread(logged: LoggedGatekey, collector: Receiver) -> None:
    """Each begins its own trace, although one thread serves both."""
    for _ in range(2):
        assert ask(logged.app, "GET", "/sync", KEY).status == 200
    first, second = (collector.of(line["span_id"]) for line in logged.decisions())
    assert (first.parent_id, second.parent_id) == ("", "")
    assert first.trace_id != second.trace_id


def test_what_nobody_asked_for_makes_no_span(logged: LoggedGatekey, collector: Receiver) -> None:
    """The store is looked after all the time: its pings and counts belong to no request."""
    logged.gatekey.portal.run(logged.gatekey.store.ping)
    ask(logged.app, "GET", "/sync", KEY)
    collector.of(logged.decisions()[0]["span_id"])
    assert {span.name for span in collector.spans} == {"auth.decision", "store.find"}


def test_shadow_mode_shows_the_real_reason(collector: Receiver) -> None:
    """As in the log line."""
    with logged_gatekey([], environ={**TRACES, "GATEKEY_MODE": "shadow"}) as logged:
        assert ask(logged.app, "GET", "/auth/forward/default", five()).status == 200
        span = collector.of(logged.decisions()[0]["span_id"])
    assert span.attributes["gatekey.reason"] == "shadow"
    assert span.attributes["gatekey.shadow_reason"] == "missing_credentials"


@pytest.mark.parametrize("broken", ["start", "tracer"])
def test_a_defect_of_tracing_changes_no_answer_and_is_told_once(
    logged: LoggedGatekey, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A decision is answered, counted and logged, with or without its span."""

    def fail(*_: object) -> None:
        raise LookupError("a defect")

    monkeypatch.setattr(TraceExport, broken, fail if broken == "start" else property(fail), raising=False)
    for _ in range(3):
        assert ask(logged.app, "GET", "/sync", (*KEY, HEADER)).status == 200
    events = logged.events()
    assert [event["trace_id"] for event in events if event["event"] == "auth.decision"] == [TRACE] * 3
    assert [event["error_type"] for event in events if event["event"] == "span_failed"] == ["LookupError"]


def test_a_span_that_cannot_be_closed_costs_nothing_else(
    logged: LoggedGatekey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the span of a call to the store."""
    monkeypatch.setattr(Tracing, "_is_policy", property(lambda _: 1 / 0), raising=False)
    answer = ask(logged.app, "GET", "/auth/forward/default", (*five(), *KEY[1:], HEADER))
    assert answer.status == 200
    assert "span_failed" in [event["event"] for event in logged.events()]
