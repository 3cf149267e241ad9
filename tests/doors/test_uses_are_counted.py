"""What passes a door is a use of its key, and is there to be read; what is refused is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.in_process import ask, logged_gatekey
from tests.support.keys import DOMAIN, SECRET
from tests.support.management_api import LINES, Api
from tests.support.processes import CONTEXT
from tests.support.servers import key_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.in_process import LoggedGatekey

GATEKEYS_HOST = [("Host", "gatekey.test")]
DOORS = {
    "forward": ("/auth/forward/default", CONTEXT),
    "nginx": ("/auth/nginx/default", CONTEXT),
    "envoy": ("/auth/envoy/default/orders", CONTEXT),
    "whoami": ("/v1/whoami", GATEKEYS_HOST),
}


@pytest.fixture(scope="module")
def logged() -> Iterator[LoggedGatekey]:
    line = key_line("used", key_id="key_used", domains=["@gatekey", DOMAIN, f"http://{DOMAIN}"])
    with logged_gatekey([*LINES, line]) as found:
        yield found


def uses(logged: LoggedGatekey, key_id: str = "key_used") -> int:
    """As the management API tells them, once all that were noted are written."""
    logged.gatekey.portal.run(logged.gatekey._background._usage.flush)
    total: int = Api(logged.app).ask("GET", f"/v1/keys/{key_id}/usage").json()["total"]
    return total


def knock(logged: LoggedGatekey, door: str, secret: str) -> int:
    target, lines = DOORS[door]
    return ask(logged.app, "GET", target, [*lines, ("X-Api-Key", "used"), ("X-Secret-Token", secret)]).status


@pytest.mark.parametrize("door", DOORS)
def test_each_request_that_passes_is_a_use_of_its_key(logged: LoggedGatekey, door: str) -> None:
    """From the store as from the cache; a request with a wrong secret is none."""
    before = uses(logged)
    assert [knock(logged, door, SECRET) for _ in range(3)] == [200] * 3
    assert uses(logged) == before + 3
    assert knock(logged, door, "not-the-secret-of-the-key") == 401
    assert uses(logged) == before + 3
    assert Api(logged.app).ask("GET", "/v1/keys/key_used").json()["last_used_at"] == "2026-01-02T03:04:05Z"


def test_a_verified_key_is_used_and_so_is_the_one_that_asks(logged: LoggedGatekey) -> None:
    """``/v1/keys/verify`` stands for a door that somebody else has built; what it refuses is no use."""
    before = uses(logged), uses(logged, "key_operator")
    body = {"api_key": "used", "secret_token": SECRET, "domain": DOMAIN}
    for answer, changes in (({}, 1), ({"secret_token": "not-the-secret-of-the-key"}, 0)):
        assert Api(logged.app).ask("POST", "/v1/keys/verify", {**body, **answer}).json()["valid"] == bool(changes)
    assert uses(logged) == before[0] + 1
    assert uses(logged, "key_operator") > before[1]
