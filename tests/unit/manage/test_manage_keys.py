"""Keys and organizations: what is made of a draft and of a change, what is refused, recorded and counted."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from backends.errors import Conflict, NotFound, StoreCorrupt, StoreUnavailable, VersionConflict
from backends.journal import HourCount, UsageCount
from backends.memory import MemoryKeyStore
from backends.records import FoundKey, KeyFilter, KeyState
from service.auth.loaded import LoadedKey
from service.auth.peppers import SecretMatch
from service.auth.tokens import api_key_problem, secret_problem
from service.manage.errors import Invalid, ManageError
from service.manage.manager import InForce, KeyDraft
from tests.support.clock import START
from tests.support.keys import DOMAIN, PEPPERS, in_seconds
from tests.support.recorder import watching
from tests.unit.manage.world import ACME, COMMAND, OPERATOR

if TYPE_CHECKING:
    from tests.unit.manage.world import World

# -- making ---------------------------------------------------------------------------------------------------------------


async def test_a_new_key_is_what_the_draft_says_in_canonical_form(world: World) -> None:
    """And works: its rules compile, its secret is its own."""
    draft = KeyDraft(
        organization_id="acme",
        domains=("API.Example.com.", "*.example.com", "api.example.com"),
        scopes=("orders:read", "orders:read"),
        origins=("https://App.example.com/",),
        networks=("192.0.2.7",),
        expires_at=datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        critical=True,
        env="test",
        name="Zoë's key",
        metadata='{"b": 1, "a": "é"}',
    )
    issued = await world.manager.create_key(ACME, draft)
    record = issued.record
    assert await world.store.get(record.key_id) == record
    assert record.api_key.startswith("gk_test_")
    assert api_key_problem(record.api_key) is None
    assert secret_problem(issued.secret.reveal()) is None
    assert PEPPERS.match(issued.secret.reveal(), record.secret) is SecretMatch.CURRENT
    assert (record.domains, record.scopes) == (("api.example.com", "*.example.com"), ("orders:read",))
    assert (record.origins, record.networks) == (("https://app.example.com",), ("192.0.2.7/32",))
    assert (record.expires_at, record.critical) == (datetime(2027, 1, 1, tzinfo=UTC), True)
    assert (record.name, record.metadata) == ("Zoë's key", '{"a":"é","b":1}')
    assert (record.created_at, record.updated_at, record.version) == (START, START, 1)
    LoadedKey(FoundKey(record, organization_is_active=True))
    assert world.events == [("created", 1)]


async def test_every_key_has_identifiers_and_a_secret_of_its_own(world: World) -> None:
    """And sorts behind the older ones."""
    issued = []
    for _ in range(5):
        issued.append(await world.key())
        world.clock.advance(0.001)
    assert [item.record.key_id for item in issued] == sorted({item.record.key_id for item in issued})
    assert len({item.record.api_key for item in issued}) == len({item.secret.reveal() for item in issued}) == 5
    assert all(item.record.api_key.startswith("gk_live_") for item in issued)


async def test_a_given_key_id_is_made_once(world: World) -> None:
    """A repeated request must not make a second key."""
    assert (await world.key(key_id="key_given")).record.key_id == "key_given"
    with pytest.raises(Conflict):
        await world.key(key_id="key_given")
    assert len((await world.store.list_keys()).items) == 1


LIST_FORM = "must be a list of text"
BAD: list[tuple[dict[str, Any], str]] = [
    ({"domains": ()}, "domains: must not be empty: the key would be good for nothing"),
    ({"domains": "api.example.com"}, f"domains: {LIST_FORM}"),
    ({"domains": tuple(f"h{number}.example.com" for number in range(101))}, "domains: at most 100"),
    ({"domains": ("api.example.com/v1",)}, "domains: a rule with a path needs a scheme, for instance https://"),
    ({"scopes": tuple(f"s{number}" for number in range(33))}, "scopes: at most 32"),
    (
        {"scopes": ("s" * 65,)},
        "scopes: must be 1 to 64 characters of printable ASCII without space, comma, quote or backslash",
    ),
    (
        {"scopes": ("gatekey:*",)},
        "scopes: may hold * only as its last part, as in orders:*, and not for gatekey: scopes",
    ),
    ({"scopes": None}, f"scopes: {LIST_FORM}"),
    ({"origins": ("app.example.com",)}, "origins: must be an origin, scheme://host[:port]"),
    ({"networks": ("192.0.2.1/24",)}, "networks: must be an IP network such as 192.0.2.0/24, without host bits"),
    ({"expires_at": START}, "expires_at: must be in the future"),
    ({"expires_at": in_seconds(-1)}, "expires_at: must be in the future"),
    ({"expires_at": datetime(2030, 1, 1)}, "expires_at: needs a time zone, for instance a final Z"),  # noqa: DTZ001 - that is it
    ({"expires_at": "2030-01-01T00:00:00Z"}, "expires_at: must be a time"),
    (
        {"expires_at": datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=1)))},
        "expires_at: is out of range",
    ),
    ({"name": "n" * 201}, "name: must be printable text of at most 200 characters"),
    ({"name": "a\nb"}, "name: must be printable text of at most 200 characters"),
    ({"name": None}, "name: must be printable text of at most 200 characters"),
    ({"metadata": "[]"}, "metadata: must be an object"),
    ({"metadata": "{"}, "metadata: is not JSON in UTF-8"),
    ({"metadata": "[" * 100_000}, "metadata: is not JSON in UTF-8"),
    ({"metadata": '{"a": NaN}'}, "metadata: holds a number that is not finite"),
    ({"metadata": '{"a": 1, "a": 1}'}, "metadata: a field stands twice"),
    ({"metadata": '{"a": "' + "m" * 8192 + '"}'}, "metadata: at most 8192 bytes"),
    ({"metadata": {}}, "metadata: must be text"),
    ({"critical": 1}, "critical: must be true or false"),
]


@pytest.mark.parametrize(("fields", "problem"), BAD)
async def test_a_bad_field_is_refused_by_its_name(fields: dict[str, Any], problem: str, world: World) -> None:
    """In a draft and in a change, by the same rule; never with its value, and nothing happens."""
    issued = await world.key()
    entries = await world.entries()
    for call in (
        world.manager.create_key(ACME, KeyDraft(**{"organization_id": "acme", "domains": (DOMAIN,), **fields})),
        world.manager.update_key(ACME, issued.record.key_id, fields),
    ):
        with pytest.raises(Invalid) as caught:
            await call
        assert str(caught.value) == problem
        assert f"{caught.value.field}: {caught.value.problem}" == problem
        assert isinstance(caught.value, ManageError)
    assert (await world.store.list_keys()).items == (issued.record,)
    assert await world.entries() == entries
    assert world.events == []


@pytest.mark.parametrize("key_id", ["", "a/b", "k" * 65, 7, "--help", "export"])
async def test_a_bad_key_id_is_refused(key_id: Any, world: World) -> None:
    """It becomes part of addresses."""
    with pytest.raises(Invalid, match="key_id: "):
        await world.key(key_id=key_id)


# -- changing -------------------------------------------------------------------------------------------------------------

CHANGES: list[tuple[str, Any, Any]] = [
    ("name", "other", "other"),
    ("domains", ["Other.example.com"], ("other.example.com",)),
    ("scopes", ["orders:read"], ("orders:read",)),
    ("origins", ["https://app.example.com"], ("https://app.example.com",)),
    ("networks", ["192.0.2.7"], ("192.0.2.7/32",)),
    ("expires_at", in_seconds(60), in_seconds(60)),
    ("critical", True, True),
    ("metadata", '{"a": 1}', '{"a":1}'),
]


@pytest.mark.parametrize(("field", "value", "stored"), CHANGES)
async def test_one_field_changes_and_nothing_else(field: str, value: Any, stored: Any, world: World) -> None:
    """But the version and the time of the change; the entry says what was and what is."""
    before = (await world.key()).record
    world.clock.advance(5)
    after = await world.manager.update_key(ACME, before.key_id, {field: value})
    assert await world.store.get(before.key_id) == after
    changed = {name for name in after.__slots__ if getattr(after, name) != getattr(before, name)}
    assert changed == {field, "version", "updated_at"}
    assert (getattr(after, field), after.updated_at, after.version) == (stored, in_seconds(5), 2)
    entry = (await world.entries())[-1]
    assert (entry.action, list(json.loads(entry.before)), list(json.loads(entry.after))) == (
        "key.updated",
        [field],
        [field],
    )
    assert world.events == [("updated", 1)]


async def test_a_change_that_changes_nothing_is_none(world: World) -> None:
    """Nothing is written, recorded or counted."""
    record = (await world.key(name="one", expires_at=in_seconds(10))).record
    entries = await world.entries()
    world.clock.advance(60)  # past its expiry, which may stay what it is
    same = {"name": "one", "domains": [DOMAIN], "expires_at": in_seconds(10), "is_active": True, "metadata": " {} "}
    assert await world.manager.update_key(ACME, record.key_id, same) == record
    assert await world.manager.update_key(ACME, record.key_id, {}) == record
    assert await world.manager.set_state(ACME, record.key_id, KeyState.ACTIVE) == record
    assert await world.entries() == entries
    assert world.events == []


@pytest.mark.parametrize("field", ["api_key", "state", "secret", "organization_id", "previous_grace", "version"])
async def test_what_is_fixed_cannot_be_changed(field: str, world: World) -> None:
    """It is named."""
    issued = await world.key()
    with pytest.raises(Invalid, match=f"{field}: is no field that can be changed"):
        await world.manager.update_key(ACME, issued.record.key_id, {field: "x"})


async def test_a_name_that_could_be_anything_is_not_repeated(world: World) -> None:
    """It may be a secret in the wrong place."""
    issued = await world.key()
    with pytest.raises(Invalid, match="changes: is no field") as caught:
        await world.manager.update_key(ACME, issued.record.key_id, {issued.secret.reveal(): 1})
    assert issued.secret.reveal() not in str(caught.value)


async def test_a_version_that_is_not_the_stored_one_conflicts(world: World) -> None:
    """For each operation that takes one, also when it would change nothing."""
    record = (await world.key()).record
    manager, key_id = world.manager, record.key_id
    await manager.rotate(ACME, key_id)
    for call in (
        manager.update_key(ACME, key_id, {}, expected_version=1),
        manager.set_state(ACME, key_id, KeyState.ACTIVE, expected_version=1),
        manager.rotate(ACME, key_id, expected_version=1),
        manager.cancel_rotation(ACME, key_id, expected_version=1),
        manager.cut_previous(ACME, key_id, expected_version=1),
        manager.delete_key(ACME, key_id, expected_version=1),
    ):
        with pytest.raises(VersionConflict):
            await call
    assert (await manager.cut_previous(ACME, key_id, expected_version=2)).version == 3
    assert (await manager.set_state(ACME, key_id, KeyState.DISABLED, expected_version=3)).version == 4
    await manager.delete_key(ACME, key_id, expected_version=4)


async def test_of_two_that_change_one_version_one_loses(world: World) -> None:
    """In the moment between reading and writing."""
    record = (await world.key()).record

    async def other() -> None:
        await world.manager.update_key(ACME, record.key_id, {"name": "theirs"}, expected_version=1)

    world.faults.before["replace"] = other
    with pytest.raises(VersionConflict):
        await world.manager.update_key(ACME, record.key_id, {"name": "mine"}, expected_version=1)
    assert (await world.store.get(record.key_id)).name == "theirs"


async def test_without_a_version_both_changes_count(world: World) -> None:
    """The later one reads again, and keeps what the other one changed."""
    record = (await world.key()).record

    async def other() -> None:
        await world.manager.update_key(ACME, record.key_id, {"critical": True})

    world.faults.before["replace"] = other
    changed = await world.manager.update_key(ACME, record.key_id, {"name": "mine"})
    assert (changed.name, changed.critical, changed.version) == ("mine", True, 3)
    assert await world.actions() == ["key.created", "key.updated", "key.updated"]


async def test_who_always_loses_gives_up(world: World) -> None:
    """After some attempts; not for a version, since it named none. Who names one, at once."""
    record = (await world.key()).record
    world.faults.errors["replace"] = VersionConflict("again")
    with pytest.raises(Conflict, match=r"^the key is changed all the time; try again$"):
        await world.manager.update_key(ACME, record.key_id, {"name": "mine"})
    assert world.faults.calls["replace"] == 5
    with pytest.raises(VersionConflict):
        await world.manager.update_key(ACME, record.key_id, {"name": "mine"}, expected_version=1)
    assert world.faults.calls["replace"] == 6


@pytest.mark.parametrize("operation", ["replace", "delete"])
async def test_a_key_that_is_deleted_meanwhile_is_not_there(operation: str, world: World) -> None:
    """With the same words as ever."""
    key_id = (await world.key()).record.key_id
    world.faults.before[operation] = partial(MemoryKeyStore.delete, world.store, key_id)
    calls: dict[str, Any] = {
        "replace": partial(world.manager.update_key, ACME, key_id, {"name": "mine"}),
        "delete": partial(world.manager.delete_key, ACME, key_id),
    }
    with pytest.raises(NotFound, match=r"^there is no such key$"):
        await calls[operation]()
    assert await world.actions() == ["key.created"]


# -- states ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_update", [False, True])
async def test_disabling_and_enabling_alternate(by_update: bool, world: World) -> None:  # noqa: FBT001 - a column
    """By either way: recorded and counted as what it is."""
    key_id = (await world.key()).record.key_id
    for state in (KeyState.DISABLED, KeyState.ACTIVE):
        if by_update:
            record = await world.manager.update_key(ACME, key_id, {"is_active": state is KeyState.ACTIVE})
        else:
            record = await world.manager.set_state(ACME, key_id, state)
        assert record.state is state
    assert await world.actions() == ["key.created", "key.disabled", "key.enabled"]
    assert world.events == [("disabled", 1), ("enabled", 1)]
    last = (await world.entries())[-1]
    assert (json.loads(last.before), json.loads(last.after)) == ({"state": "disabled"}, {"state": "active"})


async def test_disabling_beside_another_change_is_one_update(world: World) -> None:
    """One entry."""
    key_id = (await world.key()).record.key_id
    await world.manager.update_key(ACME, key_id, {"is_active": False, "name": "off"})
    assert await world.actions() == ["key.created", "key.updated"]


async def test_revoking_is_final(world: World) -> None:
    """What else it says may still be corrected."""
    key_id = (await world.key()).record.key_id
    assert (await world.manager.set_state(ACME, key_id, KeyState.REVOKED)).state is KeyState.REVOKED
    assert (await world.manager.set_state(ACME, key_id, KeyState.REVOKED)).version == 2
    for call in (
        world.manager.set_state(ACME, key_id, KeyState.ACTIVE),
        world.manager.set_state(ACME, key_id, KeyState.DISABLED),
        world.manager.update_key(ACME, key_id, {"is_active": True}),
        world.manager.rotate(ACME, key_id),
        world.manager.cancel_rotation(ACME, key_id),
        world.manager.cut_previous(ACME, key_id),
    ):
        with pytest.raises(Conflict):
            await call
    changed = await world.manager.update_key(ACME, key_id, {"is_active": False, "name": "the stolen one"})
    assert (changed.state, changed.name) == (KeyState.REVOKED, "the stolen one")
    assert await world.actions() == ["key.created", "key.revoked", "key.updated"]
    assert world.events == [("revoked", 1), ("updated", 1)]


async def test_a_deleted_key_is_gone_and_recorded(world: World) -> None:
    """With what it was."""
    record = (await world.key(name="one")).record
    await world.manager.delete_key(ACME, record.key_id)
    with pytest.raises(NotFound):
        await world.manager.get_key(ACME, record.key_id)
    with pytest.raises(NotFound):
        await world.manager.delete_key(ACME, record.key_id)
    last = (await world.entries())[-1]
    assert (last.action, last.target, last.after) == ("key.deleted", f"key:{record.key_id}", "{}")
    assert json.loads(last.before)["name"] == "one"
    assert world.events == [("deleted", 1)]


async def test_what_is_changed_in_the_moment_of_a_deletion_by_version_is_not_deleted(world: World) -> None:
    """The version is checked in the same step as a change: the key is revoked first."""
    record = (await world.key()).record

    async def other() -> None:
        await world.manager.update_key(ACME, record.key_id, {"name": "theirs"})

    world.faults.before["replace"] = other
    world.faults.before["delete"] = other  # where nothing is replaced before
    with pytest.raises(VersionConflict):
        await world.manager.delete_key(ACME, record.key_id, expected_version=1)
    found = await world.store.get(record.key_id)
    assert (found.name, found.state) == ("theirs", KeyState.ACTIVE)
    assert await world.actions() == ["key.created", "key.updated"]


@pytest.mark.parametrize(("state", "between"), [(KeyState.ACTIVE, ["key.revoked"]), (KeyState.REVOKED, [])])
async def test_a_deletion_by_version_revokes_and_deletes(state: KeyState, between: list[str], world: World) -> None:
    """Both are recorded; a key that is revoked already is not revoked again."""
    record = (await world.key()).record
    await world.manager.set_state(ACME, record.key_id, state)
    done = await world.actions()
    version = (await world.store.get(record.key_id)).version
    await world.manager.delete_key(ACME, record.key_id, expected_version=version)
    assert await world.actions() == [*done, *between, "key.deleted"]
    with pytest.raises(NotFound):
        await world.store.get(record.key_id)


async def test_a_deleted_keys_uses_are_forgotten(world: World) -> None:
    """Whoever gets the same identifier next sees nothing of them."""
    record = (await world.key()).record
    for key_id in (record.key_id, "key_other"):
        await world.journal.add_usage([UsageCount(key_id=key_id, hour=START, count=2, last_used_at=START)])
    await world.manager.delete_key(ACME, record.key_id)
    assert set(await world.journal.last_use([record.key_id, "key_other"])) == {"key_other"}
    assert await world.journal.usage(record.key_id, since=START, until=in_seconds(60)) == ()


async def test_uses_that_cannot_be_forgotten_do_not_fail_the_deletion(world: World) -> None:
    """The key has gone; the log says what is left of it."""
    record = (await world.key()).record
    world.faults.stop("forget_uses")
    with structlog.testing.capture_logs() as logs:
        await world.manager.delete_key(ACME, record.key_id)
    assert [entry["event"] for entry in logs] == ["uses_not_forgotten"]
    assert await world.actions() == ["key.created", "key.deleted"]


async def test_a_key_that_cannot_be_decoded_can_be_deleted_by_operators(world: World) -> None:
    """Nobody can say whose it is, so nobody else is told of it."""
    record = (await world.key()).record
    world.faults.errors["get"] = StoreCorrupt("the stored key's secret is missing or wrong")
    for call in (world.manager.get_key(ACME, record.key_id), world.manager.delete_key(ACME, record.key_id)):
        with pytest.raises(NotFound, match=r"^there is no such key$"):
            await call
    with pytest.raises(StoreCorrupt):
        await world.manager.get_key(OPERATOR, record.key_id)
    with pytest.raises(StoreCorrupt):
        await world.manager.delete_key(OPERATOR, record.key_id, expected_version=1)
    await world.manager.delete_key(OPERATOR, record.key_id)
    assert await world.store.find(record.api_key) is None
    assert await world.actions("gatekey") == ["key.deleted"]


# -- organizations --------------------------------------------------------------------------------------------------------


async def test_an_organization_is_made_and_switched(world: World) -> None:
    """Each recorded in its own chain; what changes nothing is not."""
    made = await world.manager.create_organization(OPERATOR, "new-one", name="New")
    assert await world.manager.get_organization(COMMAND, "new-one") == made
    assert (made.name, made.is_active, made.created_at) == ("New", True, START)
    for is_active in (True, False, False, True):
        switched = await world.manager.set_organization_active(OPERATOR, "new-one", is_active)
        assert switched == await world.store.get_organization("new-one")
        assert switched.is_active is is_active
    assert await world.actions("new-one") == ["organization.created", "organization.disabled", "organization.enabled"]
    first, second, _ = await world.entries("new-one")
    assert (first.target, json.loads(first.after)["name"]) == ("organization:new-one", "New")
    assert (json.loads(second.before), json.loads(second.after)) == ({"is_active": True}, {"is_active": False})
    with pytest.raises(Conflict):
        await world.manager.create_organization(OPERATOR, "new-one")


@pytest.mark.parametrize(
    ("organization_id", "name", "problem"),
    [
        ("Acme", "", "organization_id: must be lower-case letters, digits and -"),
        ("", "", "organization_id: must be lower-case letters, digits and -"),
        ("fine", "a\nb", "name: must be printable text of at most 200 characters"),
    ],
)
async def test_a_bad_organization_is_refused(organization_id: str, name: str, problem: str, world: World) -> None:
    """By the field's name."""
    with pytest.raises(Invalid, match=problem):
        await world.manager.create_organization(OPERATOR, organization_id, name=name)


