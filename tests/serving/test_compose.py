"""What compose.yaml promises, as far as its text and the real programs can show it: Docker itself runs in no test."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatch
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]  # comes without types

from demo.load import main as load_main
from demo.prepare import main as prepare_main
from demo.prepare import make_secrets
from demo.programs import find_program
from service.auth.keyfile import read_key_lines
from service.settings import load_settings
from tests.support import alerts, leaks
from tests.support.clock import START
from tests.support.keys import PEPPERS
from tests.support.servers import DEADLINE, ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NAMES = sorted(SERVICES)
IGNORED = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()]
AWAITED = {
    name
    for service in SERVICES.values()
    for name, how in service.get("depends_on", {}).items()
    if how["condition"] == "service_completed_successfully"
}
"""What runs once, and what others wait for to end."""
READERS = {
    "postgres": {"postgres"},
    "valkey": {"valkey"},
    "gatekey": {"gatekey", "fill-postgres"},
    "gatekey-valkey": {"gatekey-valkey", "fill-valkey"},
    "keys": {"fill-postgres", "fill-valkey", "load"},
    "grafana": {"grafana"},
}
"""Folder of secrets -> who is shown it."""


def binds(name: str) -> list[tuple[str, str, str]]:
    """Files and folders of the checkout that a service sees: here, there, how."""
    parts = [volume.split(":") for volume in SERVICES[name].get("volumes", [])]
    return [(part[0], part[1], part[2] if len(part) > 2 else "rw") for part in parts if part[0].startswith(".")]


def test_everything_is_there_that_the_stack_promises() -> None:
    """Both stores with a Gatekey each, the proxy, what watches them, and the load."""
    wanted = {
        "gatekey",
        "gatekey-valkey",
        "postgres",
        "valkey",
        "caddy",
        "prometheus",
        "alertmanager",
        "grafana",
        "load",
    }
    assert wanted <= SERVICES.keys()
    assert wanted & AWAITED == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_image_is_pinned(name: str) -> None:
    """To a patch version, or it is built here from the lock."""
    image = SERVICES[name]["image"]
    if image == "gatekey:demo":
        assert SERVICES[name]["pull_policy"] == ("build" if "build" in SERVICES[name] else "never")
    else:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-alpine)?", image)
        assert name == "postgres" or image.count(".") == 2


def test_one_service_builds_the_image_for_all() -> None:
    """The first one, from the repository's Dockerfile."""
    assert {name: service["build"] for name, service in SERVICES.items() if "build" in service} == {"prepare": "."}


@pytest.mark.parametrize("name", NAMES)
def test_every_port_is_on_loopback(name: str) -> None:
    """And nothing takes the host's network."""
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert SERVICES[name].get("network_mode", "none") == "none"


def test_no_port_is_published_twice() -> None:
    """Two services would fight for it."""
    ports = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == len(set(ports))


@pytest.mark.parametrize("name", NAMES)
def test_every_service_has_few_rights(name: str) -> None:
    """Its file system is read-only, it is not root, and gains nothing; two exceptions say why beside them."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == {"prepare": ["CHOWN"], "caddy": ["NET_BIND_SERVICE"]}.get(name, [])
    assert service["user"].startswith("0:") == (name == "prepare")
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", NAMES)
def test_every_service_has_a_health_check_or_ends(name: str) -> None:
    """So that whoever needs it waits for it."""
    if name in AWAITED:
        assert SERVICES[name]["restart"] == "no"
        return
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= check.keys()


@pytest.mark.parametrize("name", NAMES)
def test_who_depends_on_a_service_waits_until_it_works(name: str) -> None:
    """Never only until it is started; everything waits for ``prepare`` in the end, but for what needs nothing of it."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        assert how["condition"] == ("service_completed_successfully" if other in AWAITED else "service_healthy")
    assert "prepare" in _needs(name) or name in ("prepare", "alertmanager")


