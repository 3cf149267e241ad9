"""Every reason a decision can have, and what the outside sees of it; the one table behind answers, metrics, logs and docs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["FLOOD_REASONS", "REASONS", "Outcome", "Reason", "ReasonInfo"]


class Outcome(StrEnum):
    """The label ``outcome``. A denial is a good answer; only ``error`` is bad."""

    ALLOW = "allow"
    DENY = "deny"
    ERROR = "error"


class Reason(StrEnum):
    """Why; a closed set, used as a metric label."""

    OK = "ok"
    PREFLIGHT = "preflight"
    SHADOW = "shadow"
    MISSING_CREDENTIALS = "missing_credentials"
    MALFORMED_KEY = "malformed_key"
    UNKNOWN_KEY = "unknown_key"
    BAD_SECRET = "bad_secret"  # noqa: S105 - a reason, no secret
    WRONG_ORGANIZATION = "wrong_organization"
    WRONG_DOMAIN = "wrong_domain"
    INACTIVE = "inactive"
    EXPIRED = "expired"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    NETWORK_NOT_ALLOWED = "network_not_allowed"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    CSRF = "csrf"
    UNTRUSTED_PEER = "untrusted_peer"
    BAD_CONTEXT = "bad_context"
    BAD_REQUEST = "bad_request"
    UNKNOWN_POLICY = "unknown_policy"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    THROTTLED = "throttled"
    STORE_UNAVAILABLE = "store_unavailable"
    STORE_CORRUPT = "store_corrupt"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class ReasonInfo:
    """``status`` is the HTTP status, ``code`` the public code (``""`` on allow), ``title`` and ``detail`` the caller's text."""

    reason: Reason
    outcome: Outcome
    status: int
    code: str
    title: str
    detail: str


_INVALID = ("invalid_credentials", "Invalid credentials", "The API key or its secret is not valid.")
_BUSY = (
    "temporarily_unavailable",
    "Temporarily unavailable",
    "The credentials cannot be checked at the moment. Please try again shortly.",
)


def _rows() -> list[ReasonInfo]:
    R, allow, deny, error = Reason, Outcome.ALLOW, Outcome.DENY, Outcome.ERROR  # noqa: N806 - a table reads better with short names
    return [
        ReasonInfo(R.OK, allow, 200, "", "Allowed", ""),
        ReasonInfo(R.PREFLIGHT, allow, 200, "", "Allowed", ""),
        ReasonInfo(R.SHADOW, allow, 200, "", "Allowed", ""),
        ReasonInfo(
            R.MISSING_CREDENTIALS,
            deny,
            401,
            "missing_credentials",
            "Credentials required",
            "Send an API key and its secret, for instance in the headers x-api-key and x-secret-token.",
        ),
        ReasonInfo(R.MALFORMED_KEY, deny, 401, *_INVALID),
        ReasonInfo(R.UNKNOWN_KEY, deny, 401, *_INVALID),
        ReasonInfo(R.BAD_SECRET, deny, 401, *_INVALID),
        ReasonInfo(R.WRONG_ORGANIZATION, deny, 401, *_INVALID),
        ReasonInfo(
            R.WRONG_DOMAIN,
            deny,
            401,
            "domain_not_allowed",
            "Domain not allowed",
            "The API key is not valid for this domain.",
        ),
        ReasonInfo(
            R.INACTIVE, deny, 401, "key_inactive", "Key inactive", "The API key or its organization is not active."
        ),
        ReasonInfo(R.EXPIRED, deny, 401, "key_expired", "Key expired", "The API key has expired."),
        ReasonInfo(
            R.ORIGIN_NOT_ALLOWED,
            deny,
            403,
            "origin_not_allowed",
            "Origin not allowed",
            "The API key may not be used from this origin.",
        ),
        ReasonInfo(
            R.NETWORK_NOT_ALLOWED,
            deny,
            403,
            "network_not_allowed",
            "Network not allowed",
            "The API key may not be used from this network address.",
        ),
        ReasonInfo(
            R.INSUFFICIENT_SCOPE,
            deny,
            403,
            "insufficient_scope",
            "Insufficient scope",
            "The API key lacks a scope that this request needs.",
        ),
        ReasonInfo(
            R.CSRF,
            deny,
            403,
            "csrf",
            "Cross-site request refused",
            "A session counts for such a request only when it comes from the application's own origin.",
        ),
        ReasonInfo(
            R.UNTRUSTED_PEER,
            deny,
            403,
            "untrusted_peer",
            "Untrusted peer",
            "Only a proxy in GATEKEY_TRUSTED_PROXIES may ask here.",
        ),
        ReasonInfo(
            R.BAD_CONTEXT,
            deny,
            403,
            "bad_context",
            "Bad forwarded context",
            "One of X-Forwarded-Method, -Proto, -Host, -Uri and -For is missing, repeated or malformed.",
        ),
        ReasonInfo(R.BAD_REQUEST, deny, 400, "bad_request", "Bad request", "This address takes no request body."),
        ReasonInfo(
            R.UNKNOWN_POLICY, deny, 404, "unknown_policy", "Unknown policy", "No policy of this name is configured."
        ),
        ReasonInfo(
            R.RATE_LIMITED,
            deny,
            429,
            "rate_limited",
            "Too many requests",
            "The API key's rate limit is used up for now.",
        ),
        ReasonInfo(
            R.QUOTA_EXCEEDED, deny, 429, "quota_exceeded", "Quota exceeded", "The API key's quota is used up for now."
        ),
        ReasonInfo(
            R.THROTTLED,
            deny,
            429,
            "throttled",
            "Too many failed attempts",
            "Too many failed attempts came from this network; try again later.",
        ),
        ReasonInfo(R.STORE_UNAVAILABLE, error, 503, *_BUSY),
        ReasonInfo(R.STORE_CORRUPT, error, 503, *_BUSY),
        ReasonInfo(R.OVERLOADED, error, 503, *_BUSY),
        ReasonInfo(R.INTERNAL, error, 503, *_BUSY),
    ]


REASONS: dict[Reason, ReasonInfo] = {row.reason: row for row in _rows()}

FLOOD_REASONS = frozenset(
    {Reason.MISSING_CREDENTIALS, Reason.MALFORMED_KEY, Reason.UNKNOWN_KEY, Reason.BAD_SECRET, Reason.THROTTLED}
)
"""Refusals that one client network can cause without limit; beyond a rate they are summarized in the log (contract 7)."""
