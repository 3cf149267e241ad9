"""What must be there and right before traces can be switched on: the extra ``otel``, and OpenTelemetry's own variables.

OpenTelemetry itself falls back to its defaults without a word, or fails with the first span. A problem never repeats a
value: headers hold tokens, and addresses may hold passwords.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BATCH", "QUEUE", "SAMPLERS", "trace_problems"]

SAMPLERS: Final = (
    *("always_on", "always_off", "traceidratio"),
    *("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
)
QUEUE: Final = ("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
"""Spans that may wait to be sent, and as many by default."""
BATCH: Final = ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
"""Spans that are sent at once."""

_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
_MAX_DIGITS: Final = 9


def trace_problems(environ: Mapping[str, str]) -> list[str]:
    """One text for each problem."""
    if not all(map(_is_there, _NEEDED)):
        return ["GATEKEY_TRACES: needs OpenTelemetry, which is not installed: pip install 'gatekey[otel]'"]
    problems = [
        f"{name}: must be {expected}"
        for names, is_right, expected in _RULES
        for name in names
        if environ.get(name) and not is_right(environ[name].strip())
    ]
    if not problems and _number(environ, BATCH) > _number(environ, QUEUE):
        problems.append(f"{BATCH[0]}: must not be above {QUEUE[0]}")
    return problems


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False


def _number(environ: Mapping[str, str], setting: tuple[str, int]) -> int:
    return int(environ.get(setting[0]) or setting[1])


def _is_positive(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MAX_DIGITS and int(text) > 0


def _is_share(text: str) -> bool:
    return re.fullmatch(r"0|1|0?\.\d{1,9}|[01]\.0{0,9}", text) is not None


_RULES: Final[tuple[tuple[tuple[str, ...], Callable[[str], bool], str], ...]] = (
    (
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        lambda text: re.fullmatch(r"https?://[^\s/?#]+\S*", text, re.IGNORECASE) is not None,
        "a URL such as http://collector:4318",
    ),
    (
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
        lambda text: text == "http/protobuf",
        "http/protobuf",
    ),
    (
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"),
        lambda text: re.fullmatch(r"\d{1,6}(?:\.\d{1,6})?", text) is not None and float(text) > 0,
        "a number of seconds",
    ),
    (("OTEL_TRACES_SAMPLER",), lambda text: text.lower() in SAMPLERS, f"one of {', '.join(SAMPLERS)}"),
    (("OTEL_TRACES_SAMPLER_ARG",), _is_share, "a number from 0 to 1"),
    ((QUEUE[0], BATCH[0], "OTEL_BSP_SCHEDULE_DELAY"), _is_positive, "a whole number above 0"),
)