def _needs(name: str) -> set[str]:
    direct = set(SERVICES[name].get("depends_on", {}))
    return direct.union(*(_needs(other) for other in direct))


@pytest.mark.parametrize("name", NAMES)
def test_every_mounted_file_exists_and_cannot_be_written(name: str) -> None:
    """Of the checkout; a folder that is not there would be made by Docker, as root."""
    for here, _, how in binds(name):
        assert (ROOT / here).exists(), here
        assert not any(fnmatch(part, pattern) for part in Path(here).parts for pattern in IGNORED), (
            here
        )  # not committed
        assert how == "ro", here
    for volume in SERVICES[name].get("volumes", []):
        source, _, _ = volume.partition(":")
        assert source.startswith(".") or source in COMPOSE["volumes"]
        assert not source.startswith("secrets") or volume.endswith(":ro") or name == "prepare"


def secret_folders(name: str) -> set[str]:
    """Where a service mounts what is secret."""
    parts = [volume.split(":") for volume in SERVICES[name].get("volumes", [])]
    return {part[1] for part in parts if part[1].startswith("/secrets") or part[0].startswith("secrets")}


def secret_files(name: str) -> set[str]:
    """The secrets that a service's command, environment and health check name."""
    names = {key: value for key, value in SERVICES[name].items() if key != "volumes"}
    return set(re.findall(r"/secrets/[\w/.-]+", json.dumps(names)))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "prepare"])
def test_no_service_is_shown_a_secret_that_it_does_not_read(name: str) -> None:
    """Several are the same user, so a mode of a file keeps none of them out; only what is not mounted does."""
    assert secret_folders(name) == {str(Path(file).parent) for file in secret_files(name)}


def test_every_folder_of_secrets_is_a_volume_of_its_own() -> None:
    """At the same place wherever it is mounted; ``prepare`` fills them all."""
    mounts = {
        (source, there)
        for service in SERVICES.values()
        for source, there, *_ in (volume.split(":") for volume in service.get("volumes", []))
        if there.startswith("/secrets") or source.startswith("secrets")
    }
    assert mounts == {(f"secrets-{folder}", f"/secrets/{folder}") for folder in READERS}
    assert secret_folders("prepare") == {f"/secrets/{folder}" for folder in READERS}
    for folder, readers in READERS.items():
        assert {name for name in NAMES if f"/secrets/{folder}" in secret_folders(name)} == {"prepare", *readers}


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_stands_in_the_file(name: str) -> None:
    """Every variable that names one names a file in the volume that ``prepare`` fills."""
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|SECRET|PEPPER|STORE_URL|TOKEN", variable):
            assert variable.endswith("_FILE"), variable
            assert value.startswith("/secrets/"), variable


def test_the_proxy_alone_is_trusted() -> None:
    """By its own address, which is within its network."""
    address = SERVICES["caddy"]["networks"]["front"]["ipv4_address"]
    (pool,) = COMPOSE["networks"]["front"]["ipam"]["config"]
    assert ip_address(address) in ip_network(pool["subnet"])
    others = ip_network(pool.get("ip_range", pool["subnet"]))
    assert ip_address(address) not in others, "whoever gets the address while the proxy is stopped is believed like it"
    assert others[0] in ip_network(pool["subnet"])
    for name in ("gatekey", "gatekey-valkey"):
        assert SERVICES[name]["environment"]["GATEKEY_TRUSTED_PROXIES"] == address


