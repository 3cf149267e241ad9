"""Traces of a real ``gatekey serve``, as a real receiver of OTLP over HTTP gets them."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support import leaks
from tests.support.each_worker import each_worker
from tests.support.keys import DOMAIN, SECRET
from tests.support.otlp import Receiver, receiver
from tests.support.plugin_store import environment
from tests.support.processes import KEY, at_door, get, refused, serving
from tests.support.servers import Process, accepts, clean_environment, free_port, key_line, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import GatekeyServer

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = ("Traceparent", f"00-{TRACE}-{PARENT}-01")
NOT_SAMPLED = ("Traceparent", f"00-{TRACE}-{PARENT}-00")
WRONG = [("X-Api-Key", "key-one"), ("X-Secret-Token", "a-wrong-secret-of-the-tests")]
WORKERS = 2


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture(scope="module")
def server(collector: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatekeyServer]:
    with traced(tmp_path_factory.mktemp("traced"), collector) as found:
        yield found


@contextmanager
def traced(folder: Path, collector: Receiver, *arguments: str, **env: str) -> Iterator[GatekeyServer]:
    """A service that knows one key and sends its traces."""
    keys = folder / "keys.jsonl"
    keys.write_bytes(key_line("key-one"))
    with serving("--import", str(keys), *arguments, env={**collector.environ, **env}) as found:
        yield found


def lost_spans(port: int) -> float:
    lines = get(port, "/metrics").body.decode().splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith("gatekey_trace_spans_lost_total ")]
    return float(value)


def line_of(server: GatekeyServer, request_id: str) -> dict[str, object]:
    (line,) = server.decisions(1, request_id=request_id)
    return line


def test_a_span_says_what_the_line_says(server: GatekeyServer, collector: Receiver) -> None:
    """The same trace, the same decision, the same time, and nothing else than what is known beforehand."""
    at_door(server.port, KEY)
    assert at_door(server.port, [*KEY, ("X-Request-Id", "alike")]).status == 200
    line = line_of(server, "alike")
    span = collector.of(str(line["span_id"]))
    assert (span.name, span.kind, span.status) == ("auth.decision", "server", "unset")
    assert (span.trace_id, span.parent_id) == (line["trace_id"], "")
    assert span.attributes == {
        "gatekey.door": "forward",
        "gatekey.policy": "default",
        "gatekey.outcome": "allow",
        "gatekey.reason": "ok",
        "gatekey.source": "cache",
        "http.response.status_code": 200,
    }
    assert (span.end - span.start) / 1e6 == pytest.approx(line["duration_ms"], abs=0.002)
    assert span.resource["service.name"] == "gatekey"
    assert collector.paths == {"/v1/traces"}


def test_the_store_is_asked_within_the_decision(server: GatekeyServer, collector: Receiver) -> None:
    """A key that the cache does not know: the span of the look-up lies below that of the decision, and in its time."""
    assert at_door(server.port, [("X-Api-Key", "key-of-nobody"), *KEY[1:], ("X-Request-Id", "a-miss")]).status == 401
    decision = collector.of(str(line_of(server, "a-miss")["span_id"]))
    (call,) = collector.children(decision.span_id)
    assert (call.name, call.kind, call.status) == ("store.find", "client", "unset")
    assert call.trace_id == decision.trace_id
    assert call.attributes == {
        "db.system.name": "memory",
        "gatekey.store.operation": "find",
        "gatekey.store.result": "not_found",
    }
    assert decision.attributes["gatekey.source"] == "store"
    assert decision.start - 1_000_000 <= call.start <= call.end <= decision.end + 1_000_000


def test_the_proxys_span_is_the_parent(server: GatekeyServer, collector: Receiver) -> None:
    """And who passes gets Gatekey's own span, for the application."""
    answer = at_door(server.port, [*KEY, SAMPLED, ("X-Request-Id", "below-a-proxy")])
    line = line_of(server, "below-a-proxy")
    span = collector.of(str(line["span_id"]))
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
    assert line["trace_id"] == TRACE
    assert answer.header("traceparent") == f"00-{TRACE}-{span.span_id}-01"


def test_a_refusal_carries_no_trace_to_the_client(server: GatekeyServer, collector: Receiver) -> None:
    """It is traced all the same; a denial is a good answer, so the span has no error."""
    answer = at_door(server.port, [*WRONG, ("X-Request-Id", "refused")])
    span = collector.of(str(line_of(server, "refused")["span_id"]))
    assert (answer.status, answer.has("traceparent")) == (401, False)
    assert (span.status, span.attributes["gatekey.reason"]) == ("unset", "bad_secret")


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01",
        "nonsense",
    ],
)
def test_what_is_no_trace_context_begins_a_new_trace(server: GatekeyServer, collector: Receiver, header: str) -> None:
    """It is not repeated anywhere either."""
    name = f"malformed-{len(server.lines)}"
    assert at_door(server.port, [*KEY, ("Traceparent", header), ("X-Request-Id", name)]).status == 200
    span = collector.of(str(line_of(server, name)["span_id"]))
    assert span.trace_id.upper() != TRACE.upper()
    assert span.parent_id == ""


