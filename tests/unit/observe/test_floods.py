"""Floods of refusals become one line every 10 s for each client network, and nothing else ever does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from service.auth.decision import Decision
from service.auth.reasons import FLOOD_REASONS, REASONS, Reason
from service.observe.decision_log import DecisionLog
from service.observe.floods import THRESHOLD, WINDOW, Floods, network_of
from service.observe.lines import DecisionLine
from service.observe.observer import Observer
from tests.support.clock import FakeClock
from tests.support.keys import known_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.auth.decision import AccessRequest
    from tests.unit.observe.conftest import LoggedLines

    MakeRequest = Callable[..., AccessRequest]

SUMMARY = "auth.decisions_summarized"


def by_event(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


def flood(
    logged: LoggedLines, make_request: MakeRequest, count: int, *, reason: Reason = Reason.UNKNOWN_KEY, **fields: Any
) -> None:
    for _ in range(count):
        logged.write(make_request(**fields), Decision(reason), 401)


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("", "unknown"),
        ("no address", "unknown"),
        ("192.0.2.1:80", "unknown"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_network_is_an_ipv4_address_or_a_64_of_ipv6(ip: str, network: str) -> None:
    """What one subscriber can change at will counts as one."""
    assert network_of(ip) == network


def test_the_hundredth_refusal_is_written_and_the_next_is_summarised(
    logged: LoggedLines, make_request: MakeRequest
) -> None:
    """The threshold is 100 lines; the summary counts what is missing, by reason, with its numbers."""
    flood(logged, make_request, 100)
    flood(logged, make_request, 7, reason=Reason.BAD_SECRET)
    flood(logged, make_request, 3, reason=Reason.UNKNOWN_KEY)
    events = logged.events
    assert [event["seq"] for event in by_event(events, "auth.decision")] == list(range(1, 101))
    (summary,) = by_event(events, SUMMARY)
    assert summary == {
        "timestamp": "2026-01-02T03:04:05.000000Z",
        "level": "warning",
        "boot_id": logged.writer.boot_id,
        "event": SUMMARY,
        "client_network": "192.0.2.7",
        "window_seconds": 10.0,
        "count": 10,
        "reasons": {"bad_secret": 7, "unknown_key": 3},
        "first_seq": 101,
        "last_seq": 110,
    }


def test_metrics_stay_exact_in_a_flood(make_logged: Callable[..., LoggedLines], make_request: MakeRequest) -> None:
    """Every decision is counted, every written line too, and a summarised one is not a lost one."""
    logged = make_logged(counted=True)
    observer = Observer(logged.metrics, logged.log, clock=logged.clock)
    for _ in range(250):
        observer.decided(make_request(), Decision(Reason.UNKNOWN_KEY), 401)
    assert len(by_event(logged.events, "auth.decision")) == 100
    text = logged.metrics.render("")[0].decode().splitlines()
    assert 'gatekey_decisions_total{outcome="deny",reason="unknown_key"} 250.0' in text
    assert "gatekey_decision_log_lines_total 100.0" in text
    assert "gatekey_decision_log_summarized_total 150.0" in text
    assert 'gatekey_decision_log_dropped_total{reason="queue_full"} 0.0' in text


@pytest.mark.parametrize("reason", sorted(FLOOD_REASONS))
def test_reasons_that_a_stranger_can_cause_are_summarised(
    logged: LoggedLines, make_request: MakeRequest, reason: Reason
) -> None:
    """The five of the contract."""
    flood(logged, make_request, 150, reason=reason)
    events = logged.events
    assert len(by_event(events, "auth.decision")) == 100
    assert by_event(events, SUMMARY)[0]["reasons"] == {reason.value: 50}


def test_the_summarised_reasons_are_those_of_the_contract() -> None:
    """Adding one hides lines from operators, so it is done on purpose only."""
    assert {reason.value for reason in FLOOD_REASONS} == {
        "missing_credentials",
        "malformed_key",
        "unknown_key",
        "bad_secret",
        "throttled",
    }


@pytest.mark.parametrize("reason", sorted(set(REASONS) - FLOOD_REASONS))
def test_every_other_decision_has_a_line_of_its_own(
    logged: LoggedLines, make_request: MakeRequest, reason: Reason
) -> None:
    """Allows, errors, and refusals of keys that are known are never summarised."""
    for _ in range(150):
        logged.write(make_request(), Decision(reason, key=known_key()), 200)
    assert [event["event"] for event in logged.events] == ["auth.decision"] * 150


def test_networks_do_not_share_a_threshold(logged: LoggedLines, make_request: MakeRequest) -> None:
    """One flooding client hides nobody else's lines; the addresses of one IPv6 network are one client."""
    flood(logged, make_request, 100, client_ip="192.0.2.1")
    flood(logged, make_request, 100, client_ip="192.0.2.2")
    for last in range(101):
        flood(logged, make_request, 1, client_ip=f"2001:db8::{last:x}")
    events = logged.events
    assert len(by_event(events, "auth.decision")) == 300
    (summary,) = by_event(events, SUMMARY)
    assert (summary["client_network"], summary["count"]) == ("2001:db8::/64", 1)


def test_shadow_mode_is_summarised_by_the_reason_that_would_have_counted(
    logged: LoggedLines, make_request: MakeRequest
) -> None:
    """A flood is a flood, although shadow mode answers it with 200."""
    for _ in range(101):
        decision = Decision(Reason.SHADOW)
        decision.shadowed = Reason.MISSING_CREDENTIALS
        logged.write(make_request(), decision, 200)
    (summary,) = by_event(logged.events, SUMMARY)
    assert summary["reasons"] == {"missing_credentials": 1}


