"""Where a browser may be sent after signing in: nothing that leads off the site gets through, whoever made it."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.utils import redirect

from service.answers.next_url import NextUrls, safe_next
from service.answers.tickets import Tickets
from service.auth.secret import Secret
from tests.support import leaks
from tests.support.clock import FakeClock

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "next_vectors.json").read_text("utf-8"))
REFUSED = [text for group in VECTORS["refused"].values() for text in group]
SITE = "https://app.example"
OWN = "https://login.example.com"
KEY = "signing-key-of-the-tests"
leaks.register(KEY)

CHARACTERS = (
    "/",
    "\\",
    "//",
    "..",
    ".",
    "%2f",
    "%5c",
    "%09",
    "%2e",
    "%",
    "%25",
    "\t",
    "\n",
    " ",
    "@",
    ":",
    "?",
    "#",
    ";",
    "&",
)
WORDS = ("evil.example", "a", "https:", "javascript:", "login", "é", "\uff0f", "\u3002", "%EF%BC%8F", "\x00", "[", "]")
TRICKS = st.sampled_from((*CHARACTERS, *WORDS))


def next_urls(
    *, hosts: tuple[str, ...] = (), public_url: str = "", login_url: str = "/login", clock: FakeClock | None = None
) -> NextUrls:
    return NextUrls(Secret(KEY), hosts=hosts, public_url=public_url, login_url=login_url, clock=clock or FakeClock())


def accepted(destination: str, *, hosts: tuple[str, ...] = (), own: str = OWN, public_url: str = "") -> bool:
    urls = next_urls(hosts=hosts, public_url=public_url)
    return urls.accept(urls.mint(destination), own_origin=own) == destination


@pytest.mark.parametrize("text", REFUSED)
def test_what_may_lead_elsewhere_is_no_next(text: str) -> None:
    """Nor is it one after a client's library or a proxy has encoded it (the vectors hold both forms)."""
    assert safe_next(text) is None


@pytest.mark.parametrize("text", VECTORS["accepted"])
def test_a_plain_local_path_is_a_next(text: str) -> None:
    """It comes back unchanged, and Werkzeug's redirect says the same."""
    assert safe_next(text) == text
    assert redirect(text).headers["Location"] == text


@given(
    st.one_of(st.text(), st.lists(TRICKS, max_size=8).map("".join), st.lists(TRICKS).map(lambda x: "/" + "".join(x)))
)
def test_whatever_passes_stays_on_the_site_in_the_redirect_that_is_sent(text: str) -> None:
    """Werkzeug rewrites a Location (it deletes tabs, for one): judged is what leaves the service."""
    if safe_next(text) is None:
        return
    location = redirect(text).headers["Location"]
    assert location == text
    for base in (f"{SITE}/login", f"{SITE}/login?next=x", f"{SITE}/a/b/"):
        resolved = urlsplit(urljoin(base, location))
        assert (resolved.scheme, resolved.netloc) == ("https", "app.example")


@pytest.mark.parametrize("text", [*VECTORS["accepted"], *REFUSED])
def test_an_unsigned_value_is_accepted_only_as_a_plain_local_path(text: str) -> None:
    """``accept`` adds signed values to ``safe_next`` and nothing else, and never raises."""
    assert next_urls().accept(text, own_origin=OWN) == safe_next(text)


@given(value=st.text(), own=st.one_of(st.just(OWN), st.text()))
def test_accept_never_raises(value: str, own: str) -> None:
    """Not even for text that no encoding can write."""
    assert next_urls().accept(value, own_origin=own) == (safe_next(value) if value.startswith("/") else None)
    assert next_urls().accept("\ud800", own_origin="\ud800") is None


def test_a_signed_next_holds_for_ten_minutes() -> None:
    """Long enough to sign in, too short to be worth collecting."""
    clock = FakeClock()
    urls = next_urls(clock=clock)
    value = urls.mint(f"{OWN}/orders?page=2")
    for _ in range(2):
        assert urls.accept(value, own_origin=OWN) == f"{OWN}/orders?page=2"
        clock.advance(299.9)
    clock.advance(0.3)
    assert urls.accept(value, own_origin=OWN) is None


def test_a_next_of_a_process_whose_clock_is_a_little_ahead_holds() -> None:
    """Several machines serve; their clocks differ by moments, not by minutes."""
    ahead, clock = FakeClock(), FakeClock()
    ahead.skew(4)
    value = next_urls(clock=ahead).mint(f"{OWN}/")
    assert next_urls(clock=clock).accept(value, own_origin=OWN) == f"{OWN}/"
    ahead.skew(4)
    assert next_urls(clock=clock).accept(next_urls(clock=ahead).mint(f"{OWN}/"), own_origin=OWN) is None