# -- who, what, when, from where ------------------------------------------------------------------------------------------


async def test_an_entry_tells_who_did_what_to_which_when_and_from_where(world: World) -> None:
    """In the chain of the key's organization; no secret, not even a hash of one."""
    issued = await world.manager.create_key(OPERATOR, KeyDraft(organization_id="acme", domains=(DOMAIN,)))
    world.clock.advance(7)
    rotated = await world.manager.rotate(OPERATOR, issued.record.key_id)
    first, second = await world.entries()
    for entry, at, action in ((first, START, "key.created"), (second, in_seconds(7), "key.rotated")):
        assert (entry.actor, entry.actor_organization_id) == ("key:key_op", "gatekey")
        assert (entry.action, entry.target, entry.at) == (action, f"key:{issued.record.key_id}", at)
        assert (entry.client_ip, entry.request_id) == ("192.0.2.9", "request-one")
        for secret in (issued.record.secret, rotated.record.secret):
            assert secret.digest.hex() not in entry.before + entry.after
    assert json.loads(first.after) == {
        "key_id": issued.record.key_id,
        "organization_id": "acme",
        "api_key": issued.record.api_key,
        "name": "",
        "domains": [DOMAIN],
        "scopes": [],
        "origins": [],
        "networks": [],
        "state": "active",
        "expires_at": None,
        "critical": False,
        "metadata": {},
        "created_at": "2026-01-02T03:04:05Z",
        "rotated_at": None,
        "previous_expires_at": None,
        "previous_grace": None,
    }
    assert json.loads(second.after) == {
        "rotated_at": "2026-01-02T03:04:12Z",
        "previous_expires_at": "2026-02-01T03:04:12Z",
        "previous_grace": 86400,
    }
    assert await world.entries("gatekey") == []


