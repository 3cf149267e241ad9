"""A real Chromium without a window, driven over its debugging pipe: what a person's browser does with our pages."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",  # no network but loopback
    "--remote-debugging-pipe",
)

# The pipe's ends are the file descriptors 3 and 4 by definition.
_LAUNCHER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium_program(*, require_all: bool) -> str:
    """Chromium's path; skips the test, or fails it when nothing may be missing."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        (pytest.fail if require_all else pytest.skip)("chromium is not installed")
    return program


class Chromium:
    """The browser process. ``pages`` are opened one by one, each in a context (cookies, cache) of its own."""

    def __init__(self, program: str, profile: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _LAUNCHER,
                str(commands),
                str(answers),
                program,
                *_FLAGS,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._sent = 0
        self.events: list[dict[str, Any]] = []

    def _read(self) -> None:
        with os.fdopen(self._answers, "rb") as stream:
            rest = b""
            while chunk := os.read(stream.fileno(), 65536):
                *messages, rest = (rest + chunk).split(b"\0")
                for message in messages:
                    self._messages.put(json.loads(message))

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its result."""
        self._sent += 1
        command: dict[str, Any] = {"id": self._sent, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        data = json.dumps(command).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        while True:
            message = self._messages.get(timeout=DEADLINE)
            if message.get("id") == self._sent:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event, past ones included, that is wanted."""
        for event in self.events:
            if wanted(event):
                return event
        while True:
            event = self._messages.get(timeout=DEADLINE)
            self.events.append(event)
            if wanted(event):
                return event

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._commands, b'{"id":0,"method":"Browser.close"}\0')
        os.close(self._commands)
        try:
            self._process.wait(DEADLINE)
        finally:
            self._process.kill()
            self._process.wait()
        self._reader.join(DEADLINE)

    @contextlib.contextmanager
    def page(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator[Page]:
        """A blank page in a fresh context."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        for domain in ("Page", "Network", "Log", "Runtime", "Audits"):
            page.call(f"{domain}.enable")
        try:
            yield page
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command to this tab."""
        return self._browser.call(method, self._session, **parameters)

    def events(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of a kind so far."""
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        return [event["params"] for event in mine if event["method"] == method]

    def open(self, url: str) -> None:
        """Navigate as if typed into the address bar, and return when the page has loaded."""
        loads = len(self.events("Page.loadEventFired"))
        self.call("Page.navigate", url=url)
        self.wait_for_load(loads + 1)

    def wait_for_load(self, count: int) -> None:
        """Return when ``count`` pages have loaded in this tab so far."""
        self._browser.wait_for(lambda _: len(self.events("Page.loadEventFired")) >= count)

    def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression (promises are awaited). The debugger is not bound by the page's CSP."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def screenshot(self) -> bytes:
        """What a person sees, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def problems(self) -> list[str]:
        """What the browser complains about: violations of CSP, errors of the console, quirks mode."""
        entries = [event["entry"] for event in self.events("Log.entryAdded")]
        logged = [f"{entry['source']}: {entry['text']}" for entry in entries if entry["level"] == "error"]
        return logged + [event["issue"]["code"] for event in self.events("Audits.issueAdded")]

    def requested(self) -> list[tuple[str, str]]:
        """The type and URL of everything that this tab asked for."""
        return [(event["type"], event["request"]["url"]) for event in self.events("Network.requestWillBeSent")]
