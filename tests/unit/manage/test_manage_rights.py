"""Who may do what: another organization's things do not exist, and no power is given that the giver has not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import NotFound
from backends.journal import UsageCount
from backends.records import KeyFilter, KeyState
from service.manage.actor import Actor
from service.manage.errors import Forbidden, Invalid
from service.manage.manager import KeyDraft
from tests.support.clock import START
from tests.support.keys import DOMAIN, in_seconds
from tests.unit.manage.world import ACME, ALL, COMMAND, GLOBEX, LIMITED, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.unit.manage.world import World

LATER = datetime(2030, 1, 1, tzinfo=UTC)
ON_A_KEY: dict[str, Any] = {
    "get": lambda m, actor, key_id: m.get_key(actor, key_id),
    "update": lambda m, actor, key_id: m.update_key(actor, key_id, {"name": "other"}),
    "update to nonsense": lambda m, actor, key_id: m.update_key(actor, key_id, {"name": 7}),
    "update of a version": lambda m, actor, key_id: m.update_key(actor, key_id, {"name": "n"}, expected_version=9),
    "enable": lambda m, actor, key_id: m.set_state(actor, key_id, KeyState.ACTIVE),
    "disable": lambda m, actor, key_id: m.set_state(actor, key_id, KeyState.DISABLED),
    "revoke": lambda m, actor, key_id: m.set_state(actor, key_id, KeyState.REVOKED),
    "delete": lambda m, actor, key_id: m.delete_key(actor, key_id),
    "delete a version": lambda m, actor, key_id: m.delete_key(actor, key_id, expected_version=9),
    "rotate": lambda m, actor, key_id: m.rotate(actor, key_id),
    "cancel": lambda m, actor, key_id: m.cancel_rotation(actor, key_id),
    "cut": lambda m, actor, key_id: m.cut_previous(actor, key_id),
    "usage": lambda m, actor, key_id: m.usage(actor, key_id, since=START, until=LATER, by="hour"),
}


async def take_one(lines: Any) -> None:
    async for _ in lines:
        break


ON_AN_ORGANIZATION: dict[str, Any] = {
    "get": lambda m, actor, name: m.get_organization(actor, name),
    "disable": lambda m, actor, name: m.set_organization_active(actor, name, is_active=False),
    "enable": lambda m, actor, name: m.set_organization_active(actor, name, is_active=True),
    "create a key": lambda m, actor, name: m.create_key(actor, KeyDraft(organization_id=name, domains=(DOMAIN,))),
    "create a bad key": lambda m, actor, name: m.create_key(actor, KeyDraft(organization_id=name, domains=())),
    "list keys": lambda m, actor, name: m.list_keys(actor, KeyFilter(organization_id=name)),
    "export": lambda m, actor, name: take_one(m.export(actor, name)),
    "audit": lambda m, actor, name: m.list_audit(actor, name),
}


async def error_of(call: Awaitable[Any]) -> tuple[type[BaseException], str]:
    try:
        await call
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        return type(error), str(error)
    raise AssertionError("it went through")


@pytest.mark.parametrize("operation", ON_A_KEY)
async def test_another_organizations_key_is_as_one_that_is_not_there(operation: str, world: World) -> None:
    """Same exception, same text; nothing changed, nothing recorded."""
    issued = await world.key("globex", scopes=("gatekey:read",))
    before = await world.entries("globex")
    call = ON_A_KEY[operation]
    told = await error_of(call(world.manager, ACME, issued.record.key_id))
    assert told == await error_of(call(world.manager, ACME, "key_missing"))
    assert told == await error_of(call(world.manager, OPERATOR, "key_missing"))
    assert told == (NotFound, "there is no such key")
    assert await world.store.get(issued.record.key_id) == issued.record
    assert await world.entries("globex") == before
    assert world.events == []


@pytest.mark.parametrize("organization_id", ["globex", "gatekey"])
@pytest.mark.parametrize("operation", ON_AN_ORGANIZATION)
async def test_another_organization_is_as_one_that_is_not_there(
    operation: str, organization_id: str, world: World
) -> None:
    """The operators' own included."""
    await world.key(organization_id)
    before = await world.entries(organization_id)
    call = ON_AN_ORGANIZATION[operation]
    told = await error_of(call(world.manager, ACME, organization_id))
    assert told == await error_of(call(world.manager, ACME, "missing"))
    assert told == await error_of(call(world.manager, OPERATOR, "missing"))
    assert told == (NotFound, "there is no such organization")
    assert await world.entries(organization_id) == before


