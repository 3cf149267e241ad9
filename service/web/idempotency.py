"""``Idempotency-Key``: a request that is sent again, because its answer was lost, must not be carried out again.

What is kept is the answer without its secret, for 24 hours, under a hash of the caller's key and the header. A run of
which nobody knows how it ended (its process died, or the store gave no answer) leaves its claim behind: after a minute
an operation that may be repeated is taken up again, with the ``key_id`` that was chosen for it, so that it cannot make
a second key.
"""

from __future__ import annotations

import hmac
import math
import re
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import orjson
import structlog
from flask import request

from backends.errors import Conflict, NotFound, StoreCorrupt, VersionConflict
from service.auth.tokens import generate_key_id
from service.manage.errors import ManageError
from service.web.answers import ApiError
from service.web.management_reply import Reply
from service.web.schemas.answers import AnswerModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from backends.journal import Claim, Journal
    from service.auth.peppers import Peppers
    from service.manage.actor import Actor

__all__ = ["Attempt", "answered_once"]

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"

_KEPT: Final = timedelta(hours=24)
_CUT_OFF: Final = timedelta(minutes=1)  # twice the time that a view may take
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_OTHER_REQUEST: Final = "This Idempotency-Key was used for another request."
_UNDER_WAY: Final = (
    "The request with this Idempotency-Key is still being carried out, or nobody knows yet how it ended."
)
_UNKNOWN: Final = (
    "The request with this Idempotency-Key was cut off, perhaps after the change was made: look, then use another one."
)

_REFUSALS: Final = (ApiError, ManageError, NotFound, Conflict, VersionConflict, StoreCorrupt)
"""After these nothing was carried out; after anything else nobody can be sure."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a request: the identifier of the key that it may make, and whether a run before it was cut off."""

    key_id: str | None = None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class _Marks:
    """What a request is known by. The claim's fingerprint carries the ``key_id``, which tells when the run began.

    The digest is made with the pepper: a body may hold secrets that people chose, and those could be guessed from a plain
    one. The name is not, so that a request which is sent again after a change of the pepper is refused, and not repeated.
    """

    name: str
    digest: str

    @classmethod
    def of_request(cls, actor: Actor, header: str, peppers: Peppers) -> _Marks:
        body = sha256(request.get_data()).hexdigest()
        query = request.query_string.decode("latin-1")
        who = [actor.organization_id, actor.name]
        what = orjson.dumps([*who, request.method, request.path, query, body])
        digest = hmac.digest(peppers.derived_key("idempotent request"), what, "sha256").hex()
        return cls(sha256(orjson.dumps([*who, header])).hexdigest(), digest)


async def answered_once(
    carry_out: Callable[[Attempt], Awaitable[Reply]],
    *,
    actor: Actor,
    journal: Journal,
    peppers: Callable[[], Peppers],
    now: datetime,
    repeatable: bool,
) -> Reply:
    """The answer of ``carry_out``, or the one that the same request got before; raises ``ApiError`` 400 or 409."""
    header = request.headers.get(HEADER)
    if header is None:
        return await carry_out(Attempt())
    if not _KEY.fullmatch(header):
        raise ApiError(400, detail=f"{HEADER} must be 1 to 255 printable ASCII characters.")
    marks = _Marks.of_request(actor, header, peppers())
    attempt = Attempt(generate_key_id(now))
    claim = await journal.claim(marks.name, f"{marks.digest}:{attempt.key_id}", now=now, until=now + _KEPT)
    if claim is not None:
        before = _of_before(claim, marks, now=now, repeatable=repeatable)
        if isinstance(before, Reply):
            return before
        attempt = before
    return await _carried_out(carry_out, attempt, journal, marks.name, until=now + _KEPT)


def _of_before(claim: Claim, marks: _Marks, *, now: datetime, repeatable: bool) -> Reply | Attempt:
    """The answer of the run before, or its attempt to be taken up."""
    digest, _, key_id = claim.fingerprint.partition(":")
    if digest != marks.digest:
        raise ApiError(409, detail=_OTHER_REQUEST)
    if claim.answer is not None:
        stored = orjson.loads(claim.answer)
        return Reply(stored["body"], stored["status"], {**stored["headers"], REPLAYED: "true"})
    rest = _began(key_id) + _CUT_OFF.total_seconds() - now.timestamp()
    if rest > 0:
        raise ApiError(409, detail=_UNDER_WAY, headers={"Retry-After": str(math.ceil(round(rest, 3)))})
    if not repeatable:
        raise ApiError(409, detail=_UNKNOWN)
    return Attempt(key_id, repeated=True)


async def _carried_out(
    carry_out: Callable[[Attempt], Awaitable[Reply]],
    attempt: Attempt,
    journal: Journal,
    name: str,
    *,
    until: datetime,
) -> Reply:
    """Run it and keep its answer. Only a refusal gives the claim up: after all else it might have been carried out."""
    try:
        reply = await carry_out(attempt)
    except _REFUSALS:
        await _without_fail(journal.release(name), "release")
        raise
    await _without_fail(_keep(reply, journal, name, until=until), "settle")
    return reply


async def _keep(reply: Reply, journal: Journal, name: str, *, until: datetime) -> None:
    stored = orjson.dumps({"status": reply.status, "headers": dict(reply.headers), "body": _without_secret(reply)})
    await journal.settle(name, stored.decode(), until=until)


def _without_secret(reply: Reply) -> dict[str, object]:
    body = reply.body.model_dump(mode="json") if isinstance(reply.body, AnswerModel) else dict(reply.body or {})
    return {**body, "secret_token": None} if "secret_token" in body else body


async def _without_fail(writing: Awaitable[None], what: str) -> None:
    """The request itself is done with; that its claim cannot be written, whatever the reason, must not change its answer."""
    try:
        await writing
    except Exception as error:  # noqa: BLE001 - also a defect would lose an answer that may hold the only secret
        _log.warning("claim_not_written", operation=what, error_type=type(error).__name__)


def _began(key_id: str) -> float:
    """When ``generate_key_id`` made it, in seconds since the Unix epoch; 0 for anything else."""
    try:
        return int(key_id[4:16], 16) / 1000
    except ValueError:
        return 0.0
