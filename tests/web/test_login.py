"""The login page of a version without sign-in, and what lies around it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from tests.support.app import running_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

BROWSER = {"Accept": "text/html,*/*;q=0.8"}
FORM = {**BROWSER, "Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    with running_app() as app:
        yield app.test_client()


class Outline(HTMLParser):
    """The elements of a page with their attributes, and the text of its title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.title = ""
        self._tag = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self._tag == "title":
            self.title += data.strip()

    def count(self, tag: str) -> int:
        return sum(1 for name, _ in self.elements if name == tag)


def pages(client: FlaskClient) -> list[TestResponse]:
    return [client.get("/login", headers=BROWSER), client.get("/no/such/path", headers=BROWSER)]


def test_the_login_page_is_there_and_says_what_is_missing(client: FlaskClient) -> None:
    """200 for whoever asks, never stored."""
    for headers in (BROWSER, {}, {"Accept": "application/json"}):
        answer = client.get("/login", headers=headers)
        assert (answer.status_code, answer.mimetype) == (200, "text/html")
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Sign-in is not set up yet" in answer.text


@pytest.mark.parametrize(
    "query",
    ["next=%2Fok", "next=%2F%2Fevil.example", "next=%3Cscript%3E", "next=%00%ff", "next=", "next=a&next=b", "%", "x"],
)
def test_whatever_next_is_given_the_page_is_the_same(client: FlaskClient, query: str) -> None:
    """It is shown nowhere, so it can do no harm."""
    answer = client.get(f"/login?{query}", headers=BROWSER)
    assert answer.status_code == 200
    assert answer.text == client.get("/login", headers=BROWSER).text


def test_a_browser_that_was_refused_arrives_there(client: FlaskClient) -> None:
    """Following the redirect with its signed ``next``."""
    refused = client.get("/v1/whoami", headers=BROWSER)
    assert refused.status_code == 302
    answer = client.get(refused.headers["Location"], headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")


def test_head_gets_no_body(client: FlaskClient) -> None:
    """And the same headers."""
    answer = client.head("/login")
    assert (answer.status_code, answer.data) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 1000


@pytest.mark.parametrize(("path", "status"), [("/login", 405), ("/logout", 404), ("/login/oidc", 404)])
@pytest.mark.parametrize("headers", [FORM, {"Content-Type": "application/json"}])
def test_what_needs_sign_in_fails_in_the_right_shape(
    client: FlaskClient, path: str, status: int, headers: dict[str, str]
) -> None:
    """Until there is one."""
    answer = client.post(path, data=b"{}", headers=headers)
    assert answer.status_code == status
    assert answer.mimetype == ("text/html" if headers is FORM else "application/problem+json")
    if status == 405:
        assert "GET" in answer.headers["Allow"]


def test_a_page_allows_nothing_but_its_own_style(client: FlaskClient) -> None:
    """No script at all, no frame around it, no form to elsewhere; the sheet is the one whose hash the policy names."""
    for answer in pages(client):
        directives = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert directives["default-src"] == "'none'"
        assert directives["frame-ancestors"] == directives["base-uri"] == "'none'"
        assert directives["form-action"] == "'self'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert directives["style-src"] == f"'sha256-{digest}'"
        assert answer.headers["Referrer-Policy"] == "same-origin"


def test_a_page_is_self_contained(client: FlaskClient) -> None:
    """Nothing is fetched: a refused browser could not, and a page about a failure must not depend on more requests."""
    for answer in pages(client):
        outline = Outline(answer.text)
        assert not {"script", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in outline.elements}
        for tag, attributes in outline.elements:
            assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
            address = attributes.get("href") or attributes.get("src") or ""
            assert address.startswith("data:") or not address


def test_a_page_can_be_read_by_a_screen_reader(client: FlaskClient) -> None:
    """A language, a title of its own, one first heading, landmarks, and text that can be enlarged."""
    titles = set()
    for answer in pages(client):
        outline = Outline(answer.text)
        assert ("html", {"lang": "en"}) in outline.elements
        assert outline.title.endswith("· Gatekey")
        titles.add(outline.title)
        assert (outline.count("h1"), outline.count("main"), outline.count("header")) == (1, 1, 1)
        [viewport] = [
            attributes["content"] for tag, attributes in outline.elements if attributes.get("name") == "viewport"
        ]
        assert viewport == "width=device-width, initial-scale=1"
        for tag, attributes in outline.elements:
            assert tag != "svg" or attributes["aria-hidden"] == "true"
    assert len(titles) == 2