def test_the_stores_are_reached_by_gatekey_alone() -> None:
    """They are in a network without a way out, and publish nothing."""
    assert COMPOSE["networks"]["stores"]["internal"] is True
    inside = {name for name in NAMES if "stores" in SERVICES[name].get("networks", [])}
    assert inside == {"postgres", "valkey", "gatekey", "gatekey-valkey", "fill-postgres", "fill-valkey"}
    for name in ("postgres", "valkey"):
        assert SERVICES[name]["networks"] == ["stores"]
        assert "ports" not in SERVICES[name]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What ``prepare`` has made, as its own command says; ``owners`` are file -> user."""

    folder: Path
    owners: dict[str, tuple[int, int]]

    def here(self, path: str) -> str:
        """Where a path of the containers is in this run."""
        for there, found in {
            "/checkout": ROOT,
            "/secrets": self.folder / "secrets",
            "/config": self.folder / "config",
        }.items():
            path = path.replace(there, str(found))
        return path.replace("/etc/gatekey", str(ROOT / "deploy/demo"))


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """Run as the container would, but for giving files to other users."""
    owners: dict[str, tuple[int, int]] = {}

    def note(path: Path, *ids: int) -> None:
        user, group = ids
        owners[str(path.relative_to(tmp_path)).removesuffix(".new")] = (user, group)

    monkeypatch.setattr(os, "chown", note)
    made = Prepared(tmp_path, owners)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "config").mkdir()
    assert prepare_main([made.here(word) for word in SERVICES["prepare"]["command"]]) == 0
    for file in (tmp_path / "secrets").rglob("*"):
        if file.is_file() and file.suffix not in (".conf", ".jsonl") and file.name != "store-url":
            leaks.register(file.read_text())
    return made


@pytest.mark.parametrize("name", [name for name in NAMES if name != "prepare"])
def test_every_secret_that_a_service_names_is_its_own_to_read(name: str, prepared: Prepared) -> None:
    """``prepare`` makes the file, closes it, and gives it to the user of that service."""
    for path in secret_files(name):
        file = prepared.folder / path.lstrip("/")
        assert file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o400
        user, _, group = SERVICES[name]["user"].partition(":")
        assert prepared.owners[path.lstrip("/")] == (int(user), int(group))


def test_prepare_fills_the_volumes_and_nothing_beside_them(prepared: Prepared) -> None:
    """What lay elsewhere below /secrets would be gone with the container."""
    secrets = prepared.folder / "secrets"
    assert {path.name for path in secrets.iterdir()} == READERS.keys()
    assert not list(secrets.rglob("*.new"))


def test_a_start_that_was_cut_short_makes_the_secrets_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file with the keys says that all are there, so it is the last, and only there once its reader can read it."""

    def make() -> None:
        owners = {"keys": (os.getuid(), os.getgid())}
        make_secrets(tmp_path, postgres="postgres:5432/gatekey", valkey="valkey:6379/0", domains=[], owners=owners)

    def cut_short(path: Path, *_: int) -> None:
        assert path.parent.name == "keys"
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "chown", cut_short)
        with pytest.raises(KeyboardInterrupt):
            make()
    assert not (tmp_path / "keys/keys.jsonl").exists()
    first = (tmp_path / "gatekey/pepper").read_text()
    make()
    assert (tmp_path / "keys/keys.jsonl").exists()
    assert (tmp_path / "gatekey/pepper").read_text() != first
    assert not list(tmp_path.rglob("*.new"))


def test_secrets_are_made_once_and_differ(prepared: Prepared) -> None:
    """A second start finds them as they are; no two of them are the same."""
    before = {path: path.read_bytes() for path in (prepared.folder / "secrets").rglob("*") if path.is_file()}
    assert prepare_main([prepared.here(word) for word in SERVICES["prepare"]["command"]]) == 0
    assert {path: path.read_bytes() for path in before} == before
    alone = [data for path, data in before.items() if path.name in ("password", "pepper", "secret-key")]
    assert len(alone) == len(set(alone)) == 7
    assert all(len(data) >= 48 for data in alone)


@pytest.mark.parametrize("name", ["gatekey", "gatekey-valkey", "fill-postgres", "fill-valkey"])
def test_gatekey_takes_its_settings(name: str, prepared: Prepared) -> None:
    """An unknown name or a bad value would stop it; the store is the one of the service's name."""
    environ = {key: prepared.here(value) for key, value in SERVICES[name]["environment"].items()}
    settings = load_settings(environ)
    url = urlsplit(settings.store_url.reveal())
    assert (url.hostname, url.scheme) == (("valkey", "redis") if "valkey" in name else ("postgres", "postgresql"))
    assert settings.policies["orders"].scopes == ("orders:read",)
    assert SERVICES["caddy"]["environment"]["POLICY"] == "orders"


