"""``make demo`` for real: the stack answers, is watched, can be broken, and is gone when it was told to end."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo.banner import shell
from demo.faults import Broken
from demo.load import read_keys
from demo.parts import Failure, Part, children
from demo.prepare import KEY_ID
from demo.state import State, claim, read, ready
from tests.support import alerts, leaks
from tests.support.demo import DEMO_SECRET, Demo, command, need_demo, new_folder, running_demo
from tests.support.processes import is_running
from tests.support.servers import DEADLINE, ROOT, Process, accepts, clean_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SITES = ["site", "valkey-site"]


@pytest.fixture(scope="module")
def demo(require_all: bool) -> Iterator[Demo]:  # noqa: FBT001 - a fixture
    """One for all tests that leave it as it was."""
    need_demo(require_all=require_all)
    with running_demo() as running:
        yield running


@pytest.mark.parametrize("site", SITES)
def test_a_valid_key_passes_the_proxy_and_nobody_else(site: str, demo: Demo) -> None:
    """Over either store; the application is told who it is."""
    allowed = demo.ask(site, api_key="demo-key", secret=DEMO_SECRET)
    assert allowed.status == 200
    assert json.loads(allowed.body) == {"orders": ["a-1", "a-2"], "organization": "demo", "key": "demo-key"}
    assert demo.ask(site).status == 401
    assert demo.ask(site, api_key="demo-key", secret="somebody-else's").status == 401
    assert demo.ask(site, api_key="nobody", secret="nothing-at-all").status == 401
    keys = read_keys(demo.folder / "secrets/keys/keys.jsonl")
    assert demo.ask(site, api_key="globex-expired", secret=keys["globex-expired"]).status == 401


def test_prometheus_scrapes_both_services_and_evaluates_every_rule(demo: Demo) -> None:
    """The targets are up, and no rule has an error."""

    def up() -> dict[str, str]:
        return {one["labels"]["instance"]: one["health"] for one in demo.prometheus("targets")["activeTargets"]}

    def health() -> list[str]:
        return [rule["health"] for group in demo.prometheus("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: up() == {"gatekey": "up", "gatekey-valkey": "up"}, "both are scraped")
    wait_until(lambda: health() == ["ok"] * len(alerts.rules()), "every rule was evaluated")


def test_alerts_reach_alertmanager_with_links_into_the_demo(demo: Demo) -> None:
    """The watchdog, which always fires; its runbook is served."""

    def runbooks() -> list[str]:
        return [
            alert["annotations"]["runbook_url"] for alert in json.loads(demo.page("alertmanager", "/api/v2/alerts"))
        ]

    watchdog = f"{demo.addresses['docs']}/runbooks/GatekeyWatchdog.md"
    wait_until(lambda: watchdog in runbooks(), "the watchdog arrives, whatever else does", deadline=60)
    shown = demo.page("docs", "/runbooks/GatekeyWatchdog.md")
    assert shown == (ROOT / "docs/runbooks/GatekeyWatchdog.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("service", ["gatekey", "gatekey-valkey"])
def test_the_load_is_allowed_and_denied_and_keys_change(service: str, demo: Demo) -> None:
    """Each part of the mix is counted by both services."""
    reasons = ("ok", "missing_credentials", "unknown_key", "bad_secret")
    wanted = [rf'gatekey_decisions_total{{outcome="\w+",reason="{reason}"}}' for reason in reasons]
    wanted.append('gatekey_key_events_total{event="updated"}')

    def counted() -> bool:
        found = demo.page(service, "/metrics")
        return all(re.search(rf"^{series} [1-9]", found, re.MULTILINE) for series in wanted)

    wait_until(counted, "every part of the load is counted")


@pytest.mark.parametrize(("name", "site"), [("store-down", "site"), ("valkey-down", "valkey-site")])
def test_a_stopped_store_is_503_for_strangers_and_ends(name: str, site: str, demo: Demo) -> None:
    """And 401 again when the fault is over."""
    fault = demo.fault(name, 60)
    try:
        wait_until(
            lambda: demo.ask(site, api_key=f"nobody-{time.monotonic_ns()}", secret="nothing-at-all").status == 503,
            "it is 503",
        )
    finally:
        assert fault.stop(signal.SIGINT) == 0  # Ctrl-C ends a fault early
    wait_until(
        lambda: demo.ask(site, api_key=f"nobody-{time.monotonic_ns()}", secret="nothing-at-all").status == 401,
        "it is 401",
    )


def test_refused_keys_pass_again(demo: Demo) -> None:
    """An organization is off for as long as the fault lasts."""
    secret = read_keys(demo.folder / "secrets/keys/keys.jsonl")["acme-1"]
    fault = demo.fault("keys-refused", 60)
    try:
        wait_until(lambda: demo.ask(api_key="acme-1", secret=secret).status == 401, "the key is refused")
    finally:
        assert fault.stop() == 0
    wait_until(lambda: demo.ask(api_key="acme-1", secret=secret).status == 200, "the key passes again")


def test_a_killed_worker_is_replaced(demo: Demo) -> None:
    """Again and again, while the others serve."""
    before = set(children(read(demo.folder).processes["gatekey"][0]))
    fault = demo.fault("worker-killed", 2)
    assert fault.wait() == 0
    wait_until(lambda: set(children(read(demo.folder).processes["gatekey"][0])) - before, "a new worker is there")
    wait_until(lambda: demo.ask(api_key="demo-key", secret=DEMO_SECRET).status == 200, "it is served")


def test_guesses_are_counted(demo: Demo) -> None:
    """A hundred a second."""
    fault = demo.fault("keys-guessed", 1)
    assert fault.wait() == 0
    found = re.search(
        r'^gatekey_decisions_total{outcome="deny",reason="unknown_key"} (\S+)',
        demo.page("gatekey", "/metrics"),
        re.MULTILINE,
    )
    assert found is not None
    assert float(found[1]) > 30


def test_only_loopback_is_listened_on(demo: Demo) -> None:
    """By whichever part."""
    listening: set[str] = set()
    for pid in demo.processes():
        listening |= _listening(pid)
    assert len(listening) >= 10
    assert all(address.startswith("0100007F:") for address in listening)


def _listening(pid: int) -> set[str]:
    """The TCP addresses that the process listens on, as the kernel writes them."""
    folder = Path(f"/proc/{pid}")
    if not folder.exists():
        pytest.skip("needs /proc")
    inodes = {str(link.readlink()) for link in (folder / "fd").iterdir() if link.is_symlink()}
    lines = [*(folder / "net/tcp").read_text().splitlines()[1:], *(folder / "net/tcp6").read_text().splitlines()[1:]]
    sockets = [line.split() for line in lines]
    return {fields[1] for fields in sockets if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes}


def test_a_second_demo_says_that_one_runs(demo: Demo) -> None:
    """In the same folder; it breaks nothing."""
    second = Process(command("--folder", str(demo.folder)), env=clean_environment(), cwd=ROOT)
    assert second.wait() == 1
    assert second.lines == [f"demo: a demo runs already (process {demo.pid}); its addresses: python -m demo env"]
    assert demo.ask(api_key="demo-key", secret=DEMO_SECRET).status == 200


def test_sigterm_leaves_no_process_and_no_file(require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """Nor a secret in what was logged until then; also while a store stands still."""
    need_demo(require_all=require_all)
    with running_demo() as demo:
        processes = demo.processes()
        ports = [int(address.rpartition(":")[2]) for name, address in _pages(demo).items()]
        assert len(processes) >= 10
        assert all(map(is_running, processes))
        assert all(map(accepts, ports))
        for log in (demo.folder / "logs").iterdir():
            leaks.check(log.read_text(), str(log.name))
        fault = demo.fault("store-down", 60)
        try:
            wait_until(lambda: fault.lines, "Postgres is about to stand still")
            wait_until(lambda: demo.ask(api_key="nobody", secret="nothing-at-all").status == 503, "it does")
            assert demo.stop(signal.SIGTERM, deadline=60) == 0
            assert not demo.folder.exists()
            assert not any(map(is_running, processes))
        finally:
            assert fault.stop() == 0
        assert not any(map(accepts, ports))
    assert not [line for line in demo.lines if not line.startswith("{")]


def _pages(demo: Demo) -> dict[str, str]:
    return {name: address.removesuffix("/orders") for name, address in demo.addresses.items() if name != "logs"}


def test_a_signal_during_the_start_leaves_nothing_either(require_all: bool) -> None:  # noqa: FBT001 - a fixture
    """As soon as the first part runs."""
    need_demo(require_all=require_all)
    with new_folder() as folder:
        demo = Demo(folder)
        try:
            wait_until((folder / "logs/postgres.log").exists, "Postgres is started")
            wait_until(lambda: read(folder).processes, "it is noted")
            processes = demo.processes()
        finally:
            assert demo.stop(signal.SIGINT, deadline=60) == 0
        assert not any(map(is_running, processes))
        assert not folder.exists()
    assert not demo.lines


def test_what_a_killed_demo_left_is_ended_by_the_next(tmp_path: Path) -> None:
    """Its processes by their ids, and only if they are still the same ones; its files with them."""
    left, other = (subprocess.Popen(["/bin/sleep", "600"]) for _ in range(2))
    folder = tmp_path / "demo"
    try:
        old = State(pid=2**22 + 1, started="1")
        folder.mkdir(mode=0o711)
        old.note([_part("left", left.pid), _part("other", other.pid)])
        old.processes["other"] = (other.pid, "1")  # the number is somebody else's by now
        old.write(folder)
        state = claim(folder)
        assert left.wait(DEADLINE) == -signal.SIGINT
        assert other.poll() is None
        assert state.pid == os.getpid()
        assert [path.name for path in folder.iterdir()] == ["state.json"]
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def _part(name: str, pid: int) -> Part:
    class Known(Part):
        @property
        def pid(self) -> int:
            return pid

    return Known(name=name, command=[], log=Path(os.devnull), ready=lambda: True)


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    """A folder with files and without a demo, and a link."""
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(Failure, match="holds no demo"):
        claim(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(Failure, match="is not a folder of this user's alone"):
        claim(tmp_path / "link")
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("spoilt", ["link", "group", "others", "owner"])
def test_a_folder_that_somebody_else_could_have_filled_is_not_believed(
    spoilt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its usual name can be foreseen: whoever made it would choose which processes are signalled, and what a shell runs."""
    folder = tmp_path / "demo"
    state = claim(folder)
    state.addresses = {"site": "http://127.0.0.1:1/orders"}
    state.write(folder)
    assert ready(folder) == state
    if spoilt == "link":
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    elif spoilt == "owner":
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    else:
        folder.chmod(0o711 | (stat.S_IWGRP if spoilt == "group" else stat.S_IWOTH))
    for act in (read, ready, claim):
        with pytest.raises(Failure, match="is not a folder of this user's alone"):
            act(folder)
    assert (folder / "state.json").exists()


