"""Run a command on the store that the settings name, and turn whatever goes wrong into one line.

Only what a store or the management says on purpose is told in its own words: any other text could hold a secret.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import structlog

from backends.errors import StoreCorrupt, StoreError, StoreNotReady, StoreUnavailable, StoreUnfit
from service.cli.common import Failed, by_defect, settings_or_fail
from service.manage.actor import OPERATORS, Actor
from service.manage.errors import ManageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

    from service.app import Management
    from service.settings import Settings

__all__ = ["CORRUPT_KEY", "CORRUPT_ORGANIZATION", "on_store", "operator"]

T = TypeVar("T")

_IN_MEMORY: Final = (
    "the keys of memory:// live in the serving process alone, where no command reaches them; set GATEKEY_STORE_URL to a"
    " store that lasts (sqlite:///gatekey.db needs no server), or load keys with `gatekey serve --import FILE`"
)
_NOT_READY: Final = (
    "the store is not prepared (never migrated, emptied, or another one than meant); run `gatekey migrate` first"
)
CORRUPT_KEY: Final = "what is stored for this key cannot be read; delete the key, or put its stored form right by hand"
CORRUPT_ORGANIZATION: Final = "what is stored for an organization cannot be read; put its stored form right by hand"


def operator() -> Actor:
    """Who gives the command: the user of the machine who runs it, and may do everything."""
    return Actor(organization_id=OPERATORS, name=f"command:{_user()}", scopes=(), unlimited=True)


def on_store(
    operation: Callable[[Management], Awaitable[T]],
    *,
    prepared: bool = True,
    opened: bool = True,
    corrupt: str = CORRUPT_KEY,
) -> T:
    """What ``operation`` gives on the open store; ends the command with one line where it cannot.

    ``prepared``: the store must be ready, so that a missing migration is told before anything is written. ``opened`` is
    false for what prepares it: SQLite would do so itself. ``corrupt`` is said where what it reads cannot be decoded.
    """
    settings = settings_or_fail()
    if settings.in_memory:
        raise Failed(_IN_MEMORY)
    try:
        return asyncio.run(_run(settings, operation, prepared=prepared, opened=opened))
    except (StoreError, ManageError) as error:
        raise Failed(corrupt if isinstance(error, StoreCorrupt) else _words(error)) from None
    except (click.ClickException, BrokenPipeError):  # whoever read the output has gone: click ends quietly
        raise
    except Exception as error:  # a defect, of ours or of a store by plug-in: one line without its text
        raise by_defect(error) from error


async def _run(
    settings: Settings, operation: Callable[[Management], Awaitable[T]], *, prepared: bool, opened: bool
) -> T:
    from service.app import management  # here: it loads the whole service, which wrong usage need not wait for

    async with AsyncExitStack() as stack:
        stack.enter_context(_log_to_stderr())
        try:
            parts = await stack.enter_async_context(management(settings, opened=opened))
        except ValueError as error:  # what a store says about its URL
            raise Failed(f"GATEKEY_STORE_URL: {error}") from None
        if prepared:
            await parts.store.ping()
        return await operation(parts)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """What the parts log belongs to people here: warnings as lines on standard error, never in between the results."""
    before = structlog.get_config()
    structlog.configure(
        processors=[_line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    fields = "".join(f" {name}={value}" for name, value in event.items() if name != "event")
    return f"gatekey: {event['event']}{fields}"


def _words(error: StoreError | ManageError) -> str:
    if isinstance(error, StoreNotReady) and not isinstance(error, StoreUnfit):
        return _NOT_READY
    if isinstance(error, StoreUnavailable) and not isinstance(error, StoreUnfit):
        return f"the store does not answer ({error})"
    return str(error)


def _user() -> str:
    """By the process's owner, not by ``$USER``, which anybody may set."""
    try:
        import pwd  # not on Windows
    except ImportError:
        import getpass

        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"uid-{os.getuid()}"
