"""Anything at all, at the three doors: never an exception, never a status that a door has not, never a 200 without a key.

And the same request on both ways of serving: the same answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.auth.clock import SystemClock
from service.doors.raw import UNREADABLE
from tests.support import raw_http
from tests.support.app import PEPPER, SECRET_KEY
from tests.support.cases import KEYS, OWN_KEY, POLICIES, WRONG_SECRET, basic, bearer, five, import_lines, policies_toml
from tests.support.in_process import logged_gatekey
from tests.support.keys import DOMAIN, SECRET
from tests.support.serving import running_front
from tests.support.sides import FlaskSide, FrontSide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.runtime import Gatekey
    from tests.support.sides import Side

STATUSES = {
    "forward": {200, 302, 303, 400, 401, 403, 404},
    "envoy": {200, 302, 303, 400, 401, 403, 404},
    "nginx": {200, 401, 403},
    "denied": {400, 401, 503},
}
few_examples = settings(max_examples=150, deadline=None)

NAMES = (
    "x-forwarded-method",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-uri",
    "x-forwarded-for",
    "x-api-key",
    "x-secret-token",
    "authorization",
    "origin",
    "accept",
    "content-type",
    "content-length",
    "transfer-encoding",
    "access-control-request-method",
    "sec-fetch-mode",
    "sec-fetch-dest",
    "user-agent",
    "x-request-id",
    "traceparent",
    "x-gatekey-denial",
    "x-gatekey-key-id",
    "cookie",
)
LIKELY: dict[str, list[str]] = {
    "x-forwarded-method": ["GET", "POST", "OPTIONS", "BREW", "get"],
    "x-forwarded-proto": ["https", "http", "wss", "HTTPS", "ftp"],
    "x-forwarded-host": [DOMAIN, f"{DOMAIN}:443", "API.example.com.", "evil.example", "[::1]", "a, b", "h" * 300],
    "x-forwarded-uri": ["/", "/v1/x?y=1", "*", "/%2e%2e", "//", "/a,/b", "x"],
    "x-forwarded-for": ["192.0.2.10", "192.0.2.10, 127.0.0.1", "2001:db8::1", "unknown", ","],
    "x-api-key": [*KEYS, OWN_KEY, "nobody", "a,b", ""],
    "x-secret-token": [SECRET, WRONG_SECRET, "", "a b"],
    "authorization": [str(basic()[0][1]), str(bearer()[0][1]), "Basic !", "Bearer x", "Digest x"],
    "origin": ["https://app.example.com", "null"],
    "accept": ["text/html", "application/json", "*/*"],
    "content-type": ["application/x-www-form-urlencoded", "application/json"],
    "content-length": ["0", "2", "", "x"],
    "transfer-encoding": ["chunked"],
    "access-control-request-method": ["PUT"],
    "sec-fetch-mode": ["navigate", "cors"],
    "sec-fetch-dest": ["document"],
}


class _Raw:
    """A request in the form that a door reads, with lines that no server would let through among them."""

    def __init__(self, method: str, peer: str, headers: dict[str, list[str]]) -> None:
        self.method = method
        self.peer = peer
        self.scheme = "http"
        self._headers = headers

    @property
    def host(self) -> str:
        return self.header("host")

    def header(self, name: str) -> str:
        lines = self.headers(name)
        return "" if UNREADABLE in lines else ",".join(lines)

    def single(self, name: str) -> str:
        lines = self.headers(name)
        return lines[0] if len(lines) == 1 else ""

    def headers(self, name: str) -> list[str]:
        return [line if line.isascii() else UNREADABLE for line in self._headers.get(name, [])]


def _values(name: str) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(LIKELY.get(name, [""])), st.text(max_size=40))


any_headers = st.fixed_dictionaries(
    {}, optional={name: st.lists(_values(name), min_size=1, max_size=2) for name in NAMES}
)
a_whole_context = st.fixed_dictionaries({name.lower(): st.just([str(value)]) for name, value in five()})
a_whole_pair = st.sampled_from(list(KEYS)).map(lambda key: {"x-api-key": [key], "x-secret-token": [SECRET]})
mostly_right = st.tuples(any_headers, a_whole_context | st.just({}), a_whole_pair | st.just({})).map(
    lambda parts: {**parts[0], **parts[1], **parts[2]}
)
policies = st.sampled_from(["default", *POLICIES, "nope"]) | st.text(max_size=10).filter(lambda text: "/" not in text)
paths = st.one_of(
    st.builds("/auth/{}/{}".format, st.sampled_from(["forward", "nginx", "envoy"]), policies),
    st.builds("/auth/envoy/{}/{}".format, policies, st.text(max_size=20)),
    st.builds("/auth/nginx/{}/denied".format, policies),
)


@pytest.fixture(scope="module")
def service() -> Iterator[Gatekey]:
    with logged_gatekey(import_lines(), policies=policies_toml()) as logged:
        yield logged.gatekey


@few_examples
@given(
    path=paths,
    method=st.sampled_from(["GET", "POST", "BREW"]) | st.text(min_size=1, max_size=8),
    peer=st.sampled_from(["127.0.0.1", "127.0.0.1", "", "192.0.2.1"]) | st.text(max_size=8),
    headers=mostly_right,
)
def test_a_door_answers_anything_and_allows_only_a_verified_key(
    service: Gatekey, path: str, method: str, peer: str, headers: dict[str, list[str]]
) -> None:
    """Whatever stands in a request: one of the door's statuses, and 200 only for a key that is known and matches."""
    call = service.doors.find(path)
    if call is None:
        return
    answer = service.portal.run(service.doors.answer, call, _Raw(method, peer, headers))
    assert answer.status in STATUSES[call.kind]
    for name, value in answer.headers:
        assert (name + value).isascii()
        assert not re.search(r"[\x00-\x1f\x7f]", value)
    if answer.status == 200:
        identity = {name: value for name, value in answer.headers if name.startswith("x-gatekey-")}
        assert len(identity) == 5
        assert answer.body == b""
        policy = service.policies.find(call.policy)
        assert policy is not None
        assert identity["x-gatekey-key-id"] or policy.mode == "shadow" or policy.preflight == "pass"
    assert SECRET not in repr(answer.headers) + repr(answer.body)


