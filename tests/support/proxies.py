"""The real proxies with the configurations that the project ships, in front of a real application and a real Gatekey."""

from __future__ import annotations

import http.client
import signal
import socket
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from demo.programs import find_program
from tests.support.servers import ROOT, GatekeyServer, Process, accepts, clean_environment, free_port, wait_until
from tests.support.upstream import Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "HOST",
    "PROXIES",
    "Behind",
    "Reply",
    "RunningProxy",
    "behind_proxy",
    "find_program",
    "need_proxy",
    "running_proxy",
    "send",
]

PROXIES = ("caddy", "envoy", "haproxy", "nginx", "traefik")
HOST = "api.example.com"
"""The only host that the shipped configurations serve."""

_SHIPPED = ROOT / "deploy" / "proxies"
_TIMEOUT = 45.0  # longer than any proxy waits for Gatekey (Traefik: 30 s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a client got: header lines with names in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of all lines of a header."""
        return [value for found, value in self.headers if found == name]

    def header(self, name: str) -> str | None:
        """The first line's value."""
        return next(iter(self.values(name)), None)


def send(
    base: str,
    target: str,
    *,
    method: str = "GET",
    host: str | None = HOST,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    chunked: bool = False,
    timeout: float = _TIMEOUT,
) -> Reply:
    """The answer to one request, which is sent byte for byte as told: no header is added but ``Host`` and the framing."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [f"{name}: {value}" for name, value in headers]
    if chunked:
        lines += ["Transfer-Encoding: chunked"]
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    elif body:
        lines += [f"Content-Length: {len(body)}"]
    address = urlsplit(base)
    with socket.create_connection((address.hostname, address.port), timeout=timeout) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return _read_reply(connection, method)


def _read_reply(connection: socket.socket, method: str) -> Reply:
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        found = [(name.lower(), value) for name, value in response.getheaders()]
        return Reply(status=response.status, headers=found, body=b"" if response.status == 101 else response.read())
    finally:
        response.close()


def need_proxy(name: str, *, require_all: bool) -> None:
    """Skip the test (or fail it, with ``--require-all``) when the proxy is not installed."""
    if find_program(name) is None:
        message = f"{name} is not installed"
        if require_all:
            pytest.fail(message)
        pytest.skip(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """One proxy at ``base``, with Gatekey and an application behind it."""

    name: str
    base: str
    process: Process
    upstream: Upstream
    gatekey: GatekeyServer
    config: Path

    def send(self, target: str, **options: Any) -> Reply:
        """The proxy's answer to a request; options as those of the function ``send``."""
        return send(self.base, target, **options)

    @contextmanager
    def policies(self, text: str) -> Iterator[None]:
        """Gatekey with other policies (TOML), as long as the block lasts."""
        before = self.config.read_text(encoding="utf-8")
        self._reload(text)
        try:
            yield
        finally:
            self._reload(before)

    def _reload(self, text: str) -> None:
        def reloads() -> int:
            return sum(event["event"] == "policies_reloaded" for event in self.gatekey.events)

        seen = reloads()
        self.config.write_text(text, encoding="utf-8")
        self.gatekey.send_signal(signal.SIGHUP)
        wait_until(lambda: reloads() > seen, "the policies are reloaded")


