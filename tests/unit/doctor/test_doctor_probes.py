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


CANNOT_BE_TOLD = {"login-page", "identity-stays-in"}


@pytest.mark.parametrize(
    ("answer", "not_failing"),
    [
        pytest.param(
            OPEN,
            {"tls", "preflight", "valid-key", "alias-beside-key", "forged-context-with-key", "hop-by-hop-key"}
            | {"forged-identity-with-key", "credentials-stay-out", "body"},
            id="the application answers everything",
        ),
        pytest.param(
            NOT_FOUND,
            {"preflight", "unserved-host", "two-hosts", "absolute-form", "metrics"}
            | {"forward-door", "nginx-door", "nginx-denied-door", "envoy-door"}
            | {"alias-beside-key", "forged-context-with-key", "hop-by-hop-key", "other-host-with-key"},
            id="somebody does not know the path",
        ),
        pytest.param(BROKEN, set(), id="a server error"),
        pytest.param(SILENT, set(), id="no answer"),
    ],
)
def test_an_answer_that_is_no_refusal_fails(answer: Seen, not_failing: set[str]) -> None:
    """Whatever the probe, but for those about which such an answer says nothing, or good."""
    found = results(KEYED, lambda _: answer)
    assert EVERYTHING - named(found, Result.FAIL) == not_failing | CANNOT_BE_TOLD


def test_a_proxy_that_refuses_even_the_valid_key_fails_only_where_that_shows() -> None:
    """Refusing is safe, and yet no working installation."""
    assert named(results(KEYED, lambda ask: LOGIN if is_navigation(ask) else MISSING), Result.FAIL) == {
        "login-page",
        "unserved-host",
        "valid-key",
    }


def every(answer: Seen) -> Callable[[Ask], Seen]:
    return lambda _: answer


def when(condition: Callable[[Ask], object], answer: Seen) -> Callable[[Ask], Seen]:
    """A sound proxy but for this."""
    return lambda ask: answer if condition(ask) else sound(ask)


def with_header(name: str, value: str = "") -> Callable[[Ask], bool]:
    return lambda ask: any(value in found for found in has(ask, name))


def believed(name: str) -> Callable[[Ask], bool]:
    """Without a key the header is read as the client sent it, at least where it makes no sense."""

    def condition(ask: Ask) -> bool:
        sent = [value for value in has(ask, name) if value in ("(doctor)", "doctor")]
        return bool(sent) and not has(ask, "X-Api-Key")

    return condition


def at(prefix: str) -> Callable[[Ask], bool]:
    return lambda ask: ask.target.startswith(prefix)


def echo(text: str) -> Reply:
    return Reply(status=200, body=text.encode())


