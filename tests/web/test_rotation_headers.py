"""Who still uses the secret from before a rotation is told so with every answer (RFC 9745, RFC 8594), and nobody else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from service.web.protect import api_key_required
from tests.support import leaks
from tests.support.clock import START, FakeClock
from tests.support.in_process import LoggedGatekey, ask, logged_gatekey
from tests.support.keys import DOMAIN
from tests.support.management_api import LINES, Api, remembered
from tests.support.servers import key_line, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD, NEW = "the-secret-of-yesterday", "the-secret-of-today"
leaks.register(OLD, NEW)
FORWARDED = [
    ("X-Forwarded-Method", "GET"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", DOMAIN),
    ("X-Forwarded-Uri", "/orders"),
    ("X-Forwarded-For", "192.0.2.1"),
]
DOORS = {
    "forward": ("/auth/forward/default", FORWARDED),
    "nginx": ("/auth/nginx/default", FORWARDED),
    "envoy": ("/auth/envoy/default/orders", FORWARDED),
    "whoami": ("/v1/whoami", [("Host", "gatekey.test")]),
}
PLACES = {
    **DOORS,
    "an async view": ("/async", [("Host", DOMAIN)]),
    "a sync view": ("/sync", [("Host", DOMAIN)]),
}


@pytest.fixture(scope="module")
def service() -> Iterator[LoggedGatekey]:
    line = key_line(
        "rotating",
        secret=NEW,
        previous_secret_hash="sha256:" + hashlib.sha256(OLD.encode()).hexdigest(),
        domains=["@gatekey", DOMAIN, f"http://{DOMAIN}"],
        created_at=START.isoformat(),
    )
    with logged_gatekey([line]) as logged:

        @logged.app.get("/async")
        @api_key_required
        async def in_async_view() -> str:
            return "passed"

        @logged.app.get("/sync")
        @api_key_required
        def in_sync_view() -> str:
            return "passed"

        yield logged


@pytest.mark.parametrize(("path", "headers"), PLACES.values(), ids=PLACES)
def test_only_the_old_secret_is_deprecated(
    service: LoggedGatekey, path: str, headers: list[tuple[str, str | bytes]]
) -> None:
    """From the store and from the cache."""
    for secret, expected in ((OLD, f"@{int(START.timestamp())}"), (NEW, None), (OLD, f"@{int(START.timestamp())}")):
        credentials = [("X-Api-Key", "rotating"), ("X-Secret-Token", secret)]
        answer = ask(service.app, "GET", path, [*headers, *credentials])
        assert answer.status == 200
        assert dict(answer.headers).get("deprecation") == expected
        assert answer.has("sunset") == (secret == OLD), "an imported old secret ends too"


def told(logged: LoggedGatekey, key: dict[str, Any]) -> set[tuple[int, str | None, str | None]]:
    """Status, ``Deprecation`` and ``Sunset`` of every door."""
    lines = [("X-Api-Key", key["api_key"]), ("X-Secret-Token", key["secret_token"])]
    answers = [ask(logged.app, "GET", path, [*headers, *lines]) for path, headers in DOORS.values()]
    return {
        (answer.status, dict(answer.headers).get("deprecation"), dict(answer.headers).get("sunset"))
        for answer in answers
    }


def test_the_sunset_is_the_end_of_the_old_secret() -> None:
    """The limit at first, and from the new one's first use on the end of the grace, if that comes earlier; then it is over."""
    clock = FakeClock()
    with logged_gatekey(LINES, clock=clock) as logged:
        api = Api(logged.app)
        old = api.create(domains=["@gatekey", DOMAIN, f"http://{DOMAIN}"])
        path = f"/v1/keys/{old['key_id']}"
        assert told(logged, old) == {(200, None, None)}
        clock.advance(55)  # 03:05:00
        new = remembered(api.ask("POST", f"{path}/rotate", {"grace": "2h", "limit": "3d"}))
        rotated = f"@{int(START.timestamp()) + 55}"
        assert told(logged, old) == {(200, rotated, "Mon, 05 Jan 2026 03:05:00 GMT")}
        clock.advance(3_600)
        assert told(logged, new) == {(200, None, None)}
        wait_until(
            lambda: api.ask("GET", path).json()["rotation"]["previous_expires_at"] == "2026-01-02T06:05:00Z",
            "the first use of the new secret is noted",
        )
        assert told(logged, old) == {(200, rotated, "Fri, 02 Jan 2026 06:05:00 GMT")}
        clock.advance(7_200)
        assert told(logged, old) == {(401, None, None)}
        assert told(logged, new) == {(200, None, None)}
