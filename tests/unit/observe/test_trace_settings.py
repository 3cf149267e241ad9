"""What is said before the start about the variables that traces need; a value is never repeated."""

from __future__ import annotations

import pytest

from service.observe.trace_settings import trace_problems
from service.settings import SettingsError, load_settings

GOOD = [
    {},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector.example/otlp/v1/traces?tenant=1"},
    {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    {"OTEL_EXPORTER_OTLP_TIMEOUT": "2.5"},
    {"OTEL_TRACES_SAMPLER": "ParentBased_TraceIdRatio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
    {"OTEL_TRACES_SAMPLER_ARG": "1"},
    {"OTEL_TRACES_SAMPLER_ARG": "0"},
    {"OTEL_TRACES_SAMPLER_ARG": ".5"},
    {"OTEL_BSP_MAX_QUEUE_SIZE": "512"},
    {"OTEL_BSP_SCHEDULE_DELAY": "1"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=anything"},
]
BAD = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "a URL such as http://collector:4318"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://collector", "a URL such as http://collector:4318"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://", "a URL such as http://collector:4318"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "a number of seconds"),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0", "a number of seconds"),
    ("OTEL_TRACES_SAMPLER_ARG", "2", "a number from 0 to 1"),
    ("OTEL_TRACES_SAMPLER_ARG", "1.5", "a number from 0 to 1"),
    ("OTEL_TRACES_SAMPLER_ARG", "-0.1", "a number from 0 to 1"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "a whole number above 0"),
    ("OTEL_BSP_SCHEDULE_DELAY", "-5", "a whole number above 0"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many", "a whole number above 0"),
]


@pytest.mark.parametrize("environ", GOOD, ids=range(len(GOOD)))
def test_what_opentelemetry_understands_is_fine(environ: dict[str, str]) -> None:
    """Defaults included."""
    assert trace_problems(environ) == []


@pytest.mark.parametrize(("name", "value", "expected"), BAD, ids=range(len(BAD)))
def test_what_it_would_ignore_or_fail_with_is_a_problem(name: str, value: str, expected: str) -> None:
    """In one line that names the variable."""
    assert trace_problems({name: value}) == [f"{name}: must be {expected}"]


def test_an_unknown_sampler_is_answered_with_those_that_there_are() -> None:
    """OpenTelemetry would sample everything."""
    (problem,) = trace_problems({"OTEL_TRACES_SAMPLER": "jaeger_remote"})
    assert problem.startswith("OTEL_TRACES_SAMPLER: must be one of always_on, ")
    assert "jaeger" not in problem


def test_a_batch_fits_into_the_queue() -> None:
    """Whichever of the two has its default."""
    for environ in ({"OTEL_BSP_MAX_QUEUE_SIZE": "511"}, {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2049"}):
        assert trace_problems(environ) == ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE: must not be above OTEL_BSP_MAX_QUEUE_SIZE"]


def test_they_count_only_where_traces_are_on() -> None:
    """A variable for somebody else keeps nobody from starting."""
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert load_settings(environ).traces is False
    with pytest.raises(SettingsError) as caught:
        load_settings({**environ, "GATEKEY_TRACES": "on"})
    assert caught.value.problems == ("OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf",)
