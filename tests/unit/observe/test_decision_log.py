"""The decision line: exactly the contract's fields, printable, bounded, and without a secret."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.auth.credentials import Credentials
from service.auth.decision import AccessRequest, Decision, Door, Source
from service.auth.domains import parse_target
from service.auth.reasons import REASONS, Outcome, Reason
from service.auth.secret import Secret
from service.observe.decision_log import DecisionLog
from service.observe.logs import configure_logging
from service.observe.text import printable, timestamp
from service.observe.writer import LineWriter
from tests.support import leaks
from tests.support.clock import FakeClock
from tests.support.keys import PEPPERS, SECRET, known_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.auth.loaded import LoadedKey
    from service.observe.lines import DecisionLine
    from tests.unit.observe.conftest import LoggedLines

    MakeRequest = Callable[..., AccessRequest]
    MakeLogged = Callable[..., LoggedLines]

FIELDS = [
    "timestamp",
    "level",
    "event",
    "schema_version",
    "boot_id",
    "seq",
    "outcome",
    "reason",
    "source",
    "organization_id",
    "key_id",
    "key_fingerprint",
    "domain",
    "client_ip",
    "method",
    "path",
    "status",
    "duration_ms",
    "store_ms",
    "user_agent",
    "policy",
    "door",
    "request_id",
    "trace_id",
]
HOSTILE = '\x00\r\n\x1b[31m\u202e\u2028\ud800"\\{}\U0001f511\ufeff' * 200
CREDENTIALS = Credentials("unknown-key-of-a-client", Secret(SECRET))


def test_a_known_key_is_logged_with_exactly_the_fields_of_the_contract(
    logged: LoggedLines, make_request: MakeRequest
) -> None:
    """Every field has its meaning and its type, and there is no other field."""
    decision = Decision(Reason.OK, source=Source.STORE, key=known_key(), store_seconds=0.002)
    decision.duration = 0.0031
    logged.write(make_request(credentials=CREDENTIALS), decision, 200)
    (event,) = logged.events
    assert list(event) == FIELDS
    assert event == {
        "timestamp": "2026-01-02T03:04:05.000000Z",
        "level": "info",
        "event": "auth.decision",
        "schema_version": 1,
        "boot_id": logged.writer.boot_id,
        "seq": 1,
        "outcome": "allow",
        "reason": "ok",
        "source": "store",
        "organization_id": "acme",
        "key_id": "key_key-one",
        "key_fingerprint": "",
        "domain": "api.example.com",
        "client_ip": "192.0.2.7",
        "method": "GET",
        "path": "/v1/orders",
        "status": 200,
        "duration_ms": 3.1,
        "store_ms": 2.0,
        "user_agent": "curl/8.5.0",
        "policy": "default",
        "door": "forward",
        "request_id": "req-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }


def test_an_unknown_key_is_logged_by_its_fingerprint_only(logged: LoggedLines, make_request: MakeRequest) -> None:
    """Guesses can be grouped, and the log does not tell what was guessed."""
    for key in ("unknown-key-of-a-client", "unknown-key-of-a-client", "another-unknown-key"):
        credentials = Credentials(key, Secret(SECRET))
        logged.write(make_request(credentials=credentials), Decision(Reason.UNKNOWN_KEY, source=Source.STORE), 401)
    first, second, third = logged.events
    assert re.fullmatch("[0-9a-f]{12}", first["key_fingerprint"])
    assert first["key_fingerprint"] == second["key_fingerprint"] != third["key_fingerprint"]
    assert first["key_id"] == first["organization_id"] == ""
    assert b"unknown-key" not in b"".join(logged.lines)


def test_without_credentials_there_is_no_fingerprint(logged: LoggedLines, make_request: MakeRequest) -> None:
    """Nothing was presented, so there is nothing to group by; a missing host is an empty domain."""
    logged.write(make_request(target=None), Decision(Reason.MISSING_CREDENTIALS), 401)
    (event,) = logged.events
    assert event["key_fingerprint"] == event["key_id"] == event["domain"] == ""


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("known", [True, False])
def test_the_level_tells_a_customer_in_trouble_from_noise(
    logged: LoggedLines, make_request: MakeRequest, reason: Reason, *, known: bool
) -> None:
    """A refused known key is a warning, a refused stranger is information, and only errors are errors."""
    logged.write(make_request(), Decision(reason, key=known_key() if known else None), 200)
    (event,) = logged.events
    outcome = REASONS[reason].outcome
    expected = {Outcome.ALLOW: "info", Outcome.DENY: "warning" if known else "info", Outcome.ERROR: "error"}
    assert (event["level"], event["outcome"], event["reason"]) == (expected[outcome], outcome.value, reason.value)


def test_shadow_mode_marks_the_line(logged: LoggedLines, make_request: MakeRequest) -> None:
    """The line says what was answered, and what would have been."""
    decision = Decision(Reason.SHADOW, source=Source.CACHE, key=known_key())
    decision.in_shadow = True
    decision.shadowed = Reason.EXPIRED
    logged.write(make_request(), decision, 200)
    (event,) = logged.events
    assert (event["outcome"], event["reason"]) == ("allow", "shadow")
    assert (event["mode"], event["shadow_outcome"], event["shadow_reason"]) == ("shadow", "deny", "expired")
    assert set(event) - set(FIELDS) == {"mode", "shadow_outcome", "shadow_reason"}


@pytest.mark.parametrize(
    ("host", "scheme", "domain"),
    [
        ("api.example.com", "https", "api.example.com"),
        ("api.example.com:443", "https", "api.example.com"),
        ("api.example.com:8443", "https", "api.example.com:8443"),
        ("api.example.com:443", "http", "api.example.com:443"),
        ("[2001:db8::1]:80", "http", "2001:db8::1"),
    ],
)
def test_the_port_is_named_where_it_is_not_the_schemes_own(
    logged: LoggedLines, make_request: MakeRequest, host: str, scheme: str, domain: str
) -> None:
    """Whoever reads ``wrong_domain`` sees what the key's rules were matched against."""
    logged.write(make_request(target=parse_target(host, scheme, "/")), Decision(Reason.WRONG_DOMAIN), 401)
    assert logged.events[0]["domain"].strip("[]") == domain