@contextmanager
def behind_proxy(
    name: str,
    *,
    keys: Sequence[bytes] = (),
    policies: str = "",
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[Behind]:
    """The application, ``gatekey serve`` with these import lines and policies (TOML), and the proxy in front of both.

    The proxy asks for the policy ``default`` and serves ``HOST``.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        application = stack.enter_context(upstream())
        config, key_file = folder / "gatekey.toml", folder / "keys.jsonl"
        config.write_text(policies, encoding="utf-8")
        key_file.write_bytes(b"".join(keys))
        settings = {"GATEKEY_CONFIG": str(config), **(env or {})}
        server = GatekeyServer("--import", str(key_file), *arguments, env=settings)
        stack.callback(server.stop)
        proxy = stack.enter_context(running_proxy(name, gatekey_port=server.port, app_port=application.port))
        server.wait_ready()
        yield Behind(
            name=name, base=proxy.base, process=proxy.process, upstream=application, gatekey=server, config=config
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningProxy:
    """A proxy at ``base``."""

    base: str
    process: Process


@contextmanager
def running_proxy(
    name: str, *, gatekey_port: int, app_port: int, policy: str = "default", edit: Mapping[str, str] | None = None
) -> Iterator[RunningProxy]:
    """The proxy alone, with its shipped configuration; ``edit`` replaces further text of it (old by new)."""
    program = find_program(name)
    assert program is not None, f"{name} is not installed"
    with tempfile.TemporaryDirectory() as folder:
        plan = _Plan(
            folder=Path(folder),
            program=program,
            port=free_port(),
            gatekey=f"127.0.0.1:{gatekey_port}",
            app=f"127.0.0.1:{app_port}",
            policy=policy,
            edit=dict(edit or {}),
        )
        command, variables = _COMMANDS[name](plan)
        environment = {**clean_environment(), "HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_DATA_HOME": folder}
        process = Process(command, env={**environment, **variables}, cwd=plan.folder)
        base = f"http://127.0.0.1:{plan.port}"
        try:
            wait_until(lambda: _is_ready(name, plan.port) or process.returncode is not None, f"{name} is ready")
            assert process.returncode is None, f"{name} has ended:\n" + "\n".join(process.lines)
            yield RunningProxy(base=base, process=process)
        finally:
            process.stop()


def _is_ready(name: str, port: int) -> bool:
    """Whether the proxy serves; Traefik listens before it has read its routers, and answers 404 until then."""
    if not accepts(port):
        return False
    return name != "traefik" or send(f"http://127.0.0.1:{port}", "/", host=_TRAEFIK_READY).status != 404


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Where things are in one run."""

    folder: Path
    program: str
    port: int
    gatekey: str
    app: str
    policy: str
    edit: dict[str, str]

    def copy(self, shipped: str, replacements: Mapping[str, str] | None = None) -> Path:
        """The shipped file in the run's folder, each of the marked texts replaced; one that is not there fails."""
        source = _SHIPPED / shipped
        text = source.read_text(encoding="utf-8")
        wanted = {**(replacements or {}), **{old: new for old, new in self.edit.items() if old in text}}
        for old, new in wanted.items():
            assert old in text, f"{shipped} has no {old!r} to replace"
            text = text.replace(old, new)
        target = self.folder / source.name
        target.write_text(text, encoding="utf-8")
        return target


def _caddy(plan: _Plan) -> tuple[list[str], dict[str, str]]:
    config = plan.copy("caddy/Caddyfile")
    variables = {
        "SITE": f"http://{HOST}:{plan.port}",
        "OTHERS": f"http://:{plan.port}",
        "GATEKEY": plan.gatekey,
        "APP": plan.app,
        "POLICY": plan.policy,
        "CADDY_ADMIN": f"localhost:{free_port()}",
    }
    return [plan.program, "run", "--config", str(config), "--adapter", "caddyfile"], variables


def _traefik(plan: _Plan) -> tuple[list[str], dict[str, str]]:
    replacements = {
        '":80"': f'"127.0.0.1:{plan.port}"',
        "filename: dynamic.yml": "directory: dynamic\n  providersThrottleDuration: 50ms",
    }
    config = plan.copy("traefik/traefik.yml", replacements)
    dynamic = plan.folder / "dynamic"
    dynamic.mkdir()
    plan.copy("traefik/dynamic.yml").rename(dynamic / "dynamic.yml")
    (dynamic / "ready.yml").write_text(_TRAEFIK_ROUTER, encoding="utf-8")
    variables = {"GATEKEY": plan.gatekey, "APP": plan.app, "POLICY": plan.policy}
    return [plan.program, f"--configFile={config}"], variables


def _envoy(plan: _Plan) -> tuple[list[str], dict[str, str]]:
    config = plan.copy(
        "envoy/envoy.yaml",
        {
            "0.0.0.0, port_value: 80 ": f"127.0.0.1, port_value: {plan.port} ",
            "port_value: 8000 ": f"port_value: {plan.gatekey.rpartition(':')[2]} ",
            "port_value: 9000 ": f"port_value: {plan.app.rpartition(':')[2]} ",
            "/auth/envoy/default": f"/auth/envoy/{plan.policy}",
        },
    )
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    return [plan.program, "-c", str(config), *options], {}


def _haproxy(plan: _Plan) -> tuple[list[str], dict[str, str]]:
    config = plan.copy("haproxy/haproxy.cfg")
    plan.copy("haproxy/gatekey.lua")
    variables = {
        "LISTEN": f"127.0.0.1:{plan.port}",
        "GATEKEY": plan.gatekey,
        "APP": plan.app,
        "POLICY": plan.policy,
    }
    return [plan.program, "-db", "-f", str(config)], variables


def _nginx(plan: _Plan) -> tuple[list[str], dict[str, str]]:
    for include in ("gatekey-call.inc", "gatekey-location.inc", "gatekey-server.inc"):
        plan.copy(f"nginx/{include}")
    plan.copy(
        "nginx/gatekey.conf",
        {
            "listen 80": f"listen 127.0.0.1:{plan.port}",
            "server 127.0.0.1:8000": f"server {plan.gatekey}",
            "server 127.0.0.1:9000": f"server {plan.app}",
            "$gatekey_policy default": f"$gatekey_policy {plan.policy}",
        },
    )
    main = plan.folder / "nginx.conf"
    main.write_text(_NGINX_CONF, encoding="utf-8")
    return [plan.program, "-p", str(plan.folder), "-e", "stderr", "-c", str(main)], {}


# Becomes known together with the shipped routers, and asks nobody.
_TRAEFIK_READY = "ready.invalid"
_TRAEFIK_ROUTER = f"""
http:
  routers:
    ready:
      rule: Host(`{_TRAEFIK_READY}`)
      service: noop@internal
"""

# What a distribution's nginx.conf has, as far as the tests need it.
_NGINX_CONF = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include gatekey.conf;
}
"""

_COMMANDS = {"caddy": _caddy, "envoy": _envoy, "haproxy": _haproxy, "nginx": _nginx, "traefik": _traefik}
