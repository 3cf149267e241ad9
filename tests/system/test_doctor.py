"""``gatekey doctor`` against real proxies: silent about the shipped configurations, loud about each broken one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from service.cli import main
from tests.support import leaks
from tests.support.proxies import HOST, PROXIES, need_proxy, running_proxy
from tests.support.servers import DEADLINE, ROOT, GatekeyServer, clean_environment, key_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

API_KEY = "doctor-test-key"
SECRET = "doctor-test-secret"


class _Echo(BaseHTTPRequestHandler):
    """Takes every method and answers with the header lines that it got."""

    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self.close_connection = True  # bodies are not read
            self._answer()
        except OSError:
            self.close_connection = True

    def _answer(self) -> None:
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Print nothing: requests carry the tests' secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """What stands behind the proxies: Gatekey with one key, and an application that echoes headers."""

    gatekey_port: int
    app_port: int
    secret_file: Path


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    folder = tmp_path_factory.mktemp("doctor")
    keys, secret_file = folder / "keys.jsonl", folder / "secret"
    keys.write_bytes(key_line(API_KEY, secret=SECRET, domains=[HOST], scopes=["orders:read"]))
    secret_file.write_text(SECRET + "\n", encoding="utf-8")
    application = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    application.daemon_threads = True
    thread = threading.Thread(target=application.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server = GatekeyServer("--import", str(keys))
    try:
        server.wait_ready()
        yield Backends(gatekey_port=server.port, app_port=application.server_address[1], secret_file=secret_file)
    finally:
        server.stop()
        application.shutdown()
        thread.join(DEADLINE)
        application.server_close()


@contextmanager
def proxied(name: str, backends: Backends, *, edit: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address (host and port) of the proxy in front of the back ends."""
    with running_proxy(name, gatekey_port=backends.gatekey_port, app_port=backends.app_port, edit=edit) as proxy:
        yield urlsplit(proxy.base).netloc


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a run of the command left."""

    status: int
    output: str

    @property
    def probes(self) -> dict[str, dict[str, Any]]:
        """The probes of a JSON report by name."""
        return {probe["name"]: probe for probe in json.loads(self.output)["probes"]}

    @property
    def failed(self) -> dict[str, dict[str, Any]]:
        """Those that failed."""
        return {name: probe for name, probe in self.probes.items() if probe["result"] == "FAIL"}


def doctor(address: str, *arguments: str) -> Done:
    """The command, against the shipped host at this address."""
    result = CliRunner().invoke(main, ["doctor", *_where(address), *arguments])
    leaks.check(result.output, "what the doctor printed")
    return Done(status=result.exit_code, output=result.stdout)


def doctor_process(address: str, *arguments: str) -> Done:
    """The same as a process of its own, as an operator runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "service", "doctor", *_where(address), *arguments],
        env=clean_environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    leaks.check(done.stdout + done.stderr, "what the doctor printed")
    return Done(status=done.returncode, output=done.stdout)


def _where(address: str) -> list[str]:
    return ["--url", f"http://{HOST}/orders", "--connect", address]


def with_key(backends: Backends) -> list[str]:
    """The arguments for the probes that need a valid key and an echo."""
    return ["--api-key", API_KEY, "--secret-token-file", str(backends.secret_file), "--echo-path", "/echo"]


@pytest.mark.parametrize("name", PROXIES)
def test_a_shipped_configuration_passes_every_probe(name: str, backends: Backends, *, require_all: bool) -> None:
    """With a key and an echo path nothing fails, and only TLS, which the test has none of, is skipped."""
    need_proxy(name, require_all=require_all)
    with proxied(name, backends) as address:
        done = doctor_process(address, *with_key(backends), "--json")
    assert done.failed == {}
    assert [name for name, probe in done.probes.items() if probe["result"] == "SKIP"] == ["tls"]
    assert done.status == 0


