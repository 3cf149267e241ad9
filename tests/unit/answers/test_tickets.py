"""The ticket that carries a denial through nginx: what was minted comes out, for ten seconds, and nothing else does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answers.denial import Denial
from service.answers.next_url import NextUrls
from service.answers.responder import Responder
from service.answers.tickets import Tickets
from service.auth.reasons import REASONS, Outcome, Reason
from service.auth.secret import Secret
from tests.support import leaks
from tests.support.clock import FakeClock

KEY = "ticket-key-of-the-tests"
leaks.register(KEY)
REFUSALS = [reason for reason in Reason if REASONS[reason].outcome is not Outcome.ALLOW]
ALLOWED = [reason for reason in Reason if REASONS[reason].outcome is Outcome.ALLOW]

RESPONDER = Responder()
NOISE = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=12000))  # noqa: S311 - no secret


def tickets(clock: FakeClock | None = None) -> Tickets:
    return Tickets(Secret(KEY), clock=clock or FakeClock())


@pytest.mark.parametrize("reason", REFUSALS)
@pytest.mark.parametrize("browser", [True, False])
def test_a_ticket_brings_back_the_whole_denial(
    reason: Reason,
    browser: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Every field, for every reason."""
    denial = Denial(
        reason,
        browser=browser,
        form_post=browser,
        request_id="4f1c.A_b-9",
        credential_presented=not browser,
        login_location="https://app.example.com/login?next=abc",
        cors_origin="https://spa.example.com",
    )
    assert tickets().read(tickets().mint(denial)) == denial


def test_a_ticket_fits_a_header() -> None:
    """Unreserved characters only: nothing that a proxy or a server could split, strip or decode."""
    ticket = tickets().mint(Denial(Reason.EXPIRED, login_location="https://app.example.com/login?next=é"))
    assert set(ticket) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_the_longest_ticket_that_is_minted_can_be_read() -> None:
    """A long address must not turn a redirect into 503: only so much of it is carried."""
    host = ".".join([NOISE[:61]] * 4)
    urls = NextUrls(Secret(KEY), hosts=(), public_url=f"https://{host}", login_url="/login", clock=FakeClock())
    for length in (100, 1800, 2048, 4000):
        destination = f"https://{host}/{NOISE}"[:length]
        denial = Denial(
            Reason.MISSING_CREDENTIALS,
            browser=True,
            request_id=NOISE[:128],
            login_location=urls.login_location(base="", destination=destination),
            cors_origin=f"https://{host}",
        )
        ticket = tickets().mint(denial)
        assert tickets().read(ticket) == denial
        assert len(ticket) < 3072  # with the other headers less than 4 KiB, the smallest buffer that nginx has for them


def test_a_ticket_lives_for_ten_seconds() -> None:
    """As long as nginx needs to come back with it."""
    clock = FakeClock()
    reader = tickets(clock)
    ticket = reader.mint(Denial(Reason.EXPIRED))
    clock.advance(9)
    assert reader.read(ticket) == Denial(Reason.EXPIRED)
    clock.advance(1.1)
    assert reader.read(ticket) is None


def test_a_ticket_from_a_process_whose_clock_is_a_moment_ahead_is_rendered() -> None:
    """The second call may reach another machine, milliseconds after the first."""
    ahead = FakeClock()
    ahead.skew(1)
    assert tickets().read(tickets(ahead).mint(Denial(Reason.EXPIRED))) == Denial(Reason.EXPIRED)


def test_a_changed_ticket_is_none() -> None:
    """Every character counts (but for the last one's bits that base64 does not use)."""
    ticket = tickets().mint(Denial(Reason.EXPIRED, login_location="/login?next=x"))
    for position, character in enumerate(ticket[:-1]):
        changed = ticket[:position] + ("A" if character != "A" else "B") + ticket[position + 1 :]
        assert tickets().read(changed) is None


@pytest.mark.parametrize(
    "text", ["", ".", "..", "x", "a.b.c", "A" * 8193, "é", "\ud800", ".eJw.x.y", "\x00", "W10.aaaa.aaaa"]
)
def test_what_nobody_minted_is_no_ticket(text: str) -> None:
    """Whatever a client puts into the header."""
    assert tickets().read(text) is None


def test_a_ticket_of_another_service_is_none() -> None:
    """Installations do not trust each other."""
    other = Tickets(Secret("another-ticket-key-of-the-tests"), clock=FakeClock())
    assert tickets().read(other.mint(Denial(Reason.EXPIRED))) is None


def test_an_oversized_ticket_is_not_even_checked() -> None:
    """It is ours and still refused: nobody makes the service verify megabytes."""
    reader = tickets()
    assert reader.read(reader._signed.sign(["expired", 0, 0, NOISE, 0, "", ""])) is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "expired",
        5,
        ["expired"],
        ["expired", 0, 0, "id", 0, "", "", "more"],
        ["no_reason", 0, 0, "id", 0, "", ""],
        [["expired"], 0, 0, "id", 0, "", ""],
        [None, 0, 0, "id", 0, "", ""],
        *[[reason.value, 0, 0, "id", 0, "", ""] for reason in ALLOWED],
    ],
)
def test_a_signed_value_that_is_no_refusal_is_no_ticket(value: object) -> None:
    """Of another version of the service, or (never minted) of an allow: a ticket must not become a 2xx."""
    assert tickets().read(tickets()._signed.sign(value)) is None


@given(
    reason=st.sampled_from(REFUSALS),
    browser=st.booleans(),
    form_post=st.booleans(),
    location=st.sampled_from(["", "/login"]),
)
def test_no_ticket_is_rendered_as_a_success(*, reason: Reason, browser: bool, form_post: bool, location: str) -> None:
    """Whatever it holds."""
    minted = tickets().mint(Denial(reason, browser=browser, form_post=form_post, login_location=location))
    denial = tickets().read(minted)
    assert denial is not None
    assert RESPONDER.denial(denial).status >= 300


def test_nothing_readable_of_the_key_stands_in_a_ticket() -> None:
    """It goes through the proxy's memory, and maybe its log."""
    leaks.check(tickets().mint(Denial(Reason.EXPIRED)) + repr(tickets()), "a ticket")