# A sound proxy with one mistake: the probes that fail, and no others.
MISTAKES: dict[str, tuple[Callable[[Ask], Seen], set[str]]] = {
    "none": (sound, set()),
    "old TLS": (
        lambda ask: Reply(status=401, tls="TLSv1.1") if ask == Ask(target="/orders") else sound(ask),
        {"tls", "no-credentials", "refusal-for-api"},
    ),
    "Gatekey is down": (
        lambda ask: DOWN if sound(ask) is not MISDIRECTED else MISDIRECTED,
        EVERYTHING
        - CANNOT_BE_TOLD
        - {"tls", "unserved-host", "two-hosts", "absolute-form", "other-host-with-key", "forged-context-with-key"},
    ),
    "a Basic challenge": (
        when(
            lambda ask: sound(ask) is MISSING,
            gatekey(401, "missing_credentials", CHALLENGE, ("www-authenticate", "Basic")),
        ),
        {"refusal-for-api"},
    ),
    "no challenge": (
        when(lambda ask: sound(ask) is MISSING, gatekey(401, "missing_credentials")),
        {"refusal-for-api"},
    ),
    "the refusal's body is lost": (
        when(lambda ask: sound(ask) is MISSING, Reply(status=401, headers=(CHALLENGE,), tls="TLSv1.3")),
        {"refusal-for-api"},
    ),
    "somebody else's 401": (
        when(lambda ask: sound(ask) is MISSING, Reply(status=401, tls="TLSv1.3")),
        {"no-credentials", "refusal-for-api"},
    ),
    "browsers get JSON": (when(is_navigation, MISSING), {"refusal-for-browser"}),
    "a relative redirect": (
        when(
            lambda ask: is_navigation(ask) and ask.target == "/orders",
            Reply(status=302, headers=(("location", "/login?next=x"), *_COMMON)),
        ),
        {"refusal-for-browser"},
    ),
    "a redirect to http": (
        when(is_navigation, Reply(status=302, headers=(("location", "http://api.example.com/login?next=x"), *_COMMON))),
        {"refusal-for-browser", "login-page"},
    ),
    "a redirect to another port": (
        when(is_navigation, Reply(status=302, headers=(("location", "https://api.example.com:1/login?next=x"),))),
        {"login-page"},
    ),
    "sign-in elsewhere": (
        when(is_navigation, Reply(status=302, headers=(("location", "https://login.example.com/?next=x"),))),
        set(),
    ),
    "the login page loops": (when(at("/login?"), LOGIN), {"login-page"}),
    "the login page is behind the door": (when(at("/login?"), MISSING), {"login-page"}),
    "the login page leads to an identity provider": (
        when(at("/login?"), Reply(status=302, headers=(("location", "https://id.example.com/?state=x"), *_COMMON))),
        set(),
    ),
    "an alias is a credential": (
        when(with_header("X_Api_Key", "made-up"), INVALID),
        {"underscored-key", "alias-beside-key"},
    ),
    "an alias lets in": (when(with_header("X_Secret_Token", SECRET), OPEN), {"underscored-valid-key"}),
    "aliases are refused": (when(lambda ask: any("_" in name for name, _ in ask.headers), Reply(status=400)), set()),
    "a query is a credential": (when(lambda ask: "api_key=" in ask.target, INVALID), {"key-in-query"}),
    "two keys are one": (when(lambda ask: len(has(ask, "X-Api-Key")) > 1, OPEN), {"doubled-key", "doubled-valid-key"}),
    "two secrets are one": (
        when(lambda ask: len(has(ask, "X-Secret-Token")) > 1 and SECRET in has(ask, "X-Secret-Token"), OPEN),
        {"doubled-valid-key"},
    ),
    "decisions are cached by the key": (
        when(with_header("X-Api-Key", "doctor-probe-key"), OPEN),
        {"wrong-secret", "doubled-valid-key", "underscored-valid-key", "other-host-with-key"},
    ),
    "any bearer": (when(with_header("Authorization", "Bearer"), OPEN), {"doubled-key", "malformed-credentials"}),
    "any cookie": (when(with_header("Cookie"), OPEN), {"garbage-cookie"}),
    "any health check": (when(with_header("User-Agent", "GoogleHC"), OPEN), {"health-check-agent"}),
    "identity is believed": (
        when(lambda ask: with_header("X_Gatekey_Key_Id")(ask) and not has(ask, "X-Api-Key"), OPEN),
        {"forged-identity"},
    ),
    "a forged method is believed": (when(believed("X-Forwarded-Method"), BAD_CONTEXT), {"forged-x-forwarded-method"}),
    "a forged path is believed": (when(believed("X-Forwarded-Uri"), BAD_CONTEXT), {"forged-x-forwarded-uri"}),
    "a forged address is believed": (when(believed("X-Forwarded-For"), BAD_CONTEXT), {"forged-x-forwarded-for"}),
    "a forged preflight": (
        when(lambda ask: has(ask, "X-Forwarded-Method") == ["OPTIONS"], OPEN),
        {"forged-x-forwarded-method"},
    ),
    "aliases of the context": (when(with_header("X_Forwarded_Host"), BAD_CONTEXT), {"underscored-context"}),
    "the context can be removed": (when(with_header("Connection", "X-Forwarded-Uri"), OPEN), {"missing-context"}),
    "the removed context is refused": (when(with_header("Connection", "X-Forwarded-Uri"), BAD_CONTEXT), set()),
    "another contract": (when(with_header("X-Original-URL", "/login"), OPEN), {"other-contracts"}),
    "a forged host counts": (
        when(with_header("X-Forwarded-Host", "doctor.invalid"), WRONG_DOMAIN),
        {"forged-context-with-key"},
    ),
    "dot segments": (when(at("/login/..;"), OPEN), {"dot-segments"}),
    "a redirect of the application": (
        when(at("//"), Reply(status=301, headers=(("location", "/orders"),))),
        {"dot-segments"},
    ),
    "a query decides": (when(lambda ask: ask.target.endswith("?/login"), OPEN), {"odd-targets"}),
    "a method is exempt": (when(lambda ask: ask.method == "PROPFIND", Reply(status=207)), {"odd-methods"}),
    "HEAD is exempt": (when(lambda ask: ask.method == "HEAD", OPEN), {"head"}),
    "a preflight passes": (
        when(lambda ask: has(ask, "Access-Control-Request-Method") and ask.method == "OPTIONS", Reply(status=204)),
        set(),
    ),
    "a preflight breaks": (
        when(lambda ask: has(ask, "Access-Control-Request-Method") and ask.method == "OPTIONS", BROKEN),
        {"preflight"},
    ),
    "a body at the door": (when(lambda ask: ask.method == "POST", gatekey(400, "bad_request")), {"body"}),
    "an upgrade passes": (when(with_header("Upgrade", "h2c"), Reply(status=101)), {"upgrade"}),
    "any host": (
        when(lambda ask: ask.hosts == ("doctor.invalid",) and not has(ask, "X-Api-Key"), MISSING),
        {"unserved-host"},
    ),
    "any host with a key": (
        when(lambda ask: ask.hosts == ("doctor.invalid",), OPEN),
        {"unserved-host", "other-host-with-key"},
    ),
    "another host is redirected": (
        when(
            lambda ask: ask.hosts == ("doctor.invalid",),
            Reply(status=301, headers=(("location", "https://api.example.com/"),)),
        ),
        set(),
    ),
    "another host is not answered": (when(lambda ask: ask.hosts == ("doctor.invalid",), CLOSED), set()),
    "two hosts": (
        when(lambda ask: ask.hosts is not None and len(ask.hosts) > 1, OPEN),
        {"two-hosts", "other-host-with-key"},
    ),
    "an absolute target": (when(at("https://doctor.invalid"), OPEN), {"absolute-form", "other-host-with-key"}),
    "a door allows": (when(at("/auth/forward/"), gatekey(200, "", ("x-gatekey-subject", ""))), {"forward-door"}),
    "a door knows no policy": (when(at("/auth/envoy/doctor-unknown"), gatekey(404, "unknown_policy")), {"envoy-door"}),
    "a door trusts nobody": (when(at("/auth/forward/"), gatekey(403, "untrusted_peer")), {"forward-door"}),
    "a door gives tickets": (
        when(lambda ask: ask.target == "/auth/nginx/default", Reply(status=401, headers=(("x-gatekey-denial", "t"),))),
        {"nginx-door"},
    ),
    "a door renders": (when(at("/auth/nginx/default/denied"), DOWN), {"nginx-denied-door"}),
    "doors are not found": (when(at("/auth/"), NOT_FOUND), set()),
    "metrics": (when(at("/metrics"), Reply(status=200, body=b"# TYPE gatekey_decisions counter")), {"metrics"}),
    "metrics are not found": (when(at("/metrics"), NOT_FOUND), set()),
    "the application fails on a removed key": (
        when(with_header("Connection", "X-Secret-Token"), BROKEN),
        {"hop-by-hop-key", "credentials-stay-out"},
    ),
    "a forged subject": (
        when(with_header("X-Gatekey-Subject", MARKER), echo(f"X-Gatekey-Subject: {MARKER}")),
        {"forged-identity-with-key"},
    ),
    "a forged alias": (
        when(with_header("X.Gatekey.Subject", MARKER), echo(f"X.Gatekey.Subject: {MARKER}")),
        {"forged-identity-with-key"},
    ),
    "the secret goes on": (
        when(lambda ask: ask.target == "/echo", echo(f"X-Gatekey-Organization: a\nX-Secret-Token: {SECRET}")),
        {"credentials-stay-out"},
    ),
    "the handle goes on": (
        when(lambda ask: ask.target == "/echo", echo("X-Gatekey-Organization: a\nX-Api-Key: doctor-probe-key")),
        {"credentials-stay-out"},
    ),
    "identity can be removed": (
        when(with_header("Connection", "X-Gatekey-Organization"), echo("Accept: */*")),
        {"identity-stays-in"},
    ),
    "identity is not passed on": (when(lambda ask: ask.target == "/echo", echo("Accept: */*")), set()),
    "the echo is not there": (
        when(lambda ask: ask.target == "/echo", NOT_FOUND),
        {"forged-identity-with-key", "credentials-stay-out"},
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_the_probes_that_are_about_it(mistake: str) -> None:
    """And no others: a false alarm costs more trust than a missed one."""
    answers, expected = MISTAKES[mistake]
    assert named(results(KEYED, answers), Result.FAIL) == expected


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (BAD_CONTEXT, "X-Forwarded-Method"),
        (gatekey(403, "untrusted_peer"), "GATEKEY_TRUSTED_PROXIES"),
        (gatekey(404, "unknown_policy"), "gatekey check"),
        (gatekey(400, "bad_request"), "Content-Length"),
        (DOWN, "/readyz"),
        (OPEN, "behind Gatekey"),
    ],
)
def test_what_the_door_says_about_the_proxy_is_turned_into_advice(answer: Reply, advice: str) -> None:
    """The first probe tells the operator which setting is wrong."""
    finding = next(examine(ANONYMOUS, every(answer)))
    assert finding.name == "no-credentials"
    assert advice in finding.hint


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (MISSING, "x-secret-token"),
        (WRONG_DOMAIN, "this host"),
        (NOT_FOUND, "--url"),
        (gatekey(403, "insufficient_scope"), "scopes"),
    ],
)
def test_a_valid_key_that_does_not_pass_is_explained(answer: Reply, advice: str) -> None:
    """By the reason that Gatekey gave."""
    finding = next(finding for finding in examine(KEYED, every(answer)) if finding.name == "valid-key")
    assert advice in finding.hint