def test_a_shell_gets_settings_of_gatekeys_and_nothing_else(tmp_path: Path) -> None:
    """A value is quoted; a name cannot be, so what is no name stays out."""
    keys = tmp_path / "secrets/keys/keys.jsonl"
    keys.parent.mkdir(parents=True)
    keys.write_text(json.dumps({"api_key": KEY_ID, "secret_token": "made-up"}))
    state = State(
        pid=1,
        started="1",
        addresses={"site": "http://127.0.0.1:1/orders", "prometheus": "", "gatekey": ""},
        settings={"GATEKEY_CONFIG": "a b", "GATEKEY_X=1; id #": "", "GATEKEY_$(id)": "", "PATH": "", "LD_PRELOAD": ""},
    )
    lines = shell(state, tmp_path).splitlines()
    assert "export GATEKEY_CONFIG='a b'" in lines
    assert not [line for line in lines if re.search(r"\bid\b|LD_PRELOAD|PATH=''", line)]


def test_a_fault_hits_no_process_that_only_has_the_number() -> None:
    """Of a part that has ended since."""
    state = State(pid=1, started="1")
    state.note([_part("postgres", os.getpid())])
    state.processes["valkey"] = (os.getpid(), "1")
    broken = Broken(state, {}, threading.Event())
    assert broken.pid("postgres") == os.getpid()
    with pytest.raises(Failure, match="valkey does not run any more"):
        broken.pid("valkey")


