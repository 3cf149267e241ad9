"""From a slow bucket to its trace: exemplars of a real service in the OpenMetrics parser and in a real Prometheus."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.support import prometheus
from tests.support.each_worker import each_worker
from tests.support.otlp import Receiver, receiver
from tests.support.plugin_store import environment
from tests.support.processes import KEY, at_door, get, serving
from tests.support.servers import free_port, key_line, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.servers import GatekeyServer

OPENMETRICS = ("Accept", "application/openmetrics-text;version=1.0.0")
BUCKET = "gatekey_decision_duration_seconds_bucket"
WORKERS = 2


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@contextmanager
def traced(folder: Path, collector: Receiver, **env: str) -> Iterator[tuple[GatekeyServer, int]]:
    """The service with one key, and the port of its metrics."""
    keys, admin = folder / "keys.jsonl", free_port()
    keys.write_bytes(key_line("key-one"))
    settings = {**collector.environ, "GATEKEY_ADMIN_LISTEN": f"127.0.0.1:{admin}", **env}
    with serving("--import", str(keys), env=settings) as server:
        yield server, admin


def exemplars(port: int) -> dict[str, str]:
    """The family's name of every series that has one, by its trace."""
    body = get(port, "/metrics", [OPENMETRICS]).body.decode()
    return {
        sample.exemplar.labels["trace_id"]: sample.name
        for family in parse_openmetrics(body)  # type: ignore[no-untyped-call]  # the library's parser
        for sample in family.samples
        if sample.exemplar
    }


def test_a_bucket_names_the_trace_of_a_decision_that_was_sent(tmp_path: Path, collector: Receiver) -> None:
    """Only of decisions; what is not sampled is named nowhere, and the text form has no exemplars."""
    with traced(tmp_path, collector) as (server, _):
        at_door(server.port, [*KEY, ("Traceparent", f"00-{7:032x}-{7:016x}-00")])
        assert exemplars(server.port) == {}
        at_door(server.port, KEY)
        (line,) = server.decisions(1, source="cache")
        assert exemplars(server.port) == {line["trace_id"]: BUCKET}
        assert collector.of(line["span_id"]).trace_id == line["trace_id"]
        assert b"trace_id" not in get(server.port, "/metrics").body


def test_without_traces_there_are_none(tmp_path: Path, collector: Receiver) -> None:
    """Whatever the proxy's own trace is."""
    with traced(tmp_path, collector, GATEKEY_TRACES="off") as (server, _):
        at_door(server.port, [*KEY, ("Traceparent", f"00-{7:032x}-{7:016x}-01")])
        assert server.decisions(1)[0]["trace_id"] == f"{7:032x}"
        assert exemplars(server.port) == {}
    assert collector.requests == 0


def test_one_scrape_has_those_of_all_workers(tmp_path: Path, collector: Receiver) -> None:
    """A worker's exemplar is kept when the pages are merged, whoever is scraped."""
    env = environment(tmp_path / "package", "fine", workers=WORKERS)
    with traced(tmp_path, collector, **env) as (server, admin), each_worker(server, WORKERS, KEY) as workers:
        wait_until(lambda: b"gatekey_workers 2.0" in get(admin, "/metrics").body, "both are in the scrape")
        lines = [worker.decide(pair)[1] for worker, pair in zip(workers.values(), (KEY, ()), strict=True)]
        assert {line["outcome"] for line in lines} == {"allow", "deny"}
        for port in (admin, server.port):
            assert {line["trace_id"] for line in lines} <= exemplars(port).keys()


def test_prometheus_keeps_them(tmp_path: Path, collector: Receiver, require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """As Grafana asks for them: the series, the value and the trace that the collector has."""
    if missing := prometheus.missing():
        if require_all:
            pytest.fail(missing)
        pytest.skip(missing)
    with traced(tmp_path, collector) as (server, admin):
        at_door(server.port, [*KEY, ("X-Request-Id", "to-be-found")])
        (line,) = server.decisions(1, request_id="to-be-found")
        running = prometheus.Prometheus(tmp_path, {prometheus.INSTANCE: f"127.0.0.1:{admin}"})
        try:
            found: list[dict[str, Any]] = []

            def is_kept() -> bool:
                found[:] = _query_exemplars(running.base)
                return bool(found)

            wait_until(is_kept, "Prometheus has scraped an exemplar")
        finally:
            running.stop()
    (series,) = found
    assert (series["seriesLabels"]["__name__"], series["seriesLabels"]["source"]) == (BUCKET, line["source"])
    (exemplar,) = series["exemplars"]
    assert exemplar["labels"] == {"trace_id": line["trace_id"]}
    assert float(exemplar["value"]) * 1000 == pytest.approx(line["duration_ms"], abs=0.001)
    assert collector.of(line["span_id"]).trace_id == line["trace_id"]


def _query_exemplars(base: str) -> list[dict[str, Any]]:
    now = time.time()
    query = urllib.parse.urlencode({"query": BUCKET, "start": now - 300, "end": now + 300})
    with urllib.request.urlopen(f"{base}/api/v1/query_exemplars?{query}", timeout=10) as answer:  # noqa: S310 - our own server
        data: list[dict[str, Any]] = json.load(answer)["data"]
    return data
