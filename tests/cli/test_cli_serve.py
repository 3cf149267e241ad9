"""`gatekey serve` as a process of its own: the banner, imported keys, refusals, and the end."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.curl_lines import paste
from tests.support import leaks
from tests.support.keys import SECRET
from tests.support.servers import GatekeyServer, clean_environment, gatekey, key_line, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """``python -m service`` to its end; both streams must be free of secrets."""
    environ = {**clean_environment(), **{f"GATEKEY_{name.upper()}": value for name, value in settings.items()}}
    done = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env=environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    leaks.check(done.stdout + done.stderr, f"the output of {arguments}")
    return done


def ask(base: str, api_key: str, secret: str) -> tuple[int, dict[str, Any]]:
    """Status and body of ``/v1/whoami`` for these credentials."""
    answer = paste("curl", "-H", f"x-api-key: {api_key}", "-H", f"x-secret-token: {secret}", f"{base}/v1/whoami")
    return answer.status, json.loads(answer.body)


def banner(server: GatekeyServer) -> dict[str, str]:
    """The lines of the start by their label."""
    wait_until(lambda: "Ctrl-C ends it." in server.lines, "the banner is printed")
    pairs = (line.strip().partition(": ") for line in server.lines if line.startswith("  "))
    return {label: rest.strip() for label, _, rest in pairs}


def test_the_demo_prints_lines_that_can_be_pasted(tmp_path: Path) -> None:
    """The first is allowed, the second denied, the login page answers, and Ctrl-C ends it with 0."""
    with gatekey("--demo", cwd=tmp_path) as server:
        lines = banner(server)
        assert set(lines) == {"allowed", "denied", "login"}
        allowed, denied = paste(lines["allowed"]), paste(lines["denied"])
        assert allowed.status == 200
        assert json.loads(allowed.body)["organization_id"] == "demo"
        assert denied.status == 401
        assert json.loads(denied.body)["code"] == "invalid_credentials"
        assert paste(f"curl {lines['login']}").status == 200
        assert server.stop(signal.SIGINT) == 0


def test_imported_keys_work_from_the_first_request_on(tmp_path: Path) -> None:
    """Also together with the demo key; keys that work by headers only are named by their line."""
    file = tmp_path / "keys.jsonl"
    file.write_bytes(
        key_line("imported.one", domains=["@gatekey"], scopes=["orders:read"])
        + b"\n"
        + key_line("off", is_active=False)
    )
    with gatekey("--demo", "--import", str(file), cwd=tmp_path) as server:
        status, body = ask(server.base, "imported.one", SECRET)
        assert status == 200
        assert (body["organization_id"], body["scopes"]) == ("acme", ["orders:read"])
        assert ask(server.base, "off", SECRET)[1]["code"] == "domain_not_allowed"
        assert ask(server.base, "demo-key", "demo-secret")[0] == 200
        assert "gatekey: line 1: this api_key holds : or . and works by the two headers only" in server.lines
        assert "gatekey: imported 2 keys of 1 organization" in server.lines


def test_a_bad_import_file_starts_nothing(tmp_path: Path) -> None:
    """Exit status 1, the line and the reason, and nobody ever listened."""
    file = tmp_path / "keys.jsonl"
    file.write_bytes(key_line("good") + b"{}\n")
    done = run("serve", "--import", str(file), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "gatekey: line 2: api_key: is missing; nothing was imported\n"


def test_the_published_demo_key_is_never_used_where_others_can_reach_it(tmp_path: Path) -> None:
    """On a public address the demo gets a key and a secret of its own, made for this run."""
    with gatekey("--demo", cwd=tmp_path, env={"GATEKEY_HOST": "0.0.0.0"}) as server:  # noqa: S104 - that is the question
        command = shlex.split(banner(server)["allowed"])
        api_key, secret = (value.partition(": ")[2] for value in command if value.startswith("x-"))
        assert api_key.startswith("gk_test_")
        assert secret.startswith("gks_")
        assert ask(server.base, api_key, secret)[0] == 200
        assert ask(server.base, "demo-key", "demo-secret")[0] == 401


def test_a_unix_socket_is_named_in_the_lines_to_paste(tmp_path: Path) -> None:
    """``curl --unix-socket`` reaches the service there."""
    path = tmp_path / "gatekey.sock"
    with gatekey("--demo", cwd=tmp_path, env={"GATEKEY_UDS": str(path)}) as server:
        assert paste(banner(server)["allowed"]).status == 200


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    """Exit status 1, and the settings that help."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("serve", cwd=tmp_path, port=str(taken.getsockname()[1]))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "memory://" not in line]
    assert line.startswith("gatekey: cannot listen")
    assert "GATEKEY_PORT" in line


@pytest.mark.parametrize("arguments", [["serve"], ["check"]])
def test_a_bad_setting_stops_the_start_with_one_line(arguments: list[str], tmp_path: Path) -> None:
    """It names the variable; nothing of the value is seen on either stream."""
    value = "postgres-of-somebody-hunter2"
    leaks.register(value)
    done = run(*arguments, cwd=tmp_path, port=value)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gatekey: GATEKEY_PORT: must be a whole number from 1 to 65535\n"


def test_sighup_puts_new_policies_in_force_in_the_running_service(tmp_path: Path) -> None:
    """A wrong file is logged with its problems and changes nothing; a right one takes effect without a restart."""
    file = tmp_path / "gatekey.toml"
    file.write_text("", encoding="utf-8")
    with gatekey("--demo", cwd=tmp_path) as server:

        def status() -> int:
            context = {"Method": "GET", "Proto": "https", "Host": "api.example.com", "Uri": "/", "For": "192.0.2.1"}
            headers = [f"X-Forwarded-{name}: {value}" for name, value in context.items()]
            headers += ["x-api-key: demo-key", "x-secret-token: demo-secret"]
            options = [word for header in headers for word in ("-H", header)]
            return paste("curl", *options, f"{server.base}/auth/forward/orders").status

        assert status() == 404
        file.write_text("[policy.orders]\nmode = 5\n", encoding="utf-8")
        server.send_signal(signal.SIGHUP)
        wait_until(
            lambda: any(event["event"] == "policies_not_reloaded" for event in server.events), "the problem is logged"
        )
        (problem,) = next(event for event in server.events if event["event"] == "policies_not_reloaded")["problems"]
        assert problem == "gatekey.toml: policy.orders.mode: must be one of enforce, shadow"
        assert status() == 404
        file.write_text('[policy.orders]\nscopes = ["orders:read"]\n', encoding="utf-8")
        server.send_signal(signal.SIGHUP)
        wait_until(
            lambda: any(event["event"] == "policies_reloaded" for event in server.events), "the reload is logged"
        )
        assert status() == 200
