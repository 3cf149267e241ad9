"""What becomes of a request in front of each proxy: one table, with the proxies that differ named in the row."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.keys import SECRET
from tests.support.proxies import HOST
from tests.support.proxy_facts import FACTS
from tests.support.servers import key_line

if TYPE_CHECKING:
    from collections.abc import Mapping

Headers = tuple[tuple[str, str], ...]

KEY: Headers = (("x-api-key", "key-one"), ("x-secret-token", SECRET))
V1_KEY: Headers = (("x-api-key", "key-v1"), ("x-secret-token", SECRET))
BASIC: Headers = (("authorization", "Basic " + base64.b64encode(f"key-one:{SECRET}".encode()).decode()),)
BEARER: Headers = (("authorization", f"Bearer key-one.{SECRET}"),)
PAGE: Headers = (("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),)
PREFLIGHT: Headers = (("origin", "https://app.example"), ("access-control-request-method", "POST"))
WEBSOCKET: Headers = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
)
IDENTITY = {"x-gatekey-organization", "x-gatekey-key-id", "x-gatekey-scopes", "x-gatekey-subject", "x-gatekey-method"}
FORGED: Headers = tuple(
    (f"X{sep}Gatekey{sep}{name}", "forged")
    for sep in "-_."
    for name in ("Organization", "Subject", f"Key{sep}Id", "Scopes", "Method", "Denial")
)


KEYS = (
    key_line("key-one", scopes=["orders:read"]),
    key_line("key-v1", domains=["http://api.example.com/v1"]),
    key_line("key-other", domains=["other.example"]),
)
"""What Gatekey imports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """The application got the request, with this target."""

    target: str = "/v1/orders"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Gatekey refused, and the client sees so as JSON."""

    status: int
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirected:
    """Gatekey sent the browser to the login page."""

    status: int = 302


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The proxy itself refused; Gatekey was not asked."""

    status: int


