"""The suite's search for secrets finds them: a run over a small test file that leaks fails, and does not tell the secret."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.support import leaks
from tests.support.servers import DEADLINE, PAGES, ROOT, search_pages

if TYPE_CHECKING:
    from pathlib import Path

SECRET = 'T0p-Secret/of the+leak"test'
HEAD = f"""
import asyncio, base64, html, json, logging, os, sqlite3, sys
from urllib.parse import quote, quote_plus
from tests.support import leaks
from tests.support.raw_http import RawResponse
SECRET = base64.b64decode({base64.b64encode(SECRET.encode())!r}).decode()
"""


def run(tmp_path: Path, source: str, *options: str) -> tuple[int, str]:
    """The exit status and the output of a run of the suite's configuration over one test file."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_small.py").write_text(source)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:valkey\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *options]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("PYTEST_ADDOPTS", "CI"):
        environ.pop(name, None)
    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


WAYS = {
    "printed": "print('x' + SECRET)",
    "printed to standard error": "print(SECRET, file=sys.stderr)",
    "written past Python": "os.write(1, SECRET.encode())",
    "logged": "logging.getLogger('x').warning(SECRET)",
    "as JSON": "print(json.dumps({'token': SECRET}))",
    "as JSON in JSON": "print(json.dumps(json.dumps({'token': SECRET})))",
    "percent-encoded": "print(quote(SECRET, safe=''))",
    "percent-encoded but for slashes": "print(quote(SECRET))",
    "percent-encoded in lower case": "print(quote(SECRET, safe='').lower().replace('t0p-s', 'T0p-S'))",
    "percent-encoded twice": "print(quote(quote(SECRET, safe=''), safe=''))",
    "percent-encoded to the last byte": "print(''.join(f'%{byte:02x}' for byte in SECRET.encode()))",
    "as a form field": "print(quote_plus(SECRET, safe='/'))",
    "in HTML": "print(html.escape(SECRET))",
    "in a template": "print(SECRET.replace('\"', '&#34;'))",
    "in hexadecimal": "print('ab' + SECRET.encode().hex() + 'cd')",
    "in upper-case hexadecimal": "print(SECRET.encode().hex().upper())",
    "in base64": "print(base64.b64encode(SECRET.encode()).decode())",
    "in a Basic header": "print(base64.b64encode(b'key:' + SECRET.encode()).decode())",
    "in a Bearer header": "print(base64.b64encode(b'k1' + SECRET.encode()).decode())",
    "in base64 with a neighbour": "print(base64.b64encode(SECRET.encode() + b'.more').decode())",
    "in base64 for URLs": "print(base64.urlsafe_b64encode(b'k' + SECRET.encode()).decode())",
    "in base64, percent-encoded": "print(quote(base64.b64encode(b'?' + SECRET.encode()), safe=''))",
    "as bytes": "print(SECRET.encode())",
    "in the service's log": """
    from service.observe.writer import LineWriter
    LineWriter(os.open(os.devnull, os.O_WRONLY)).put(SECRET.encode())""",
    "in a scrape": """
    from service.observe.metrics import Metrics
    Metrics(store='memory', version='1', revision=SECRET).render('')""",
    "in a traceback of the service": """
    from service.observe.logs import configure_logging
    from service.observe.writer import LineWriter
    configure_logging(LineWriter(os.open(os.devnull, os.O_WRONLY)), console=False, level="info")
    logging.getLogger("x").error("failed", exc_info=LookupError(SECRET))""",
    "in a span": """
    from contextlib import suppress
    from tests.support.otlp import Receiver
    with suppress(Exception):  # it is none that could be decoded
        Receiver(0).take("/v1/traces", SECRET.encode())""",
    "in a refusal": "RawResponse(401, (), SECRET.encode()).heard()",
    "in a redirect": "RawResponse(302, (('location', '/login?next=' + quote(SECRET)),)).heard()",
    "in a database": "in_database(tmp_path, 'CREATE TABLE t (x)', 'INSERT INTO t VALUES (?)')",
    "in a row that was deleted": """
    in_database(tmp_path, 'PRAGMA secure_delete = OFF', 'CREATE TABLE t (x)', 'INSERT INTO t VALUES (?), (1)',
                'DELETE FROM t WHERE x <> 1')""",
}


