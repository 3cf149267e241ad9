"""Commands beside a running service, on the same store: what they change is in force there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.curl_lines import paste
from tests.support import leaks
from tests.support.servers import gatekey as serving
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from tests.cli.commands import Commands


def code(base: str, made: dict[str, str]) -> str:
    """``ok``, or the public code of the refusal."""
    answer = paste(
        "curl",
        "-H",
        f"x-api-key: {made['api_key']}",
        "-H",
        f"x-secret-token: {made['secret_token']}",
        f"{base}/v1/whoami",
    )
    return "ok" if answer.status == 200 else str(json.loads(answer.body)["code"])


@pytest.fixture
def made(gatekey: Commands) -> dict[str, str]:
    """A key for Gatekey's own paths."""
    return gatekey.create(domain="@gatekey")


def test_each_change_reaches_the_running_service(gatekey: Commands, made: dict[str, str]) -> None:
    """Disabled, enabled, its organization too, rotated, revoked; and a key that is new."""
    with serving(env={**gatekey.environ, "GATEKEY_WORKERS": "2"}, cwd=gatekey.folder) as server:

        def becomes(expected: str, key: dict[str, str] = made) -> None:
            wait_until(lambda: all(code(server.base, key) == expected for _ in range(4)), f"the key is {expected}")

        becomes("ok")
        for words, expected in (
            (("keys", "disable", made["key_id"]), "key_inactive"),
            (("keys", "enable", made["key_id"]), "ok"),
            (("orgs", "disable", "acme"), "key_inactive"),
            (("orgs", "enable", "acme"), "ok"),
        ):
            gatekey.ok(*words)
            becomes(expected)
        rotated = gatekey.document("keys", "rotate", made["key_id"], "--grace", "0")
        leaks.register(rotated["secret_token"])
        becomes("invalid_credentials")
        becomes("ok", rotated)
        gatekey.ok("keys", "revoke", made["key_id"])
        becomes("key_inactive", rotated)
        becomes("ok", gatekey.create(domain="@gatekey"))


def test_the_first_operators_key_opens_the_api(gatekey: Commands) -> None:
    """What ``bootstrap`` prints is enough to list organizations."""
    operator = gatekey.document("bootstrap")
    leaks.register(operator["secret_token"])
    with serving(env={**gatekey.environ, "GATEKEY_WORKERS": "1"}, cwd=gatekey.folder) as server:
        headers = ("-H", f"x-api-key: {operator['api_key']}", "-H", f"x-secret-token: {operator['secret_token']}")
        answer = paste("curl", *headers, f"{server.base}/v1/organizations")
        assert answer.status == 200
        assert json.loads(answer.body)["items"] == gatekey.document("orgs", "list")["items"]