async def test_a_write_is_recorded_also_when_its_caller_is_cancelled(world: World) -> None:
    """A client that hangs up must not leave a change that nobody made."""
    record = (await world.key()).record
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        arrived.set()
        await go_on.wait()

    world.faults.before["replace"] = wait
    call = asyncio.create_task(world.manager.update_key(ACME, record.key_id, {"name": "other"}))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go_on.set()
    (writing,) = world.manager._writing
    await writing
    assert (await world.store.get(record.key_id)).name == "other"
    assert await world.actions() == ["key.created", "key.updated"]
    assert world.manager._writing == set()


@pytest.mark.parametrize("lost", [False, True])
async def test_a_write_that_the_store_does_not_confirm_is_told_in_the_log(lost: bool, world: World) -> None:  # noqa: FBT001 - a column
    """Nobody knows whether it happened, so it is no audit entry, and the caller is told."""
    record = (await world.key()).record
    if lost:
        world.faults.unanswered.add("replace")
    else:
        world.faults.stop("replace")
    with structlog.testing.capture_logs() as said, pytest.raises(StoreUnavailable):
        await world.manager.update_key(ACME, record.key_id, {"name": "other"})
    assert said == [
        {
            "event": "change_not_confirmed",
            "log_level": "warning",
            "action": "key.updated",
            "target": record.key_id,
            "by": "key:key_acme",
            "error_type": "StoreUnavailable",
        }
    ]
    assert world.events == []