@settings(max_examples=300, deadline=None)
@given(path=st.text(max_size=40) | st.text(max_size=30).map(lambda rest: f"/auth/{rest}"))
def test_finding_a_door_never_fails_and_finds_only_exact_paths(service: Gatekey, path: str) -> None:
    """A path is a door's or nothing; a door has one spelling, save for what Envoy appends."""
    with_policy = re.fullmatch(r"/auth/(forward|nginx|envoy)/([^/]+)(/.*)?", path, re.DOTALL)
    call = service.doors.find(path)
    if call is None:
        assert with_policy is None or with_policy[1] != "envoy"
        return
    assert with_policy is not None
    assert call.policy == with_policy[2]
    assert (
        with_policy[3] is None or with_policy[1] == "envoy" or (with_policy[1], with_policy[3]) == ("nginx", "/denied")
    )


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[FlaskSide, FrontSide]]:
    """The same keys, policies, secrets and kind of clock on both ways of serving."""
    environ = {"GATEKEY_PEPPER": PEPPER, "GATEKEY_SECRET_KEY": SECRET_KEY}
    with (
        running_front(import_lines(), policies=policies_toml(), env=environ) as front,
        logged_gatekey(import_lines(), policies=policies_toml(), clock=SystemClock()) as logged,
    ):
        yield FlaskSide(logged), FrontSide(front)


visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
SINGLE = ("host", "x-forwarded-uri", "cookie")
"""Twice, a server may refuse them or join them as another one does not."""
FRAMING = ("content-length", "transfer-encoding")


def _alike(name: str) -> st.SearchStrategy[list[str]]:
    """Lines of a header that say the same to a door whether a server joins them by commas or not."""
    likely = st.sampled_from([value for value in LIKELY.get(name, ["x"]) if value.strip() == value])
    return st.lists(st.one_of(likely, visible), min_size=1, max_size=1 if name in SINGLE else 2)


# WSGI joins lines by commas, so there a URI that holds ",/" looks like two (docs/serving.md): not delivered alike.
delivered_alike = st.fixed_dictionaries(
    {},
    optional={
        name: _alike(name)
        for name in (*NAMES, "host", "x-requested-with", "hx-request", "purpose", "sec-purpose", "upgrade")
        if name not in FRAMING
    },
).filter(lambda headers: ",/" not in "".join(headers.get("x-forwarded-uri", [])))
targets = st.one_of(
    st.builds(
        "/auth/{}/{}".format,
        st.sampled_from(["forward", "nginx", "envoy"]),
        st.sampled_from(["default", *POLICIES, "nope"]),
    ),
    st.sampled_from(
        ["/v1/whoami", "/v1/keys/verify", "/login", "/livez", "/auth/envoy/cors//x/..", "/auth/nginx/default/denied"]
    ),
    st.text("/abcv1%2.?=&", max_size=20).map(lambda rest: f"/{rest}"),
)


