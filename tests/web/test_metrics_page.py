"""``/metrics``: who gets it, in which form, and what everybody else sees."""

from __future__ import annotations

import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from service.app import create_app
from tests.support import leaks
from tests.support.app import running_gatekey
from tests.support.keys import SECRET
from tests.support.servers import free_port, gatekey, key_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@contextmanager
def client(lines: list[bytes] | None = None, **environ: str) -> Iterator[FlaskClient]:
    with running_gatekey(lines or [], environ=environ) as running, create_app(gatekey=running).test_client() as made:
        yield made


def scrape(made: FlaskClient, *, peer: str = "127.0.0.1", **headers: str) -> TestResponse:
    return made.get("/metrics", headers=headers, environ_base={"REMOTE_ADDR": peer})


def assert_hidden(response: TestResponse) -> None:
    """The answer is that of an address where there is nothing."""
    assert response.status_code == 404
    assert response.content_type == "application/problem+json"
    assert response.get_json()["code"] == "not_found"
    assert b"gatekey_" not in response.data


PEERS = {
    "127.0.0.1": True,
    "127.8.9.10": True,
    "::1": True,
    "10.1.2.3": True,
    "172.16.0.1": True,
    "192.168.1.1": True,
    "fd00::1": True,
    "::ffff:10.1.2.3": True,
    "": True,  # a Unix socket: who may open it is decided by its file's permissions
    "192.0.2.1": False,
    "8.8.8.8": False,
    "172.32.0.1": False,
    "2001:db8::1": False,
    "::ffff:8.8.8.8": False,
    "no address": False,
    "fe80::1%eth0": False,
}


def test_by_default_loopback_and_private_networks_may_scrape() -> None:
    """Anybody else, and any peer whose address cannot be read, finds nothing."""
    with client() as made:
        for peer, allowed in PEERS.items():
            response = scrape(made, peer=peer)
            assert response.status_code == (200 if allowed else 404), peer
            if not allowed:
                assert_hidden(response)


def test_the_allowed_networks_are_a_setting() -> None:
    """``GATEKEY_METRICS_ALLOW`` replaces the default."""
    with client(GATEKEY_METRICS_ALLOW="192.0.2.0/24,2001:db8::/32") as made:
        assert scrape(made, peer="192.0.2.77").status_code == 200
        assert scrape(made, peer="2001:db8:1::1").status_code == 200
        assert_hidden(scrape(made, peer="127.0.0.1"))
        assert_hidden(scrape(made, peer="10.0.0.1"))


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Anything",
        "x-forwarded-for",
        "Forwarded",
        "Via",
    ],
)
@pytest.mark.parametrize("value", ["127.0.0.1", "", "1.1 proxy"])
def test_who_comes_through_a_proxy_finds_nothing(made: FlaskClient, name: str, value: str) -> None:
    """A catch-all proxy must not publish the metrics, whatever the header says."""
    assert_hidden(scrape(made, **{name: value}))


@pytest.fixture(scope="module")
def made() -> Iterator[FlaskClient]:
    with client() as one:
        yield one


def test_a_browser_sees_the_page_of_any_missing_address(made: FlaskClient) -> None:
    """The 404 is in the caller's shape, so it tells nothing."""
    headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    response = scrape(made, peer="192.0.2.1", **headers)
    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert b"gatekey_" not in response.data


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", parse_text),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", parse_text),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8", parse_openmetrics),
    ],
)
def test_the_form_follows_accept(
    made: FlaskClient, accept: str, content_type: str, parse: Callable[[str], Iterator[Any]]
) -> None:
    """Text for people and old scrapers, OpenMetrics for who asks."""
    response = scrape(made, Accept=accept)
    assert response.content_type.startswith(content_type)
    names = {family.name for family in parse(response.text)}
    assert {"gatekey_build_info", "gatekey_decision_duration_seconds", "gatekey_workers"} <= names


def test_an_odd_accept_header_is_no_error(made: FlaskClient) -> None:
    """A scrape is never a 500."""
    for accept in ("application/openmetrics-text;version=a", "\xff", ";", "application/openmetrics-text;version=1;q=x"):
        assert scrape(made, Accept=accept).status_code == 200


def test_only_get_reads_the_page(made: FlaskClient) -> None:
    """Anything else is refused in shape."""
    response = made.post("/metrics", environ_base={"REMOTE_ADDR": "127.0.0.1"})
    assert response.status_code == 405
    assert response.get_json()["code"] == "method_not_allowed"


def test_a_decision_is_seen_in_the_next_scrape_without_its_secret() -> None:
    """What was decided is counted by reason, and nothing a client chose is in the page."""
    headers = {"Host": "api.example.com", "x-api-key": "key-one", "x-secret-token": SECRET}
    with client([key_line("key-one", domains=["@gatekey"])]) as made:
        assert made.get("/v1/whoami", headers=headers).status_code == 200
        assert made.get("/v1/whoami", headers={**headers, "x-secret-token": "wrong-secret"}).status_code == 401
        text = scrape(made).text
    lines = text.splitlines()
    assert 'gatekey_decisions_total{outcome="allow",reason="ok"} 1.0' in lines
    assert 'gatekey_decisions_total{outcome="deny",reason="bad_secret"} 1.0' in lines
    assert 'gatekey_http_requests_total{route="whoami",status="4xx"} 1.0' in lines
    leaks.check(text, "the metrics")
    for chosen in ("key-one", "wrong-secret", "api.example.com", "127.0.0.1", "acme"):
        assert chosen not in text


def test_what_is_refused_before_a_door_sees_it_is_counted_too() -> None:
    """Each answered request moves one series, whichever part of the service answered it."""
    with client() as made:
        assert made.get("/auth/forward/default", headers={"X-Long": "x" * 20_000}).status_code == 431
        assert made.get("/auth/forward/").status_code == 404
        assert made.get("/auth/forward/default").status_code == 403
        lines = scrape(made).text.splitlines()
    assert 'gatekey_http_requests_total{route="other",status="4xx"} 2.0' in lines
    assert 'gatekey_http_requests_total{route="door_forward",status="4xx"} 1.0' in lines


def get(address: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - loopback
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_real_service_hides_metrics_behind_proxies_and_shows_them_on_the_admin_port() -> None:
    """On its own port for operators the page is there as well; a header that is not ASCII does not hide the proxy."""
    port = free_port()
    with gatekey(env={"GATEKEY_ADMIN_LISTEN": f"127.0.0.1:{port}"}) as server:
        status, body = get(f"{server.base}/metrics")
        assert status == 200
        families = {family.name: family for family in parse_text(body.decode())}
        assert families["gatekey_workers"].samples[0].value == 1
        assert families["gatekey_store_up"].samples[0].value == 1
        for header in ({"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "\xe9, 192.0.2.1"}, {"Via": "1.1 x"}):
            status, body = get(f"{server.base}/metrics", **header)
            assert status == 404
            assert b"gatekey_" not in body
        for accept in ("*/*", OPENMETRICS, "application/openmetrics-text;version=a"):
            status, body = get(f"http://127.0.0.1:{port}/metrics", Accept=accept)
            assert (status, b"gatekey_decisions_total" in body) == (200, True), accept
            assert b"_created" not in body
        leaks.check(body.decode(), "the metrics of the admin port")
