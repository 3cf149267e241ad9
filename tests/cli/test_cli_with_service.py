"""Commands beside a running service, on the same store: what they change is in force in each of its workers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.curl_lines import paste
from tests.support import leaks
from tests.support.each_worker import each_worker
from tests.support.servers import gatekey as serving
from tests.support.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.commands import Commands
    from tests.support.each_worker import WorkerLine

WORKERS = 2
ALLOWED, OFF, UNKNOWN = (200, "ok"), (401, "inactive"), (401, "bad_secret")


class Workers:
    """Every worker of the service, each asked for itself."""

    def __init__(self, lines: dict[str, WorkerLine]) -> None:
        self.lines = list(lines.values())

    def hold(self, key: dict[str, str], expected: tuple[int, str]) -> None:
        """Return once each worker answers so out of its own memory: nothing but an announcement can change that soon."""
        for line in self.lines:
            wait_until(lambda line=line: decision(line, key) == (*expected, "cache"), f"a worker has {expected} cached")  # type: ignore[misc]  # a default binds it

    def learn(self, key: dict[str, str], expected: tuple[int, str]) -> None:
        """Return once each worker answers so."""
        for line in self.lines:
            wait_until(lambda line=line: decision(line, key)[:2] == expected, f"the key is {expected} in a worker")  # type: ignore[misc]  # likewise


def decision(line: WorkerLine, key: dict[str, str]) -> tuple[int, str, str]:
    """Status, reason and the source of the record."""
    status, event = line.decide(credentials(key))
    return status, event["reason"], event["source"]


def credentials(key: dict[str, str]) -> list[tuple[str, str | bytes]]:
    return [("X-Api-Key", key["api_key"]), ("X-Secret-Token", key["secret_token"])]


@pytest.fixture
def made(gatekey: Commands) -> dict[str, str]:
    """A key that was there before the service."""
    return gatekey.create()


@pytest.fixture
def workers(gatekey: Commands, made: dict[str, str]) -> Iterator[Workers]:
    settings = {**gatekey.environ, "GATEKEY_WORKERS": str(WORKERS), "GATEKEY_LOG_SUMMARIZE": "off"}
    with (
        serving(env=settings, cwd=gatekey.folder) as server,
        each_worker(server, WORKERS, credentials(made)) as lines,
    ):
        yield Workers(lines)


def test_each_change_reaches_each_worker(gatekey: Commands, made: dict[str, str], workers: Workers) -> None:
    """Disabled, enabled, its organization too, rotated, revoked: each while every worker holds what was true before."""
    state = ALLOWED
    for words, becomes in (
        (("keys", "disable", made["key_id"]), OFF),
        (("keys", "enable", made["key_id"]), ALLOWED),
        (("orgs", "disable", "acme"), OFF),
        (("orgs", "enable", "acme"), ALLOWED),
    ):
        workers.hold(made, state)
        gatekey.ok(*words)
        workers.learn(made, becomes)
        state = becomes
    workers.hold(made, ALLOWED)
    rotated = gatekey.document("keys", "rotate", made["key_id"], "--grace", "0")
    leaks.register(rotated["secret_token"])
    workers.learn(made, UNKNOWN)
    workers.hold(rotated, ALLOWED)
    gatekey.ok("keys", "revoke", made["key_id"])
    workers.learn(rotated, OFF)


def test_a_new_key_works_in_each_worker(gatekey: Commands, workers: Workers) -> None:
    """Though they run already, and have no reason to look."""
    workers.learn(gatekey.create(), ALLOWED)


def test_the_first_operators_key_opens_the_api(gatekey: Commands) -> None:
    """What ``bootstrap`` prints is enough to list organizations."""
    operator = gatekey.document("bootstrap")
    leaks.register(operator["secret_token"])
    with serving(env={**gatekey.environ, "GATEKEY_WORKERS": "1"}, cwd=gatekey.folder) as server:
        headers = ("-H", f"x-api-key: {operator['api_key']}", "-H", f"x-secret-token: {operator['secret_token']}")
        answer = paste("curl", *headers, f"{server.base}/v1/organizations")
        assert answer.status == 200
        assert json.loads(answer.body)["items"] == gatekey.document("orgs", "list")["items"]
