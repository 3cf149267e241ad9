"""Identifiers from a client pass only in a safe form; everything else is replaced."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.observe.request_ids import request_id_for, trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "header", ["a", "0", "req-1", "A.b_C-9", "x" * 128, "...", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"]
)
def test_a_safe_request_id_is_kept(header: str) -> None:
    """The caller finds its own id in our answer and our log."""
    assert request_id_for(header) == header


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "x" * 129,
        "a b",
        "a,b",
        "a\n",
        "a\nb",
        "a\r\nX-Evil: 1",
        "\x00",
        "ä",
        "\u0661",
        "{json}",
        '"quoted"',
        "a/b",
        "a:b",
        " a",
        "a ",
    ],
)
def test_any_other_request_id_is_replaced_by_a_new_one(header: str | None) -> None:
    """What could break a log line, a header or a query is never repeated."""
    made = request_id_for(header)
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert made != request_id_for(header)


@given(st.text(st.characters(), max_size=140))
@settings(max_examples=200)
def test_a_request_id_is_always_safe(header: str) -> None:
    """1 to 128 of ``[A-Za-z0-9._-]``, whatever came in."""
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", request_id_for(header), re.ASCII)


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-ff",
        f"01-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-brings",
        f"fe-{TRACE}-{SPAN}-01-",
    ],
)
def test_a_valid_traceparent_gives_its_trace_id(header: str) -> None:
    """Also of a later version, which may only append (W3C Trace Context)."""
    assert trace_id_of(header) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        TRACE,
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01 ",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"01-{TRACE}-{SPAN}-01more",
        f"01-{TRACE}-{SPAN}-01.",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_anything_else_gives_no_trace_id(header: str | None) -> None:
    """A log line with a made-up trace leads nowhere."""
    assert trace_id_of(header) == ""


@given(st.from_regex(r"[0-9a-f]{0,2}-[0-9a-f]{0,33}-[0-9a-f]{0,17}-[0-9a-f]{0,3}(-.{0,9})?") | st.text(max_size=60))
@settings(max_examples=200)
def test_a_trace_id_is_empty_or_32_hex_digits_that_stood_in_the_header(header: str) -> None:
    """Whatever came in."""
    found = trace_id_of(header)
    assert found == "" or (re.fullmatch("[0-9a-f]{32}", found) and found in header and set(found) != {"0"})
