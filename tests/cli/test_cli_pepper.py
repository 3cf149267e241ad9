"""``gatekey pepper status``: which peppers are needed, and which may go."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING

from tests.support import leaks
from tests.support.app import PEPPER

if TYPE_CHECKING:
    from tests.cli.commands import Commands

OLD = b64encode(PEPPER.encode()).decode()
NEW = b64encode(b"another pepper of the tests, 32 bytes and more").decode()
leaks.register(OLD, NEW)


def with_peppers(gatekey: Commands, *peppers: str, current: int) -> None:
    """As the settings look in the course of a change of the pepper."""
    gatekey.environ.pop("GATEKEY_PEPPER", None)
    gatekey.environ |= {"GATEKEY_PEPPERS": ",".join(peppers), "GATEKEY_PEPPER_CURRENT": str(current)}


def status(gatekey: Commands) -> dict[int, dict[str, object]]:
    return {item["version"]: item for item in gatekey.document("pepper", "status")["items"]}


def test_one_pepper_is_in_use(gatekey: Commands) -> None:
    """It is the current one, and may not go."""
    gatekey.create()
    assert status(gatekey) == {1: {"version": 1, "configured": True, "current": True, "secrets": 1, "removable": False}}
    head, line = gatekey.ok("pepper", "status").splitlines()
    assert head.split() == ["VERSION", "CONFIGURED", "CURRENT", "SECRETS", "WHAT", "NOW"]
    assert line.split()[:4] == ["1", "yes", "yes", "1"]


def test_an_old_pepper_may_go_once_no_secret_needs_it(gatekey: Commands) -> None:
    """Not before."""
    key_id = gatekey.create()["key_id"]
    with_peppers(gatekey, f"2:{NEW}", f"1:{OLD}", current=2)
    gatekey.create()
    assert (status(gatekey)[1]["secrets"], status(gatekey)[1]["removable"]) == (1, False)
    gatekey.ok("keys", "delete", key_id)
    assert status(gatekey)[1]["removable"] is True
    assert "may be removed" in gatekey.ok("pepper", "status")


def test_a_pepper_that_was_lost_is_told(gatekey: Commands) -> None:
    """In the table, and in a line on standard error, with exit status 1: keys are answered with 503."""
    gatekey.create()
    with_peppers(gatekey, f"2:{NEW}", current=2)
    result = gatekey("pepper", "status")
    assert result.exit_code == 1
    assert "give it back" in result.stdout
    assert result.stderr.startswith("gatekey: pepper 1 is not configured")
    as_json = gatekey("pepper", "status", "--json")
    assert as_json.exit_code == 1
    assert len(json.loads(as_json.stdout)["problems"]) == 1
