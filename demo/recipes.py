"""How each part of the stack is started, with the files of ``deploy/demo``; nothing here starts anything by itself."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from demo import prepare
from demo.parts import Part, answers, run
from demo.places import ROOT, environment
from demo.programs import NOBODY, as_nobody

if TYPE_CHECKING:
    from pathlib import Path

    from demo.places import Places

__all__ = [
    "GATEKEYS",
    "alertmanager",
    "caddy",
    "configurations",
    "fill",
    "gatekey",
    "load",
    "postgres",
    "prometheus",
    "valkey",
]

GATEKEYS: Final = {"gatekey": 2, "gatekey-valkey": 1}
"""The services and their workers."""

_OWN: Final = ROOT / "deploy/demo"


def configurations(places: Places, *, alerted: bool) -> None:
    """Secrets, and the shipped configurations with this demo's addresses in the place of compose.yaml's."""
    secret, config = places.folder / "secrets", places.folder / "config"
    for folder in (secret, config):
        folder.mkdir(mode=0o711)
    (places.folder / "logs").mkdir(mode=0o700)
    prepare.make_secrets(
        secret,
        postgres=f"{places.at('postgres')}/postgres",
        valkey=f"{places.at('valkey')}/0",
        domains=[*places.hosts("site"), *places.hosts("valkey-site")],
        owners={"postgres": (NOBODY, NOBODY)} if os.geteuid() == 0 else {},
    )
    changes = {f'"{service}:8000"': f'"{places.at(service)}"' for service in GATEKEYS}
    changes |= {
        '"alertmanager:9093"': f'"{places.at("alertmanager")}"' if alerted else "",
        "https://gatekey.example.com/docs": places.url("docs"),
    }
    prepare.configure(ROOT, config, changes)
    for name, source in {"demo": _OWN, "proxies/caddy": ROOT / "deploy/proxies/caddy"}.items():
        (config / "caddy" / name).mkdir(parents=True)
        shutil.copy(source / "Caddyfile", config / "caddy" / name)
    shipped = config / "caddy/proxies/caddy/Caddyfile"
    text = shipped.read_text(encoding="utf-8")
    shipped.write_text(text.replace("\n{\n", "\n{\n\tdefault_bind 127.0.0.1\n", 1), encoding="utf-8")


def postgres(places: Places, programs: Path) -> Part:
    """An empty server that nobody enters without the password."""
    folder = places.folder / "postgres"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    port, data = str(places.ports["postgres"]), str(folder / "data")
    access = ["--auth=scram-sha-256", f"--pwfile={places.secret('postgres/password')}"]
    making = ["-D", data, "-U", "gatekey", "-E", "UTF8", "--locale=C", "--no-sync", *access]
    run("initdb", [*as_nobody(), str(programs / "initdb"), *making], environment(), cwd=folder)
    ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", port]
    serving = ["-D", data, "-h", "127.0.0.1", "-p", port, "-k", "", "-c", "fsync=off"]
    return Part(
        name="postgres",
        command=[*as_nobody(), str(programs / "postgres"), *serving],
        log=places.log("postgres"),
        ready=lambda: subprocess.run(ready, check=False, env=environment(), timeout=30).returncode == 0,
        environ=environment(),
        stop_signal=signal.SIGINT,  # its fast shutdown
    )


def valkey(places: Places, program: str) -> Part:
    """Likewise."""
    folder = places.folder / "valkey"
    folder.mkdir(mode=0o700)
    port = places.ports["valkey"]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    return Part(
        name="valkey",
        command=[program, places.secret("valkey/valkey.conf"), *options],
        log=places.log("valkey"),
        ready=lambda: _speaks(port),
        environ=environment(),
    )


def fill(places: Places, service: str) -> None:
    """Prepare the store of a service and import the keys."""
    for words in (["migrate"], ["keys", "import", places.secret("keys/keys.jsonl")]):
        command = [sys.executable, "-m", "service", *words]
        run(f"gatekey {words[0]}", command, {**environment(), **places.settings(service)}, cwd=places.folder)


def gatekey(places: Places, service: str) -> Part:
    """The service itself; it does not drain, since nobody waits for it."""
    serving = {
        "GATEKEY_PORT": str(places.ports[service]),
        "GATEKEY_WORKERS": str(GATEKEYS[service]),
        "GATEKEY_DRAIN": "0",
    }
    return Part(
        name=service,
        command=[sys.executable, "-m", "service", "serve"],
        log=places.log(service),
        ready=lambda: answers(places.url(service, "/readyz")),
        environ={**environment(), **places.settings(service), **serving},
    )


def caddy(places: Places, program: str) -> Part:
    """The proxy, the application behind it, and the pages for the links of alerts."""

    def sites(*names: str) -> str:
        return ", ".join(f"http://{host}" for name in names for host in places.hosts(name))

    home = str(places.folder / "caddy")
    addresses = {
        "SITE": sites("site"),
        "VALKEY_SITE": sites("valkey-site"),
        "DOCS_SITE": sites("docs"),
        "OTHERS": ", ".join(f"http://:{places.ports[name]}" for name in ("site", "valkey-site", "docs")),
        "GATEKEY": places.at("gatekey"),
        "GATEKEY_VALKEY": places.at("gatekey-valkey"),
        "APP": places.at("application"),
        "APP_SITE": places.url("application"),
        "DOCS": str(ROOT / "docs"),
        "POLICY": "orders",
        "CADDY_ADMIN": places.at("caddy-admin"),
    }
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), home)
    config = str(places.folder / "config/caddy/demo/Caddyfile")
    return Part(
        name="caddy",
        command=[program, "run", "--config", config, "--adapter", "caddyfile"],
        log=places.log("caddy"),
        ready=lambda: answers(places.url("site")) and answers(places.url("valkey-site")),
        environ={**environment(), **homes, **addresses},
    )


def prometheus(places: Places, program: str) -> Part:
    """With the rules, and a day of history at most."""
    options = [
        f"--config.file={places.folder}/config/prometheus.yml",
        f"--storage.tsdb.path={places.folder}/prometheus",
        "--storage.tsdb.retention.time=1d",
        "--enable-feature=exemplar-storage",
        "--rules.alert.resend-delay=10s",  # the first ones are dropped: Alertmanager is found some seconds after the start
        f"--web.listen-address={places.at('prometheus')}",
        "--log.level=warn",
    ]
    return Part(
        name="prometheus",
        command=[program, *options],
        log=places.log("prometheus"),
        ready=lambda: answers(places.url("prometheus", "/-/ready")),
        environ=environment(),
    )


def alertmanager(places: Places, program: str) -> Part:
    """It shows what fires."""
    options = [
        f"--config.file={_OWN}/alertmanager.yml",
        f"--storage.path={places.folder}/alertmanager",
        f"--web.listen-address={places.at('alertmanager')}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    return Part(
        name="alertmanager",
        command=[program, *options],
        log=places.log("alertmanager"),
        ready=lambda: answers(places.url("alertmanager", "/-/ready")),
        environ=environment(),
    )


def load(places: Places) -> Part:
    """The same script as in compose.yaml."""
    heartbeat = places.folder / "load-answers"
    sites = [word for name in ("site", "valkey-site") for word in ("--site", places.at(name))]
    managers = [word for name in GATEKEYS for word in ("--manage", places.at(name))]
    keys = ["--keys", places.secret("keys/keys.jsonl"), "--heartbeat", str(heartbeat)]
    return Part(
        name="load",
        command=[sys.executable, str(ROOT / "demo/load.py"), *keys, *sites, *managers],
        log=places.log("load"),
        ready=heartbeat.exists,
        environ=environment(),
    )


def _speaks(port: int) -> bool:
    """Whether Valkey answers, if only that it wants a password."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