ASK = '"${POLICY-default}"'
"""The end of HAProxy's line that asks Gatekey; a condition may follow."""

OPEN = {
    "nobody is asked": ("haproxy", {ASK: f"{ASK} if FALSE"}),
    "a return runs before auth_request": ("nginx", {"proxy_pass http://application;": 'return 200 "open";'}),
}

# What is wrong: the proxy, the edit of its shipped configuration (new text by old), and the probes that must notice.
MISTAKES: dict[str, tuple[str, dict[str, str], set[str]]] = {
    "a method is exempt": ("haproxy", {ASK: f"{ASK} unless METH_OPTIONS"}, {"odd-methods"}),
    "health checks are exempt": (
        "haproxy",
        {ASK: f"{ASK} unless {{ req.hdr(user-agent) -m beg kube-probe }}"},
        {"health-check-agent"},
    ),
    "a public prefix is exempt": ("haproxy", {ASK: f"{ASK} unless {{ path_beg /login }}"}, {"dot-segments"}),
    "upgrades are exempt": ("haproxy", {ASK: f"{ASK} unless {{ req.hdr(upgrade) -m found }}"}, {"upgrade"}),
    "cookies are believed": (
        "haproxy",
        {ASK: f"{ASK} unless {{ req.cook(session) -m found }}"},
        {"garbage-cookie"},
    ),
    "forged identity is believed": (
        "haproxy",
        {
            "http-request del-header x-gatekey- -m beg": "",
            ASK: f"{ASK} unless {{ req.hdr(x-gatekey-subject) -m found }}",
        },
        {"forged-identity", "forged-identity-with-key"},
    ),
    "HAProxy serves any host": (
        "haproxy",
        {"http-request return status 421 unless { req.hdr(host),host_only,lower -m str api.example.com }": ""},
        {"unserved-host"},
    ),
    "Envoy serves any host": (
        "envoy",
        {'domains: [api.example.com, "api.example.com:*"]': 'domains: ["*"]'},
        {"unserved-host"},
    ),
    "Traefik serves any host": (
        "traefik",
        {'rule: "Host(`api.example.com`)"': 'rule: "PathPrefix(`/`)"'},
        {"unserved-host"},
    ),
    "HAProxy shows the doors": (
        "haproxy",
        {"{ path /login /logout /login/oidc }": "{ path /login /logout /login/oidc } || { path_beg /auth/ }"},
        {"forward-door", "nginx-door", "nginx-denied-door", "envoy-door"},
    ),
    "nginx shows a door": (
        "nginx",
        {"location = /logout {": "location /auth/nginx/ {"},
        {"nginx-door", "nginx-denied-door"},
    ),
    "Caddy shows the doors": (
        "caddy",
        {"@gatekey path /login": "@gatekey path /auth/* /login"},
        {"forward-door", "nginx-door", "nginx-denied-door", "envoy-door"},
    ),
    "HAProxy keeps a forged host": (
        "haproxy",
        {
            "http-request del-header x-forwarded- -m beg": "",
            "%[req.hdr(host)]": "%[req.hdr(host)] unless { req.hdr(x-forwarded-host) -m found }",
        },
        {"forged-x-forwarded-host", "forged-context-with-key"},
    ),
    "HAProxy adds to a forged method": (
        "haproxy",
        {
            "http-request del-header x-forwarded- -m beg": "",
            "set-header X-Forwarded-Method": "add-header X-Forwarded-Method",
        },
        {"forged-x-forwarded-method", "forged-context-with-key"},
    ),
    "nginx forgets a context header": (
        "nginx",
        {"proxy_set_header X-Forwarded-Uri    $request_uri;": ""},
        {"no-credentials", "refusal-for-api", "refusal-for-browser", "forged-x-forwarded-uri", "valid-key"},
    ),
    "Traefik trusts everybody's context": (
        "traefik",
        {
            "trustForwardHeader: false": "trustForwardHeader: true",
            "entryPoints:\n  web:\n": "entryPoints:\n  web:\n    forwardedHeaders: { insecure: true }\n",
        },
        {
            *(f"forged-x-forwarded-{part}" for part in ("method", "proto", "host", "uri", "for")),
            "forged-context-with-key",
        },
    ),
    "nginx lets underscores through": (
        "nginx",
        {"underscores_in_headers off;": "underscores_in_headers on;"},
        {"forged-identity-with-key"},
    ),
    "Traefik keeps other spellings": (
        "traefik",
        {"      aliasHeadersStrategy: delete\n": ""},
        {"forged-identity-with-key"},
    ),
    "nginx passes a forged subject on": (
        "nginx",
        {"proxy_set_header X-Gatekey-Subject      $gatekey_subject;": ""},
        {"forged-identity-with-key"},
    ),
    "nginx passes the secret on": ("nginx", {'proxy_set_header X-Secret-Token "";': ""}, {"credentials-stay-out"}),
    "Envoy passes Authorization on": (
        "envoy",
        {"request_headers_to_remove: [authorization]": ""},
        {"credentials-stay-out"},
    ),
    "Caddy lets a client remove its identity": (
        "caddy",
        {"request_header -Connection": ""},
        {"identity-stays-in"},
    ),
    "HAProxy makes a key of the query": (
        "haproxy",
        {
            "http-request set-header X-Forwarded-Proto": "http-request set-header X-Api-Key %[url_param(api_key)]"
            " if { url_param(api_key) -m found }\n    http-request set-header X-Forwarded-Proto"
        },
        {"key-in-query"},
    ),
    "nginx takes the first of two keys": (
        "nginx",
        {
            "proxy_set_header Upgrade $http_upgrade;": "set $first $http_x_api_key;"
            ' if ($first ~ "^([^,]+),") { set $first $1; } proxy_set_header X-Api-Key $first;'
        },
        {"doubled-valid-key"},
    ),
    "nginx announces a body to the door": (
        "nginx",
        {'proxy_set_header Content-Length "";\n    proxy_set_header Upgrade': "proxy_set_header Upgrade"},
        {"body"},
    ),
    "nginx answers denials itself": (
        "nginx",
        {"error_page 401 403 500 = /_gatekey/denied;": ""},
        {"no-credentials", "refusal-for-api", "refusal-for-browser"},
    ),
    "nginx has no login page": ("nginx", {"location = /login {": "location = /signin {"}, {"login-page"}),
    "Envoy does not say who asks": (
        "envoy",
        {"- exact: accept\n": "- exact: accept-language\n", "- exact: sec-fetch-mode\n": "- exact: sec-fetch-user\n"},
        {"refusal-for-browser"},
    ),
}


@pytest.mark.parametrize("mistake", OPEN)
def test_an_open_site_fails_nearly_everything(mistake: str, backends: Backends, *, require_all: bool) -> None:
    """Where the proxy asks nobody, every way of asking without a key is reported."""
    proxy, edit = OPEN[mistake]
    need_proxy(proxy, require_all=require_all)
    with proxied(proxy, backends, edit=edit) as address:
        done = doctor(address)
    assert "FAIL no-credentials: 200; the path is not behind Gatekey" in done.output
    assert done.output.count("FAIL ") > 20
    assert done.status == 1


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_the_probes_that_are_about_it_and_no_others(
    mistake: str, backends: Backends, *, require_all: bool
) -> None:
    """Each broken configuration is reported by name, with a hint, and without false alarms beside."""
    proxy, edit, expected = MISTAKES[mistake]
    need_proxy(proxy, require_all=require_all)
    with proxied(proxy, backends, edit=edit) as address:
        done = doctor(address, *with_key(backends), "--json")
    assert set(done.failed) == expected, done.failed
    assert all(probe["hint"] for probe in done.failed.values())
    assert done.status == 1
