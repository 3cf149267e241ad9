"""The text of a scrape, read back by the client library's own parsers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.auth.decision import Decision, Source
from service.auth.reasons import Reason
from service.observe.metrics import Metrics
from tests.support import leaks

if TYPE_CHECKING:
    from prometheus_client import Metric

METRICS = Metrics(store="memory", version='1.2.3-"odd"\nversion', revision="abc\\def")
METRICS.decided(Decision(Reason.OK, source=Source.CACHE))
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def parsed(accept: str) -> tuple[list[Metric], str]:
    body, content_type = METRICS.render(accept)
    text = body.decode()
    leaks.check(text, "the metrics")
    parse = parse_openmetrics if content_type.startswith("application/openmetrics-text") else parse_text
    return list(parse(text)), content_type


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain", "text/plain"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain"),
        ("application/openmetrics-text", "application/openmetrics-text"),
        ("application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5", "text/plain"),  # before 1.0.0
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", "application/openmetrics-text"),
        (PROMETHEUS, "application/openmetrics-text"),
    ],
)
def test_the_form_follows_accept(accept: str, kind: str) -> None:
    """OpenMetrics for who asks for it, text for everybody else, each readable by its own parser."""
    families, content_type = parsed(accept)
    assert content_type.startswith(kind)
    samples = {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}
    assert samples["gatekey_decisions_total", "allow", "ok"] == 1
    assert samples["gatekey_decisions_total", "error", "internal"] == 0
    assert samples["gatekey_decision_duration_seconds_count", "allow", "cache"] == 1


def test_openmetrics_ends_with_its_mark() -> None:
    """A scrape that was cut short can be told from a whole one."""
    assert METRICS.render("application/openmetrics-text")[0].endswith(b"# EOF\n")


def test_every_family_says_what_it_means() -> None:
    """The help text is what an operator sees beside the graph."""
    families, _ = parsed("application/openmetrics-text")
    assert families
    for family in families:
        assert family.documentation.endswith((".", ")")), family.name


ODD = [
    "application/openmetrics-text;version=",
    "application/openmetrics-text;version=1",
    "application/openmetrics-text;version=1.0.0.0.0",
    "application/openmetrics-text;version=99.99.99",
    "application/openmetrics-text;version=a.b.c",
    "application/openmetrics-text;version=\u0661.0.0",
    "application/openmetrics-text;version=1.0.0\r\nX-Evil: 1",
    "application/openmetrics-text;escaping=\r\nX-Evil: 1",
    "application/openmetrics-text;escaping=nonsense;version=1.0.0",
    "text/plain;version=1.0.0;escaping=values",
    "text/plain;version=-1.0.0",
    ";;;;,,,,====",
    "\x00",
    "a" * 16_000,
]


@pytest.mark.parametrize("accept", ODD, ids=range(len(ODD)))
def test_an_odd_accept_header_gets_a_scrape_and_is_not_repeated(accept: str) -> None:
    """Whatever a client writes there, the answer is a readable scrape with a content type of ours."""
    families, content_type = parsed(accept)
    assert families
    assert "\r" not in content_type
    assert "\n" not in content_type
    assert "Evil" not in content_type


@given(
    st.text(st.characters(codec="latin-1"), max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "application/openmetrics-text",
                "text/plain",
                "version=",
                "1.0.0",
                "escaping=",
                ";",
                ",",
                " ",
                "q=",
                "x",
                "=",
            ]
        ),
        max_size=12,
    ).map("".join)
)
@settings(max_examples=60, deadline=None)
def test_no_accept_header_raises(accept: str) -> None:
    """Rendering never fails, and the content type is one line of printable ASCII."""
    body, content_type = METRICS.render(accept)
    assert body
    assert content_type.isascii()
    assert content_type.isprintable()


def test_an_exemplar_names_the_trace_of_the_bucket_that_a_decision_fell_into() -> None:
    """In OpenMetrics only, on that bucket only; the last decision of a bucket is the one that it names."""
    metrics = Metrics(store="memory", version="1")
    for number, seconds in enumerate((0.00007, 0.3, 0.00008), start=1):
        decision = Decision(Reason.OK, source=Source.STORE)
        decision.duration = seconds
        metrics.decided(decision)
        metrics.exemplify(decision, f"{number:032x}", 1_700_000_000.5)
    body, _ = metrics.render(PROMETHEUS)
    marked = {
        (sample.labels["outcome"], sample.labels["source"], sample.labels["le"]): sample.exemplar
        for family in parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]  # the library's parser
        for sample in family.samples
        if sample.exemplar
    }
    assert {series: exemplar.labels for series, exemplar in marked.items()} == {
        ("allow", "store", "0.0001"): {"trace_id": f"{3:032x}"},
        ("allow", "store", "0.3"): {"trace_id": f"{2:032x}"},
    }
    assert [exemplar.value for exemplar in marked.values()] == [0.00008, 0.3]
    assert b"trace_id" not in metrics.render("text/plain")[0]
