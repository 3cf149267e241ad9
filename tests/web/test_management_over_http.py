"""The management API of a real service: what docs/management.md shows, and what only a server can do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from tests.support import leaks
from tests.support.keys import SECRET
from tests.support.management_api import ACME, LINES, OPERATOR, credentials
from tests.support.servers import GatekeyServer, clean_environment, gatekey, key_line

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "management.md").read_text(encoding="utf-8")
(OPERATORS_LINE,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
CONSOLE = "\n".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL))
EXAMPLES = re.findall(r"^\$ (curl .*)\n(\{.*)$", CONSOLE, re.MULTILINE)
(CREDENTIALS,) = re.findall(r"^export OPERATOR=(\S+)$", PAGE, re.MULTILINE)
ANYTHING = "…"


def fits(shown: Any, found: Any) -> bool:
    """Whether an answer is what the page shows, ``…`` standing for anything."""
    if shown == ANYTHING:
        return True
    if isinstance(shown, dict) and isinstance(found, dict):
        return list(shown) == list(found) and all(fits(shown[name], found[name]) for name in shown)
    if isinstance(shown, list) and isinstance(found, list):
        return len(shown) == len(found) and all(map(fits, shown, found))
    return bool(shown == found)


def test_the_page_s_examples_do_what_they_show(tmp_path: Path, *, require_all: bool) -> None:
    """Every curl line in order, as it stands, against a service that was started as the page says."""
    bash = shutil.which("bash")
    if bash is None or shutil.which("curl") is None:
        (pytest.fail if require_all else pytest.skip)("bash or curl is not installed")
    leaks.register(CREDENTIALS.partition(":")[2], "partners-secret-of-tests")
    (tmp_path / "operator.jsonl").write_text(OPERATORS_LINE, encoding="utf-8")
    partner = key_line("partner-1", organization_id="partners", secret="partners-secret-of-tests")
    (tmp_path / "keys.jsonl").write_bytes(partner)
    assert len(EXAMPLES) == CONSOLE.count("$ curl")
    environment = {**clean_environment(), "OPERATOR": CREDENTIALS}
    with gatekey("--import", "operator.jsonl", cwd=tmp_path) as server:
        for line, shown in EXAMPLES:
            done = subprocess.run(
                [bash, "-c", line.replace(":8000", f":{server.port}")],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                timeout=30,
                check=True,
            )
            answer = json.loads(done.stdout)
            if answer.get("secret_token"):
                leaks.register(answer["secret_token"])
                environment["KEY_ID"] = answer["key_id"]
            assert fits(json.loads(shown), answer), f"{line}\n{json.dumps(answer)}"


@pytest.fixture(scope="module", params=["rsgi", "wsgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatekeyServer]:
    folder = tmp_path_factory.mktemp("management")
    (folder / "keys.jsonl").write_bytes(b"".join(LINES))
    with gatekey("--import", "keys.jsonl", "--interface", request.param, cwd=folder) as running:
        yield running


@pytest.fixture
def client(server: GatekeyServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base, headers=credentials(OPERATOR), timeout=30) as found:
        yield found


def ndjson(lines: list[bytes]) -> dict[str, Any]:
    return {"content": b"".join(lines), "headers": {"Content-Type": "application/x-ndjson"}}


def test_a_key_s_whole_life_over_the_wire(client: httpx.Client) -> None:
    """Made, used at once, changed by the version that was read, rotated, revoked and refused at once, deleted."""
    made = client.post("/v1/organizations/acme/keys?wait=1", json={"domains": ["api.example.com"]})
    key = made.json()
    leaks.register(key["secret_token"])
    path = made.headers["location"]
    body = {"api_key": key["api_key"], "secret_token": key["secret_token"], "domain": "api.example.com"}
    assert client.post("/v1/keys/verify", json=body).json()["valid"] is True
    headers = {"If-Match": made.headers["etag"]}
    answers = [client.patch(path, json={"name": name}, headers=headers).status_code for name in ("one", "two")]
    assert answers == [200, 412]
    assert client.get(path, headers={"If-None-Match": '"2"'}).status_code == 304
    rotated = client.post(f"{path}/rotate").json()
    leaks.register(rotated["secret_token"])
    assert client.post(f"{path}/revoke?wait=1").json()["in_force"]["here"] is True
    assert client.post("/v1/keys/verify", json=body).json() == {"valid": False, "code": "key_inactive"}
    assert client.request("DELETE", path).json()["key_id"] == key["key_id"]
    assert client.get(path).status_code == 404


def test_a_replay_over_the_wire_has_no_secret(client: httpx.Client) -> None:
    """The first answer has it; the log neither time."""
    headers = {"Idempotency-Key": uuid4().hex}
    first, again = (
        client.post("/v1/organizations/acme/keys", json={"domains": ["a.example"]}, headers=headers) for _ in range(2)
    )
    leaks.register(first.json()["secret_token"])
    assert (first.status_code, first.headers.get("idempotent-replayed")) == (201, None)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json() == {**first.json(), "secret_token": None}


def test_an_export_is_streamed_whole_and_a_large_body_is_413(client: httpx.Client) -> None:
    """Some thousand keys fit into an import; the export of them is larger than one piece."""
    lines = [key_line(f"bulk-{number}", organization_id="bulk") for number in range(3000)]
    report = client.post("/v1/keys/import", **ndjson(lines)).json()
    assert report["created"] + report["unchanged"] == 3000
    with client.stream("GET", "/v1/keys/export?organization_id=bulk") as answer:
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        assert "content-length" not in answer.headers
        found = [json.loads(line)["api_key"] for line in answer.iter_lines()]
    assert sorted(found) == sorted(f"bulk-{number}" for number in range(3000))
    refused = client.post("/v1/keys/import", **ndjson([b" " * 1024 * 1024, b"\n"]))
    assert (refused.status_code, refused.json()["code"]) == (413, "content_too_large")


def test_a_reader_that_leaves_in_the_middle_of_an_export_disturbs_nobody(
    server: GatekeyServer, client: httpx.Client
) -> None:
    """Its answer is given up, and the next request is served."""
    lines = [key_line(f"left-{number}", organization_id="left") for number in range(3000)]
    client.post("/v1/keys/import", **ndjson(lines))
    with (
        httpx.Client(base_url=server.base, headers=credentials(OPERATOR)) as leaving,
        leaving.stream("GET", "/v1/keys/export") as answer,
    ):
        next(answer.iter_raw())
    assert client.get("/v1/keys?limit=1").status_code == 200


def test_another_organization_s_key_is_nowhere_over_the_wire(client: httpx.Client) -> None:
    """The same answer as for none, but for the request's id; whoever may see it finds it."""
    assert client.get("/v1/keys/key_globex-admin").status_code == 200
    answers = [client.get(f"/v1/keys/{key_id}", headers=credentials(ACME)) for key_id in ("key_globex-admin", "key_0")]
    assert [answer.status_code for answer in answers] == [404, 404]
    foreign, missing = ({**answer.json(), "request_id": ""} for answer in answers)
    assert foreign == missing


def test_the_secret_of_the_tests_is_no_key_of_the_page() -> None:
    """The page's secret says of itself that it must be changed."""
    assert SECRET not in PAGE
    assert "change-me" in CREDENTIALS
