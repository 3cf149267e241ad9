"""The table of reasons is the contract's, written down here once more."""

from __future__ import annotations

import pytest

from service.auth.reasons import FLOOD_REASONS, REASONS, Outcome, Reason

CONTRACT: dict[tuple[Outcome, int, str], set[str]] = {
    (Outcome.ALLOW, 200, ""): {"ok", "preflight", "shadow"},
    (Outcome.DENY, 401, "missing_credentials"): {"missing_credentials"},
    (Outcome.DENY, 401, "invalid_credentials"): {"malformed_key", "unknown_key", "bad_secret", "wrong_organization"},
    (Outcome.DENY, 401, "domain_not_allowed"): {"wrong_domain"},
    (Outcome.DENY, 401, "key_inactive"): {"inactive"},
    (Outcome.DENY, 401, "key_expired"): {"expired"},
    (Outcome.DENY, 403, "origin_not_allowed"): {"origin_not_allowed"},
    (Outcome.DENY, 403, "network_not_allowed"): {"network_not_allowed"},
    (Outcome.DENY, 403, "insufficient_scope"): {"insufficient_scope"},
    (Outcome.DENY, 403, "csrf"): {"csrf"},
    (Outcome.DENY, 403, "untrusted_peer"): {"untrusted_peer"},
    (Outcome.DENY, 403, "bad_context"): {"bad_context"},
    (Outcome.DENY, 400, "bad_request"): {"bad_request"},
    (Outcome.DENY, 404, "unknown_policy"): {"unknown_policy"},
    (Outcome.DENY, 429, "rate_limited"): {"rate_limited"},
    (Outcome.DENY, 429, "quota_exceeded"): {"quota_exceeded"},
    (Outcome.DENY, 429, "throttled"): {"throttled"},
    (Outcome.ERROR, 503, "temporarily_unavailable"): {
        "store_unavailable",
        "store_corrupt",
        "overloaded",
        "internal",
    },
}
BY_REASON = {Reason(name): expected for expected, names in CONTRACT.items() for name in names}


def test_every_reason_stands_in_the_contract() -> None:
    """And in the table, under its own name."""
    assert set(BY_REASON) == set(Reason) == set(REASONS)
    assert all(row.reason is reason for reason, row in REASONS.items())


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_means_what_the_contract_says(reason: Reason) -> None:
    """Outcome, status and public code."""
    row = REASONS[reason]
    assert (row.outcome, row.status, row.code) == BY_REASON[reason]


def test_what_is_not_told_apart_outside_reads_the_same() -> None:
    """Neither code nor title nor text says which check failed."""
    for names in CONTRACT.values():
        rows = [REASONS[Reason(name)] for name in names]
        assert len({(row.title, row.detail) for row in rows}) == 1


def test_every_refusal_has_a_text_for_people() -> None:
    """An allow needs none."""
    for row in REASONS.values():
        assert bool(row.detail) is (row.outcome is not Outcome.ALLOW)
        assert row.title


def test_only_refusals_that_anybody_can_cause_are_summarized() -> None:
    """Contract 7 names them."""
    assert {reason.value for reason in FLOOD_REASONS} == {
        "missing_credentials",
        "malformed_key",
        "unknown_key",
        "bad_secret",
        "throttled",
    }