def test_the_query_is_never_logged(logged: LoggedLines, make_request: MakeRequest) -> None:
    """Clients put tokens there."""
    logged.write(make_request(path=f"/v1/orders?token={SECRET}&next=/a?b"), Decision(Reason.OK, key=known_key()))
    assert logged.events[0]["path"] == "/v1/orders"


def test_a_secret_is_in_no_line_of_any_reason(logged: LoggedLines, make_request: MakeRequest) -> None:
    """The line is made from named fields; what was presented is not among them."""
    for reason in Reason:
        for key in (known_key(), None):
            logged.write(make_request(credentials=CREDENTIALS), Decision(reason, key=key), 200)
    text = b"".join(logged.lines).decode()
    leaks.check(text, "the decision log")
    assert known_key().digest.hex() not in text


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("plain", 10, "plain"),
        ("a" * 20, 10, "a" * 10),
        ("äö🔑", 10, "äö🔑"),
        ("a\r\nb", 20, r"a\r\nb"),
        ("\x1b[31m", 20, r"\x1b[31m"),
        ("\x00\x7f", 20, r"\x00\x7f"),
        ("\x85", 20, r"\x85"),
        ("\u2028\u2029", 20, r"\u2028\u2029"),
        ("\u202ecba\u2066", 20, r"\u202ecba\u2066"),
        ("\ufeff\u200b", 20, r"\ufeff\u200b"),
        ("\ud800", 20, r"\ud800"),
        ("\U000e0001", 20, r"\U000e0001"),
        ("\n" * 10, 5, r"\n\n" + "\\"),
        ("", 5, ""),
    ],
)
def test_what_a_terminal_would_obey_is_escaped_and_cut(text: str, limit: int, expected: str) -> None:
    """Control characters, direction marks, separators and lone surrogates become visible; the length is bounded."""
    assert printable(text, limit) == expected


@given(st.text(st.characters(), max_size=50), st.integers(0, 60))
@settings(max_examples=200)
def test_printable_text_is_printable_short_and_encodable(text: str, limit: int) -> None:
    """Whatever comes in."""
    out = printable(text, limit)
    assert out.isprintable()
    assert len(out) <= limit
    out.encode()


@pytest.mark.parametrize(
    ("wall", "expected"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1767323045.5, "2026-01-02T03:04:05.500000Z"),
        (1767323045.000001, "2026-01-02T03:04:05.000001Z"),
        (1767323045.9999999, "2026-01-02T03:04:06.000000Z"),
    ],
)
def test_timestamps_have_microseconds_and_carry(wall: float, expected: str) -> None:
    """RFC 3339 in UTC, rounded to a microsecond without ever showing a sixtieth second."""
    assert timestamp(wall) == expected


