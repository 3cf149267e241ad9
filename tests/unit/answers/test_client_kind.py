"""Browser or API client: every clause of the rule in its order, and the headers that real clients send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answers.client_kind import is_browser, is_form_post
from service.auth.credentials import Form, read_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SHAPES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "client_shapes.json").read_text("utf-8")
)
PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
NAVIGATION = {"Accept": PAGE, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def reader(headers: Mapping[str, str]) -> Callable[[str], str]:
    lower = {name.lower(): value for name, value in headers.items()}
    return lambda name: lower.get(name, "")


def judged(
    headers: Mapping[str, str],
    method: str = "GET",
    *,
    presented: bool = False,
    client: str = "auto",
    unsure: str = "api",
) -> bool:
    return is_browser(
        method=method, header=reader(headers), credential_presented=presented, client=client, unsure=unsure
    )


@pytest.mark.parametrize("shape", SHAPES, ids=[shape["client"] for shape in SHAPES])
def test_a_real_client_is_recognized_by_its_headers(shape: dict[str, Any]) -> None:
    """What was recorded from browsers, libraries and command-line programs."""
    api_key = [value for name, value in shape["headers"].items() if name.lower() == "x-api-key"]
    _, presented = read_credentials(api_key, [], [], frozenset(Form))
    assert judged(shape["headers"], shape["method"], presented=presented) == (shape["want"] == "browser")


def test_the_table_of_real_clients_has_every_kind_that_matters() -> None:
    """A row that gets lost would not be missed by the test above."""
    names = " ".join(shape["client"] for shape in SHAPES)
    kinds = ("navigation", "fetch", "XMLHttpRequest", "prefetch", "iframe", "form", "htmx", "WebSocket")
    programs = ("curl", "wget", "requests", "httpx", "aiohttp", "urllib", "Go net/http")
    assert [kind for kind in (*kinds, *programs) if kind not in names] == []
    assert len(SHAPES) >= 70


@pytest.mark.parametrize("client", ["auto", "api", "browser"])
@pytest.mark.parametrize("unsure", ["api", "browser"])
def test_whoever_presents_a_credential_is_an_api_client(client: str, unsure: str) -> None:
    """The first question: no other answer and no setting counts after it."""
    assert not judged(NAVIGATION, presented=True, client=client, unsure=unsure)


@pytest.mark.parametrize("unsure", ["api", "browser"])
@pytest.mark.parametrize(
    ("headers", "method"),
    [(NAVIGATION, "GET"), ({}, "OPTIONS"), ({"Upgrade": "websocket"}, "GET"), (JSON, "POST"), ({}, "DELETE")],
)
def test_the_policy_decides_before_any_header(headers: dict[str, str], method: str, unsure: str) -> None:
    """The second question: what an operator wrote down needs no guess."""
    assert judged(headers, method, client="browser", unsure=unsure)
    assert not judged(headers, method, client="api", unsure=unsure)


ORDER: list[tuple[str, str, dict[str, str], bool]] = [
    # OPTIONS, a websocket upgrade, a prefetch
    ("OPTIONS, though it looks like a navigation", "OPTIONS", NAVIGATION, False),
    ("a websocket upgrade before the navigation", "GET", NAVIGATION | {"Upgrade": "websocket"}, False),
    ("Upgrade in capitals", "GET", NAVIGATION | {"Upgrade": "WebSocket"}, False),
    ("one of several upgrades", "GET", NAVIGATION | {"Upgrade": "foo/1, websocket"}, False),
    ("an upgrade to something else", "GET", NAVIGATION | {"Upgrade": "h2c"}, True),
    ("Sec-Purpose before the navigation", "GET", NAVIGATION | {"Sec-Purpose": "prefetch"}, False),
    ("a prerender", "GET", NAVIGATION | {"Sec-Purpose": "prefetch;prerender"}, False),
    ("Purpose before the navigation", "GET", NAVIGATION | {"Purpose": "prefetch"}, False),
    ("Purpose in capitals", "GET", NAVIGATION | {"Purpose": "Prefetch"}, False),
    ("another purpose", "GET", NAVIGATION | {"Purpose": "reading"}, True),
    # a JSON request body
    ("a JSON body before the navigation", "POST", NAVIGATION | JSON, False),
    ("JSON with a parameter", "POST", NAVIGATION | {"Content-Type": "application/json; charset=utf-8"}, False),
    ("JSON in capitals", "POST", NAVIGATION | {"Content-Type": "Application/JSON"}, False),
    ("a structured suffix", "POST", NAVIGATION | {"Content-Type": "application/vnd.api+json"}, False),
    ("a problem sent as a body", "POST", NAVIGATION | {"Content-Type": "application/problem+json"}, False),
    ("JSON on a GET", "GET", {"Accept": PAGE} | JSON, False),
    ("not JSON: a sequence of JSON texts", "POST", NAVIGATION | {"Content-Type": "application/json-seq"}, True),
    # Sec-Fetch-Mode
    ("a navigation", "GET", NAVIGATION, True),
    ("a navigation that names no HTML", "GET", NAVIGATION | {"Accept": "*/*"}, True),
    ("a navigation in a frame", "GET", NAVIGATION | {"Sec-Fetch-Dest": "iframe"}, False),
    ("a navigation in an old frame", "GET", NAVIGATION | {"Sec-Fetch-Dest": "frame"}, False),
    ("an embedded object", "GET", NAVIGATION | {"Sec-Fetch-Dest": "object"}, False),
    ("a navigation to nothing said", "GET", {"Accept": PAGE, "Sec-Fetch-Mode": "navigate"}, False),
    ("fetch for a page", "GET", {"Accept": PAGE, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, False),
    ("a mode that nobody knows", "GET", NAVIGATION | {"Sec-Fetch-Mode": "surprise"}, False),
    ("a doubled mode", "GET", NAVIGATION | {"Sec-Fetch-Mode": "navigate,navigate"}, False),
    ("Sec-Fetch-Dest alone says nothing", "GET", {"Accept": PAGE, "Sec-Fetch-Dest": "iframe"}, True),
    ("a navigation before X-Requested-With", "GET", NAVIGATION | {"X-Requested-With": "com.example.webview"}, True),
    ("a navigation before the method", "POST", NAVIGATION, True),
    # X-Requested-With, HX-Request
    ("jQuery for a page", "GET", {"Accept": PAGE, "X-Requested-With": "XMLHttpRequest"}, False),
    ("htmx for a page", "GET", {"Accept": PAGE, "HX-Request": "true"}, False),
    ("htmx with a form", "POST", {"Accept": PAGE, "HX-Request": "true"} | FORM, False),
    # the method
    ("POST without a body", "POST", {"Accept": PAGE}, False),
    ("POST of XML", "POST", {"Accept": PAGE, "Content-Type": "application/xml"}, False),
    ("POST of a form", "POST", {"Accept": PAGE} | FORM, True),
    ("POST of a form in capitals", "POST", {"Accept": PAGE, "Content-Type": FORM["Content-Type"].upper()}, True),
    ("POST of files", "POST", {"Accept": PAGE, "Content-Type": "multipart/form-data; boundary=x"}, True),
    ("POST of a plain form", "POST", {"Accept": PAGE, "Content-Type": "text/plain"}, True),
    ("PUT", "PUT", {"Accept": PAGE}, False),
    ("DELETE", "DELETE", {"Accept": PAGE}, False),
    ("a method of our imagination", "BREW", {"Accept": PAGE}, False),
    ("a method in lower case is another method", "get", {"Accept": PAGE}, False),
    ("HEAD", "HEAD", {"Accept": PAGE}, True),
    # Accept
    ("HTML", "GET", {"Accept": "text/html"}, True),
    ("XHTML alone", "GET", {"Accept": "application/xhtml+xml"}, True),
    ("HTML in capitals", "GET", {"Accept": "Text/HTML"}, True),
    ("HTML with a parameter", "GET", {"Accept": "text/html;level=1;q=0.1"}, True),
    ("HTML with spaces around", "GET", {"Accept": " image/png , text/html ; q=0.4 "}, True),
    ("the least HTML", "GET", {"Accept": "text/html;q=0.001"}, True),
    ("HTML as much as JSON", "GET", {"Accept": "text/html;q=0.5, application/json;q=0.5"}, True),
    ("HTML more than JSON", "GET", {"Accept": "application/json;q=0.4, text/html;q=0.5"}, True),
    ("JSON more than HTML", "GET", {"Accept": "text/html;q=0.5, application/json;q=0.6"}, False),
    ("JSON with no weight is 1", "GET", {"Accept": "text/html;q=0.9, application/json"}, False),
    ("a problem more than HTML", "GET", {"Accept": "text/html;q=0.9, application/problem+json"}, False),
    ("a suffix more than HTML", "GET", {"Accept": "text/html;q=0.9, application/vnd.api+json"}, False),
    ("other JSON more than HTML", "GET", {"Accept": "text/html;q=0.9, text/json"}, False),
    (
        "the better of two HTML types",
        "GET",
        {"Accept": "text/html;q=0.1, application/xhtml+xml, text/json;q=0.5"},
        True,
    ),
    ("the better of two JSON types", "GET", {"Accept": "text/json;q=0.1, application/json, text/html;q=0.5"}, False),
    ("an image wanted more than HTML", "GET", {"Accept": "image/png, text/html;q=0.1"}, True),
    ("anything wanted more than HTML", "GET", {"Accept": "*/*, text/html;q=0.1"}, True),
    ("the weight's name in capitals", "GET", {"Accept": "text/html;Q=0.5, application/json;Q=0.6"}, False),
    ("a weight that is none counts as 1", "GET", {"Accept": "text/html;q=much, application/json;q=0.9"}, True),
    ("a weight above 1 counts as 1", "GET", {"Accept": "text/html;q=7, application/json;q=0.9"}, True),
    ("a negative weight counts as 1", "GET", {"Accept": "text/html;q=-1, application/json;q=0.9"}, True),
    ("no number, whatever Python thinks", "GET", {"Accept": "text/html;q=nan, application/json;q=0.9"}, True),
]


@pytest.mark.parametrize("unsure", ["api", "browser"])
@pytest.mark.parametrize(("method", "headers", "expected"), [row[1:] for row in ORDER], ids=[row[0] for row in ORDER])
def test_the_questions_are_asked_in_the_contracts_order(
    method: str,
    headers: dict[str, str],
    expected: bool,  # noqa: FBT001 - a column of the table
    unsure: str,
) -> None:
    """Whoever says something about itself is judged by that, whatever an operator thinks of those who do not."""
    assert judged(headers, method, unsure=unsure) is expected


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/json, text/plain, */*",
        "application/problem+json",
        "text/plain",
        "text/event-stream",
        "image/avif,image/webp,*/*;q=0.8",
        "image/*",
        "application/*",
        "image/*, */*",
        "text/html;q=0",
        "text/html;q=0, */*",
        "text/html;q=0.000, */*",
        "text/html;q=0., application/xhtml+xml;q=0",
        "*/*;q=0",
        "*/*; q=0.0",
        "text/*;q=0, */*",
        "text/html;q=0, application/json;q=0",
    ],
)
def test_naming_another_type_or_refusing_html_makes_an_api_client(accept: str) -> None:
    """Also where the operator sends the unsure ones to the login page."""
    assert not judged({"Accept": accept}, unsure="browser")


@pytest.mark.parametrize("headers", [{}] + [{"Accept": text} for text in ("", "*/*", "*/*;q=0.1", "*", "text/*", ",")])
def test_a_client_that_says_nothing_is_what_the_setting_says(headers: dict[str, str]) -> None:
    """GATEKEY_UNSURE_CLIENT, both ways."""
    assert not judged(headers, unsure="api")
    assert judged(headers, unsure="browser")
    assert judged(headers, "HEAD", unsure="browser")
    assert judged(headers | FORM, "POST", unsure="browser")


def test_the_unsure_setting_makes_no_browser_of_a_known_api_client() -> None:
    """Those that an earlier question has told apart stay what they are."""
    assert not judged(JSON, unsure="browser")
    assert not judged({}, "DELETE", unsure="browser")
    assert not judged({"HX-Request": "true"}, unsure="browser")
    assert not judged({}, "OPTIONS", unsure="browser")


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("POST", FORM, True),
        ("POST", {"Content-Type": "multipart/form-data; boundary=x"}, True),
        ("POST", {}, True),
        ("GET", FORM, False),
        ("HEAD", {}, False),
        ("OPTIONS", {}, False),
        ("POST", JSON, False),
    ],
)
def test_a_form_post_is_whatever_a_browser_sends_by_navigating(
    method: str,
    headers: dict[str, str],
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Its body is lost in the redirect, so it gets 303 and a landing page."""
    assert is_form_post(method, reader(headers)) is expected


@given(
    method=st.sampled_from(["GET", "POST", "PATCH"]),
    accept=st.text(st.sampled_from('texhmljson/*;,q=01.9+ "\\\x00é')),
    content_type=st.text(max_size=20),
    unsure=st.sampled_from(["api", "browser"]),
)
def test_no_header_makes_the_rule_raise(method: str, accept: str, content_type: str, unsure: str) -> None:
    """Anything can arrive."""
    headers = {"Accept": accept, "Content-Type": content_type}
    assert judged(headers, method, unsure=unsure) in (True, False)
