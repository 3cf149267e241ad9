"""``gatekey`` on a store of the test's own: in this process where many calls are made, as a real one where that is the point."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from backends.journal import UsageCount
from service.app import management
from service.cli import main
from service.settings import SETTINGS, load_settings
from tests.support import leaks
from tests.support.app import PEPPER, SECRET_KEY
from tests.support.servers import DEADLINE, clean_environment

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from click.testing import Result

_SECRET = re.compile(r"\bgks_[0-9A-Za-z]{49}\b")
_ISSUING = (("keys", "create"), ("keys", "rotate"), ("bootstrap",))
_CLEARED: dict[str, str | None] = {
    **{f"GATEKEY_{name.upper()}{suffix}": None for name in SETTINGS for suffix in ("", "_FILE")},
    "GATEKEY_CONFIG": None,
    "EXPLAIN_SECRET_TOKEN": None,
}
leaks.register(PEPPER, SECRET_KEY)


class Commands:
    """Calls with the settings of one store. Whatever is printed must be free of secrets, but for new ones where they belong."""

    def __init__(self, url: str, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.environ = {
            "GATEKEY_STORE_URL": url,
            "GATEKEY_PEPPER": PEPPER,
            "GATEKEY_SECRET_KEY": SECRET_KEY,
            **{f"GATEKEY_{name.upper()}": value for name, value in settings.items()},
        }

    def __call__(self, *arguments: str, stdin: str | bytes | None = None, **environ: str) -> Result:
        """The command inside this process."""
        result = CliRunner().invoke(main, arguments, input=stdin, env={**_CLEARED, **self.environ, **environ})
        _check(arguments, result.stdout, result.stderr)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def process(self, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """The command as a process of its own, without a terminal."""
        done = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            env={**clean_environment(), **self.environ, **environ},
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        _check(arguments, done.stdout, done.stderr)
        return done

    def ok(self, *arguments: str, **options: Any) -> str:
        """What a command that works prints; nothing stands on standard error."""
        result = self(*arguments, **options)
        assert (result.exit_code, result.stderr) == (0, ""), result.stderr
        return result.stdout

    def document(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """What a command that works prints with ``--json``."""
        document: dict[str, Any] = json.loads(self.ok(*arguments, "--json", **options))
        return document

    def refused(self, *arguments: str, **options: Any) -> str:
        """The one line of a command that is refused or fails, without its beginning; nothing stands on standard output."""
        result = self(*arguments, **options)
        assert (result.exit_code, result.stdout) == (1, ""), result.stdout
        assert result.stderr.startswith("gatekey: ")
        assert result.stderr.count("\n") == 1
        return result.stderr.removeprefix("gatekey: ").rstrip("\n")

    def create(self, *options: str, organization: str = "acme", domain: str = "api.example.com") -> dict[str, Any]:
        """A new key as ``keys create`` prints it; its secret is looked for in all that is printed later."""
        made = self.document("keys", "create", "--organization", organization, "--domain", domain, *options)
        leaks.register(made["secret_token"])
        return made

    def used(self, key_id: str, at: datetime, *, previous: datetime | None = None) -> None:
        """Record a use of the key, as a serving process does; ``previous`` is when its old secret was used last."""

        async def add() -> None:
            async with management(load_settings(self.environ)) as parts:
                hour = at.replace(minute=0, second=0, microsecond=0)
                use = UsageCount(key_id=key_id, hour=hour, count=1, last_used_at=at, previous_secret_used_at=previous)
                await parts.store.journal.add_usage([use])

        asyncio.run(add())


def _check(arguments: tuple[str, ...], stdout: str, stderr: str) -> None:
    issuing = any(arguments[: len(words)] == words for words in _ISSUING)
    leaks.check(stdout, f"the output of {arguments}", allowed=_SECRET.findall(stdout) if issuing else ())
    leaks.check(stderr, f"the errors of {arguments}")