def test_the_keys_can_be_imported_and_only_the_published_one_is_known(prepared: Prepared) -> None:
    """It may read orders where the proxy serves them, and nothing else."""
    lines = (prepared.folder / "secrets/keys/keys.jsonl").read_bytes().splitlines()
    seed = read_key_lines(lines, peppers=PEPPERS, now=START)
    secrets = [json.loads(line)["secret_token"] for line in lines]
    assert len(secrets) == len(set(secrets)) == len(seed.records) > 10
    (published,) = [record for record in seed.records if record.api_key == "demo-key"]
    assert published.scopes == ("orders:read",)
    assert set(published.domains) == {f"{host}:{port}" for host in ("127.0.0.1", "localhost") for port in (8080, 8081)}


def test_the_load_asks_what_the_proxy_serves() -> None:
    """Its options are understood, and its sites are those of the proxy."""
    sites = [
        word.removeprefix("--site=").split("=") for word in SERVICES["load"]["command"] if word.startswith("--site=")
    ]
    served = SERVICES["caddy"]["environment"]
    assert [f"http://{host}" for host, _ in sites] == [served[name].split(",")[0] for name in ("SITE", "VALKEY_SITE")]
    assert [address for _, address in sites] == ["caddy:8080", "caddy:8081"]


def test_the_load_is_healthy_while_it_is_answered(prepared: Prepared, tmp_path: Path) -> None:
    """As its health check in the file asks."""
    heartbeat = tmp_path / "answers"
    asked = SERVICES["load"]["healthcheck"]["test"][3:]
    words = [re.sub(r"^--heartbeat=.*", f"--heartbeat={heartbeat}", prepared.here(word)) for word in asked]
    assert load_main(words) == 1
    heartbeat.touch()
    assert load_main(words) == 0
    os.utime(heartbeat, (0, 0))
    assert load_main(words) == 1


