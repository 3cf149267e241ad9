from __future__ import annotations

import io
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import pytest
from click.testing import CliRunner

from service.cli import main
from service.cli.doctor import SECRET_VARIABLE
from service.doctor.probes import PROBES
from tests.support import leaks
from tests.support.servers import DEADLINE, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

KEY = ["--api-key", "doctor-command-key"]
SECRET = "doctor-command-secret"


class _Refusing(BaseHTTPRequestHandler):
    """Refuses everything with 401 and remembers the secrets it was sent."""

    secrets: ClassVar[set[str]] = set()
    status: ClassVar[int] = 401

    def handle_one_request(self) -> None:
        try:
            self.raw_requestline = self.rfile.readline(65537)
            self.close_connection = True
            if self.raw_requestline and self.parse_request():
                self.secrets.update(self.headers.get_all("X-Secret-Token", []))
                self.send_response(self.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Print nothing: requests carry the test's secret."""


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a site that refuses everything, though not as Gatekey does."""
    _Refusing.secrets.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/orders"
    finally:
        server.shutdown()
        thread.join(DEADLINE)
        server.server_close()


def doctor(*arguments: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Result:
    leaks.register(SECRET)
    result = CliRunner().invoke(main, ["doctor", *arguments], input=stdin, env={SECRET_VARIABLE: None, **(env or {})})
    leaks.check(result.output, "the doctor's output")
    return result


def test_there_is_a_line_for_every_probe_and_a_summary(refusing: str) -> None:
    """PASS, FAIL or SKIP, the name, what was seen, and after a failure what to do; exit status 1 when one failed."""
    result = doctor("--url", refusing)
    *lines, last = result.stdout.splitlines()
    assert [line.split(":")[0].split(" ")[1] for line in lines] == [probe.name for probe in PROBES]
    assert {line.split(" ")[0] for line in lines} == {"PASS", "FAIL", "SKIP"}
    assert lines[0].startswith("FAIL no-credentials: 401; the path is not behind Gatekey")
    counts = [sum(line.startswith(word) for line in lines) for word in ("PASS", "FAIL", "SKIP")]
    assert last == "{} passed, {} failed, {} skipped".format(*counts)
    assert (result.exit_code, result.stderr) == (1, "")


def test_json_is_one_document(refusing: str) -> None:
    """With the same findings, and nothing else on standard output."""
    document = json.loads(doctor("--url", refusing, "--json").stdout)
    assert document["url"] == refusing
    assert [probe["name"] for probe in document["probes"]] == [probe.name for probe in PROBES]
    assert document["passed"] + document["failed"] + document["skipped"] == len(PROBES)
    assert all(("hint" in probe) == (probe["result"] == "FAIL") for probe in document["probes"])


@pytest.mark.parametrize("source", ["file", "variable", "standard input"])
def test_the_secret_comes_from_where_nobody_sees_it(source: str, refusing: str, tmp_path: Path) -> None:
    """It is sent, and never printed; there is no option that takes it."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\nanother line\n", encoding="utf-8")
    if source == "file":
        result = doctor("--url", refusing, *KEY, "--secret-token-file", str(file))
    elif source == "variable":
        result = doctor("--url", refusing, *KEY, env={SECRET_VARIABLE: SECRET})
    else:
        result = doctor("--url", refusing, *KEY, "--secret-token-file", "-", stdin=f"{SECRET}\n")
    assert "FAIL valid-key: 401" in result.stdout
    assert SECRET in _Refusing.secrets


def test_a_proxy_that_nobody_answers_at_is_one_line() -> None:
    """Instead of a failure for every probe."""
    port = free_port()
    result = doctor("--url", "http://api.example.com/", "--connect", f"127.0.0.1:{port}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"gatekey: no answer from http://api.example.com (at 127.0.0.1:{port}): connection refused\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--url"),
        (["--url", "api.example.com"], "--url"),
        (["--url", "http://api.example.com/", "--connect", "proxy"], "--connect"),
        (["--url", "http://api.example.com/", "--echo-path", "echo"], "--echo-path"),
        (["--url", "http://api.example.com/", *KEY], SECRET_VARIABLE),
        (["--url", "http://api.example.com/", "--api-key", "a b"], "--api-key"),
        (["--url", "http://api.example.com/", "--secret-token-file", "-"], "needs --api-key"),
        (["--url", "http://api.example.com/", *KEY, "--secret-token-file", "/nonexistent"], "--secret-token-file"),
        (["--url", "https://api.example.com/", "--ca-file", __file__], "--ca-file"),
        (["--url", "http://api.example.com/", "--timeout", "0"], "--timeout"),
    ],
)
def test_a_wrong_call_is_told_before_anything_is_sent(arguments: list[str], says: str) -> None:
    """Exit status 2, naming the option."""
    result = doctor(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize("secret", ["doctor command secret", "gks_doctor-command-secret", ""])
def test_a_secret_of_another_form_is_refused_without_being_shown(secret: str) -> None:
    """A file with the wrong thing in it must not be sent anywhere, nor printed."""
    result = doctor("--url", "http://api.example.com/", *KEY, env={SECRET_VARIABLE: secret})
    assert result.exit_code == 2
    assert "the secret of --api-key" in result.stderr
    assert not secret or secret not in result.output


def test_a_secret_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Without a traceback, which would hold its bytes."""
    file = tmp_path / "secret"
    file.write_bytes(b"\xff\xfe\x00")
    result = doctor("--url", "http://api.example.com/", *KEY, "--secret-token-file", str(file))
    assert result.exit_code == 2
    assert "is no text" in result.stderr


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Terminal]:
    """Standard error as somebody watches it."""
    screen = _Terminal()
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", screen)
        yield screen


def test_somebody_who_watches_sees_how_far_it_is(
    refusing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bar on standard error; standard output holds the lines alone."""
    with terminal(monkeypatch) as screen, pytest.raises(SystemExit):
        main(["doctor", "--url", refusing])
    assert "probing" in screen.getvalue()
    assert "100%" in screen.getvalue()
    assert all(line.startswith(("PASS", "FAIL", "SKIP")) for line in capsys.readouterr().out.splitlines()[:-1])


def test_help_shows_examples_as_they_are_typed() -> None:
    """Each on a line of its own."""
    lines = [line.strip() for line in doctor("--help").output.splitlines()]
    assert "gatekey doctor --url https://api.example.com/orders" in lines
