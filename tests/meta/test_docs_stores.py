"""The example of docs/stores.md, pasted: it prepares a store, makes the operators' key, and the service serves with that."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import leaks, raw_http
from tests.support.servers import DEADLINE, clean_environment, gatekey

PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
LINES = [line.removeprefix("$ ") for _, block in BLOCKS for line in block.splitlines()]
PLACES = ("/var/lib/gatekey", "/etc/gatekey")


def test_every_line_of_the_page_is_run_here() -> None:
    """A block of another kind would need a test of its own."""
    assert [language for language, _ in BLOCKS] == ["console"]
    assert LINES[-1] == "gatekey serve"
    assert any("sqlite://" in line for line in LINES)


def test_the_three_steps_lead_to_a_key_that_opens_the_api(tmp_path: Path, *, require_all: bool) -> None:
    """As they stand in a shell, but for two folders and the service, which is started on a free port; both files as it says."""
    if shutil.which("openssl") is None:
        (pytest.fail if require_all else pytest.skip)("the program openssl is missing")
    (generate,) = re.findall(r"`(openssl rand -base64 48)`", PAGE)
    folders = {place: tmp_path / place.strip("/") for place in PLACES}
    script = ["set -eu", *LINES[:-1], "env | grep ^GATEKEY_ >&2"]
    for place, folder in folders.items():
        folder.mkdir(parents=True)
        assert any(place in line for line in script)
        script = [line.replace(place, str(folder)) for line in script]
    for name in ("pepper", "secret-key"):
        script.insert(1, f"{generate} > {folders['/etc/gatekey']}/{name}")
    home = tmp_path / "home"
    home.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-c", "\n".join(script)],
        cwd=home,
        env={**clean_environment(), "PATH": path, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    fields = dict(re.findall(r"^(api_key|secret_token) +(\S+)$", done.stdout, re.MULTILINE))
    leaks.register(*(value for name, value in fields.items() if name == "secret_token"))
    assert done.returncode == 0, done.stderr
    settings = dict(line.split("=", 1) for line in done.stderr.splitlines() if line.startswith("GATEKEY_"))
    lines = [("Host", "gatekey.test"), ("X-Api-Key", fields["api_key"]), ("X-Secret-Token", fields["secret_token"])]
    with gatekey(env={**settings, "GATEKEY_WORKERS": "2"}, cwd=home) as server:
        answer = raw_http.request(server.port, "GET", "/v1/organizations", lines)
    assert answer.status == 200
    assert [item["organization_id"] for item in answer.json()["items"]] == ["gatekey"]
    assert list(home.iterdir()) == []
    assert (folders["/var/lib/gatekey"] / "keys.db").exists()