def test_a_changed_character_anywhere_makes_a_next_worthless() -> None:
    """The signature covers the address and the time."""
    urls = next_urls()
    value = urls.mint(f"{OWN}/orders")
    for position, character in enumerate(value):
        other = "A" if character != "A" else "B"
        changed = value[:position] + other + value[position + 1 :]
        if position == len(value) - 1:
            continue  # the last character of base64 has bits that say nothing
        assert urls.accept(changed, own_origin=OWN) is None


def test_what_another_key_or_for_another_purpose_was_signed_is_no_next() -> None:
    """A denial's ticket, a stranger's signature, and a value that is not text."""
    urls = next_urls()
    stranger = NextUrls(Secret("another-key-of-the-tests"), hosts=(), public_url="", login_url="/", clock=FakeClock())
    assert urls.accept(stranger.mint(f"{OWN}/"), own_origin=OWN) is None
    tickets = Tickets(Secret(KEY), clock=FakeClock())
    assert urls.accept(tickets._signed.sign(f"{OWN}/"), own_origin=OWN) is None
    assert tickets.read(urls.mint(f"{OWN}/")) is None
    assert urls.accept(urls._signed.sign([f"{OWN}/"]), own_origin=OWN) is None


LISTED = (
    "app.example.com",
    ".example.org",
    "dev.example.com:8443",
    "Bücher.example",
    "[2001:db8::1]",
    "TRAILING.example.",
)


@pytest.mark.parametrize(
    "destination",
    [
        "https://login.example.com/a",
        "https://login.example.com:443/a",
        "https://login.example.com",
        "https://login.example.com?a=b",
        "https://login.example.com/a?b=//evil.example#c",
        "https://login.example.com//evil.example",
        "https://LOGIN.example.com/a",
        "https://app.example.com/a",
        "https://app.example.com:443/a",
        "https://a.example.org/",
        "https://a.b.example.org/",
        "https://dev.example.com:8443/",
        "https://xn--bcher-kva.example/",
        "https://[2001:db8::1]/",
        "https://trailing.example/",
    ],
)
def test_a_signed_next_leads_to_the_own_origin_or_a_listed_host(destination: str) -> None:
    """And Werkzeug's redirect sends the browser to the same host."""
    assert accepted(destination, hosts=LISTED)
    location = redirect(destination).headers["Location"]
    assert urlsplit(location).netloc.lower() == urlsplit(destination).netloc.lower()


@pytest.mark.parametrize(
    "destination",
    [
        "https://evil.example/",
        "https://login.example.com.evil.example/",
        "https://xlogin.example.com/",
        "https://example.com/",
        "https://sub.app.example.com/",
        "https://example.org/",
        "https://evilexample.org/",
        "https://.example.org/",
        "https://a.example.org.evil.example/",
        "https://a.example.org:8443/",
        "https://login.example.com:8443/",
        "https://app.example.com:8443/",
        "https://dev.example.com/",
        "http://login.example.com/",
        "http://login.example.com:443/",
        "http://app.example.com/",
        "http://a.example.org/",
        "https://login.example.com./",
        "https://login.example.com.",
        "https://login.example.com.:443/",
        "https://login.example.com.?a",
        "https://a.example.org.#a",
        "https://user@login.example.com/",
        "https://user:secret@app.example.com/",
        "https://login.example.com@evil.example/",
        "https://evil.example\\@login.example.com/",
        "https://login.example.com\\@evil.example/",
        "https://login.example.com\\.evil.example/",
        "https://login.example.com/\\evil.example",
        "https://login.example.com/a b",
        "https://login.example.com/a\tb",
        "https://login.example.com/a\r\nSet-Cookie: a=b",
        "https://login.example.com/\x00",
        "https://login.example.com/é",
        " https://login.example.com/",
        "https://login.example.com/ ",
        "https:login.example.com/",
        "https:/login.example.com/",
        "https:///login.example.com/",
        "https://",
        "https:///",
        "https://login.example.com:0/",
        "https://login.example.com:99999/",
        "https://login.example.com:/",
        "https://login%2eexample.com/",
        "https://login.example.com%2f@evil.example/",
        "https://evil\u3002example/",
        "https://b\u00fccher.example/",
        "https://[login.example.com]/",
        "https://[::1",
        "HTTPS://login.example.com/",
        "javascript://login.example.com/%0aalert(1)",
        "ftp://login.example.com/",
        "//login.example.com/",
        "/orders",
        "login.example.com",
        "",
        "https://login.example.com/" + "a" * 2048,
    ],
)
def test_a_signed_next_that_leads_elsewhere_is_dropped(destination: str) -> None:
    """Signed or not: a proxy may have forwarded any host, and settings change."""
    assert not accepted(destination, hosts=LISTED)


