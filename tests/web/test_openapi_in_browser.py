"""``/docs`` in a real Chromium, from a real service: it works without any other host and without breaking its own policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.chromium import Chromium, chromium_program
from tests.support.servers import GatekeyServer, gatekey, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.chromium import Page


@pytest.fixture(scope="module")
def server() -> Iterator[GatekeyServer]:
    with gatekey("--demo") as running:
        yield running


@pytest.fixture(scope="module")
def page(server: GatekeyServer, tmp_path_factory: pytest.TempPathFactory, *, require_all: bool) -> Iterator[Page]:
    browser = Chromium(chromium_program(require_all=require_all), tmp_path_factory.mktemp("chromium"))
    try:
        with browser.page(height=1600) as found:
            found.open(f"{server.base}/docs")
            wait_until(lambda: count(found, ".opblock"), "the operations are shown")
            yield found
    finally:
        browser.close()


def count(page: Page, selector: str) -> int:
    return int(page.evaluate(f"document.querySelectorAll({selector!r}).length"))


def test_every_operation_is_shown(page: Page) -> None:
    """In its group."""
    asked = page.evaluate("fetch('/openapi.json').then(answer => answer.json())")
    assert count(page, ".opblock") == sum(len(methods) for methods in asked["paths"].values())
    assert page.evaluate("[...document.querySelectorAll('.opblock-tag')].map(tag => tag.dataset.tag)") == [
        tag["name"] for tag in asked["tags"]
    ]


def test_it_asks_nobody_but_this_service(page: Page, server: GatekeyServer) -> None:
    """No CDN, no validator, no font of somebody else's."""
    addresses = [url for _, url in page.requested() if not url.startswith("data:")]
    assert addresses
    assert all(url.startswith(server.base) for url in addresses)


def test_an_operation_can_be_tried_with_a_key(page: Page) -> None:
    """What a person types as the two headers is sent with the request."""
    page.evaluate("document.querySelector('.btn.authorize').click()")
    wait_until(lambda: count(page, ".auth-container input"), "the form for the key is shown")
    for name, value in (("x-api-key", "demo-key"), ("x-secret-token", "demo-secret")):
        page.evaluate(FILL % (name, value))
    page.evaluate("document.querySelector('.btn-done').click()")
    page.evaluate("document.querySelector('#operations-Credentials-whoami button').click()")
    for button in (".try-out__btn", ".execute"):
        wait_until(lambda button=button: count(page, f"#operations-Credentials-whoami {button}"), f"{button} is shown")  # type: ignore[misc]  # bound at once
        page.evaluate(f"document.querySelector('#operations-Credentials-whoami {button}').click()")
    wait_until(lambda: count(page, STATUS), "the answer is shown")
    assert page.evaluate(f"document.querySelector({STATUS!r}).innerText").startswith("200")


def test_nothing_of_it_breaks_the_policy(page: Page) -> None:
    """No violation and no error was reported by the browser so far."""
    assert [problem for problem in page.problems() if problem != "GenericIssue"] == []


STATUS = ".live-responses-table tbody .response-col_status"

# React hears a change only through the native setter and an event.
FILL = """
(() => {
  const box = [...document.querySelectorAll('.auth-container form')].find(box => box.innerText.includes('Name: %s'));
  const input = box.querySelector('input');
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, '%s');
  input.dispatchEvent(new Event('input', {bubbles: true}));
  box.querySelector('button.authorize').click();
})()
"""