def test_what_the_caller_does_not_sample_is_not_sent(server: GatekeyServer, collector: Receiver) -> None:
    """The line has the caller's trace, no span; the flag is given on."""
    answer = at_door(server.port, [*KEY, NOT_SAMPLED, ("X-Request-Id", "not-sampled")])
    line = line_of(server, "not-sampled")
    assert (line["trace_id"], "span_id" in line) == (TRACE, False)
    given = str(answer.header("traceparent"))
    assert given.startswith(f"00-{TRACE}-")
    assert given.endswith("-00")
    at_door(server.port, [*KEY, ("X-Request-Id", "after-it")])
    collector.of(str(line_of(server, "after-it")["span_id"]))  # spans come in their order
    assert given.split("-")[2] not in {span.span_id for span in collector.spans}


def test_nothing_that_a_client_chooses_is_in_a_span(server: GatekeyServer, collector: Receiver) -> None:
    """Each place where a client can write has a mark of its own, and none of them arrives, nor does a secret."""
    lines = [
        ("X-Api-Key", "mark-of-a-key"),
        ("X-Secret-Token", SECRET),
        ("User-Agent", "mark-of-an-agent"),
        ("Origin", "https://mark-of-an-origin.example"),
        ("X-Request-Id", "mark-of-an-id"),
        ("Tracestate", "mark=of-a-state"),
        ("Baggage", "mark=of-baggage"),
        ("Cookie", "mark=of-a-cookie"),
        SAMPLED,
        ("X-Forwarded-Method", "MARK"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "mark.example.com"),
        ("X-Forwarded-Uri", "/mark?mark=of-a-query"),
        ("X-Forwarded-For", "192.0.2.77"),
    ]
    get(server.port, "/auth/forward/mark-of-a-policy", lines)
    get(server.port, "/auth/forward/default", lines)
    line = server.decisions(2, request_id="mark-of-an-id")[-1]
    collector.of(str(line["span_id"]))
    told = repr(collector.spans).lower()
    assert "unknown_policy" in told
    for mark in ("mark", "192.0.2.77", SECRET, DOMAIN):
        assert mark.lower() not in told


def test_an_error_is_one_in_its_span(tmp_path: Path, collector: Receiver) -> None:
    """The store does not answer in time: the decision is an error, and so is the call when it is given up."""
    gate = tmp_path / "gate"
    env = {**environment(tmp_path / "package", "held", workers=1), "GATEKEY_TEST_GATE": str(gate)}
    with traced(tmp_path, collector, **env) as found:
        assert at_door(found.port, [*KEY, ("X-Request-Id", "no-answer")]).status == 503
        span = collector.of(str(line_of(found, "no-answer")["span_id"]))
        assert (span.status, span.attributes["gatekey.reason"]) == ("error", "store_unavailable")
        assert [(call.name, call.status) for call in collector.children(span.span_id)] == [("store.find", "error")]
        gate.touch()


@pytest.mark.parametrize(
    ("sampler", "header", "sent"),
    [
        ("always_off", SAMPLED, 0),
        ("always_on", NOT_SAMPLED, 1),
        ("traceidratio", SAMPLED, 0),
        ("parentbased_traceidratio", SAMPLED, 1),
    ],
)
def test_the_operator_chooses_the_sampler(
    tmp_path: Path, collector: Receiver, sampler: str, header: tuple[str, str], sent: int
) -> None:
    """By OpenTelemetry's own variables; so is the service's name."""
    env = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0", "OTEL_SERVICE_NAME": sampler}
    with traced(tmp_path, collector, **env) as found:
        at_door(found.port, [*KEY, header, ("X-Request-Id", "asked")])
        line = line_of(found, "asked")
        assert ("span_id" in line) == bool(sent)
        at_door(found.port, [*KEY, ("X-Request-Id", "a-root")])
        line = line_of(found, "a-root")
        assert bool(line["trace_id"]) == ("span_id" in line), "a trace that nobody has is named nowhere"
    named = [span for span in collector.spans if span.resource["service.name"] == sampler]
    assert sum(span.trace_id == TRACE and span.name == "auth.decision" for span in named) == sent


def test_where_opentelemetry_is_disabled_a_trace_is_only_given_on(tmp_path: Path) -> None:
    """By its own variable: no span is made, none is named, and no trace of zeros."""
    with receiver() as collector, traced(tmp_path, collector, OTEL_SDK_DISABLED="true") as found:
        assert at_door(found.port, [*KEY, SAMPLED]).header("traceparent") == SAMPLED[1]
        assert not at_door(found.port, KEY).has("traceparent")
        assert [(line["trace_id"], "span_id" in line) for line in found.decisions(2)] == [(TRACE, False), ("", False)]
    assert collector.requests == 0