def hostile(make_request: MakeRequest, text: str, **fields: Any) -> AccessRequest:
    target = parse_target("api.example.com", "https", "/")
    assert target is not None
    target.host = text
    return make_request(
        target=target,
        client_ip=text,
        method=text,
        path=text,
        policy=text,
        user_agent=text,
        request_id="r" * 128,
        **fields,
    )


@pytest.mark.parametrize(
    "text",
    [HOSTILE, "\U0001f511" * 5000, "\x00" * 5000, "\ud800" * 5000, '"' * 5000, "\\" * 5000, "é" * 5000, "a" * 5000],
    ids=["mixed", "keys", "nul", "surrogate", "quote", "backslash", "accent", "plain"],
)
@pytest.mark.parametrize("console", [False, True])
def test_hostile_text_never_breaks_the_line(
    make_logged: MakeLogged, make_request: MakeRequest, text: str, *, console: bool
) -> None:
    """One line of at most 4,096 bytes, whatever a client sent in every field at once."""
    logged = make_logged(console=console)
    decision = Decision(Reason.EXPIRED, key=known_key(key_id=text, organization_id="o" * 63))
    logged.write(hostile(make_request, text), decision, 401)
    (line,) = logged.lines
    assert line.endswith(b"\n")
    assert len(line) <= 4096
    if console:
        assert line.decode("utf-8", "ignore").strip("\n").isprintable()
        return
    event = json.loads(line)
    assert list(event) == FIELDS
    for name in ("domain", "client_ip", "method", "path", "policy", "key_id"):
        assert event[name].isprintable()
        assert len(event[name]) <= 256
    assert len(event["user_agent"]) <= 128
    assert event["request_id"] == "r" * 128


def test_long_plain_text_is_cut_where_the_contract_says(logged: LoggedLines, make_request: MakeRequest) -> None:
    """256 characters of a client's text, 128 of a user agent."""
    logged.write(make_request(path="/" + "a" * 999, user_agent="u" * 999), Decision(Reason.OK, key=known_key()))
    (event,) = logged.events
    assert event["path"] == "/" + "a" * 255
    assert event["user_agent"] == "u" * 128


class Kept:
    """Stands where the writer does, and keeps the lines."""

    boot_id = "boot"

    def __init__(self) -> None:
        self.lines: list[DecisionLine] = []

    def is_flooded(self, _network: str, _at: float) -> bool:
        return False

    def put(self, line: DecisionLine) -> None:
        self.lines.append(line)


@given(st.text(st.characters(), max_size=300), st.sampled_from(Reason))
@settings(max_examples=100)
def test_any_text_makes_a_valid_line(text: str, reason: Reason) -> None:
    """Escaping holds for what nobody thought of."""
    kept = Kept()
    log = DecisionLog(kept, clock=FakeClock(), peppers=PEPPERS)  # type: ignore[arg-type]  # the part of it that is used
    request = AccessRequest(
        credentials=Credentials(text, Secret(SECRET)),
        target=None,
        door=Door.ENVOY,
        started=0.0,
        client_ip=text,
        method=text,
        path=text,
        policy=text,
        user_agent=text,
    )
    log.write(request, Decision(reason), 200)
    (line,) = kept.lines
    assert line.line.count(b"\n") == 1
    assert len(line.line) <= 4096
    assert list(json.loads(line.line)) == FIELDS


ODD = ['quo"te', "back\\slash", "a" * 129, "a" * 257, "que?ry", "\x7f", "\xe9\u20ac", "\u2028", "\ud800"]
TEXTS = st.text(st.characters(), max_size=40) | st.sampled_from(ODD)
CLIENT_TEXTS = ("client_ip", "method", "path", "policy", "user_agent")


