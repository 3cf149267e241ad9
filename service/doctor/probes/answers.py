"""Whether anybody is refused at all, and whether the refusal reaches each kind of client whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from service.doctor.messages import Ask, Reply
from service.doctor.probe import Probe
from service.doctor.verdicts import (
    code_of,
    describe,
    failed,
    is_gatekeys,
    is_login_redirect,
    passed,
    problem_of,
    skipped,
)

if TYPE_CHECKING:
    from service.doctor.probe import Send
    from service.doctor.site import Situation
    from service.doctor.verdicts import Seen, Verdict

__all__ = ["NAVIGATION", "PROBES"]

NAVIGATION: Final = (
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("User-Agent", "Mozilla/5.0 gatekey-doctor"),
)
"""What a browser sends when somebody types the address."""

_MEMBERS: Final = ("type", "title", "status", "detail", "code", "request_id", "message")


def _no_credentials(situation: Situation, send: Send) -> Verdict:
    seen = send(Ask(target=situation.site.path))
    if isinstance(seen, Reply) and seen.status == 401 and is_gatekeys(seen):  # noqa: PLR2004 - HTTP
        return passed(describe(seen))
    if is_login_redirect(seen):
        return passed(describe(seen))
    if isinstance(seen, Reply) and seen.status == 503:  # noqa: PLR2004 - HTTP
        return failed(
            describe(seen), "Gatekey does not answer the proxy, or its store is down: see /readyz and the log"
        )
    if code_of(seen) in ("bad_context", "untrusted_peer", "unknown_policy", "bad_request"):
        return failed(describe(seen), _DOOR_ADVICE[code_of(seen)])
    return failed(describe(seen))


_DOOR_ADVICE: Final = {
    "bad_context": (
        "the proxy does not send all five of X-Forwarded-Method, -Proto, -Host, -Uri and -For to the door, once each"
    ),
    "untrusted_peer": "name the proxy's address in GATEKEY_TRUSTED_PROXIES",
    "unknown_policy": "the proxy asks for a policy that gatekey.toml does not have; see `gatekey check`",
    "bad_request": (
        "the proxy announces a body to the door: blank Content-Length and Transfer-Encoding in the sub-request"
    ),
}


def _tls(situation: Situation, send: Send) -> Verdict:
    if situation.site.scheme == "http":
        return skipped("the URL is http: keys travel readable; probe the https address that clients use")
    seen = send(Ask(target=situation.site.path))
    if not isinstance(seen, Reply):
        return failed(describe(seen))
    modern = seen.tls in ("TLSv1.2", "TLSv1.3")
    return passed(f"{seen.tls}, certificate trusted") if modern else failed(seen.tls)


def _api_refusal(situation: Situation, send: Send) -> Verdict:
    if situation.client == "browser":
        return skipped("the policy answers every client as a browser (--client browser)")
    seen = send(Ask(target=situation.site.path))
    fault = _api_fault(seen)
    return failed(f"{describe(seen)}, {fault}") if fault else passed(f"{describe(seen)} as problem+json")


def _api_fault(seen: Seen) -> str:
    """What an API client misses in the answer, ``""`` when nothing."""
    if not isinstance(seen, Reply) or seen.status != 401:  # noqa: PLR2004 - HTTP
        return "not 401"
    problem = problem_of(seen)
    if not problem:
        return "without a body of type application/problem+json"
    missing = [member for member in _MEMBERS if member not in problem]
    if missing:
        return "without " + ", ".join(missing)
    challenges = " ".join(seen.lines("www-authenticate")).lower()
    if "basic" in challenges:
        return "with WWW-Authenticate: Basic, at which browsers ask for a password"
    if "bearer" not in challenges:
        return "without WWW-Authenticate: Bearer"
    if "no-store" not in seen.header("cache-control"):
        return "without Cache-Control: no-store"
    return "" if seen.header("x-request-id") else "without X-Request-Id"


def _browser_refusal(situation: Situation, send: Send) -> Verdict:
    if situation.client == "api":
        return skipped("the policy answers every client as an API client (--client api)")
    seen = send(Ask(target=situation.site.path, headers=NAVIGATION))
    if not is_login_redirect(seen) or not isinstance(seen, Reply):
        return failed(f"{describe(seen)}, no redirect to a login page")
    location = urlsplit(seen.header("location"))
    if not location.scheme or not location.netloc:
        return failed(f"{describe(seen)}, which is not absolute")
    if situation.site.scheme == "https" and location.scheme != "https":
        return failed(f"{describe(seen)}, which is not https")
    return passed(describe(seen))


def _login_page(situation: Situation, send: Send) -> Verdict:
    if situation.client == "api":
        return skipped("the policy answers every client as an API client (--client api)")
    redirect = send(Ask(target=situation.site.path, headers=NAVIGATION))
    if not isinstance(redirect, Reply) or not is_login_redirect(redirect):
        return skipped("there was no redirect to follow")
    location = urlsplit(redirect.header("location"))
    if location.netloc and f"{location.scheme}://{location.netloc}".lower() != situation.site.origin:
        return _elsewhere(situation, location.hostname, describe(redirect))
    seen = send(Ask(target=f"{location.path}?{location.query}", headers=NAVIGATION))
    onward = (
        isinstance(seen, Reply) and seen.status in (302, 303) and not is_login_redirect(seen)
    )  # an identity provider
    if isinstance(seen, Reply) and (_is_page(seen) or onward) and seen.header("x-request-id"):
        return passed(f"{describe(seen)} from {location.path}")
    return failed(f"{describe(seen)} from {location.path}")


def _elsewhere(situation: Situation, host: str | None, seen: str) -> Verdict:
    if host == situation.site.host:
        return failed(
            f"{seen}, not the origin that was asked for",
            "forward the Host header with its port and the scheme of the client, or set GATEKEY_PUBLIC_URL",
        )
    return skipped(f"people sign in on another host ({seen})")


def _is_page(seen: Reply) -> bool:
    return seen.status == 200 and seen.header("content-type").startswith("text/html")  # noqa: PLR2004 - HTTP


PROBES: Final = (
    Probe(
        name="no-credentials",
        title="the path, with nothing",
        hint=(
            "the path is not behind Gatekey: put the proxy's auth sub-request on this route (and, in nginx, no "
            "`return` in its location)"
        ),
        check=_no_credentials,
    ),
    Probe(
        name="tls",
        title="a TLS handshake, the certificate checked",
        hint="serve TLS 1.2 or newer with a certificate that clients trust",
        check=_tls,
    ),
    Probe(
        name="refusal-for-api",
        title="a request of an API client",
        hint=(
            "pass the door's whole answer on: body, Content-Type, WWW-Authenticate, Cache-Control, "
            "Retry-After, X-Request-Id (nginx: error_page with the signed ticket; Envoy: "
            "allowed_client_headers)"
        ),
        check=_api_refusal,
    ),
    Probe(
        name="refusal-for-browser",
        title="a browser's navigation",
        hint=(
            "pass Accept, Sec-Fetch-Mode and Sec-Fetch-Dest to the door and its Location to the client; or say "
            '--client api if the policy is client = "api"'
        ),
        check=_browser_refusal,
    ),
    Probe(
        name="login-page",
        title="the redirect of a browser, followed",
        hint="route /login, /logout and /login/oidc of this host to Gatekey, without the auth sub-request",
        check=_login_page,
    ),
)