@pytest.mark.parametrize("interface", ["rsgi", "wsgi"])
def test_every_worker_sends_its_own(tmp_path: Path, collector: Receiver, interface: str) -> None:
    """Each has a sender of its own, which begins in it."""
    env = environment(tmp_path / "package", "fine", workers=WORKERS)
    with (
        traced(tmp_path, collector, "--interface", interface, **env) as found,
        each_worker(found, WORKERS, KEY) as lines,
    ):
        spans = [collector.of(line.decide(KEY)[1]["span_id"]) for line in lines.values()]
    assert len({span.resource["service.instance.id"] for span in spans}) == WORKERS


def test_a_spawned_worker_sends_too(tmp_path: Path, collector: Receiver) -> None:
    """Where processes are spawned instead of forked (macOS, Python 3.14)."""
    port = free_port()
    program = (
        "import multiprocessing; from service.cli import main\n"
        "if __name__ == '__main__': multiprocessing.set_start_method('spawn'); main(['serve'])"
    )
    settings = {**environment(tmp_path, "fine"), **collector.environ, "GATEKEY_PORT": str(port), "GATEKEY_DRAIN": "0"}
    found = Process(
        [sys.executable, "-c", program], env={**clean_environment(), **settings, "OTEL_SERVICE_NAME": "spawned"}
    )
    try:
        wait_until(lambda: accepts(port) or found.returncode is not None, "the service listens")
        assert at_door(port, KEY).status == 401
        wait_until(
            lambda: any(span.resource["service.name"] == "spawned" for span in collector.spans), "its span arrives"
        )
    finally:
        assert found.stop() == 0


def test_what_waits_is_sent_at_the_end(tmp_path: Path, collector: Receiver) -> None:
    """A stop loses no span of a collector that listens."""
    env = {"OTEL_SERVICE_NAME": "the-last", "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with traced(tmp_path, collector, **env) as found:
        for _ in range(5):
            at_door(found.port, KEY)
    sent = [span for span in collector.spans if span.resource["service.name"] == "the-last"]
    assert sum(span.name == "auth.decision" for span in sent) == 5


@pytest.mark.parametrize("trouble", ["down", "refusing", "silent"])
def test_a_collector_in_trouble_changes_no_answer(tmp_path: Path, trouble: str) -> None:
    """It is told once in the log, without its address or words, and holds nothing up."""
    with receiver() as collector:
        env = {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5", "OTEL_BSP_SCHEDULE_DELAY": "10"}
        if trouble == "down":
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
        elif trouble == "refusing":
            collector.status = 400
        else:
            collector.hold()
        with traced(tmp_path, collector, **env) as found:

            def is_told() -> bool:
                assert at_door(found.port, KEY).status == 200
                return any(event["event"] == "traces_lost" for event in found.events)

            wait_until(is_told, "the loss is told")
            for _ in range(40):
                assert at_door(found.port, KEY).status == 200
            assert lost_spans(found.port) > 0
            at_once = [event for event in found.events if event["event"] == "traces_lost"]
            assert len(at_once) == 1
            found.send_signal(signal.SIGTERM)
            assert found.wait(20) == 0
        last = [event for event in found.events if event["event"].startswith("traces_")][-1]
        assert last["reason"] == "stopped"
        assert last["lost"] >= 30
        told = "\n".join(line for line in found.lines if "auth.decision" not in line)
        for word in ("opentelemetry", "urllib3", "Transient", str(env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "4318"))):
            assert word not in told


@pytest.mark.parametrize("status", [200, 401, 503])
def test_the_collectors_token_is_sent_and_shown_nowhere(tmp_path: Path, status: int) -> None:
    """Whatever the collector says to it."""
    token = "token-for-the-collector-of-the-tests"
    leaks.register(token)
    with receiver() as collector:
        collector.status = status
        env = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{token}", "GATEKEY_LOG_LEVEL": "debug"}
        with traced(tmp_path, collector, **env) as found:
            at_door(found.port, KEY)
            wait_until(lambda: collector.requests, "something is sent")
        assert collector.tokens == {f"Bearer {token}"}
        told = "\n".join(found.lines)
        for word in (token, "Authorization", str(collector.port)):
            assert word not in told


def test_without_the_extra_the_start_says_what_to_install(tmp_path: Path) -> None:
    """Instead of serving without traces."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ModuleNotFoundError('opentelemetry')")
    path = f"{tmp_path}{os.pathsep}{clean_environment()['PYTHONPATH']}"
    code, lines = refused(env={"GATEKEY_TRACES": "on", "PYTHONPATH": path})
    assert code == 1
    assert [line for line in lines if "pip install 'gatekey[otel]'" in line]


def test_switched_off_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    """Not even the modules, whatever OpenTelemetry's own variables say."""
    program = (
        "import sys; from service.front import Front; from service.app import build; from service.settings import"
        " load_settings; from service.cli import main; Front(build(load_settings()));"
        " print('loaded:', [name for name in sys.modules if 'opentelemetry' in name or 'tracing' in name])"
    )
    env = {**clean_environment(), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "otlp"}
    found = Process([sys.executable, "-c", program], env=env, cwd=tmp_path)
    assert found.wait() == 0
    assert "loaded: []" in found.lines
