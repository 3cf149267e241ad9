"""nginx's second address: a ticket becomes the answer that the client sees, and nothing else does."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from service.answers.denial import Denial
from service.auth.reasons import Reason
from tests.support import leaks
from tests.support.cases import five, pair
from tests.support.clock import FakeClock
from tests.support.in_process import ask, logged_gatekey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse

DENIED = "/auth/nginx/default/denied"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def logged(clock: FakeClock) -> Iterator[LoggedGatekey]:
    with logged_gatekey(clock=clock) as found:
        yield found


def _ticket(logged: LoggedGatekey) -> str:
    answer = ask(logged.app, "GET", "/auth/nginx/default", (*five(), ("X-Request-Id", "the-question")))
    assert answer.status == 401
    return answer.header("x-gatekey-denial")


def _render(logged: LoggedGatekey, ticket: str | bytes, *, method: str = "GET") -> RawResponse:
    return ask(logged.app, method, DENIED, [("X-Gatekey-Denial", ticket)])


def test_a_ticket_is_rendered_for_ten_seconds(logged: LoggedGatekey, clock: FakeClock) -> None:
    """Long enough for nginx's next step, too short to be worth keeping."""
    ticket = _ticket(logged)
    clock.advance(10)
    assert _render(logged, ticket).status == 401
    clock.advance(1.1)
    assert _render(logged, ticket).status == 503


def test_the_rendered_answer_belongs_to_the_question(logged: LoggedGatekey) -> None:
    """The request id is the one of the decision's line, so that a client's report finds it."""
    answer = _render(logged, _ticket(logged))
    assert answer.header("x-request-id") == "the-question"
    assert answer.json()["request_id"] == "the-question"


def test_a_ticket_for_another_policy_s_address_is_rendered_too(logged: LoggedGatekey) -> None:
    """Everything is in the ticket; the policy in the address only keeps nginx's configuration readable."""
    answer = ask(logged.app, "GET", "/auth/nginx/whichever/denied", [("X-Gatekey-Denial", _ticket(logged))])
    assert answer.status == 401


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda _: "nonsense",
        lambda ticket: ticket[:-1] + ("A" if ticket[-1] != "A" else "B"),
        lambda ticket: "A" + ticket,
        lambda ticket: ticket + "," + ticket,
        lambda ticket: ticket.partition(".")[0],
        lambda ticket: ticket[::-1],
        lambda ticket: ticket.encode() + b"\xe9",
        lambda _: "." * 9000,
    ],
    ids=["empty", "nonsense", "changed", "longer", "twice", "unsigned", "reversed", "not-ascii", "long"],
)
def test_without_a_valid_ticket_the_answer_is_503(logged: LoggedGatekey, spoil: Any) -> None:
    """Nobody but this service says what a client gets to see."""
    answer = _render(logged, spoil(_ticket(logged)))
    assert (answer.status, answer.json()["code"]) == (503, "temporarily_unavailable")
    assert answer.has("retry-after")


def test_a_ticket_of_another_installation_is_none(logged: LoggedGatekey) -> None:
    """Tickets are signed with ``GATEKEY_SECRET_KEY``."""
    with logged_gatekey(environ={"GATEKEY_SECRET_KEY": "another-key-for-signing"}) as other:
        ticket = _ticket(other)
    assert _render(logged, ticket).status == 503


def test_a_signed_next_is_no_ticket(logged: LoggedGatekey) -> None:
    """What is signed for one purpose is worth nothing for another."""
    assert _render(logged, logged.gatekey.next_urls.mint("https://api.example.com/")).status == 503


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PROPFIND"])
def test_every_method_is_answered_and_none_with_a_2xx(logged: LoggedGatekey, method: str) -> None:
    """The proxy keeps the client's method for the second call."""
    assert _render(logged, _ticket(logged), method=method).status == 401
    assert _render(logged, "nonsense", method=method).status == 503


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason in ("ok", "preflight", "shadow")])
def test_not_even_a_signed_allow_is_a_2xx(logged: LoggedGatekey, reason: Reason) -> None:
    """A defect elsewhere must not open the door here."""
    ticket = logged.gatekey.doors.tickets.mint(Denial(reason))
    assert _render(logged, ticket).status == 503


def test_a_body_beside_a_valid_ticket_is_told_apart(logged: LoggedGatekey) -> None:
    """The mistake is in nginx's configuration (``proxy_pass_request_body``), and the answer says so."""
    ticket = _ticket(logged)
    answer = ask(logged.app, "POST", DENIED, [("X-Gatekey-Denial", ticket), ("Content-Length", "2")], b"{}")
    assert (answer.status, answer.json()["code"], answer.header("connection")) == (400, "bad_request", "close")


def test_rendering_decides_counts_and_logs_nothing(logged: LoggedGatekey) -> None:
    """The decision was made, counted and logged when nginx asked for it."""
    ticket = _ticket(logged)
    before = _decisions(logged)
    assert [line["reason"] for line in logged.events()] == ["missing_credentials"]
    _render(logged, ticket)
    _render(logged, "nonsense")
    ask(logged.app, "GET", DENIED, (*five(), *pair(), ("X-Gatekey-Denial", ticket)))
    assert _decisions(logged) == before
    assert logged.events() == []


def _decisions(logged: LoggedGatekey) -> list[str]:
    text = logged.gatekey.metrics.render("text/plain")[0].decode()
    return [line for line in text.splitlines() if line.startswith("gatekey_decisions_total")]


@pytest.mark.parametrize("length", [100, 2_000, 5_000, 12_000])
@pytest.mark.parametrize("browser", [True, False], ids=["browser", "api"])
def test_a_ticket_fits_into_a_header_whatever_the_address(logged: LoggedGatekey, length: int, browser: bool) -> None:  # noqa: FBT001 - a column of the table
    """A long address must not turn a redirect into an error of the proxy; 8 KiB is what proxies take, or are told to."""
    digits = "".join(
        hashlib.sha256(bytes([part])).hexdigest() for part in range(length // 64 + 1)
    )  # no compression helps
    lines = five(uri="/" + digits[:length])
    page = (("accept", "text/html"),) if browser else ()
    asked = ask(logged.app, "GET", "/auth/nginx/default", (*lines, *page))
    assert sum(len(name) + len(value) + 4 for name, value in asked.headers) < 8192
    answer = _render(logged, asked.header("x-gatekey-denial"))
    assert answer.status == (302 if browser else 401)


def test_a_ticket_holds_no_credential(logged: LoggedGatekey) -> None:
    """Signed is not encrypted: whoever sees the header can read it."""
    leaks.register("presented-secret-of-the-tests")
    lines = (*five(), *pair("presented-key", "presented-secret-of-the-tests"))
    ticket = ask(logged.app, "GET", "/auth/nginx/default", lines).header("x-gatekey-denial")
    payload = ticket.lstrip(".").partition(".")[0]
    text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    text = zlib.decompress(text) if ticket.startswith(".") else text
    assert b"unknown_key" in text
    assert b"presented" not in text