INSIDE = (
    "in the service's log",
    "in a scrape",
    "in a traceback of the service",
    "in a span",
    "in a refusal",
    "in a redirect",
)
STORED = ("in a database", "in a row that was deleted")


def function(way: str) -> str:
    return re.sub(r"\W", "_", way)


def source() -> str:
    """One test for each way, and what else the tests below look for."""
    leaky = "".join(
        f"\ndef test_{function(name)}({'tmp_path' if name in STORED else ''}):\n    {code}\n"
        for name, code in WAYS.items()
    )
    return f"""{HEAD}
def in_database(tmp_path, *statements):
    connection = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
    for statement in statements:
        connection.execute(statement, (SECRET,) if "?" in statement else ())
    connection.close()

from service.auth.peppers import Peppers

def test_hashed():
    Peppers({{1: b"p" * 32}}, current=1).hash(SECRET)
    print(SECRET)

def test_after_hashed():
    print(SECRET)

def test_registers():
    leaks.register(SECRET)
{leaky}
def test_fails():
    assert {{"token": SECRET}} == {{}}

def test_fine():
    print("fine")
    leaks.check("nothing", "a text")
"""


@pytest.fixture(scope="module", params=[[], ["-n2", "--dist=loadfile"]], ids=["one process", "several processes"])
def leaky_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    return run(tmp_path_factory.mktemp("leaky"), source(), *request.param)


@pytest.mark.parametrize("way", WAYS)
def test_a_test_that_leaks_a_secret_fails_by_name(leaky_run: tuple[int, str], way: str) -> None:
    """In whichever form and on whichever way it gets out."""
    code, output = leaky_run
    name = function(way)
    what = "log, metrics, traces or refusals" if way in INSIDE else "captured output"
    what = "database file keys.db" if way in STORED else what
    assert code == 1
    assert f"1 secret(s) of the tests stand in the {what} of test_small.py::test_{name}\n" in output
    assert f"ERROR test_small.py::test_{name}" in output


def test_a_secret_that_is_registered_later_is_found_at_the_end(leaky_run: tuple[int, str]) -> None:
    """The run names the test that had printed it."""
    _, output = leaky_run
    assert "registered later, stands in the captured output of test_small.py::test_after_hashed" in output


def test_the_secret_of_a_key_that_a_test_makes_need_not_be_registered(leaky_run: tuple[int, str]) -> None:
    """Whatever is hashed to be stored is a secret, as long as the test lasts."""
    _, output = leaky_run
    assert "ERROR test_small.py::test_hashed" in output
    assert "ERROR test_small.py::test_after_hashed" not in output


def test_no_report_shows_a_secret(leaky_run: tuple[int, str]) -> None:
    """Neither of a leak, nor the values of a failed assertion, nor what was captured."""
    _, output = leaky_run
    assert "FAILED test_small.py::test_fails" in output
    assert "[secret of the tests]" in output
    assert SECRET not in output


def test_a_test_that_leaks_nothing_passes(leaky_run: tuple[int, str]) -> None:
    """Using, registering and checking secrets is not leaking them."""
    _, output = leaky_run
    assert "test_fine" not in output


def test_a_run_without_leaks_passes(tmp_path: Path) -> None:
    """The check itself costs nothing but time."""
    code, output = run(tmp_path, f"{HEAD}\ndef test_fine():\n    leaks.register(SECRET)\n    print('fine')\n")
    assert code == 0, output


class Leaky(BaseHTTPRequestHandler):
    """Answers one page with the secret, and all others without."""

    page = ""

    def do_GET(self) -> None:
        body = (SECRET if self.path == self.page else "fine").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: this is no test of that."""


@pytest.mark.parametrize("page", PAGES)
def test_a_secret_in_a_public_page_of_a_served_process_fails_its_test(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever page; and a process without one passes."""
    leaks.register(SECRET)
    monkeypatch.setattr(Leaky, "page", page)
    with ThreadingHTTPServer(("127.0.0.1", 0), Leaky) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(AssertionError, match=f"1 secret.* the page {page} of a served process"):
                search_pages(server.server_port)
            monkeypatch.setattr(Leaky, "page", "none")
            search_pages(server.server_port)
        finally:
            server.shutdown()
            thread.join()