def test_the_commands_beside_a_demo_that_was_killed_say_that_none_runs(tmp_path: Path) -> None:
    """It has left its addresses, and somebody else may have its number."""
    folder = tmp_path / "demo"
    state = claim(folder)
    state.addresses = {"site": "http://127.0.0.1:1/orders"}
    state.started = "1"
    state.write(folder)
    assert read(folder) == state
    with pytest.raises(Failure, match="no demo runs in"):
        ready(folder)


def test_a_part_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    """Not the time-out of whoever waits for it."""
    part = Part(
        name="proxy", command=["/bin/sh", "-c", "echo no such port; exit 3"], log=tmp_path / "log", ready=lambda: False
    )
    part.start()
    with pytest.raises(Failure, match=r"^proxy has ended by itself \(exit status 3\):\n  no such port$"):
        part.wait_ready(DEADLINE, threading.Event())
    part.stop()


def test_what_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    """With an exit status of its own, and before anything is made."""
    folder = tmp_path / "demo"
    environ = {**clean_environment(), "PATH": str(tmp_path)}
    script = (
        "import sys, demo.programs as p; p._SYSTEM = (); from demo.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    process = Process([command()[0], "-c", script, "--folder", str(folder)], env=environ, cwd=ROOT)
    assert process.wait() == 3
    assert "demo: missing: Prometheus: apt install prometheus" in process.lines
    assert all(line.startswith("demo: missing: ") for line in process.lines)
    assert not folder.exists()


def test_without_a_demo_the_commands_beside_it_say_so(tmp_path: Path) -> None:
    """And wrong usage has a status of its own."""
    for words, status in ((["env"], 1), (["fault", "store-down"], 1), (["fault", "nothing"], 2)):
        process = Process(command("--folder", str(tmp_path / "none"), *words), env=clean_environment(), cwd=ROOT)
        assert process.wait() == status
        assert status == 2 or process.lines == [f"demo: no demo runs in {tmp_path / 'none'}; start one: make demo"]


def test_a_demo_that_is_still_starting_says_so(tmp_path: Path) -> None:
    """To the commands beside it, which need its addresses."""
    state = claim(tmp_path / "demo")
    process = Process(command("--folder", str(tmp_path / "demo"), "env"), env=clean_environment(), cwd=ROOT)
    assert process.wait() == 1
    assert process.lines == ["demo: the demo is still starting"]
    state.addresses = {"site": "http://127.0.0.1:1/orders"}
    state.write(tmp_path / "demo")
    assert ready(tmp_path / "demo").addresses == state.addresses