# -- reading --------------------------------------------------------------------------------------------------------------


async def test_last_uses_and_use_by_hour_and_day(world: World) -> None:
    """Days are those of UTC."""
    record = (await world.key()).record
    hours = [START.replace(hour=hour, minute=0, second=0, day=day) for day, hour in ((1, 23), (2, 0), (2, 23))]
    await world.journal.add_usage(
        [UsageCount(key_id=record.key_id, hour=hour, count=2, last_used_at=hour) for hour in hours]
    )
    since, until = hours[0], hours[-1] + timedelta(hours=1)
    usage = await world.manager.usage(ACME, record.key_id, since=since, until=until, by="hour")
    assert usage == tuple(HourCount(hour, 2) for hour in hours)
    usage = await world.manager.usage(ACME, record.key_id, since=since, until=until, by="day")
    midnight = START.replace(hour=0, minute=0, second=0)
    assert usage == (HourCount(midnight.replace(day=1), 2), HourCount(midnight, 4))
    assert (await world.manager.last_use(ACME, [record]))[record.key_id].last_used_at == hours[-1]


@pytest.mark.parametrize(
    ("since", "until", "problem"),
    [
        (START, START, "since: must be before until"),
        (in_seconds(1), START, "since: must be before until"),
        (START.replace(tzinfo=None), in_seconds(1), "since: needs a time zone"),
        (START, in_seconds(1).replace(tzinfo=None), "until: needs a time zone"),
    ],
)
async def test_a_span_of_time_goes_forward(since: datetime, until: datetime, problem: str, world: World) -> None:
    """And is unambiguous."""
    record = (await world.key()).record
    with pytest.raises(Invalid, match=problem):
        await world.manager.usage(ACME, record.key_id, since=since, until=until, by="hour")