def test_prometheus_takes_its_configuration_and_the_rules(prepared: Prepared, require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """Every rule file is found; links lead into the stack."""
    config = prepared.folder / "config"
    code, printed = run(require_all, "promtool", "check", "config", str(config / "prometheus.yml"))
    assert code == 0, printed
    assert f"{len(alerts.RULE_FILES)} rule files found" in printed
    texts = [path.read_text() for folder in ("rules", "dashboards") for path in (config / folder).iterdir()]
    assert len(texts) == len(alerts.RULE_FILES) + 5
    assert not any("example.com" in text for text in texts)


def test_prometheus_scrapes_what_is_there() -> None:
    """Each address is a service's, on the port that it listens on."""
    config = yaml.safe_load((ROOT / "deploy/demo/prometheus.yml").read_text())
    targets = {target for job in config["scrape_configs"] for one in job["static_configs"] for target in one["targets"]}
    assert targets == {"gatekey:8000", "gatekey-valkey:8000"}
    assert [job["job_name"] for job in config["scrape_configs"]] == ["gatekey"]
    (alerting,) = config["alerting"]["alertmanagers"]
    assert alerting["static_configs"] == [{"targets": ["alertmanager:9093"]}]


def test_alertmanager_takes_its_configuration(require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """As amtool sees it."""
    code, printed = run(require_all, "amtool", "check-config", str(ROOT / "deploy/demo/alertmanager.yml"))
    assert code == 0, printed


def test_a_lost_store_silences_no_alert_of_the_other_one() -> None:
    """Both Gatekeys are in one job, so what is silenced says which store; the rules' page shows the same, and more."""
    config = yaml.safe_load((ROOT / "deploy/demo/alertmanager.yml").read_text())
    exprs = {rule.name: rule.expr for rule in alerts.rules()}
    assert config["inhibit_rules"]
    for rule in config["inhibit_rules"]:
        assert rule["equal"] == ["job", "store"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            for name in re.findall(r"Gatekey\w+", matcher):
                assert "by (job, store)" in exprs[name], name
    shown = (ROOT / "dashboards/rules/README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"# alertmanager\.yml\n(.*?)```", shown, re.DOTALL)
    assert all(rule in yaml.safe_load(block)["inhibit_rules"] for rule in config["inhibit_rules"])


def test_caddy_takes_its_configuration(require_all: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a fixture
    """With the environment of the file, laid out as it is mounted."""
    environ = SERVICES["caddy"]["environment"]
    code, printed = run_caddy(require_all, "validate", tmp_path, environ)
    assert code == 0, printed
    assert "Valid configuration" in printed


def test_caddy_does_the_same_before_either_gatekey(require_all: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a fixture
    """With one address for both Gatekeys, Caddy reads the two sites as one and the same."""
    environ = {**SERVICES["caddy"]["environment"], "GATEKEY": "one:8000", "GATEKEY_VALKEY": "one:8000"}
    code, printed = run_caddy(require_all, "adapt", tmp_path, environ)
    assert code == 0, printed
    (adapted,) = [line for line in printed.splitlines() if line.startswith('{"') and '"apps"' in line]
    sites = {
        port: [route["handle"] for route in server["routes"] if "127.0.0.1" in json.dumps(route.get("match"))]
        for server in json.loads(adapted)["apps"]["http"]["servers"].values()
        for port in server["listen"]
    }
    assert "one:8000" in json.dumps(sites[":8080"])
    assert sites[":8080"] == sites[":8081"]


def run_caddy(require_all: bool, command: str, folder: Path, environ: Mapping[str, str]) -> tuple[int, str]:  # noqa: FBT001 - a fixture's value
    """Caddy with the files laid out in a folder as the container mounts them."""
    for here, there, _ in binds("caddy"):
        if there.endswith("Caddyfile"):
            target = folder / there.removeprefix("/etc/caddy/")
            target.parent.mkdir(parents=True)
            shutil.copy(ROOT / here, target)
    words = [command, "--adapter", "caddyfile", "--config", str(folder / "demo/Caddyfile")]
    homes = {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    return run(require_all, "caddy", *words, env={**environ, **homes})


def test_grafana_finds_its_data_sources_and_dashboards(prepared: Prepared) -> None:
    """Where it looks for them; the addresses are those of services; the dashboards ask for such a source."""
    folder = ROOT / "deploy/demo/grafana"
    sources = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert {source["type"]: source["url"] for source in sources} == {
        "prometheus": "http://prometheus:9090",
        "alertmanager": "http://alertmanager:9093",
    }
    (provider,) = yaml.safe_load((folder / "dashboards/gatekey.yml").read_text())["providers"]
    boards = Path(prepared.here(provider["options"]["path"]))
    assert {path.name for path in boards.iterdir()} == {path.name for path in ROOT.glob("dashboards/gatekey-*.json")}
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert json.loads(Path(prepared.here(home)).read_text())["uid"] == "gatekey-overview"
    assert (ROOT / "deploy/demo/grafana").resolve() == (ROOT / binds("grafana")[0][0]).resolve()


def test_grafana_lets_people_look_and_has_no_usual_password() -> None:
    """An anonymous viewer, and an administrator's password from a file."""
    environ = SERVICES["grafana"]["environment"]
    assert environ["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert environ["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environ["GF_SECURITY_ADMIN_PASSWORD__FILE"].startswith("/secrets/grafana/")


def run(require_all: bool, program: str, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:  # noqa: FBT001 - a fixture's value
    """Exit status and output of one of the real programs."""
    found = find_program(program)
    if found is None:
        (pytest.fail if require_all else pytest.skip)(f"needs {program}")
    done = subprocess.run(
        [str(found), *words],
        env={**clean_environment(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