async def test_listings_show_an_organizations_actor_its_own_only(world: World) -> None:
    """Keys, organizations, exports, last uses."""
    mine, others = await world.key(), await world.key("globex")
    page = await world.manager.list_keys(ACME, KeyFilter())
    assert page.items == (mine.record,)
    assert [item.organization_id for item in (await world.manager.list_organizations(ACME)).items] == ["acme"]
    assert (await world.manager.list_organizations(ACME, after="acme")).items == ()
    assert [b"globex" in line async for line in world.manager.export(ACME)] == [False]
    both = [mine.record, others.record]
    await world.journal.add_usage(
        [UsageCount(key_id=item.key_id, hour=START, count=1, last_used_at=START) for item in both]
    )
    assert list(await world.manager.last_use(ACME, both)) == [mine.record.key_id]
    assert [entry.organization_id for entry in (await world.manager.list_audit(ACME)).items] == ["acme"]


async def test_an_operator_sees_all(world: World) -> None:
    """Of every organization, or of one."""
    mine, others = await world.key(), await world.key("globex")
    assert {item.key_id for item in (await world.manager.list_keys(OPERATOR, KeyFilter())).items} == {
        mine.record.key_id,
        others.record.key_id,
    }
    only = await world.manager.list_keys(OPERATOR, KeyFilter(organization_id="globex"))
    assert only.items == (others.record,)
    names = [item.organization_id for item in (await world.manager.list_organizations(OPERATOR)).items]
    assert names == ["acme", "gatekey", "globex"]
    assert len([line async for line in world.manager.export(OPERATOR)]) == 2
    assert len([line async for line in world.manager.export(OPERATOR, "globex")]) == 1
    assert (await world.manager.list_audit(OPERATOR)).items == ()
    assert len((await world.manager.list_audit(OPERATOR, "globex")).items) == 1


async def test_a_page_of_organizations_has_its_limit(world: World) -> None:
    """For everybody."""
    for actor in (ACME, OPERATOR):
        with pytest.raises(ValueError, match="1 to 1000"):
            await world.manager.list_organizations(actor, limit=0)


@pytest.mark.parametrize("actor", [ACME, GLOBEX])
@pytest.mark.parametrize("organization_id", ["new", "acme", "Nonsense"])
async def test_only_operators_make_organizations(actor: Actor, organization_id: str, world: World) -> None:
    """Whether there is one already, or could be, is not told."""
    with pytest.raises(Forbidden, match="operators of the installation"):
        await world.manager.create_organization(actor, organization_id)


async def test_only_operators_switch_organizations(world: World) -> None:
    """Not even their own."""
    with pytest.raises(Forbidden, match="operators of the installation"):
        await world.manager.set_organization_active(ACME, "acme", is_active=False)
    assert (await world.store.get_organization("acme")).is_active


@pytest.mark.parametrize("actor", [COMMAND, OPERATOR])
async def test_the_operators_organization_cannot_be_disabled(actor: Actor, world: World) -> None:
    """Nobody could enable it again."""
    with pytest.raises(Forbidden, match="cannot be disabled"):
        await world.manager.set_organization_active(actor, "gatekey", is_active=False)
    assert (await world.manager.set_organization_active(actor, "gatekey", is_active=True)).is_active


GRANTS: list[tuple[Actor, tuple[str, ...], bool]] = [
    (COMMAND, ("gatekey:read", "gatekey:verify", "gatekey:anything"), True),
    (OPERATOR, ALL, True),
    (OPERATOR, ("gatekey:admin",), False),
    (LIMITED, ("gatekey:read",), True),
    (LIMITED, ("gatekey:verify",), False),
    (ACME, ("orders:read", "orders:*", "gatekeeper:read"), True),
    (ACME, ("gatekey:read", "gatekey:write"), True),
    (ACME, ("gatekey:verify",), False),
    (ACME, ("orders:read", "gatekey:verify"), False),
    (Actor(organization_id="acme", name="key:k", scopes=("g:*", "gate:*", "*", "gatekey:*")), ("gatekey:read",), False),
    (Actor(organization_id="acme", name="key:k", scopes=()), ("gatekey:",), False),
]


@pytest.mark.parametrize(("actor", "scopes", "allowed"), GRANTS)
async def test_a_key_may_grant_what_is_not_gatekeys_or_what_it_holds(
    actor: Actor,
    scopes: tuple[str, ...],
    allowed: bool,  # noqa: FBT001 - a column
    world: World,
) -> None:
    """At a new key and at one that gets more; no wildcard covers ``gatekey:``."""
    issued = await world.key()
    draft = KeyDraft(organization_id="acme", domains=(DOMAIN,), scopes=scopes)
    if allowed:
        assert (await world.manager.create_key(actor, draft)).record.scopes == scopes
        assert (await world.manager.update_key(actor, issued.record.key_id, {"scopes": scopes})).scopes == scopes
        return
    for call in (
        world.manager.create_key(actor, draft),
        world.manager.update_key(actor, issued.record.key_id, {"scopes": scopes}),
    ):
        with pytest.raises(Forbidden, match="only by whoever holds it"):
            await call
    assert (await world.store.list_keys()).items == (issued.record,)


