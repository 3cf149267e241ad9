"""What the driver may raise, as what a store may raise: the one place that knows both.

Texts name the store's kind and what is wrong. What the server or the network sent is never repeated nor chained: it may
hold a key.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from backends.errors import StoreUnavailable, StoreUnfit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FAILURES", "Unfit", "is_wrong_type", "translated", "unavailable"]

FAILURES: Final = (RedisError, OSError, EOFError, ValueError, TypeError, AttributeError, RuntimeError)
"""Everything that a conversation with a server, or with something that is none, was seen to raise; time-outs are
``OSError``. What garbage does to the driver's parser ends in the last four (``RecursionError`` is a ``RuntimeError``, as is
uvloop's word for a closed transport)."""

_CONNECTION: Final = (RedisConnectionError, RedisTimeoutError, OSError, EOFError)
_CODE: Final = re.compile(r"(?:(?:ERR )?Error running script.*?-)?([A-Z]{3,20})\b", re.DOTALL)
"""The error's code; servers before 7.0 put that of a script's command inside a text of their own."""


class Unfit(RedisError):
    """Raised by our own look at a new connection: the server is one that this store cannot use."""


_TEXTS: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...]] = (
    (
        ReadOnlyError,
        "READONLY",
        "redis: the server is read-only, a replica: name the primary, or wait for the failover's end",
    ),
    (OutOfMemoryError, "OOM", "redis: the server is full (maxmemory), nothing was written"),
    (BusyLoadingError, "LOADING", "redis: the server is still loading its data"),
    (NoPermissionError, "NOPERM", "redis: the user lacks a permission that Gatekey needs (docs/stores-redis.md)"),
    (AuthenticationError, "NOAUTH", "redis: the server refused the user or the password"),
    ((RedisTimeoutError, TimeoutError), "", "redis: no answer in time"),
)


@contextmanager
def translated() -> Iterator[None]:
    """Whatever the driver raises inside leaves as ``StoreUnavailable``."""
    try:
        yield
    except FAILURES as error:
        raise unavailable(error) from (error if _says_no_more_than_an_address(error) else None)


def unavailable(error: Exception) -> StoreUnavailable:
    """The store's error for the driver's."""
    if isinstance(error, Unfit):
        return StoreUnfit(str(error))
    code = _CODE.match(str(error))
    for kind, known, text in _TEXTS:
        if isinstance(error, kind) or (type(error) is ResponseError and code is not None and code[1] == known):
            return StoreUnavailable(text)
    if isinstance(error, _CONNECTION):
        full = "No connection available" in str(error)
        return StoreUnavailable("redis: no free connection" if full else "redis: no connection to the server")
    if isinstance(error, ResponseError):
        return StoreUnavailable(f"redis: the server refused a command ({'ERR' if code is None else code[1]})")
    return StoreUnavailable("redis: what answered does not speak the protocol")


def is_wrong_type(error: object) -> bool:
    """Whether a reply says that a key holds another type than the command is for."""
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def _says_no_more_than_an_address(error: Exception) -> bool:
    return isinstance(error, _CONNECTION) and not isinstance(error, ResponseError)
