"""A real Chromium and a real service: what a refused person sees, and what the browser makes of our addresses."""

from __future__ import annotations

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from werkzeug.utils import redirect

from service.answers.client_kind import is_browser
from service.answers.next_url import NextUrls, safe_next
from service.auth.secret import Secret
from tests.support.chromium import Chromium, chromium_program
from tests.support.clock import FakeClock
from tests.support.servers import GatekeyServer, gatekey, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.chromium import Page

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "next_vectors.json").read_text("utf-8"))
REFUSED = [text for group in VECTORS["refused"].values() for text in group]
SITE = "https://app.example"
PIECES = (
    *"/\\.%?#@:;&= \t\n[]a",
    "//",
    "..",
    "%2f",
    "%5c",
    "%09",
    "%2e",
    "%25",
    "evil.example",
    "https:",
    "\uff0f",
    "é",
)

# WCAG 2.1, 1.4.3: the contrast of each element that holds text with the nearest background behind it.
CONTRASTS = """
(() => {
  const channel = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const color = parts(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const texts = [...document.body.querySelectorAll("*")].filter(
    element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()));
  return texts.map(element => {
    const [low, high] = [luminance(parts(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => a - b);
    return [element.textContent.trim(), (high + 0.05) / (low + 0.05)];
  });
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, require_all: bool) -> Iterator[Chromium]:  # noqa: FBT001 - a fixture
    chromium = Chromium(chromium_program(require_all=require_all), tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def server(browser: Chromium) -> Iterator[GatekeyServer]:  # noqa: ARG001 - without a browser no server is needed
    with gatekey("--demo") as running:
        yield running


def test_a_refused_navigation_lands_on_the_login_page(browser: Chromium, server: GatekeyServer) -> None:
    """The whole way: a person types an address, is redirected once, and reads a page."""
    with browser.page() as page:
        page.open(f"{server.base}/v1/whoami?a=b")
        address = urlsplit(page.evaluate("location.href"))
        assert (address.path, address.query.startswith("next=")) == ("/login", True)
        assert page.evaluate("document.title") == "Sign in · Gatekey"
        assert page.evaluate("document.querySelector('h1').innerText") == "Sign-in is not set up yet"
        assert page.problems() == []
        assert [kind for kind, _ in page.requested()] == ["Document", "Document"]
    [decision] = server.decisions(1, path="/v1/whoami", reason="missing_credentials")
    assert decision["status"] == 401


def test_an_error_page_loads_nothing_and_breaks_no_rule_of_its_own(browser: Chromium, server: GatekeyServer) -> None:
    """One request for the page, none for an icon, a script, a font or a sheet."""
    with browser.page() as page:
        page.open(f"{server.base}/no/such/page")
        assert page.evaluate("document.querySelector('h1').innerText") == "Not found"
        assert [kind for kind, _ in page.requested()] == ["Document"]
        assert [problem for problem in page.problems() if "404" not in problem] == []


@pytest.mark.parametrize("path", ["/login", "/no/such/page"])
def test_a_script_that_got_into_a_page_does_not_run(browser: Chromium, server: GatekeyServer, path: str) -> None:
    """The last line of defence, and the proof that the browser tells us about violations."""
    with browser.page() as page:
        page.open(server.base + path)
        page.evaluate(
            "for (const [tag, text] of [['script', 'window.ran = 1'], ['style', 'body { color: red }']])"
            " { const element = document.createElement(tag); element.textContent = text; document.body.append(element) }"
        )
        assert page.evaluate("window.ran") is None
        assert page.evaluate("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"
        wait_until(lambda: page.evaluate("1") and _violations(page), "the violation is reported")


def _violations(page: Page) -> list[str]:
    return [problem for problem in page.problems() if "Content Security Policy" in problem]


@pytest.mark.parametrize("path", ["/login", "/no/such/page"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_enough_contrast(
    browser: Chromium,
    server: GatekeyServer,
    path: str,
    dark: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """4.5 to 1 at least, in the light and in the dark."""
    with browser.page(dark=dark) as page:
        page.open(server.base + path)
        contrasts: list[tuple[str, float]] = page.evaluate(CONTRASTS)
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert len(contrasts) >= 5
    assert [text for text, contrast in contrasts if contrast < 4.5] == []
    assert (sum(map(int, background[4:-1].split(","))) < 3 * 64) == dark


@pytest.mark.parametrize("path", ["/login", "/no/such/page"])
@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_a_page_fits_every_screen(browser: Chromium, server: GatekeyServer, path: str, width: int) -> None:
    """No sideways scrolling down to 320 pixels (WCAG 2.1, 1.4.10), and lines that can be read on a wide one."""
    with browser.page(width=width) as page:
        page.open(server.base + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        card = page.evaluate("document.querySelector('main').getBoundingClientRect().toJSON()")
        assert card["left"] > 0
        assert card["right"] < width
        assert card["width"] <= 480
        assert page.screenshot().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["/login", "/no/such/page"])
def test_a_screen_reader_finds_its_way(browser: Chromium, server: GatekeyServer, path: str) -> None:
    """Landmarks and one first heading, as the browser's own accessibility tree has them."""
    with browser.page() as page:
        page.open(server.base + path)
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
        levels = [
            item["value"]["value"]
            for node in nodes
            if not node["ignored"] and node["role"]["value"] == "heading"
            for item in node["properties"]
            if item["name"] == "level"
        ]
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.evaluate("document.compatMode") == "CSS1Compat"
    assert (roles.count("main"), roles.count("banner"), levels.count(1)) == (1, 1, 1)
    assert levels == sorted(levels)


