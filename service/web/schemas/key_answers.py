"""The bodies of answers about keys."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import orjson
from pydantic import ConfigDict, Field

from backends.records import KeyState
from service.manage.changes import has_previous, previous_use
from service.web.schemas.answers import AnswerModel, InForceView, view_of_in_force
from service.web.schemas.examples import EXAMPLE_KEY, EXAMPLE_SECRET, IN_FORCE, KEY

if TYPE_CHECKING:
    from backends.journal import LastUse
    from backends.records import KeyRecord
    from service.manage.manager import InForce

__all__ = ["DeletedKey", "IssuedKeyView", "KeyPage", "KeyView", "WrittenKey"]


class RotationView(AnswerModel):
    """The secret from before a rotation, while it is still accepted."""

    rotated_at: datetime | None
    previous_expires_at: Annotated[datetime | None, Field(description="At the latest.")]
    grace_seconds: Annotated[
        int | None,
        Field(description="How long it lives after the new secret's first use; null once that has happened."),
    ]
    previous_secret_used_at: Annotated[datetime | None, Field(description="Last time it was accepted.")]


class KeyView(AnswerModel):
    """A key, without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [KEY]})

    key_id: str
    organization_id: str
    api_key: Annotated[str, Field(description="What clients send in x-api-key; public.", examples=[EXAMPLE_KEY])]
    name: str
    domains: tuple[str, ...]
    scopes: tuple[str, ...]
    origins: tuple[str, ...]
    networks: tuple[str, ...]
    state: Literal["active", "disabled", "revoked"]
    is_active: Annotated[bool, Field(description="Whether the state is active; an expired key may still be.")]
    critical: bool
    expires_at: datetime | None
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    version: Annotated[int, Field(description="Grows with each change; also the ETag.")]
    rotation: RotationView | None
    last_used_at: Annotated[datetime | None, Field(description="Some seconds behind.")]

    @classmethod
    def of(cls, record: KeyRecord, last: LastUse | None, *, now: datetime) -> Self:
        """As it is shown."""
        return cls(**_key(record, last, now))


class WrittenKey(KeyView):
    """A key that was changed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**KEY, "in_force": IN_FORCE}]})

    in_force: InForceView

    @classmethod
    def after(cls, record: KeyRecord, last: LastUse | None, in_force: InForce, *, now: datetime) -> Self:
        """As it is shown to whoever changed it."""
        return cls(**_key(record, last, now), in_force=view_of_in_force(in_force))


class IssuedKeyView(WrittenKey):
    """A key whose secret is new."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**KEY, "in_force": IN_FORCE, "secret_token": EXAMPLE_SECRET}]}
    )

    secret_token: Annotated[
        str | None,
        Field(
            repr=False,
            description="Shown this once; null where none was made, and in the replay of an idempotent request.",
            examples=[EXAMPLE_SECRET],
        ),
    ]


class DeletedKey(AnswerModel):
    """A key that is gone."""

    key_id: str
    in_force: InForceView


class KeyPage(AnswerModel):
    """A page of keys; it may be shorter than asked for while there are more."""

    items: tuple[KeyView, ...]
    next_cursor: str | None


def _key(record: KeyRecord, last: LastUse | None, now: datetime) -> dict[str, Any]:
    same = (
        "key_id", "organization_id", "api_key", "name", "domains", "scopes", "origins", "networks", "critical",
        "expires_at", "created_at", "updated_at", "version",
    )  # fmt: skip
    return {
        **{name: getattr(record, name) for name in same},
        "state": record.state.value,
        "is_active": record.state is KeyState.ACTIVE,
        "metadata": orjson.loads(record.metadata),
        "rotation": _rotation(record, last, now),
        "last_used_at": None if last is None else last.last_used_at,
    }


def _rotation(record: KeyRecord, last: LastUse | None, now: datetime) -> RotationView | None:
    if not has_previous(record, now):
        return None
    return RotationView(
        rotated_at=record.rotated_at,
        previous_expires_at=record.previous_expires_at,
        grace_seconds=record.previous_grace,
        previous_secret_used_at=previous_use(record, last),
    )