def test_both_ways_of_serving_answer_log_and_count_the_same(both: tuple[FlaskSide, FrontSide]) -> None:
    """For any request that both servers deliver alike: status, headers and body; then the lines and the counts of all."""
    flask, front = both
    sides: tuple[Side, Side] = both
    for side in sides:
        side.forget()
    counted = [_counts(side) for side in sides]

    @settings(max_examples=200, deadline=None)
    @given(
        method=st.sampled_from(["GET", "GET", "HEAD", "POST", "OPTIONS", "BREW", "delete"]),
        target=targets,
        headers=delivered_alike,
        whole=st.tuples(a_whole_context | st.just({}), a_whole_pair | st.just({})).map(
            lambda parts: {**parts[0], **parts[1]}
        ),
        body=st.sampled_from([b"", b"", b"", b"{}"]),
    )
    def ask_both(
        method: str, target: str, headers: dict[str, list[str]], whole: dict[str, list[str]], body: bytes
    ) -> None:
        parts = {"host": [DOMAIN], **headers, **whole, **({"content-length": [str(len(body))]} if body else {})}
        lines = tuple((name, value) for name, values in parts.items() for value in values)
        assert _plain(flask.send(method, target, lines, body)) == _plain(front.send(method, target, lines, body))

    ask_both()
    moved = [_moved(_counts(side), before) for side, before in zip(sides, counted, strict=True)]
    assert moved[0] == moved[1]
    assert {name.partition("{")[0] for name in moved[0]} >= {"gatekey_decisions_total", "gatekey_http_requests_total"}
    said = [[_line(event) for event in side.events()] for side in sides]
    assert said[0] == said[1]
    assert {line["event"] for line in said[0]} >= {"auth.decision"}


COUNTERS = ("gatekey_decisions_total", "gatekey_shadow_decisions_total", "gatekey_http_requests_total")
NEW_EACH_TIME = ("timestamp", "boot_id", "seq", "duration_ms", "store_ms", "request_id", "key_id")


def _counts(side: Side) -> dict[str, float]:
    """What has been counted so far, but for these questions themselves."""
    text = side.send("GET", "/metrics", (("host", "localhost"),)).body.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(COUNTERS))
    return {name: float(value) for name, _, value in lines if 'route="metrics"' not in name}


def _moved(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: value - before[name] for name, value in now.items() if value != before[name]}


def _line(event: dict[str, Any]) -> dict[str, Any]:
    """A line without what is new each time, and with nothing of where the record came from: the clocks differ."""
    return {**{name: value for name, value in event.items() if name not in NEW_EACH_TIME}, "source": ""}


def _plain(answer: raw_http.RawResponse) -> tuple[int, list[tuple[str, str]], str]:
    """An answer without what is the server's own or new each time: identifiers, and signatures with their times."""
    request_id = answer.header("x-request-id")
    own = ("date", "server", "connection", "x-request-id", "content-length")
    headers = sorted(
        (name, re.sub(r"\.[\w-]{4,8}\.[\w-]{20,}$", "", value.replace(request_id, "")))
        for name, value in answer.headers
        if name not in own
    )
    if "x-gatekey-denial" in dict(headers) or "location" in dict(headers):  # its payload may hold the request id
        headers = [(name, "" if name == "x-gatekey-denial" else value) for name, value in headers]
    return answer.status, headers, answer.body.decode().replace(request_id, "")


def test_the_comparison_would_notice_a_difference() -> None:
    """A guard for the helper above: it removes what is new each time, and nothing else."""
    one = raw_http.RawResponse(200, (("x-request-id", "a"), ("vary", "x")), b"a1")
    assert _plain(one) == _plain(raw_http.RawResponse(200, (("x-request-id", "b"), ("vary", "x")), b"b1"))
    assert _plain(one) != _plain(raw_http.RawResponse(200, (("x-request-id", "b"), ("vary", "y")), b"b1"))
    assert _plain(one) != _plain(raw_http.RawResponse(200, (("x-request-id", "b"), ("vary", "x")), b"b2"))
