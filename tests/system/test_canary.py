"""A canary key sent into every path of a real service, faults included, is found nowhere afterwards.

Its secret is awkward to encode, so that each way of writing it down differs. Where it is looked for: in what the processes
print, their public pages and traces, the files of the store, and every answer. The other tests look for their secrets there
too, by themselves (``tests.support.leaks``); this one has the paths that they do not have.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import orjson
import pytest

from service import api_key_required
from tests.support import leaks, raw_http, sqlite_kind
from tests.support.filled import fill
from tests.support.in_process import ask, logged_gatekey
from tests.support.keys import DOMAIN
from tests.support.otlp import receiver
from tests.support.processes import CONTEXT, HOST
from tests.support.servers import gatekey, key_line, search_pages, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import GatekeyServer

CANARY = 'cAnary+of/every"path%25<&\\>~x7'
STRAY = "a-secret+in/the=wrong?header"
PEPPER = "the-pepper-of-the-canary's-test-is-this"
leaks.register(CANARY, STRAY, PEPPER)
ENVIRON = {
    "GATEKEY_PEPPER": PEPPER,
    "GATEKEY_SECRET_KEY": "the-secret-key-of-the-canary's-test",
    "GATEKEY_WORKERS": "1",
    "GATEKEY_LOG_SUMMARIZE": "off",
    "GATEKEY_CACHE_STALE_IF_ERROR": "0",
}
PAIR = [("X-Api-Key", "canary"), ("X-Secret-Token", CANARY)]
BASIC = [("Authorization", "Basic " + base64.b64encode(f"canary:{CANARY}".encode()).decode())]
BEARER = [("Authorization", f"Bearer canary.{CANARY}")]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = ("Traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")
OPERATOR = [("X-Api-Key", "operator"), ("X-Secret-Token", CANARY)]


def door(lines: list[tuple[str, str]], **context: str) -> tuple[str, str, list[tuple[str, str]], bytes]:
    changed = {name.replace("_", "-"): value for name, value in context.items()}
    return "GET", "/auth/forward/default", [*((n, changed.get(n, v)) for n, v in CONTEXT), *lines], b""


def api(
    method: str, path: str, body: bytes = b"", *, kind: str = "application/json"
) -> tuple[str, str, list[tuple[str, str]], bytes]:
    return method, path, [*OPERATOR, ("Content-Type", kind), ("Content-Length", str(len(body)))], body


def imported(name: str, **fields: Any) -> tuple[str, str, list[tuple[str, str]], bytes]:
    return api("POST", "/v1/keys/import", key_line(name, **{"secret": CANARY, **fields}), kind="application/x-ndjson")


def verified(**fields: Any) -> bytes:
    return orjson.dumps({"api_key": "canary", "secret_token": CANARY, "domain": DOMAIN, **fields})


QUESTIONS: dict[str, tuple[str, str, list[tuple[str, str]], bytes]] = {
    "pair": door(PAIR),
    "Basic": door(BASIC),
    "Bearer": door(BEARER),
    "two forms": door([*PAIR, *BEARER]),
    "doubled": door([*PAIR, ("X-Secret-Token", CANARY)]),
    "longer": door([("X-Api-Key", "canary"), ("X-Secret-Token", CANARY + "x")]),
    "alone": door([("X-Secret-Token", CANARY)]),
    "swapped": door([("X-Api-Key", CANARY), ("X-Secret-Token", "canary")]),
    "as the key": door([("X-Api-Key", STRAY), ("X-Secret-Token", CANARY)]),
    "broken Basic": door([("Authorization", f"Basic {CANARY}")]),
    "another scheme": door([("Authorization", f"Token {CANARY}")]),
    "with a space": door([("X-Api-Key", "canary"), ("X-Secret-Token", f"{CANARY} {CANARY}")]),
    "elsewhere": door(PAIR, X_Forwarded_Host="elsewhere.example.com"),
    "in the query": door(PAIR, X_Forwarded_Uri=f"/orders?token={quote(CANARY, safe='')}&again={quote_plus(CANARY)}"),
    "in a cookie": door([*PAIR, ("Cookie", f"session={quote(CANARY, safe='')}"), ("Referer", f"/?{quote(CANARY)}")]),
    "of a browser": door([("Accept", "text/html"), ("Cookie", f"x={quote(CANARY)}")], X_Forwarded_Uri=f"/?{quote(CANARY)}"),
    "no context": ("GET", "/auth/forward/default", PAIR, b""),
    "no such policy": ("GET", "/auth/forward/none", [*CONTEXT, *PAIR], b""),
    "body at a door": ("POST", "/auth/forward/default", [*CONTEXT, *PAIR, ("Content-Length", "40")], CANARY.encode().ljust(40)),
    "nginx": ("GET", "/auth/nginx/default", [*CONTEXT, ("X-Api-Key", STRAY), ("X-Secret-Token", CANARY)], b""),
    "nginx, denied": ("GET", "/auth/nginx/default/denied", [("X-Gatekey-Denial", quote(CANARY)), *CONTEXT], b""),
    "envoy": ("GET", f"/auth/envoy/default/?{quote(CANARY)}", [*CONTEXT, *PAIR], b""),
    "whoami": ("GET", f"/v1/whoami?token={quote(CANARY)}", PAIR, b""),
    "nowhere": ("GET", f"/nowhere?token={quote(CANARY)}", PAIR, b""),
    "many headers": ("GET", "/v1/whoami", [*PAIR, ("X-Filling", f"{CANARY}" * 900)], b""),
    "verify": api("POST", "/v1/keys/verify", verified()),
    "verify, wrong": api("POST", "/v1/keys/verify", verified(secret_token=CANARY + "x")),
    "verify, extra": api("POST", "/v1/keys/verify", verified(**{CANARY: 1})),
    "verify, a list": api("POST", "/v1/keys/verify", verified(secret_token=[CANARY])),
    "verify, a domain": api("POST", "/v1/keys/verify", verified(domain=CANARY)),
    "verify, no JSON": api("POST", "/v1/keys/verify", verified()[:-1]),
    "import, bad line": imported("bad", domains=[CANARY]),
    "import, bad secret": imported("bad", secret=CANARY + "\x00"),
    "import": imported("imported"),
    "create, as a field": api("POST", "/v1/organizations/acme/keys", orjson.dumps({"secret_token": CANARY})),
    "of no such key": api("GET", f"/v1/keys/nobodys?{quote(CANARY)}"),
    "sign in": ("POST", "/login", [("Content-Length", "20")], CANARY.encode()[:20]),
}  # fmt: skip
ON_THE_WAY = {"ok", "missing_credentials", "malformed_key", "unknown_key", "bad_secret", "wrong_domain"}
REASONS = ON_THE_WAY | {"bad_context", "bad_request", "unknown_policy", "store_corrupt", "store_unavailable"}


@pytest.fixture
def place() -> Iterator[Path]:
    """A store with the canary and an operator who has the same secret."""
    with sqlite_kind.folder("gatekey-canary-") as outer:
        path = Path(outer, "data", "keys.db")
        path.parent.mkdir()
        asyncio.run(_fill(f"sqlite:///{path}"))
        yield path


async def _fill(url: str) -> None:
    scopes = ["gatekey:read", "gatekey:write", "gatekey:verify"]
    lines = [key_line(name, secret=CANARY, key_id=f"key_{name}") for name in ("canary", "spoilt", "cold")]
    lines.append(key_line("operator", secret=CANARY, organization_id="gatekey", domains=["@gatekey"], scopes=scopes))
    await fill(url, lines, pepper=PEPPER)


def asked(server: GatekeyServer, name: str) -> int:
    """The status of the answer, in which the secret must not be either."""
    method, target, lines, body = QUESTIONS[name]
    answer = raw_http.request(server.port, method, target, [*HOST, SAMPLED, *lines], body)
    leaks.check("\n".join((repr(answer.headers), answer.body.decode())), f"the answer to {name!r}")
    return answer.status


def refused_by_the_store(server: GatekeyServer, api_key: str) -> bool:
    lines = [*CONTEXT, ("X-Api-Key", api_key), ("X-Secret-Token", CANARY)]
    return raw_http.request(server.port, "GET", "/auth/forward/default", [*HOST, *lines]).status == 503


def test_the_canary_is_nowhere_after_every_path_and_fault(place: Path) -> None:
    """Every kind of question, then a record that a hand has spoilt, then a store that is gone."""
    away = place.parent.with_name("elsewhere")
    env = {**ENVIRON, "GATEKEY_STORE_URL": f"sqlite:///{place}"}
    with receiver() as traces, gatekey(env={**env, **traces.environ}) as server:
        statuses = {name: asked(server, name) for name in QUESTIONS}
        assert [statuses[name] for name in ("pair", "Basic", "Bearer", "verify", "import")] == [200] * 5
        assert 0 not in statuses.values()
        sqlite_kind.by_hand(place, "UPDATE api_keys SET secret = 'x' WHERE api_key = 'spoilt'")
        wait_until(lambda: refused_by_the_store(server, "spoilt"), "the spoilt record is refused")
        search_pages(server.port)
        place.parent.rename(away)
        try:
            wait_until(lambda: refused_by_the_store(server, "cold"), "the loss of the store is noticed")
            for name in QUESTIONS:
                asked(server, name)
            search_pages(server.port)
        finally:
            away.rename(place.parent)
        seen = {event["reason"] for event in server.events if event["event"] == "auth.decision"}
        assert seen >= REASONS
        decided = len([event for event in server.events if event.get("trace_id") == TRACE])
        assert decided > len(QUESTIONS)
        wait_until(lambda: len([span for span in traces.spans if span.trace_id == TRACE]) > decided, "all is traced")


def test_the_canary_is_in_no_traceback_of_a_view_that_fails() -> None:
    """The view has it in a local variable, and so has Flask in its request."""
    line = key_line("canary", secret=CANARY)
    with logged_gatekey([line]) as logged:

        @logged.app.get("/fails")
        @api_key_required()
        def fails() -> str:
            from flask import request

            return taken_apart({"token": request.headers["X-Secret-Token"]})

        answer = ask(logged.app, "GET", "/fails", [("Host", DOMAIN), *PAIR])
        assert answer.status == 500
        failed = [event for event in logged.events() if event["event"] == "request_failed"]
    names = [frame["name"] for frame in failed[0]["exception"][0]["frames"]]
    assert names[-3:] == ["taken_apart", "value_of", "longest"]


def taken_apart(presented: dict[str, str]) -> str:
    """Calls until the secret is in each of the frames that the shortest traceback keeps."""
    return value_of(presented)


def value_of(presented: dict[str, str]) -> str:
    return longest(list(presented.values()))


def longest(values: list[str]) -> str:
    raise LookupError(f"{len(values)} of them")
