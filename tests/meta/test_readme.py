"""The README's commands, run: what it shows is what they print; and every link of the documentation leads somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.answers.http_errors import http_error
from service.auth.keyfile import read_key_lines
from tests.cli.curl_lines import paste
from tests.support import leaks, raw_http
from tests.support.clock import START
from tests.support.keys import PEPPERS
from tests.support.servers import DEADLINE, GatekeyServer, clean_environment, gatekey, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
CONSOLE = "\n".join(re.findall(r"```console\n(.*?)```", README + API, re.DOTALL))
COMMANDS = [
    (line, shown.strip("\n")) for line, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", CONSOLE, re.MULTILINE)
]
(KEYS,) = re.findall(r"keys\.jsonl <<'END'\n(.*?)\n *END", README, re.DOTALL)
CURLS = [(line, shown) for line, shown in COMMANDS if line.startswith("curl")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatekeyServer]:
    """What `make serve` runs."""
    with gatekey("--demo", cwd=tmp_path_factory.mktemp("readme")) as running:
        yield running


def test_the_start_prints_what_the_readme_shows(server: GatekeyServer) -> None:
    """Line by line, but for the set-up before it and for the port."""
    assert COMMANDS[0][0] == "make serve"
    _, heading, expected = COMMANDS[0][1].partition("gatekey: ")
    wait_until(lambda: "Ctrl-C ends it." in server.lines, "the banner is printed")
    printed = "\n".join(server.lines[: server.lines.index("Ctrl-C ends it.") + 1])
    assert printed.replace(str(server.port), "8000") == heading + expected


@pytest.mark.parametrize(("line", "shown"), CURLS)
def test_a_pasted_line_answers_what_the_readme_shows(line: str, shown: str, server: GatekeyServer) -> None:
    """Status, headers and body, but for the request's id; through curl itself where it is installed."""
    line = line.replace(":8000", f":{server.port}")
    answer = paste(line)
    if shown.startswith("HTTP/1.1"):
        status, *lines = shown.splitlines()
        headers = dict(re.split(r": ?", text, maxsplit=1) for text in lines)
        assert status.split(" ")[1] == str(answer.status)
        assert same(headers) == same({name: answer.headers[name] for name in headers})
    else:
        assert same(json.loads(shown)) == same(json.loads(answer.body))
        if shutil.which("curl") is not None:
            done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True, timeout=30)
            assert same(json.loads(done.stdout)) == same(json.loads(shown))


def same(document: dict[str, Any]) -> dict[str, Any]:
    """Without what is new for each request."""
    return {name: value for name, value in document.items() if name not in ("request_id", "x-request-id")}


def test_the_readme_shows_an_allowed_and_a_denied_request() -> None:
    """Both lines of the start, pasted."""
    printed = [line.split(": ", 1)[1].strip() for line in COMMANDS[0][1].splitlines() if "curl" in line]
    assert len(printed) == 2
    assert printed == [line for line, _ in CURLS[:2]]


def test_the_readmes_application_serves_its_key_and_refuses_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code as it stands runs beside the README's import file, asked by the README's own line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.jsonl").write_text(KEYS)
    (asked,) = re.findall(r"^curl (.*)http://127\.0\.0\.1:5000(/\S+)$", README, re.MULTILINE)
    headers = dict(re.findall(r"-H '([\w-]+): ([^']*)'", asked[0]))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own documentation
    app: Flask = names["app"]
    try:
        assert app.test_client().get(asked[1], headers=headers).get_json() == {"organization": "acme"}
        answer = app.test_client().get(asked[1], headers={"Host": headers["Host"]})
        assert answer.status_code == 401
        assert answer.get_json()["code"] == "missing_credentials"
        assert app.test_client().get("/nothing").get_json()["code"] == http_error(404).code
    finally:
        app.extensions["gatekey"].portal.stop()
        app.extensions["gatekey"].writer.close()


def test_the_readmes_import_file_can_be_imported() -> None:
    """Its line is a key."""
    seed = read_key_lines(KEYS.encode().splitlines(), peppers=PEPPERS, now=START)
    assert [record.api_key for record in seed.records] == ["acme-orders"]


def test_the_readmes_lines_for_a_store_make_keys_that_pass(tmp_path: Path) -> None:
    """Pasted into a shell as they stand, in an empty folder, but for the service, which is started on a free port."""
    (block,) = re.findall(r"```sh\n(export GATEKEY_STORE_URL.*?)gatekey serve\n```", README, re.DOTALL)
    script = "set -eu\n" + block + "env | grep ^GATEKEY_ >&2\n"
    environ = {**clean_environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,  # many commands, each with a start of its own
        check=True,
    )
    settings = dict(line.split("=", 1) for line in done.stderr.splitlines() if line.startswith("GATEKEY_"))
    *_, made = done.stdout.split("key_id")
    fields = dict(re.findall(r"^(api_key|secret_token) +(\S+)$", made, re.MULTILINE))
    leaks.register(fields["secret_token"])
    lines = [("Host", "api.acme.example"), ("X-Api-Key", fields["api_key"]), ("X-Secret-Token", fields["secret_token"])]
    with gatekey(env={**settings, "GATEKEY_WORKERS": "2"}, cwd=tmp_path) as server:
        answer = raw_http.request(server.port, "GET", "/v1/whoami", lines)
    assert answer.status == 200
    assert answer.json()["name"] == "orders, nightly job"


def test_the_readmes_test_command_is_make_test() -> None:
    """And the Makefile has each target that the README names."""
    assert "`make test`" in README
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z-]+)", CONSOLE)) | {"test", "serve"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def _headings(page: Path) -> set[str]:
    """The anchors that a page's headings have on a forge."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    """Also those to pictures and into other pages."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in _headings(target), f"{link} has no such heading"
