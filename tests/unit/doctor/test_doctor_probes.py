"""Every probe judged on answers that are given: what must be good, what must be bad, and what cannot be told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from service.auth.secret import Secret
from service.doctor.messages import Ask, Reply, Silence, SilenceKind
from service.doctor.probe import Need
from service.doctor.probes import PROBES
from service.doctor.run import examine
from service.doctor.site import Key, Situation, parse_site
from service.doctor.verdicts import Result, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "doctor-probe-secret"
MARKER = "doctor-marker"
SITE = parse_site("https://api.example.com/orders")
ANONYMOUS = Situation(site=SITE)
KEYED = Situation(
    site=SITE, key=Key(api_key="doctor-probe-key", secret=Secret(SECRET)), echo_path="/echo", marker=MARKER
)

Answers = "Callable[[Ask], Seen]"

_COMMON = (("x-request-id", "r1"), ("cache-control", "no-store"))


def gatekey(status: int, code: str, *headers: tuple[str, str], **members: object) -> Reply:
    """An answer of Gatekey to an API client."""
    body = {
        "type": "about:blank",
        "title": "t",
        "status": status,
        "detail": "d",
        "code": code,
        "request_id": "r1",
        "message": "d",
        **members,
    }
    content = (("content-type", "application/problem+json"), *_COMMON, *headers)
    return Reply(status=status, headers=content, body=json.dumps(body).encode(), tls="TLSv1.3")


CHALLENGE = ("www-authenticate", 'Bearer realm="gatekey"')
MISSING = gatekey(401, "missing_credentials", CHALLENGE)
INVALID = gatekey(401, "invalid_credentials", ("www-authenticate", 'Bearer realm="gatekey", error="invalid_token"'))
BAD_CONTEXT = gatekey(403, "bad_context")
WRONG_DOMAIN = gatekey(401, "domain_not_allowed")
DOWN = gatekey(503, "temporarily_unavailable")
LOGIN = Reply(status=302, headers=(("location", "https://api.example.com/login?next=x"), *_COMMON), tls="TLSv1.3")
PAGE = Reply(status=200, headers=(("content-type", "text/html; charset=utf-8"), *_COMMON))
OPEN = Reply(status=200, body=b"the application", tls="TLSv1.3")
NOT_FOUND = Reply(status=404)
MISDIRECTED = Reply(status=421)
BROKEN = Reply(status=500)
SILENT = Silence(SilenceKind.TIMEOUT, "no answer within 5 s")
CLOSED = Silence(SilenceKind.CLOSED, "closed the connection")


def has(ask: Ask, name: str) -> list[str]:
    """The values of a header, its name exactly as written."""
    return [value for found, value in ask.headers if found == name]


def is_navigation(ask: Ask) -> bool:
    return has(ask, "Sec-Fetch-Mode") == ["navigate"]


def sound(ask: Ask) -> Seen:
    """A proxy that does everything right, with Gatekey behind it."""
    if ask.hosts not in (None, ("api.example.com",)) or "doctor.invalid" in ask.target.partition("/orders")[0]:
        return MISDIRECTED
    if ask.target.startswith("/login?"):
        return PAGE
    if is_navigation(ask):
        return LOGIN
    keys, secrets = has(ask, "X-Api-Key"), has(ask, "X-Secret-Token")
    if not keys and not secrets and not has(ask, "Authorization"):
        return MISSING
    if keys == ["doctor-probe-key"] and secrets == [SECRET]:
        return Reply(status=200, body=b"X-Gatekey-Organization: acme", tls="TLSv1.3")
    return INVALID


def results(situation: Situation, answers: Callable[[Ask], Seen]) -> dict[str, Result]:
    return {finding.name: finding.result for finding in examine(situation, answers)}


def named(found: dict[str, Result], result: Result) -> set[str]:
    return {name for name, value in found.items() if value is result}


NEED_NOTHING = {probe.name for probe in PROBES if probe.needs is Need.NOTHING}
EVERYTHING = {probe.name for probe in PROBES}


def test_names_are_unique_and_every_probe_says_what_to_do() -> None:
    """A name is what operators, tests and the documentation go by."""
    assert len(EVERYTHING) == len(PROBES)
    assert all(probe.title and probe.hint and "\n" not in probe.title + probe.hint for probe in PROBES)


def test_a_sound_proxy_passes_everything() -> None:
    """With a key and an echo path nothing is left out."""
    assert named(results(KEYED, sound), Result.PASS) == EVERYTHING


def test_without_a_key_only_what_needs_none_is_probed() -> None:
    """The rest is skipped, with the reason."""
    findings = list(examine(ANONYMOUS, sound))
    assert {finding.name for finding in findings if finding.result is Result.PASS} == NEED_NOTHING
    skipped = [finding for finding in findings if finding.result is Result.SKIP]
    assert all("--api-key" in finding.seen for finding in skipped)


def test_without_an_echo_path_what_needs_it_is_skipped() -> None:
    """The key's own probes run."""
    found = results(Situation(site=SITE, key=KEYED.key), sound)
    assert named(found, Result.SKIP) == {probe.name for probe in PROBES if probe.needs is Need.ECHO}


def test_only_a_failure_has_a_hint() -> None:
    """There is nothing to do about the others."""
    for answers in (sound, lambda _: OPEN):
        for finding in examine(KEYED, answers):
            assert bool(finding.hint) == (finding.result is Result.FAIL)


def test_no_finding_shows_the_secret() -> None:
    """Not even where the application echoes it."""
    findings = list(examine(KEYED, lambda ask: Reply(status=200, body=repr(ask.headers).encode())))
    assert SECRET not in repr(findings)
    assert "credentials-stay-out" in {finding.name for finding in findings if finding.result is Result.FAIL}


# Where nothing distinguishes answers, what is neither good nor bad there.
PASSING_WHEN_OPEN = {
    "tls",
    "preflight",
    "valid-key",
    "alias-beside-key",
    "forged-context-with-key",
    "hop-by-hop-key",
    "forged-identity-with-key",
    "credentials-stay-out",
}
PASSING_WHEN_CLOSED = {"tls", "refusal-for-api", "login-page", "identity-stays-in"}


@pytest.mark.parametrize(
    ("answer", "not_failing"),
    [
        pytest.param(OPEN, PASSING_WHEN_OPEN | {"login-page", "identity-stays-in"}, id="the application answers all"),
        pytest.param(
            NOT_FOUND,
            # A host that is not served, a door or /metrics may well be 404.
            {"preflight", "unserved-host", "two-hosts", "absolute-form", "login-page", "identity-stays-in"}
            | {"forward-door", "nginx-door", "nginx-denied-door", "envoy-door", "metrics"}
            | {"alias-beside-key", "forged-context-with-key", "hop-by-hop-key", "other-host-with-key"},
            id="the application does not know the path",
        ),
        pytest.param(
            BROKEN, {"login-page", "identity-stays-in", "forward-door", "nginx-door", "envoy-door"}, id="a server error"
        ),
        pytest.param(SILENT, {"login-page", "identity-stays-in"}, id="no answer"),
    ],
)
def test_an_answer_that_is_no_refusal_fails(answer: Seen, not_failing: set[str]) -> None:
    """Whatever the probe, but for those that the answer says nothing about."""
    assert EVERYTHING - named(results(KEYED, lambda _: answer), Result.FAIL) - {"tls"} == not_failing - {"tls"}