def test_summarizing_can_be_switched_off(make_logged: Callable[..., LoggedLines], make_request: MakeRequest) -> None:
    """``GATEKEY_LOG_SUMMARIZE=off``: every line is written."""
    logged = make_logged(summarize=False)
    flood(logged, make_request, 250)
    assert [event["event"] for event in logged.events] == ["auth.decision"] * 250


def test_the_console_form_has_summaries_too(make_logged: Callable[..., LoggedLines], make_request: MakeRequest) -> None:
    """For people the same is one readable line."""
    logged = make_logged(console=True)
    flood(logged, make_request, 103)
    last = logged.lines[-1].decode()
    assert last.startswith("03:04:05.000 warning auth.decisions_summarized client_network=192.0.2.7")
    assert "count=3" in last


def line(seq: int, clock: FakeClock, *, network: str | None = "192.0.2.7") -> DecisionLine:
    return DecisionLine(b"{}\n", network, Reason.UNKNOWN_KEY, seq, clock.age())


def test_a_window_ends_after_ten_seconds_and_the_next_one_begins_with_the_next_line() -> None:
    """Each window has a hundred lines of its own, and a summary as soon as it has ended."""
    clock = FakeClock()
    floods = Floods(clock)
    assert [floods.swallows(line(seq, clock)) for seq in range(1, 103)] == [False] * THRESHOLD + [True, True]
    clock.advance(WINDOW - 0.001)
    assert floods.due() == []
    assert floods.swallows(line(103, clock))
    clock.advance(0.001)
    (summary,) = floods.due()
    assert (summary["count"], summary["first_seq"], summary["last_seq"]) == (3, 101, 103)
    assert floods.due() == []
    assert not floods.swallows(line(104, clock))


def test_a_line_after_the_window_ends_it_even_when_nobody_asked() -> None:
    """A busy writer that looks late neither mixes two windows nor loses one."""
    clock = FakeClock()
    floods = Floods(clock)
    for seq in range(1, 102):
        floods.swallows(line(seq, clock))
    clock.advance(WINDOW)
    assert not floods.swallows(line(102, clock))
    assert [summary["last_seq"] for summary in floods.due()] == [101]


def test_a_network_that_stays_below_the_threshold_leaves_nothing() -> None:
    """Neither a summary nor memory."""
    clock = FakeClock()
    floods = Floods(clock)
    floods.swallows(line(1, clock))
    assert len(floods) == 1
    clock.advance(WINDOW)
    assert floods.due() == []
    assert len(floods) == 0


def test_the_number_of_watched_networks_is_bounded_without_losing_a_count() -> None:
    """An attacker with many addresses cannot fill the memory; who makes room is summarised at once."""
    clock = FakeClock()
    floods = Floods(clock, max_networks=3)
    for seq in range(1, 102):
        floods.swallows(line(seq, clock, network="first"))
    for number in range(5):
        floods.swallows(line(200 + number, clock, network=f"other-{number}"))
    assert len(floods) == 3
    (summary,) = floods.due()
    assert (summary["client_network"], summary["count"]) == ("first", 1)


def test_a_network_that_has_had_its_lines_needs_none_until_its_window_ends() -> None:
    """Whoever makes them is told, so that a flood costs no rendering."""
    clock = FakeClock()
    floods, began = Floods(clock), clock.age()
    for seq in range(1, THRESHOLD):
        floods.swallows(line(seq, clock))
    assert floods.full == {}
    floods.swallows(line(THRESHOLD, clock))
    assert floods.full == {"192.0.2.7": began + WINDOW}
    floods.due(everything=True)
    assert floods.full == {}


def test_what_has_no_line_is_summarised_even_where_its_window_is_gone() -> None:
    """It was on its way meanwhile; the new window has a hundred lines all the same."""
    clock = FakeClock()
    floods = Floods(clock)
    assert floods.swallows(line(1, clock)._replace(line=b""))
    assert not any(floods.swallows(line(seq, clock)) for seq in range(2, THRESHOLD + 2))
    (summary,) = floods.due(everything=True)
    assert (summary["count"], summary["first_seq"], summary["last_seq"]) == (1, 1, 1)


def test_the_line_of_what_is_summarised_is_never_made(
    logged: LoggedLines, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer says so; its number is taken all the same."""
    monkeypatch.setattr(logged.writer, "is_flooded", lambda network, at: network == "192.0.2.7" and at >= 0)
    monkeypatch.setattr(DecisionLog, "_line", None)
    flood(logged, make_request, 3)
    (summary,) = by_event(logged.events, SUMMARY)
    assert (summary["count"], summary["first_seq"], summary["last_seq"]) == (3, 1, 3)


def test_lines_in_another_order_are_summarised_with_their_outermost_numbers() -> None:
    """Threads hand their lines over as they come."""
    clock = FakeClock()
    floods = Floods(clock)
    for seq in [*range(1, 101), 103, 101, 104, 102]:
        floods.swallows(line(seq, clock))
    (summary,) = floods.due(everything=True)
    assert (summary["first_seq"], summary["last_seq"], summary["count"]) == (101, 104, 4)


def test_lines_without_a_network_are_never_swallowed() -> None:
    """``None`` marks what no flood can cause."""
    clock = FakeClock()
    floods = Floods(clock)
    assert not any(floods.swallows(line(seq, clock, network=None)) for seq in range(300))
