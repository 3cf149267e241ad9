"""What the one table of cases (``tests.support.case_table``) is made of: keys, policies, credentials, a client's request.

A case is written once; ``tests.support.case_doors`` says how each door is asked. Nothing here is taken from the product:
reasons, statuses, codes and checksums are the contract's own.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

from tests.support import leaks
from tests.support.keys import DOMAIN, SECRET
from tests.support.servers import key_line

Lines = tuple[tuple[str, str | bytes], ...]

CONTRACT: dict[str, tuple[str, int, str]] = {
    "ok": ("allow", 200, ""),
    "preflight": ("allow", 200, ""),
    "shadow": ("allow", 200, ""),
    "missing_credentials": ("deny", 401, "missing_credentials"),
    "malformed_key": ("deny", 401, "invalid_credentials"),
    "unknown_key": ("deny", 401, "invalid_credentials"),
    "bad_secret": ("deny", 401, "invalid_credentials"),
    "wrong_organization": ("deny", 401, "invalid_credentials"),
    "wrong_domain": ("deny", 401, "domain_not_allowed"),
    "inactive": ("deny", 401, "key_inactive"),
    "expired": ("deny", 401, "key_expired"),
    "origin_not_allowed": ("deny", 403, "origin_not_allowed"),
    "network_not_allowed": ("deny", 403, "network_not_allowed"),
    "insufficient_scope": ("deny", 403, "insufficient_scope"),
    "csrf": ("deny", 403, "csrf"),
    "untrusted_peer": ("deny", 403, "untrusted_peer"),
    "bad_context": ("deny", 403, "bad_context"),
    "bad_request": ("deny", 400, "bad_request"),
    "unknown_policy": ("deny", 404, "unknown_policy"),
    "rate_limited": ("deny", 429, "rate_limited"),
    "quota_exceeded": ("deny", 429, "quota_exceeded"),
    "throttled": ("deny", 429, "throttled"),
    "store_unavailable": ("error", 503, "temporarily_unavailable"),
    "store_corrupt": ("error", 503, "temporarily_unavailable"),
    "overloaded": ("error", 503, "temporarily_unavailable"),
    "internal": ("error", 503, "temporarily_unavailable"),
}
"""Contract 2: outcome, status and public code of each reason."""

POLICIES: dict[str, dict[str, Any]] = {
    "acme": {"organization": "acme"},
    "globex": {"organization": "globex"},
    "read": {"scopes": ["orders:read"]},
    "both": {"scopes": ["orders:read", "orders:write"]},
    "own-scope": {"scopes": ["gatekey:read"]},
    "headers-only": {"credentials": ["headers"]},
    "basic-only": {"credentials": ["basic"]},
    "bearer-only": {"credentials": ["bearer"]},
    "no-headers": {"credentials": ["basic", "bearer"]},
    "preflight": {"preflight": "pass"},
    "cors": {"cors_origins": ["https://app.example.com"]},
    "trial": {"mode": "shadow"},
    "trial-read": {"mode": "shadow", "scopes": ["orders:read"], "organization": "acme"},
    "browser": {"client": "browser"},
    "api": {"client": "api"},
    "strict": {"organization": "acme", "scopes": ["orders:read"], "credentials": ["headers"], "client": "api"},
}


def policies_toml() -> str:
    """The policies as blocks of ``gatekey.toml``."""
    blocks = []
    for name, fields in POLICIES.items():
        blocks.append(f"[policy.{name}]")
        blocks += [f"{field} = {value!r}".replace("'", '"') for field, value in fields.items()]
    return "\n".join(blocks) + "\n"


def with_checksum(text: str) -> str:
    """Contract 1: the CRC-32 of all characters before it, in base62, padded to six."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    value, encoded = zlib.crc32(text.encode()), ""
    while value:
        value, digit = divmod(value, 62)
        encoded = digits[digit] + encoded
    return text + encoded.rjust(6, "0")


OWN_KEY = with_checksum("gk_live_" + "Ab3" * 7 + "Z")
OWN_SECRET = with_checksum("gks_" + "q9X" * 14 + "7")
WRONG_SECRET = "another-secret-of-the-tests"
VERIFIER, ACME_VERIFIER, VERIFIER_SECRET = "verifier", "acme-verifier", "verifier-secret-of-the-tests"
FUTURE, PAST = "2099-12-31T23:59:59Z", "2020-02-29T12:00:00Z"
APP_ORIGIN = "https://app.example.com"

KEYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "named": {"name": "Bücher", "scopes": ["orders:read"]},
    "scoped": {"scopes": ["orders:read", "orders:write"]},
    "reader": {"scopes": ["orders:read"]},
    "wild": {"scopes": ["orders:*"]},
    "wild-other": {"scopes": ["invoices:*"]},
    "operator": {"scopes": ["gatekey:read"]},
    "foreign": {"organization_id": "globex"},
    "foreign-reader": {"organization_id": "globex", "scopes": ["orders:read"]},
    "disabled": {"is_active": False},
    "revoked": {"state": "revoked"},
    "expired": {"expires_at": PAST},
    "lasting": {"expires_at": FUTURE},
    "origin-bound": {"origins": [APP_ORIGIN]},
    "network-bound": {"networks": ["192.0.2.0/24", "2001:db8::/32"]},
    "star": {"domains": ["*.example.com"]},
    "port-8443": {"domains": [f"{DOMAIN}:8443"]},
    "https-origin": {"domains": [f"https://{DOMAIN}"]},
    "prefix": {"domains": [f"https://{DOMAIN}/v1"]},
    "several": {"domains": ["one.example.net", "two.example.net:8080", "*.three.example.net"]},
    "idn": {"domains": ["bücher.example"]},
    "ipv4": {"domains": ["192.0.2.7"]},
    "ipv6": {"domains": ["[2001:db8::1]"]},
    "own-paths": {"domains": ["@gatekey"]},
    "dotted.key": {},
    "with:colon": {},
    "all-wrong": {
        "domains": ["elsewhere.example.com"],
        "is_active": False,
        "expires_at": PAST,
        "origins": [APP_ORIGIN],
        "networks": ["198.51.100.0/24"],
    },
    "right-domain-all-else-wrong": {
        "is_active": False,
        "expires_at": PAST,
        "origins": [APP_ORIGIN],
        "networks": ["198.51.100.0/24"],
    },
    "expired-and-bound": {"expires_at": PAST, "origins": [APP_ORIGIN], "networks": ["198.51.100.0/24"]},
    "bound-twice": {"origins": [APP_ORIGIN], "networks": ["198.51.100.0/24"]},
    "bound-reader": {"networks": ["198.51.100.0/24"], "scopes": ["orders:read"]},
}


def import_lines() -> list[bytes]:
    """The import file of all keys that cases use, and of the back ends that call ``/v1/keys/verify``."""
    leaks.register(WRONG_SECRET)
    verifier: dict[str, Any] = {"secret": VERIFIER_SECRET, "domains": ["@gatekey"], "scopes": ["gatekey:verify"]}
    return [
        *(key_line(api_key, **fields) for api_key, fields in KEYS.items()),
        key_line(OWN_KEY, secret=OWN_SECRET),
        key_line(VERIFIER, organization_id="gatekey", **verifier),
        key_line(ACME_VERIFIER, organization_id="acme", **verifier),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request of a client. ``credentials`` and ``extra`` are header lines; ``context`` replaces the five forwarded ones."""

    name: str
    reason: str
    credentials: Lines = ()
    policy: str = "default"
    scheme: str = "https"
    host: str = DOMAIN
    uri: str = "/orders?x=1"
    method: str = "GET"
    client_ip: str = "192.0.2.10"
    extra: Lines = ()
    context: Lines | None = None
    body_lines: Lines = ()
    shadowed: str = ""
    """In shadow mode, the reason that would have counted."""
    kind: str = "json"
    """How a refusal looks at the forward and Envoy doors: ``json``, ``redirect`` or ``page``."""

    @property
    def outcome(self) -> str:
        return CONTRACT[self.reason][0]

    @property
    def status(self) -> int:
        return CONTRACT[self.reason][1]

    @property
    def code(self) -> str:
        return CONTRACT[self.reason][2]

    @property
    def is_pair(self) -> bool:
        """Whether the credentials are the two headers, each once, and text: what a JSON body can say too."""
        names = [name for name, _ in self.credentials]
        return sorted(names) == ["x-api-key", "x-secret-token"]

    @property
    def context_lines(self) -> Lines:
        if self.context is not None:
            return self.context
        return five(method=self.method, proto=self.scheme, host=self.host, uri=self.uri, client=self.client_ip)


def five(
    *,
    method: str = "GET",
    proto: str = "https",
    host: str | bytes = DOMAIN,
    uri: str = "/orders",
    client: str = "192.0.2.10",
) -> Lines:
    """The forwarded context of a proxy."""
    return (
        ("X-Forwarded-Method", method),
        ("X-Forwarded-Proto", proto),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Uri", uri),
        ("X-Forwarded-For", client),
    )


def pair(api_key: str | bytes = "plain", secret: str | bytes = SECRET) -> Lines:
    """The two headers."""
    return (("x-api-key", api_key), ("x-secret-token", secret))


def basic(api_key: str = "plain", secret: str = SECRET, *, scheme: str = "Basic") -> Lines:
    """``Authorization: Basic``."""
    return (("authorization", f"{scheme} {base64.b64encode(f'{api_key}:{secret}'.encode()).decode()}"),)


def bearer(api_key: str = "plain", secret: str = SECRET, *, scheme: str = "Bearer") -> Lines:
    """``Authorization: Bearer``."""
    return (("authorization", f"{scheme} {api_key}.{secret}"),)