async def test_a_listing_is_filtered_and_paged(world: World) -> None:
    """By the store."""
    records = [(await world.key(name=f"n{number}")).record for number in range(3)]
    records.sort(key=lambda record: record.key_id)
    page = await world.manager.list_keys(ACME, KeyFilter(), limit=2)
    assert page.items == tuple(records[:2])
    assert (await world.manager.list_keys(ACME, KeyFilter(), after=page.next_after or "")).items == (records[2],)
    (found,) = (await world.manager.list_keys(ACME, KeyFilter(organization_id="acme", name="N1"))).items
    assert found.name == "n1"


async def test_audit_entries_come_newest_first(world: World) -> None:
    """Page by page."""
    for name in ("one", "two", "three"):
        await world.key(name=name)
    page = await world.manager.list_audit(ACME, limit=2)
    assert [entry.seq for entry in page.items] == [3, 2]
    assert [entry.seq for entry in (await world.manager.list_audit(ACME, after=page.next_after or "")).items] == [1]


# -- when a write counts --------------------------------------------------------------------------------------------------


async def test_a_write_is_in_force_at_the_latest_after_the_bound(world: World) -> None:
    """Nobody waits unless asked to."""
    assert await world.manager.in_force(wait=False) == InForce(None, in_seconds(300), durable=True)


async def test_waiting_tells_whether_this_process_has_heard_of_it(world: World) -> None:
    """Only where it watches."""
    assert await world.manager.in_force(wait=True) == InForce(here=False, everywhere_by=in_seconds(300), durable=True)
    async with watching(world.store):
        in_force = await world.manager.in_force(wait=True)
    assert in_force == InForce(here=True, everywhere_by=in_seconds(300), durable=True)


@pytest.mark.parametrize("wait", [False, True])
async def test_a_store_that_does_not_answer_any_more_confirms_nothing(wait: bool, world: World) -> None:  # noqa: FBT001 - a column
    """The write itself has happened, so it is no error."""
    world.faults.stop("replicate")
    assert not (await world.manager.in_force(wait=wait)).durable