async def test_only_added_scopes_are_a_grant(world: World) -> None:
    """What the key has already stays, and may be taken away."""
    issued = await world.key(scopes=("gatekey:verify", "orders:read"))
    key_id = issued.record.key_id
    more = await world.manager.update_key(ACME, key_id, {"scopes": ("gatekey:verify", "orders:*", "gatekey:read")})
    assert more.scopes == ("gatekey:verify", "orders:*", "gatekey:read")
    assert (await world.manager.update_key(ACME, key_id, {"scopes": ("orders:*",)})).scopes == ("orders:*",)
    with pytest.raises(Forbidden):
        await world.manager.update_key(ACME, key_id, {"scopes": ("orders:*", "gatekey:verify")})


EMPOWERING: dict[str, Any] = {
    "domains": lambda m, key_id: m.update_key(ACME, key_id, {"domains": ("other.example.com",)}),
    "origins": lambda m, key_id: m.update_key(ACME, key_id, {"origins": ()}),
    "networks": lambda m, key_id: m.update_key(ACME, key_id, {"networks": ()}),
    "expiry": lambda m, key_id: m.update_key(ACME, key_id, {"expires_at": None}),
    "critical": lambda m, key_id: m.update_key(ACME, key_id, {"critical": False}),
    "enabling by update": lambda m, key_id: m.update_key(ACME, key_id, {"is_active": True}),
    "enabling": lambda m, key_id: m.set_state(ACME, key_id, KeyState.ACTIVE),
    "rotating": lambda m, key_id: m.rotate(ACME, key_id),
    "rotating with a cut": lambda m, key_id: m.rotate(ACME, key_id, grace=timedelta(0)),
    "cancelling": lambda m, key_id: m.cancel_rotation(ACME, key_id),
}
HARMLESS: dict[str, Any] = {
    "name": lambda m, key_id: m.update_key(ACME, key_id, {"name": "other"}),
    "metadata": lambda m, key_id: m.update_key(ACME, key_id, {"metadata": '{"a":1}'}),
    "the same again": lambda m, key_id: m.update_key(ACME, key_id, {"domains": (DOMAIN,), "critical": True}),
    "revoking": lambda m, key_id: m.set_state(ACME, key_id, KeyState.REVOKED),
    "cutting": lambda m, key_id: m.cut_previous(ACME, key_id),
    "deleting": lambda m, key_id: m.delete_key(ACME, key_id),
}


async def powerful_key(world: World) -> str:
    """One of the actor's own organization that holds more than the actor, disabled, in the middle of a rotation."""
    issued = await world.key(
        scopes=("gatekey:verify",),
        origins=("https://app.example.com",),
        networks=("192.0.2.0/24",),
        expires_at=in_seconds(3600),
        critical=True,
    )
    await world.manager.rotate(COMMAND, issued.record.key_id)
    await world.manager.set_state(COMMAND, issued.record.key_id, KeyState.DISABLED)
    return issued.record.key_id


@pytest.mark.parametrize("operation", EMPOWERING)
async def test_a_key_that_holds_more_is_not_empowered_or_taken_over(operation: str, world: World) -> None:
    """Rotating gives its secret; every other way gives it reach."""
    key_id = await powerful_key(world)
    before, entries = await world.store.get(key_id), await world.entries()
    with pytest.raises(Forbidden):
        await EMPOWERING[operation](world.manager, key_id)
    assert await world.store.get(key_id) == before
    assert await world.entries() == entries


@pytest.mark.parametrize("operation", HARMLESS)
async def test_power_may_be_taken_from_a_key_that_holds_more(operation: str, world: World) -> None:
    """In an emergency everybody who reaches it may stop it."""
    await HARMLESS[operation](world.manager, await powerful_key(world))


async def test_giving_up_the_scope_frees_the_key(world: World) -> None:
    """In the same change: what counts is what the key holds afterwards."""
    key_id = await powerful_key(world)
    changed = await world.manager.update_key(ACME, key_id, {"scopes": (), "domains": ("other.example.com",)})
    assert changed.domains == ("other.example.com",)
    await world.manager.rotate(ACME, key_id)


async def test_a_forbidden_change_is_told_after_a_bad_one(world: World) -> None:
    """What a caller could repair comes first."""
    with pytest.raises(Invalid):
        await world.manager.create_key(ACME, KeyDraft(organization_id="acme", domains=(), scopes=("gatekey:verify",)))