@given(
    st.fixed_dictionaries(dict.fromkeys(CLIENT_TEXTS, TEXTS)),
    st.sampled_from([("api.example.com", "api.example.com"), ("api.example.com:8443", "api.example.com:8443"), None]),
    st.sampled_from(Reason),
    st.none() | st.builds(known_key, TEXTS.filter(bool), organization_id=TEXTS),
    st.integers(0, 10**9),
)
@settings(max_examples=200)
def test_each_field_holds_its_text_cut_and_printable(
    texts: dict[str, Any], host: tuple[str, str] | None, reason: Reason, key: LoadedKey | None, microseconds: int
) -> None:
    """Whatever stands in it, and whatever stood in the lines before: fragments of them are remembered."""
    kept = Kept()
    log = DecisionLog(kept, clock=FakeClock(), peppers=PEPPERS)  # type: ignore[arg-type]  # as above
    target = None if host is None else parse_target(host[0], "https", "/")
    request = AccessRequest(credentials=CREDENTIALS, target=target, door=Door.NGINX, started=0.0, **texts)
    decision = Decision(reason, source=Source.STORE, key=key, store_seconds=microseconds / 2e6)
    decision.duration = microseconds / 1e6
    log.write(request, decision, 403)
    (line,) = kept.lines
    event = json.loads(line.line)
    assert line.line.count(b"\n") == 1
    assert list(event) == FIELDS
    assert {name: event[name] for name in CLIENT_TEXTS} == {
        name: printable(text.partition("?")[0] if name == "path" else text, 128 if name == "user_agent" else 256)
        for name, text in texts.items()
    }
    assert event["domain"] == ("" if host is None else host[1])
    assert event["organization_id"] == ("" if key is None else printable(key.organization_id, 256))
    assert event["key_id"] == ("" if key is None else printable(key.key_id, 256))
    assert bool(event["key_fingerprint"]) == (key is None)
    assert event["duration_ms"] == pytest.approx(microseconds / 1e3, abs=1e-4)
    assert event["store_ms"] == pytest.approx(microseconds / 2e3, abs=1e-4)


def test_shadow_mode_without_a_difference_is_told_too(logged: LoggedLines, make_request: MakeRequest) -> None:
    """Its fields come after all others."""
    decision = Decision(Reason.OK, key=known_key())
    decision.in_shadow = True
    logged.write(make_request(), decision)
    assert list(logged.events[0]) == [*FIELDS, "mode"]


def test_numbers_grow_by_one_from_one(logged: LoggedLines, make_request: MakeRequest) -> None:
    """A gap in ``seq`` of a ``boot_id`` shows a lost line."""
    for _ in range(5):
        logged.write(make_request(), Decision(Reason.OK, key=known_key()))
    assert [event["seq"] for event in logged.events] == [1, 2, 3, 4, 5]
    assert {event["boot_id"] for event in logged.events} == {logged.writer.boot_id}


def test_each_start_has_an_identity_of_its_own() -> None:
    """Two writers never share a ``boot_id``, so their numbers cannot be confused."""
    assert LineWriter(1).boot_id != LineWriter(1).boot_id


@pytest.mark.usefixtures("restore_logging")
@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
def test_decisions_are_logged_whatever_the_log_level(
    logged: LoggedLines, make_request: MakeRequest, level: str
) -> None:
    """The level is for the service's own words; a decision is a record."""
    configure_logging(logged.writer, console=False, level=level)
    logged.write(make_request(), Decision(Reason.OK, key=known_key()))
    assert [event["event"] for event in logged.events] == ["auth.decision"]


def test_the_console_form_says_what_one_looks_for_first(make_logged: MakeLogged, make_request: MakeRequest) -> None:
    """One line for people: outcome, status, reason, where and who; no colour unless asked for."""
    logged = make_logged(console=True)
    logged.write(make_request(), Decision(Reason.EXPIRED, key=known_key()), 401)
    (line,) = logged.lines
    text = line.decode()
    for part in ("03:04:05.000", "deny", "401", "expired", "GET", "api.example.com/v1/orders", "key_key-one", "req-1"):
        assert part in text
    assert "\x1b" not in text
    leaks.check(text, "the console log")


@pytest.mark.parametrize(
    ("reason", "color"), [(Reason.OK, "\x1b[32m"), (Reason.EXPIRED, "\x1b[33m"), (Reason.INTERNAL, "\x1b[31m")]
)
def test_a_terminal_gets_colours_by_outcome(
    make_logged: MakeLogged, make_request: MakeRequest, reason: Reason, color: str
) -> None:
    """Green, yellow, red; and the text after it is plain again."""
    logged = make_logged(console=True, color=True)
    logged.write(make_request(), Decision(reason, key=known_key()), 401)
    text = logged.lines[0].decode()
    assert color in text
    assert text.count("\x1b[0m") == 1


def test_the_console_form_shows_shadow_mode_and_fingerprints(
    make_logged: MakeLogged, make_request: MakeRequest
) -> None:
    """What would have been refused is the reason why somebody reads such a log."""
    logged = make_logged(console=True)
    decision = Decision(Reason.SHADOW)
    decision.in_shadow = True
    decision.shadowed = Reason.UNKNOWN_KEY
    logged.write(make_request(credentials=CREDENTIALS), decision)
    text = logged.lines[0].decode()
    assert "would-be=unknown_key" in text
    assert re.search("key=[0-9a-f]{12} ", text)
