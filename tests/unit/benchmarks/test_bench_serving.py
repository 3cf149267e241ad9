"""A contender is started, its answers are checked before anything is measured, and nothing of it stays behind."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.bench.contender import Contender, Launch, Request
from benchmarks.bench.errors import BadRun
from benchmarks.bench.serving import ask, serve

if TYPE_CHECKING:
    from benchmarks.bench.contender import Place

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are pinned to cores on Linux only")

SERVER = """
import http.server, pathlib, sys
port, key_file, lets_everybody_in = int(sys.argv[1]), pathlib.Path(sys.argv[2]), len(sys.argv) > 3

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = self.headers.get("x-api-key") == "made-up"
        print("one line for each request", flush=True)
        self.send_response(200 if known or lets_everybody_in else 401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", port), Handler)
key_file.write_text("made-up")
server.serve_forever()
"""
REQUEST = Request(path="/", headers={"x-api-key": "{key}"})


def contender(script: str, *arguments: str) -> Contender:
    def launch(place: Place) -> Launch:
        return Launch(command=(sys.executable, "-c", script, str(place.port), str(place.key_file), *arguments))

    return Contender(
        name="made-up",
        title="Made up",
        setup="for this test",
        kind="rival",
        launch=launch,
        request=REQUEST,
        refused=REQUEST.changed(expected=401, x_api_key="wrong"),
        makes_key=True,
    )


def cores() -> frozenset[int]:
    return frozenset({min(os.sched_getaffinity(0))})


def test_a_contender_serves_on_its_cores_with_the_key_that_it_made_up() -> None:
    """What it writes is counted, and its process is gone at the end."""
    with serve(contender(SERVER), cores()) as (running, port, request):
        (pid,) = running.processes
        assert request.headers == {"x-api-key": "made-up"}
        assert ask(port, request) == 200
        assert os.sched_getaffinity(pid) == cores()
    assert running.lines >= 3  # each answer that was checked, and the one above
    assert running.has_ended
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (contender(SERVER, "everybody"), "the answer is 200 where 401 was expected"),
        (contender("raise SystemExit('no such module')"), "it ended at its start: no such module"),
    ],
    ids=["lets everybody in", "ends at once"],
)
def test_one_that_does_not_do_its_work_is_not_measured(made: Contender, message: str) -> None:
    """It would be fast."""
    with pytest.raises(BadRun, match=message), serve(made, cores()):
        pytest.fail("it was served")


def test_a_program_that_is_missing_is_told() -> None:
    """And does not end the whole run."""

    def launch(_: Place) -> Launch:
        return Launch(command=("/nonexistent/server",))

    made = Contender(name="missing", title="", setup="", kind="rival", launch=launch, request=REQUEST, refused=REQUEST)
    with pytest.raises(BadRun, match="could not be started"), serve(made, cores()):
        pytest.fail("it was served")
