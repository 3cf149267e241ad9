"""docs/proxies.md says of the proxies what their tests assert."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.proxies import PROXIES, find_program, need_proxy
from tests.support.proxy_facts import FACTS, ProxyFacts
from tests.support.servers import ROOT

DOCUMENT = (ROOT / "docs" / "proxies.md").read_text(encoding="utf-8")


def _cells(facts: ProxyFacts) -> dict[str, str]:
    """What the table must say of a proxy; rows that say the same of all are asserted by tests without exceptions."""
    return {
        "lets through on": "any 2xx" if facts.other_success else "200",
        "a refusal of Gatekey (401, 403, 404, 429: status, headers, body)": "whole",
        "its redirect to the login page": "yes",
        "its `Set-Cookie`": "yes",
        "its 503": "status, own text" if facts.rewords_503 else "whole",
        "headers of an allow, to the client": "no",
        "client sees when Gatekey is down": str(facts.down),
        "when Gatekey is silent": f"{facts.silent} after {facts.waits} s",
        "that answer": "JSON as Gatekey's" if facts.own_problem else "the proxy's",
        "a host that is not served": str(facts.other_host),
        "path that is decided about, and that the application gets": "normalized"
        if facts.normalizes_path
        else "as sent",
        "key named in `Connection`": "dropped" if facts.drops_named_headers else "counts",
        "Gatekey knows of a websocket": "yes" if facts.tells_websocket else "no",
        "a client's `X-Gatekey-` header of an unknown name": "passes" if facts.unknown_identity else "removed",
    }


def _rows(heading: str) -> list[list[str]]:
    section = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]


@pytest.mark.parametrize("name", PROXIES)
def test_the_table_says_what_the_tests_assert(name: str) -> None:
    """Row for row and in the same order, for each proxy."""
    head, _, *rows = _rows("What each proxy can carry")
    column = [cell.lower() for cell in head].index(name)
    assert {row[0]: row[column] for row in rows} == _cells(FACTS[name])


@pytest.mark.parametrize("name", PROXIES)
def test_every_file_of_a_configuration_is_named(name: str) -> None:
    """Whoever follows the steps has all files."""
    for file in (ROOT / "deploy" / "proxies" / name).iterdir():
        mentioned = file.name in DOCUMENT or (file.suffix == ".inc" and "`gatekey-*.inc`" in DOCUMENT)
        assert mentioned, f"docs/proxies.md does not name {file.name}"


def test_every_path_in_the_document_exists() -> None:
    """No step begins with a file that is not there."""
    for path in re.findall(r"`(deploy/proxies/[^`]*)`", DOCUMENT):
        assert (ROOT / path).exists(), path


CHECKS = {
    "caddy": ("adapt", "--adapter", "caddyfile", "--config", "caddy/Caddyfile"),
    "envoy": ("--mode", "validate", "--log-level", "error", "-c", "envoy/envoy.yaml"),
    "haproxy": ("-c", "-f", "haproxy/haproxy.cfg"),
}
"""How three of the proxies check a file."""


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_a_configuration_is_valid_as_it_is_shipped(name: str, require_all: bool) -> None:  # noqa: FBT001 - a fixture's value
    """Without any variable set, and before anything is changed in it."""
    need_proxy(name, require_all=require_all)
    program = find_program(name)
    assert program is not None
    command = [program, *CHECKS[name]]
    checked = subprocess.run(command, cwd=ROOT / "deploy" / "proxies", capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