Outcome = Passed | Denied | Redirected | Refused
MISSING = Denied(status=401, code="missing_credentials")
INVALID = Denied(status=401, code="invalid_credentials")
DOMAIN = Denied(status=401, code="domain_not_allowed")
CONTEXT = Denied(status=403, code="bad_context")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request and what becomes of it; ``but`` lists the proxies that differ."""

    title: str
    expect: Outcome = field(default_factory=Passed)
    but: Mapping[str, Outcome] = field(default_factory=dict)
    method: str = "GET"
    target: str = "/v1/orders"
    host: str | None = HOST
    headers: Headers = KEY
    body: bytes = b""
    chunked: bool = False
    policy: str = ""
    """Fields of ``[policy.default]``."""


OK = Passed()
NORMALIZING = [name for name, facts in FACTS.items() if facts.normalizes_path]
DROPPING = [name for name, facts in FACTS.items() if facts.drops_named_headers]
OTHER_HOST = {name: Refused(status=facts.other_host) for name, facts in FACTS.items()}
CASES = (
    # Allowed, in all forms and by all methods
    Case(title="key headers"),
    Case(title="Basic", headers=BASIC),
    Case(title="Bearer", headers=BEARER),
    Case(title="scheme in lower case", headers=(("Authorization", BEARER[0][1].replace("Bearer", "bearer")),)),
    Case(title="the same pair in two forms", headers=KEY + BASIC),
    *(Case(title=method, method=method) for method in ("HEAD", "DELETE", "PROPFIND")),
    *(Case(title=f"{method} with a body", method=method, body=b"x" * 70_000) for method in ("POST", "PUT", "PATCH")),
    Case(title="chunked body", method="POST", body=b"hello" * 100, chunked=True),
    Case(title="Expect", method="POST", headers=(*KEY, ("Expect", "100-continue")), body=b"hello"),
    Case(title="OPTIONS with a key", method="OPTIONS"),
    Case(
        title="query kept as it is",
        target="/v1/orders?a=%20b&c=%26+d&e=%E2%82%AC&x=1&x=2&next=https://x.example/?y=%3D&empty=",
        expect=Passed(target="/v1/orders?a=%20b&c=%26+d&e=%E2%82%AC&x=1&x=2&next=https://x.example/?y=%3D&empty="),
    ),
    Case(title="encoded path", target="/v1/a%20b%C3%A9", expect=Passed(target="/v1/a%20b%C3%A9")),
    # Denied
    Case(title="no credentials", headers=(), expect=MISSING),
    Case(title="no credentials, HEAD", method="HEAD", headers=(), expect=MISSING),
    Case(title="no credentials, POST with a body", method="POST", headers=(), body=b"x" * 70_000, expect=MISSING),
    Case(title="key without secret", headers=KEY[:1], expect=MISSING),
    Case(title="wrong secret", headers=(KEY[0], ("x-secret-token", "not-the-secret")), expect=INVALID),
    Case(title="unknown key", headers=(("x-api-key", "nobody"), KEY[1]), expect=INVALID),
    Case(title="doubled key", headers=(*KEY, KEY[0]), expect=INVALID),
    Case(title="two different keys", headers=(*KEY, ("X-API-Key", "key-v1")), expect=INVALID),
    Case(title="doubled secret", headers=(*KEY, KEY[1]), expect=INVALID),
    Case(
        title="Bearer behind another scheme",
        headers=(*KEY, ("Authorization", "Digest x=y"), BEARER[0]),
        expect=INVALID,
        but={"nginx": Refused(status=400)},
    ),
    Case(title="two credentials", headers=V1_KEY + BASIC, expect=INVALID),
    Case(title="key for another host", headers=(("x-api-key", "key-other"), KEY[1]), expect=DOMAIN),
    Case(
        title="credentials in the query only",
        target="/v1/orders?api_key=key-one&x-api-key=key-one",
        headers=(),
        expect=MISSING,
    ),
    Case(
        title="missing scope",
        policy='scopes = ["orders:write"]',
        expect=Denied(status=403, code="insufficient_scope"),
    ),
    # Names that some servers read as the real ones
    Case(title="underscores for credentials", headers=tuple((n.replace("-", "_"), v) for n, v in KEY), expect=MISSING),
    Case(title="dots for credentials", headers=tuple((n.replace("-", "."), v) for n, v in KEY), expect=MISSING),
    Case(
        title="another key beside, with underscores", headers=(*KEY, ("X_Api_Key", "key-v1"), ("x_secret_token", "x"))
    ),
    Case(
        title="another context with underscores",
        headers=(
            *KEY,
            ("X_Forwarded_Host", "evil.example"),
            ("X_Forwarded_Uri", "/public"),
            ("X_Forwarded_Method", "OPTIONS"),
            ("X_Forwarded_For", "203.0.113.9"),
            ("X_Forwarded_Proto", "https"),
        ),
    ),
    # A context that the client made up
    Case(
        title="forged context",
        headers=(
            *KEY,
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Uri", "/public"),
            ("X-Forwarded-Method", "OPTIONS"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Prefix", "/public"),
            ("X-Original-Url", "/public"),
            ("X-Rewrite-Url", "/public"),
            ("X-Real-Ip", "203.0.113.9"),
            ("Forwarded", "for=203.0.113.9;host=evil.example;proto=https"),
        ),
    ),
    Case(
        title="forged context without credentials",
        method="GET",
        headers=(*PREFLIGHT, ("X-Forwarded-Method", "OPTIONS")),
        policy='preflight = "pass"',
        expect=MISSING,
    ),
    # Forged identity, also where the answer has none
    Case(title="forged identity", headers=KEY + FORGED),
    Case(title="forged identity without credentials", headers=FORGED, expect=MISSING),
    Case(
        title="forged identity in a preflight",
        method="OPTIONS",
        headers=PREFLIGHT + FORGED,
        policy='preflight = "pass"',
    ),
    Case(title="preflight that must have a key", method="OPTIONS", headers=PREFLIGHT, expect=MISSING),
    Case(title="forged identity in shadow mode", headers=FORGED, policy='mode = "shadow"'),
    # Headers that Connection names are not dropped (or nothing passes)
    Case(
        title="Connection names the context",
        headers=(
            *KEY,
            ("Connection", "close, X-Forwarded-Host, X-Forwarded-Uri, X-Forwarded-For, X-Forwarded-Method"),
        ),
        but={"envoy": Refused(status=400)},
    ),
    Case(
        title="Connection names the key",
        headers=(*KEY, ("Connection", "close, X-Api-Key, X-Secret-Token")),
        but=dict.fromkeys(DROPPING, MISSING),
    ),
    Case(
        title="Connection names the identity",
        headers=(*KEY, ("Connection", "close, X-Gatekey-Organization, X-Gatekey-Subject")),
    ),
    # Paths of a key that is bound to http://api.example.com/v1
    Case(title="inside the prefix", headers=V1_KEY),
    Case(title="outside the prefix", headers=V1_KEY, target="/admin", expect=DOMAIN),
    Case(title="beside the prefix", headers=V1_KEY, target="/v10", expect=DOMAIN),
    Case(title="dot segments", headers=V1_KEY, target="/v1/../admin", expect=DOMAIN),
    Case(title="encoded dot segments", headers=V1_KEY, target="/v1/%2e%2e/admin", expect=DOMAIN),
    Case(title="half-encoded dot segments", headers=V1_KEY, target="/v1/.%2E/admin", expect=DOMAIN),
    Case(title="dot segments with a parameter", headers=V1_KEY, target="/v1/..;x/admin", expect=DOMAIN),
    Case(title="encoded slash", headers=V1_KEY, target="/v1/..%2fadmin", expect=DOMAIN),
    Case(title="twice encoded", headers=V1_KEY, target="/v1/%252e%252e/admin", expect=DOMAIN),
    Case(title="backslash", headers=V1_KEY, target="/v1/..%5cadmin", expect=DOMAIN),
    Case(
        title="dot segments that stay inside",
        headers=V1_KEY,
        target="/v1/x/../orders",
        expect=DOMAIN,
        but=dict.fromkeys(NORMALIZING, OK),
    ),
    Case(
        title="double slash inside",
        headers=V1_KEY,
        target="/v1//orders",
        expect=DOMAIN,
        but=dict.fromkeys(NORMALIZING, OK),
    ),
    Case(
        title="dot segments into the prefix",
        headers=V1_KEY,
        target="/admin/../v1/orders",
        expect=DOMAIN,
        but=dict.fromkeys(NORMALIZING, OK),
    ),
    # Hosts
    Case(title="host in capitals", host=HOST.upper()),
    Case(title="default port", host=f"{HOST}:80"),
    Case(title="another port", host=f"{HOST}:8443", expect=DOMAIN),
    Case(
        title="another host",
        host="evil.example",
        expect=Refused(status=421),
        but=OTHER_HOST,
    ),
    Case(
        title="longer host",
        host=f"{HOST}.evil.example",
        expect=Refused(status=421),
        but=OTHER_HOST,
    ),
    Case(title="no host", host=None, expect=Refused(status=400), but={"haproxy": Refused(status=421)}),
    Case(
        title="two hosts",
        headers=(*KEY, ("Host", "evil.example")),
        expect=Refused(status=400),
        but={"envoy": Refused(status=404)},
    ),
    Case(title="absolute form", target=f"http://{HOST}/v1/orders"),
    Case(
        title="absolute form of another host",
        target="http://evil.example/v1/orders",
        expect=Refused(status=421),
        but={**OTHER_HOST, "haproxy": Refused(status=400)},
    ),
    Case(
        title="absolute form with another Host header",
        target=f"http://{HOST}/v1/orders",
        host="evil.example",
        but={"haproxy": Refused(status=400), "nginx": CONTEXT},
    ),
    # Browsers and others
    Case(title="page", headers=PAGE, expect=Redirected()),
    Case(
        title="form",
        method="POST",
        headers=(*PAGE, ("content-type", "application/x-www-form-urlencoded")),
        body=b"a=b",
        expect=Redirected(status=303),
    ),
    Case(
        title="navigation",
        headers=(*PAGE, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")),
        expect=Redirected(),
    ),
    Case(title="frame", headers=(*PAGE, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")), expect=MISSING),
    *(
        Case(title=f"{name}: {value}", headers=(*PAGE, (name, value)), expect=MISSING)
        for name, value in (
            ("sec-fetch-mode", "cors"),
            ("sec-purpose", "prefetch"),
            ("purpose", "prefetch"),
            ("x-requested-with", "XMLHttpRequest"),
            ("hx-request", "true"),
            ("content-type", "application/json"),
        )
    ),
    Case(title="page with a wrong key", headers=(*PAGE, KEY[0]), expect=MISSING),
    Case(title="policy for browsers", headers=(), policy='client = "browser"', expect=Redirected()),
)
