"""The operations on keys and organizations, each checked, written, recorded in the audit trail and counted in one place."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backends.errors import NotFound, StoreCorrupt, StoreUnavailable, VersionConflict
from backends.records import KeyState, Organization
from service.auth import key_fields as fields
from service.auth.tokens import generate_api_key, generate_key_id, generate_secret_token
from service.manage import changes as change_of
from service.manage.actor import OPERATORS
from service.manage.errors import Forbidden
from service.manage.explain import Explanation, Question
from service.manage.imports import KeyImport
from service.manage.model import DEFAULT_GRACE, DEFAULT_LIMIT, ImportReport, InForce, IssuedKey, KeyDraft
from service.manage.reader import NO_KEY
from service.manage.rights import check_grant, check_operator
from service.manage.views import public_fields
from service.manage.writer import EVENTS, KeyWriter, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from backends.contract import KeyStore
    from backends.records import KeyRecord
    from service.auth.clock import Clock
    from service.auth.keyfile import Seed
    from service.auth.peppers import Peppers
    from service.manage.actor import Actor
    from service.manage.audit import AuditTrail

__all__ = [
    "DEFAULT_GRACE",
    "DEFAULT_LIMIT",
    "Explanation",
    "ImportReport",
    "InForce",
    "IssuedKey",
    "KeyDraft",
    "KeyManager",
    "Question",
]


class KeyManager(KeyWriter):
    """All operations; every one takes the ``Actor`` and raises ``NotFound`` for what the actor must not know of.

    Whether the actor may read or write at all (``gatekey:read``, ``gatekey:write``) was asked before. ``count`` is told
    of each event (``created``, ``updated``, ``rotated``, ``disabled``, ``enabled``, ``revoked``, ``deleted``,
    ``imported``) and how many; ``bound`` is the seconds after which a write is in force everywhere at the latest.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        peppers: Peppers,
        clock: Clock,
        audit: AuditTrail,
        count: Callable[[str, int], None] | None = None,
        bound: float = 300.0,
    ) -> None:
        super().__init__(store, peppers=peppers, clock=clock, audit=audit, count=count)
        self._bound = timedelta(seconds=bound)

    # -- organizations ------------------------------------------------------------------------------------------------

    async def create_organization(self, actor: Actor, organization_id: str, *, name: str = "") -> Organization:
        """Make an organization. ``Forbidden`` for others than operators, ``Invalid``, ``Conflict``."""
        check_operator(actor)
        with told():
            organization = Organization(
                organization_id=fields.organization_id(organization_id),
                name=fields.name(name),
                created_at=self._clock.now(),
            )

        async def write() -> None:
            with self._sent(actor, "organization.created", organization_id):
                await self._store.add_organization(organization)
            await self._record_organization(actor, "organization.created", organization)

        await self._whole(write())
        return organization

    async def set_organization_active(
        self,
        actor: Actor,
        organization_id: str,
        is_active: bool,  # noqa: FBT001 - the value itself
    ) -> Organization:
        """Switch an organization; idempotent.

        ``NotFound``; ``Forbidden`` for others than operators, and to disable the reserved organization.
        """
        organization = await self.get_organization(actor, organization_id)
        check_operator(actor)
        if organization_id == OPERATORS and not is_active:
            raise Forbidden("the operators' organization cannot be disabled")
        switched = replace(organization, is_active=is_active)
        action = "organization.enabled" if is_active else "organization.disabled"

        async def write() -> None:
            with self._sent(actor, action, organization_id):
                changed = await self._store.set_organization_active(organization_id, is_active, now=self._clock.now())
            if changed:
                await self._record_organization(actor, action, switched, before={"is_active": not is_active})

        await self._whole(write())
        return switched

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def create_key(self, actor: Actor, draft: KeyDraft) -> IssuedKey:
        """Make a key. ``NotFound`` (organization), ``Invalid``, ``Forbidden`` (scopes), ``Conflict`` (``key_id``)."""
        await self.get_organization(actor, draft.organization_id)
        secret, now = generate_secret_token(), self._clock.now()
        with told():
            record = change_of.drafted(
                draft,
                key_id=generate_key_id(now),
                api_key=generate_api_key(draft.env),
                secret=self._peppers.hash(secret.reveal()),
                now=now,
            )
        check_grant(actor, record.scopes)

        async def write() -> None:
            with self._sent(actor, "key.created", record.key_id):
                await self._store.add(record)
            await self._record_key(actor, "key.created", record, after=public_fields(record))
            self._count("created", 1)

        await self._whole(write())
        return IssuedKey(record, secret)

    async def update_key(
        self, actor: Actor, key_id: str, changes: Mapping[str, Any], *, expected_version: int | None = None
    ) -> KeyRecord:
        """Change some of the fields.

        These are ``name``, ``domains``, ``scopes``, ``origins``, ``networks``, ``expires_at`` (an aware time or ``None``),
        ``critical``, ``metadata`` (JSON text), ``is_active``. ``NotFound``, ``Invalid``, ``Forbidden``,
        ``VersionConflict``, ``Conflict`` (a revoked key stays revoked).
        """
        now = self._clock.now()
        return await self._change(
            actor, key_id, lambda record: change_of.updated(record, changes, now), "updated", expected_version
        )

    async def set_state(
        self, actor: Actor, key_id: str, state: KeyState, *, expected_version: int | None = None
    ) -> KeyRecord:
        """Enable, disable or revoke; idempotent.

        ``NotFound``, ``Forbidden`` (enabling), ``VersionConflict``, ``Conflict`` (a revoked key stays revoked).
        """
        now = self._clock.now()
        return await self._change(
            actor, key_id, lambda record: change_of.switched(record, state, now), EVENTS[state], expected_version
        )

    async def delete_key(self, actor: Actor, key_id: str, *, expected_version: int | None = None) -> None:
        """Forget a key and its uses, also one that cannot be decoded. ``NotFound``, ``VersionConflict``.

        With ``expected_version`` it is revoked first.
        """
        record: KeyRecord | None = None
        try:
            record = await self.get_key(actor, key_id)
        except StoreCorrupt:
            if expected_version is not None:
                raise
        if record is not None and expected_version not in (None, record.version):
            raise VersionConflict("the key was changed meanwhile")

        async def write() -> None:
            if record is not None and expected_version is not None and record.state is not KeyState.REVOKED:
                # the version is checked in one step with a change, and with no deletion
                revoked = change_of.switched(record, KeyState.REVOKED, self._clock.now())
                await self._replace(actor, record, revoked, "revoked")
            with self._sent(actor, "key.deleted", key_id):
                if not await self._store.delete(key_id):
                    raise NotFound(NO_KEY)
            await self._forget_uses(key_id)
            if record is None:  # nobody knows whose it was
                await self._audit.record(actor, organization_id=OPERATORS, action="key.deleted", target=f"key:{key_id}")
            else:
                await self._record_key(actor, "key.deleted", record, before=public_fields(record))
            self._count("deleted", 1)

        await self._whole(write())

    async def rotate(
        self,
        actor: Actor,
        key_id: str,
        *,
        grace: timedelta = DEFAULT_GRACE,
        limit: timedelta = DEFAULT_LIMIT,
        expected_version: int | None = None,
    ) -> IssuedKey:
        """A new secret for the same key; the old one lives ``grace`` after the new one's first use, ``limit`` at most.

        ``grace`` 0 cuts the old one at once. A rotation during a rotation: the secret in force becomes the previous one,
        the older one dies; but where the one in force was never used, it is the one that dies.
        ``NotFound``, ``Invalid``, ``Forbidden``, ``VersionConflict``, ``Conflict`` (revoked).
        """
        secret, now = generate_secret_token(), self._clock.now()
        stored = self._peppers.hash(secret.reveal())
        record = await self._change(
            actor,
            key_id,
            lambda record: change_of.rotated(record, stored, grace=grace, limit=limit, now=now),
            "rotated",
            expected_version,
        )
        return IssuedKey(record, secret)

    async def cancel_rotation(self, actor: Actor, key_id: str, *, expected_version: int | None = None) -> KeyRecord:
        """The old secret is the only one again. ``Conflict`` when there is none, or it is over, or the key is revoked."""
        now = self._clock.now()
        return await self._change(
            actor, key_id, lambda record: change_of.cancelled(record, now), "rotation_cancelled", expected_version
        )

    async def cut_previous(self, actor: Actor, key_id: str, *, expected_version: int | None = None) -> KeyRecord:
        """The old secret dies now. ``Conflict`` when there is none, or it is over."""
        now = self._clock.now()
        return await self._change(
            actor, key_id, lambda record: change_of.cut(record, now), "previous_secret_cut", expected_version
        )

    async def import_lines(
        self,
        actor: Actor,
        lines: Iterable[bytes],
        *,
        keep_going: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> ImportReport:
        """Store the keys of an import file (contract 6): all or nothing, or with ``keep_going`` all good lines.

        Never raises for a bad line. ``progress`` is told the number of lines read so far, every 1,000 and at the end.
        """
        work = KeyImport(self._store, actor, peppers=self._peppers, now=self._clock.now())
        await work.read(lines, progress=progress)

        async def write() -> None:
            with self._sent(actor, "keys.imported", work.digest):
                await work.store(keep_going=keep_going)
            for organization in work.new_organizations:
                await self._record_organization(actor, "organization.created", organization)
            if work.created:
                for organization_id, counts in sorted(work.by_organization().items()):
                    await self._audit.record(
                        actor,
                        organization_id=organization_id,
                        action="keys.imported",
                        target=f"import:{work.digest}",
                        after=counts,
                    )
                for record in work.new_records:
                    await self._record_key(actor, "key.created", record, after=public_fields(record))
                self._count("imported", work.created)

        await self._whole(write())
        return work.report()

    async def load(self, actor: Actor, seed: Seed) -> None:
        """Store what was read from an import file before the service began: all or nothing, by one process of several."""
        created = await self._store.add_many(seed.organizations, seed.records)
        if not created:
            return
        for organization_id, keys in sorted(Counter(record.organization_id for record in seed.records).items()):
            await self._audit.record(
                actor,
                organization_id=organization_id,
                action="keys.imported",
                target="import:start",
                after={"keys": keys},
            )

    async def in_force(self, *, wait: bool) -> InForce:
        """After a write: when it counts. With ``wait`` this process's own announcement is waited for (2 s at most)."""
        everywhere_by = self._clock.now() + self._bound
        if not wait:
            return InForce(None, everywhere_by, await self._is_replicated())
        durable, here = await asyncio.gather(self._is_replicated(), self._is_told_here())
        return InForce(here, everywhere_by, durable)

    async def _is_replicated(self) -> bool:
        try:
            return await self._store.replicate()
        except StoreUnavailable:
            return False

    async def _is_told_here(self) -> bool:
        try:
            await self._store.barrier()
        except StoreUnavailable:
            return False
        return True