@pytest.mark.parametrize(
    ("client", "skipped"),
    [("auto", set()), ("api", {"refusal-for-browser", "login-page"}), ("browser", {"refusal-for-api"})],
)
def test_a_policy_for_one_kind_of_client_is_not_asked_as_the_other(client: str, skipped: set[str]) -> None:
    """The operator says which."""
    situation = Situation(site=SITE, key=KEYED.key, echo_path="/echo", client=client)
    assert named(results(situation, sound), Result.SKIP) == skipped


def test_nothing_that_could_change_something_is_sent_to_an_open_path() -> None:
    """PUT, PATCH and DELETE never are; POST only where the path is protected, with a body that means nothing."""
    sent: list[Ask] = []

    def answers(ask: Ask) -> Seen:
        sent.append(ask)
        return NOT_FOUND if ask.target.startswith("/auth/") else OPEN

    list(examine(KEYED, answers))
    harmless = ("GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "BREW", "get")
    changing = [ask for ask in sent if ask.method not in harmless]
    assert {ask.method for ask in changing} == {"POST"}
    assert all(ask.target.startswith("/auth/") for ask in changing)


def test_plain_http_is_not_judged_for_tls() -> None:
    """TLS may end in front of what is probed; the line says so."""
    found = results(Situation(site=parse_site("http://api.example.com/orders")), sound)
    assert found["tls"] is Result.SKIP
