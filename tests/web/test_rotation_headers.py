"""Who still uses the secret from before a rotation is told so with every answer (RFC 9745, RFC 8594), and nobody else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from service.web.protect import api_key_required
from tests.support import leaks
from tests.support.clock import START
from tests.support.in_process import LoggedGatekey, ask, logged_gatekey
from tests.support.keys import DOMAIN
from tests.support.servers import key_line

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
PLACES = {
    "forward": ("/auth/forward/default", FORWARDED),
    "nginx": ("/auth/nginx/default", FORWARDED),
    "envoy": ("/auth/envoy/default/orders", FORWARDED),
    "whoami": ("/v1/whoami", [("Host", "gatekey.test")]),
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
