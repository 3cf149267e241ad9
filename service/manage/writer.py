"""How every change is written: checked against the actor's rights, sent, recorded in the audit trail, counted.

What was written is recorded too, whatever becomes of the caller meanwhile: a cancelled request does not cut the two apart.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from backends.errors import Conflict, NotFound, StoreError, StoreUnavailable, VersionConflict
from backends.records import KeyState
from service.auth.key_fields import FieldProblem
from service.manage.errors import Invalid
from service.manage.reader import NO_KEY, KeyReader
from service.manage.rights import check_update
from service.manage.views import difference

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from backends.contract import KeyStore
    from backends.records import KeyRecord, Organization
    from service.auth.clock import Clock
    from service.auth.peppers import Peppers
    from service.manage.actor import Actor
    from service.manage.audit import AuditTrail

__all__ = ["EVENTS", "KeyWriter", "told"]

EVENTS: Final = {KeyState.ACTIVE: "enabled", KeyState.DISABLED: "disabled", KeyState.REVOKED: "revoked"}
"""What it is called that a key comes into a state."""

_ATTEMPTS: Final = 5  # against others that change the same key, where the caller does not care which version it changes
_JITTER: Final = random.SystemRandom()  # of its own state, so that a fork does not copy it
_RACE_PAUSE: Final = 0.02  # seconds at most, so that they do not meet again
_COUNTED: Final = frozenset({"updated", "rotated", "enabled", "disabled", "revoked"})

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@contextmanager
def told() -> Iterator[None]:
    """A problem of a field, as the management's callers know it."""
    try:
        yield
    except FieldProblem as error:
        raise Invalid(error.field, error.problem) from None


class KeyWriter(KeyReader):
    """What the operations of ``KeyManager`` have in common."""

    def __init__(
        self,
        store: KeyStore,
        *,
        peppers: Peppers,
        clock: Clock,
        audit: AuditTrail,
        count: Callable[[str, int], None] | None,
    ) -> None:
        super().__init__(store, peppers=peppers, clock=clock)
        self._audit = audit
        self._count = count or (lambda _event, _number: None)
        self._writing: set[asyncio.Task[Any]] = set()

    async def _change(
        self,
        actor: Actor,
        key_id: str,
        change: Callable[[KeyRecord], KeyRecord],
        event: str,
        expected_version: int | None,
    ) -> KeyRecord:
        """Read, change, write; again where somebody else was faster, if the caller named no version."""
        attempts = _ATTEMPTS
        while True:
            attempts -= 1
            before = await self.get_key(actor, key_id)
            if expected_version not in (None, before.version):
                raise VersionConflict("the key was changed meanwhile")
            with told():
                after = change(before)
            if after is before:
                return before
            check_update(actor, before, after)
            try:
                return await self._whole(self._replace(actor, before, after, event))
            except VersionConflict:
                if expected_version is not None:
                    raise
                if not attempts:
                    raise Conflict("the key is changed all the time; try again") from None
                await asyncio.sleep(_JITTER.uniform(0, _RACE_PAUSE))

    async def _replace(self, actor: Actor, before: KeyRecord, after: KeyRecord, event: str) -> KeyRecord:
        old, new = difference(before, after)
        if new.keys() == {"state"}:
            event = EVENTS[new["state"]]
        try:
            with self._sent(actor, f"key.{event}", before.key_id):
                stored = await self._store.replace(after, expected_version=before.version)
        except NotFound:
            raise NotFound(NO_KEY) from None
        await self._record_key(actor, f"key.{event}", stored, before=old, after=new)
        if event in _COUNTED:
            self._count(event, 1)
        return stored

    async def _forget_uses(self, key_id: str) -> None:
        """Of a key that has gone: whoever takes its identifier next must not see them. A rest of them fails nothing."""
        try:
            await self._store.journal.forget_uses(key_id)
        except StoreError as error:
            _log.warning("uses_not_forgotten", key_id=key_id, error_type=type(error).__name__)

    async def _record_key(
        self,
        actor: Actor,
        action: str,
        record: KeyRecord,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        await self._audit.record(
            actor,
            organization_id=record.organization_id,
            action=action,
            target=f"key:{record.key_id}",
            before=before,
            after=after,
        )

    async def _record_organization(
        self, actor: Actor, action: str, organization: Organization, *, before: Mapping[str, Any] | None = None
    ) -> None:
        after: dict[str, Any] = {"is_active": organization.is_active}
        if before is None:
            after |= {"organization_id": organization.organization_id, "name": organization.name}
        await self._audit.record(
            actor,
            organization_id=organization.organization_id,
            action=action,
            target=f"organization:{organization.organization_id}",
            before=before,
            after=after,
        )

    @contextmanager
    def _sent(self, actor: Actor, action: str, target: str) -> Iterator[None]:
        """Around a write: where the store gives no answer, nobody knows whether it happened, so the log says who tried."""
        try:
            yield
        except StoreUnavailable as error:
            _log.warning(
                "change_not_confirmed", action=action, target=target, by=actor.name, error_type=type(error).__name__
            )
            raise

    async def _whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do the work to its end, also when the caller is cancelled meanwhile."""
        task = asyncio.create_task(work, name="gatekey-change")
        self._writing.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._writing.discard)
        return await asyncio.shield(task)