def resolved(page: Page, texts: list[str], base: str) -> list[str | None]:
    """The origin that each text has for the browser's own URL parser; ``None`` where it is no URL."""
    found: list[str | None] = page.evaluate(
        f"{json.dumps(texts)}.map(text => {{ try {{ return new URL(text, {json.dumps(base)}).origin }}"
        " catch { return null } })"
    )
    return found


def test_no_accepted_next_leaves_the_site_for_a_real_url_parser(browser: Chromium) -> None:
    """Every accepted vector and thousands of generated texts, as given and as Werkzeug's redirect sends them."""
    chance = random.Random(20260102)  # noqa: S311 - the same texts every time
    generated = ("/" + "".join(chance.choices(PIECES, k=chance.randint(1, 7))) for _ in range(20_000))
    accepted = sorted({*VECTORS["accepted"], *(text for text in generated if safe_next(text) is not None)})
    assert len(accepted) > 500
    locations = [redirect(text).headers["Location"] for text in accepted]
    with browser.page() as page:
        for base in (f"{SITE}/login?next=x", f"{SITE}/a/b/../c"):
            for texts in (accepted, locations):
                origins = resolved(page, texts, base)
                assert [text for text, origin in zip(texts, origins, strict=True) if origin != SITE] == []
        escapes = [origin for origin in resolved(page, REFUSED, f"{SITE}/login") if origin != SITE]
    assert len(escapes) > 60  # what the vectors are made of; the parser can tell


def test_no_accepted_signed_next_leads_to_another_host_for_a_real_url_parser(browser: Chromium) -> None:
    """What we take a destination's host to be is what the browser takes it to be."""
    urls = NextUrls(
        Secret("browser-key-of-the-tests"),
        hosts=(".example.org",),
        public_url="",
        login_url="/login",
        clock=FakeClock(),
    )
    chance = random.Random(20260103)  # noqa: S311 - the same texts every time
    starts = (SITE, "https://", "https://a.example.org", "https://app.example.org", "http://app.example")
    generated = {
        chance.choice(starts) + "".join(chance.choices((*PIECES, "a.example.org", ":443"), k=chance.randint(0, 5)))
        for _ in range(8_000)
    }
    accepted = sorted(text for text in generated if urls.accept(urls.mint(text), own_origin=SITE) == text)
    assert len(accepted) > 150
    with browser.page() as page:
        origins = resolved(page, [redirect(text).headers["Location"] for text in accepted], f"{SITE}/login")
    strays = [
        text
        for text, origin in zip(accepted, origins, strict=True)
        if origin is not None and origin != SITE and not (urlsplit(origin).hostname or "").endswith(".example.org")
    ]
    assert strays == []


SUBREQUESTS = b"""<!doctype html><title>x</title><iframe src=/iframe></iframe><img src=/img><object data=/object></object>
<form id=form method=post action=/form></form>
<script>
fetch('/fetch');
fetch('/fetch-html', {headers: {Accept: 'text/html'}});
fetch('/fetch-json', {method: 'POST', body: '{}', headers: {'Content-Type': 'application/json'}});
const request = new XMLHttpRequest(); request.open('GET', '/xhr'); request.send();
new WebSocket('ws://' + location.host + '/websocket');
new EventSource('/events');
navigator.sendBeacon('/beacon', 'x');
const link = document.createElement('link'); link.rel = 'prefetch'; link.href = '/prefetch'; document.head.append(link);
const rules = document.createElement('script'); rules.type = 'speculationrules';
rules.text = JSON.stringify({prefetch: [{urls: ['/speculative'], eagerness: 'immediate'}]}); document.head.append(rules);
</script>"""
SCRIPTED = (
    *("iframe", "img", "object", "fetch", "fetch-html", "fetch-json", "xhr", "websocket", "events", "beacon"),
    *("prefetch", "speculative"),
)


def test_of_all_that_a_browser_asks_only_what_a_person_opens_is_a_browsers_request(browser: Chromium) -> None:
    """Each kind of request of a real page, judged by the headers that this Chromium sends."""
    seen: dict[str, bool] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen[self.path.strip("/")] = is_browser(
                method=self.command,
                header=lambda name: self.headers.get(name, ""),
                credential_presented=False,
                client="auto",
                unsure="api",
            )
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = SUBREQUESTS if self.path == "/" else b"<!doctype html><title>done</title>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_arguments: Any) -> None:
            pass

    class Recorder(ThreadingHTTPServer):
        daemon_threads = True

    with Recorder(("127.0.0.1", 0), Handler) as recorder, browser.page() as page:
        thread = threading.Thread(target=recorder.serve_forever, args=(0.02,))
        thread.start()
        page.open(f"http://127.0.0.1:{recorder.server_address[1]}/")
        wait_until(lambda: set(SCRIPTED) <= set(seen), "every kind of request has arrived")
        loads = len(page.events("Page.loadEventFired"))
        page.evaluate("document.getElementById('form').submit()")
        page.wait_for_load(loads + 1)
        recorder.shutdown()
        thread.join()
    assert {name for name, browser_like in seen.items() if browser_like} == {"", "form"}
