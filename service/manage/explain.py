"""Why a request is or would be denied: every step of the decision, in the contract's order (contract 2).

All steps are judged, also those behind the first that does not pass: whoever repairs a key wants to know the rest too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends.errors import StoreCorrupt
from service.auth.domains import parse_target_url
from service.auth.loaded import LoadedKey
from service.auth.peppers import SecretMatch, UnknownPepper
from service.auth.reasons import Reason
from service.auth.rules import missing_scopes
from service.auth.tokens import api_key_problem, secret_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backends.contract import KeyStore
    from backends.records import FoundKey, KeyRecord
    from service.auth.peppers import Peppers
    from service.auth.secret import Secret

__all__ = ["Explanation", "Question", "Step", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request as an operator describes it. ``secret`` ``None``: the secret's step is not checked."""

    api_key: str
    domain: str
    """A host (then by https) or an ``http(s)://`` URL."""
    secret: Secret | None = None
    own_path: bool = False
    """Whether it addresses Gatekey's own paths."""
    organization_id: str = ""
    """What the policy demands; ``""`` for any."""
    only_organization: str = ""
    """What the installation demands (``GATEKEY_ORGANIZATION_ID``); ``""`` for any."""
    required_scopes: tuple[str, ...] = ()
    """What the policy demands."""
    client_ip: str = ""
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One question of the decision; ``passed`` is ``None`` where it was not asked."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All steps, and the reason that the decision gives: that of the first step that did not pass."""

    steps: tuple[Step, ...]
    reason: Reason
    record: KeyRecord | None


async def explain(
    store: KeyStore,
    question: Question,
    *,
    peppers: Peppers,
    wall: float,
    knows: Callable[[KeyRecord], bool] = lambda _: True,
) -> Explanation:
    """Read the key and judge it. ``knows`` says whether a key exists for whoever asks.

    Raises ``StoreUnavailable`` and ``StoreClosed``; a corrupt record is a step that did not pass.
    """
    presented, form = (_credentials(question), None), _form(question)
    if form.passed is False:
        return _told([presented, (form, Reason.MALFORMED_KEY)], None)
    try:
        found = await store.find(question.api_key)
        if found is None or not knows(found.key):
            unknown = Step("key", passed=False, detail="there is no key with this api_key")
            return _told([presented, (form, None), (unknown, Reason.UNKNOWN_KEY)], None)
        loaded = LoadedKey(found)
        match = _match(question, loaded, peppers, wall)
    except StoreCorrupt as error:
        corrupt = Step("key", passed=False, detail=f"it cannot be used: {error}")
        return _told([presented, (form, None), (corrupt, Reason.STORE_CORRUPT)], None)
    known = Step("key", passed=True, detail=f"key_id {found.key.key_id}, organization {found.key.organization_id}")
    judged = _judged(question, found, loaded, match, wall)
    return _told([presented, (form, None), (known, None), *judged], found.key)


_Judged = tuple[Step, Reason | None]


def _told(judged: Iterable[_Judged], record: KeyRecord | None) -> Explanation:
    judged = list(judged)
    first = next((reason for step, reason in judged if step.passed is False and reason is not None), Reason.OK)
    return Explanation(tuple(step for step, _ in judged), first, record)


def _credentials(question: Question) -> Step:
    alone = question.secret is None
    detail = "an api_key is presented; the secret is left out" if alone else "an api_key and a secret are presented"
    return Step("credentials", passed=True, detail=detail)


def _form(question: Question) -> Step:
    problem = api_key_problem(question.api_key)
    if problem:
        return Step("form", passed=False, detail=f"api_key: {problem}")
    problem = None if question.secret is None else secret_problem(question.secret.reveal())
    if problem:
        return Step("form", passed=False, detail=f"secret_token: {problem}")
    return Step("form", passed=True, detail="well formed")


def _match(question: Question, loaded: LoadedKey, peppers: Peppers, wall: float) -> SecretMatch | None:
    """Which secret was presented, ``None`` where none was given; a missing pepper makes a key unusable unless it is revoked."""
    revoked = loaded.terms.is_revoked
    if question.secret is None:
        if loaded.pepper_version not in peppers.versions and not revoked:
            raise StoreCorrupt("its secret needs a pepper that is not configured")
        return None
    try:
        return peppers.match(question.secret.reveal(), loaded, loaded.previous_secret(wall))
    except UnknownPepper:
        if revoked:
            return SecretMatch.NONE
        raise StoreCorrupt("its secret needs a pepper that is not configured") from None


def _judged(
    question: Question, found: FoundKey, loaded: LoadedKey, match: SecretMatch | None, wall: float
) -> list[_Judged]:
    record, rules = found.key, loaded.terms.rules
    target = parse_target_url(question.domain)
    missing = missing_scopes(record.scopes, question.required_scopes)
    return [
        (_organization(question, record), Reason.WRONG_ORGANIZATION),
        (_secret(match), Reason.BAD_SECRET),
        (
            Step("domain", rules.domains.match(target, own_path=question.own_path), _domains(target is None, record)),
            Reason.WRONG_DOMAIN,
        ),
        (Step("active", loaded.terms.is_active, _active(found)), Reason.INACTIVE),
        (Step("expiry", not loaded.has_expired(wall), _expiry(record)), Reason.EXPIRED),
        (
            Step("origin", rules.origin_allowed(question.origin), _bound("origins", record.origins)),
            Reason.ORIGIN_NOT_ALLOWED,
        ),
        (
            Step("network", rules.network_allowed(question.client_ip), _bound("networks", record.networks)),
            Reason.NETWORK_NOT_ALLOWED,
        ),
        (
            Step("scopes", not missing, f"missing: {' '.join(missing)}" if missing else "all that are demanded"),
            Reason.INSUFFICIENT_SCOPE,
        ),
        (Step("rate limit", None, "not checked"), None),
    ]


def _organization(question: Question, record: KeyRecord) -> Step:
    demanded = sorted({question.organization_id, question.only_organization} - {""})
    passed = all(name == record.organization_id for name in demanded)
    return Step("organization", passed, f"demanded: {' and '.join(demanded)}" if demanded else "any will do")


def _secret(match: SecretMatch | None) -> Step:
    if match is None:
        return Step("secret", None, "not checked")
    details = {
        SecretMatch.NONE: "it is neither the secret in force nor one from before a rotation that still counts",
        SecretMatch.CURRENT: "the secret in force",
        SecretMatch.PREVIOUS: "the secret from before the last rotation, which still counts",
    }
    return Step("secret", match is not SecretMatch.NONE, details[match])


def _domains(no_target: bool, record: KeyRecord) -> str:  # noqa: FBT001 - private
    if no_target:
        return "this is no host and no URL"
    return f"the key's domains: {' '.join(record.domains) or 'none'}"


def _active(found: FoundKey) -> str:
    organization = "active" if found.organization_is_active else "disabled"
    return f"the key is {found.key.state.value}, its organization is {organization}"


def _expiry(record: KeyRecord) -> str:
    return "it does not expire" if record.expires_at is None else f"expires at {record.expires_at.isoformat()}"


def _bound(what: str, texts: tuple[str, ...]) -> str:
    return f"only these {what}: {' '.join(texts)}" if texts else "not restricted"
