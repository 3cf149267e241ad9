"""``GATEKEY_ROLE``: doors and pages as services of their own; health and metrics are everywhere."""

from __future__ import annotations

import pytest

from tests.support.processes import DEMO, at_door, get, serving, status

EVERYWHERE = ("/livez", "/readyz", "/metrics")


@pytest.mark.parametrize("interface", ["rsgi", "wsgi"])
@pytest.mark.parametrize(
    ("role", "door", "page"), [("all", 200, 200), ("doors", 200, 404), ("app", 404, 200)], ids=["all", "doors", "app"]
)
def test_a_role_serves_its_own_paths_only(interface: str, role: str, door: int, page: int) -> None:
    """What another role serves does not exist here: the answer is 404, with and without a good key."""
    with serving("--demo", "--interface", interface, env={"GATEKEY_ROLE": role}) as server:
        assert [status(server.port, path) for path in EVERYWHERE] == [200, 200, 200]
        assert at_door(server.port, DEMO).status == door
        assert status(server.port, "/auth/nginx/default/denied") == (503 if door == 200 else 404)
        assert status(server.port, "/v1/whoami", DEMO) == page
        assert status(server.port, "/v1/whoami") == (401 if page == 200 else 404)
        assert status(server.port, "/login") == page
        assert get(server.port, "/no-such-path").status == 404