def test_a_host_that_is_no_longer_listed_is_no_longer_gone_to() -> None:
    """The list counts when the address is followed, not when it was signed."""
    value = next_urls(hosts=("app.example.com",)).mint("https://app.example.com/a")
    assert next_urls(hosts=("app.example.com",)).accept(value, own_origin=OWN) is not None
    assert next_urls(hosts=("api.example.com",)).accept(value, own_origin=OWN) is None


def test_a_login_page_without_tls_may_lead_to_both_schemes_of_a_listed_host() -> None:
    """For installations that have no certificate yet; only the way down is barred."""
    for scheme in ("http", "https"):
        assert accepted(f"{scheme}://app.example.com/a", hosts=LISTED, own="http://login.example.com")
    assert accepted("http://login.example.com:8000/", own="http://login.example.com:8000")
    assert not accepted("https://login.example.com:8000/", own="http://login.example.com:8000")


def test_the_public_url_is_an_own_origin() -> None:
    """Whatever name the request came by."""
    public = "https://public.example.com:8443"
    assert accepted(f"{public}/console", own="http://10.0.0.7:8000", public_url=public)
    assert not accepted("https://public.example.com/console", own="http://10.0.0.7:8000", public_url=public)


@given(st.lists(TRICKS, max_size=8).map("".join), st.sampled_from(["https://login.example.com", "https://", "http"]))
def test_whatever_signed_value_passes_makes_a_redirect_to_its_own_host(tail: str, start: str) -> None:
    """Werkzeug's redirect neither raises for it (that would be a 500) nor sends the browser to another host."""
    destination = start + tail
    if not accepted(destination, hosts=LISTED):
        return
    location = redirect(destination).headers["Location"]
    assert urlsplit(location).hostname in ("login.example.com", "app.example.com")


@pytest.mark.parametrize(
    ("login_url", "public_url", "base", "expected"),
    [
        ("/login", "", "", "/login?next="),
        ("/login", "", "https://app.example.com:8443", "https://app.example.com:8443/login?next="),
        ("/login", "https://id.example.com", "https://app.example.com", "https://id.example.com/login?next="),
        ("/login?theme=dark", "", "", "/login?theme=dark&next="),
        (
            "https://id.example.com/in",
            "https://x.example.com",
            "https://app.example.com",
            "https://id.example.com/in?next=",
        ),
    ],
)
def test_the_login_pages_address_is_joined_to_the_public_or_the_forwarded_origin(
    login_url: str, public_url: str, base: str, expected: str
) -> None:
    """Contract 4; an absolute address stays what it is."""
    urls = next_urls(login_url=login_url, public_url=public_url)
    location = urls.login_location(base=base, destination="https://app.example.com/a?b=c&d=e#f")
    assert location.startswith(expected)
    [value] = parse_qs(urlsplit(location).query)["next"]
    assert urls.accept(value, own_origin="https://app.example.com") == "https://app.example.com/a?b=c&d=e#f"


@pytest.mark.parametrize(
    "destination",
    [
        "https://app.example.com/login",
        "https://app.example.com/login?next=x",
        "https://app.example.com/logout",
        "https://app.example.com/%6Cogin",
        "https://app.example.com/sign-in?next=x",
        "https://app.example.com/a?" + "b" * 2048,
    ],
)
def test_a_destination_that_would_loop_or_grow_without_end_becomes_the_sites_root(destination: str) -> None:
    """Where a proxy does not route the login page to Gatekey, each redirect would else sign the one before it."""
    urls = next_urls(login_url="/sign-in")
    location = urls.login_location(base="", destination=destination)
    value = location.removeprefix("/sign-in?next=")
    assert urls.accept(value, own_origin="https://app.example.com") == "https://app.example.com/"


def test_an_application_keeps_its_own_login_path_where_the_login_page_is_elsewhere() -> None:
    """Only the configured page is a loop then."""
    urls = next_urls(login_url="https://id.example.com/in?a=b")

    def returned(destination: str) -> str | None:
        location = urls.login_location(base="", destination=destination)
        [value] = parse_qs(urlsplit(location).query)["next"]
        return urls.accept(value, own_origin=destination.partition("/in")[0].partition("/login")[0])

    assert returned("https://app.example.com/login?x=y") == "https://app.example.com/login?x=y"
    assert returned("https://id.example.com/in?next=x") == "https://id.example.com/"


def test_nothing_readable_of_the_key_stands_in_a_next() -> None:
    """The value goes through the browser, histories and logs."""
    urls = next_urls()
    leaks.check(urls.mint(f"{OWN}/") + repr(urls) + repr(vars(urls)), "a signed next")
