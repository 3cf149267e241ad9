"""The pure rules of a decision, in the contract's order: whatever is wrong with a request, the first reason is told."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from backends.records import FoundKey, KeyState
from service.auth.credentials import Credentials
from service.auth.decision import AccessRequest, Decision, Door
from service.auth.domains import parse_target
from service.auth.evaluate import evaluate
from service.auth.loaded import LoadedKey
from service.auth.reasons import REASONS, Outcome, Reason
from service.auth.secret import Secret
from tests.support.clock import START
from tests.support.keys import DOMAIN, SECRET, in_seconds, make_key

NOW = START.timestamp()

DEFECTS: dict[Reason, dict[str, dict[str, Any]]] = {
    Reason.WRONG_ORGANIZATION: {"request": {"organization_id": "other"}},
    Reason.BAD_SECRET: {"call": {"secret_matches": False}},
    Reason.WRONG_DOMAIN: {"key": {"domains": ("elsewhere.example.com",)}},
    Reason.INACTIVE: {"key": {"state": KeyState.DISABLED}},
    Reason.EXPIRED: {"key": {"expires_at": START}},
    Reason.ORIGIN_NOT_ALLOWED: {"key": {"origins": ("https://app.example.com",)}},
    Reason.NETWORK_NOT_ALLOWED: {"key": {"networks": ("10.0.0.0/8",)}},
    Reason.INSUFFICIENT_SCOPE: {"request": {"required_scopes": ("orders:read",)}},
}
"""In the contract's order; each defect alone gives its reason."""


def decide(*defects: dict[str, dict[str, Any]], active_organization: bool = True, **call: Any) -> Reason:
    key: dict[str, Any] = {}
    request: dict[str, Any] = {}
    for defect in defects:
        key |= defect.get("key", {})
        request |= defect.get("request", {})
        call |= defect.get("call", {})
    loaded = LoadedKey(FoundKey(make_key("one", **key), active_organization))
    asked = AccessRequest(
        credentials=Credentials("one", Secret(SECRET)),
        target=parse_target(DOMAIN, "https", "/"),
        door=Door.FORWARD,
        started=0.0,
        client_ip="192.0.2.7",
        **request,
    )
    return evaluate(asked, loaded, **{"secret_matches": True, "only_organization": "", "wall": NOW, **call})


def test_nothing_wrong_is_ok() -> None:
    """The one way to pass."""
    assert decide() is Reason.OK


@pytest.mark.parametrize(
    "reasons",
    [combination for size in (1, 2, 3) for combination in itertools.combinations(DEFECTS, size)] + [tuple(DEFECTS)],
    ids="+".join,
)
def test_the_first_defect_in_the_contracts_order_is_told(reasons: tuple[Reason, ...]) -> None:
    """Alone, in pairs, in threes and all at once."""
    assert decide(*(DEFECTS[reason] for reason in reasons)) is reasons[0]


@pytest.mark.parametrize(
    ("active", "state", "reason"),
    [
        (True, KeyState.ACTIVE, Reason.OK),
        (True, KeyState.DISABLED, Reason.INACTIVE),
        (True, KeyState.REVOKED, Reason.INACTIVE),
        (False, KeyState.ACTIVE, Reason.INACTIVE),
        (False, KeyState.REVOKED, Reason.INACTIVE),
    ],
)
def test_both_the_key_and_its_organization_must_be_active(
    active: bool,  # noqa: FBT001 - a column
    state: KeyState,
    reason: Reason,
) -> None:
    """Either switches the key off."""
    assert decide({"key": {"state": state}}, active_organization=active) is reason


@pytest.mark.parametrize(
    ("expires_in", "reason"),
    [(None, Reason.OK), (0.000001, Reason.OK), (0, Reason.EXPIRED), (-0.000001, Reason.EXPIRED)],
)
def test_a_key_expires_at_its_very_time(expires_in: float | None, reason: Reason) -> None:
    """To the microsecond."""
    expires_at = None if expires_in is None else in_seconds(expires_in)
    assert decide({"key": {"expires_at": expires_at}}) is reason


@pytest.mark.parametrize(
    ("policy", "installation", "reason"),
    [
        ("", "", Reason.OK),
        ("acme", "", Reason.OK),
        ("", "acme", Reason.OK),
        ("acme", "acme", Reason.OK),
        ("other", "", Reason.WRONG_ORGANIZATION),
        ("", "other", Reason.WRONG_ORGANIZATION),
        ("acme", "other", Reason.WRONG_ORGANIZATION),
        ("other", "acme", Reason.WRONG_ORGANIZATION),
    ],
)
def test_policy_and_installation_may_each_ask_for_an_organization(
    policy: str, installation: str, reason: Reason
) -> None:
    """Both must be met."""
    assert decide({"request": {"organization_id": policy}}, only_organization=installation) is reason


@pytest.mark.parametrize("reason", list(Reason))
def test_a_decision_tells_what_its_reason_means(reason: Reason) -> None:
    """Outcome and status come from the one table."""
    decision = Decision(reason)
    assert (decision.outcome, decision.status) == (REASONS[reason].outcome, REASONS[reason].status)
    assert decision.allowed is (REASONS[reason].outcome is Outcome.ALLOW)
    assert decision.allowed is (decision.status == 200)
