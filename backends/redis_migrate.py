"""Prepare a server, and look whether it is fit: what ``gatekey migrate`` and ``ping`` ask."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Final

from backends.errors import StoreNotReady, StoreUnfit
from backends.redis_connection import checked
from backends.redis_keys import BUCKETS
from backends.redis_records import SCHEMA
from backends.redis_scripts import MIGRATE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from backends.redis_connection import Wire
    from backends.redis_keys import Names
    from backends.redis_records import Epochs

__all__ = ["facts_of", "look", "prepare"]

_HARMFUL: Final = "allkeys-"
_POLICY: Final = (("INFO", "memory"), ("CONFIG", "GET", "maxmemory-policy"))


async def prepare(wire: Wire, names: Names) -> tuple[str, ...]:
    """See ``KeyStore.migrate``."""
    _refuse_eviction(*await wire.ask(*_POLICY))
    marker = json.dumps({"schema": SCHEMA, "epoch": secrets.token_hex(16)}, separators=(",", ":"))
    status, *answer = await wire.evaluate(MIGRATE, names.changes, SCHEMA, marker)
    if status == b"newer":
        found = answer[0].decode()
        raise StoreUnfit(f"redis: the store has schema {found}, this version of Gatekey knows {SCHEMA}: update Gatekey")
    new_epoch, new_lists = answer
    done = []
    if new_epoch:
        done.append(f"redis: wrote the epoch marker of schema {SCHEMA} into {BUCKETS} buckets")
    if new_lists:
        done.append("redis: wrote the lists of disabled organizations")
    return tuple(done)


async def look(wire: Wire, names: Names, epochs: Epochs) -> None:
    """See ``KeyStore.ping``: every marker there and right, and no key dropped behind our back."""
    marker, markers, *policy = await wire.ask(
        ("GET", names.own("epoch")), ("MGET", *names.markers), *_POLICY
    )  # in one trip: this is also the breaker's probe, which must not take longer than a look-up
    wire.proved(marker)
    missing = sum(marker is None for marker in checked(markers))
    if missing:
        raise StoreNotReady(
            f"redis: the epoch marker is missing in {missing} of {BUCKETS} buckets: run gatekey migrate"
        )
    for bucket, marker in enumerate(markers):
        epochs.check(bucket, marker)
    _refuse_eviction(*policy)


def _refuse_eviction(memory: Any, setting: Any) -> None:
    if _eviction_policy(memory, setting).startswith(_HARMFUL):
        raise StoreUnfit(
            "redis: the server's maxmemory-policy lets it drop any key when it is full, and a dropped key is a refused"
            " customer: set maxmemory-policy to noeviction, or use a server of its own"
        )


def _eviction_policy(memory: Any, setting: Any) -> str:
    """``""`` where nobody will tell us: an ACL or a hosting company may forbid both questions."""
    if isinstance(memory, bytes) and "maxmemory_policy" in facts_of(memory):
        return facts_of(memory)["maxmemory_policy"]
    if isinstance(setting, list) and len(setting) == 2:  # noqa: PLR2004 - name and value
        return bytes(setting[1]).decode("ascii", "replace")
    return ""


def facts_of(info: Any) -> Mapping[str, str]:
    """The lines of an answer to ``INFO``."""
    lines = bytes(checked(info)).decode("ascii", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
