"""Import and export: all or nothing unless told to keep going, the same again changes nothing, and what goes out comes in."""

from __future__ import annotations

import asyncio
import hmac
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.errors import Conflict, StoreCorrupt, StoreUnavailable
from backends.records import KeyFilter, KeyState, SecretHash
from service.auth.keyfile import LineProblem, read_key_lines
from service.auth.peppers import SecretMatch
from service.manage import imports as imports_module
from service.manage.actor import Actor
from service.manage.manager import ImportReport
from service.manage.views import export_line
from tests.support import leaks
from tests.support.clock import START
from tests.support.keys import DOMAIN, PEPPERS, in_seconds, make_key
from tests.support.servers import key_line
from tests.unit.manage.world import ACME, COMMAND, LIMITED, OPERATOR, new_world

if TYPE_CHECKING:
    from backends.records import KeyRecord
    from tests.unit.manage.world import World

TOKEN = "the-token-in-the-file"
leaks.register(TOKEN)


def line(api_key: str = "one", **fields: Any) -> bytes:
    values = {"organization_id": "acme", "api_key": api_key, "secret_token": TOKEN, "domains": [DOMAIN], **fields}
    return json.dumps(values).encode() + b"\n"


async def keys(world: World) -> list[str]:
    return [record.api_key for record in (await world.store.list_keys(limit=1000)).items]


async def load(world: World, *lines: bytes, actor: Actor = COMMAND, keep_going: bool = False) -> ImportReport:
    return await world.manager.import_lines(actor, lines, keep_going=keep_going)


def counts(report: ImportReport) -> tuple[int, int, int]:
    return report.created, report.unchanged, report.refused


# -- what becomes of a file -----------------------------------------------------------------------------------------------


async def test_a_file_is_stored_with_the_organizations_that_are_missing(world: World) -> None:
    """Each chain has one entry for the file, with its digest, and one for each key that is new."""
    lines = [line("one"), b"\n", line("two", organization_id="new"), line("three", organization_id="new")]
    report = await load(world, *lines, actor=OPERATOR)
    digest = hmac.digest(PEPPERS.derived_key("import digest"), b"".join(lines), "sha256").hex()
    assert report == ImportReport(is_stored=True, created=3, unchanged=0, refused=0, digest=digest)
    assert sorted(await keys(world)) == ["one", "three", "two"]
    assert await world.actions("new") == [
        "organization.created",
        "keys.imported",
        "key.created",
        "key.created",
    ]
    entry, created = await world.entries("acme")
    (record,) = [record for record in (await world.store.list_keys()).items if record.api_key == "one"]
    assert (created.action, created.target) == ("key.created", f"key:{record.key_id}")
    assert json.loads(created.after)["api_key"] == "one"
    assert (entry.action, entry.target, json.loads(entry.after)) == (
        "keys.imported",
        f"import:{digest}",
        {"keys": 1, "created": 1},
    )
    assert entry.actor == "key:key_op"
    assert world.events == [("imported", 3)]


async def test_the_same_file_again_changes_nothing(world: World) -> None:
    """Nothing is stored, recorded or counted."""
    lines = [line("one"), line("two", organization_id="new"), line("one")]
    assert counts(await load(world, *lines)) == (2, 1, 0)
    entries, stored = await world.entries(), (await world.store.list_keys()).items
    world.events.clear()
    world.clock.advance(60)
    assert counts(await load(world, *lines)) == (0, 3, 0)
    assert (await world.entries(), (await world.store.list_keys()).items, world.events) == (entries, stored, [])


async def test_a_file_that_is_partly_known_creates_the_rest(world: World) -> None:
    """And records which ones."""
    await load(world, line("one"), line("two", organization_id="globex"))
    known = {organization_id: len(await world.entries(organization_id)) for organization_id in ("acme", "globex")}
    report = await load(world, line("one"), line("three"), line("two", organization_id="globex"))
    assert (counts(report), report.notes) == ((1, 2, 0), ())
    imported, created = (await world.entries())[known["acme"] :]
    assert json.loads(imported.after) == {"keys": 2, "created": 1}
    assert json.loads(created.after)["api_key"] == "three"
    (imported,) = (await world.entries("globex"))[known["globex"] :]
    assert json.loads(imported.after) == {"keys": 1, "created": 0}


@pytest.mark.parametrize(("number", "told_each"), [(100, True), (101, False)])
async def test_of_many_keys_the_first_and_the_last_are_recorded(
    number: int,
    told_each: bool,  # noqa: FBT001 - a column
    world: World,
) -> None:
    """Up to a hundred each has an entry of its own."""
    await load(world, *[line(f"key-{index}", key_id=f"k{index}") for index in range(number)])
    entries = await world.entries()
    ends = {} if told_each else {"first_key_id": "k0", "last_key_id": f"k{number - 1}"}
    assert json.loads(entries[0].after) == {"keys": number, "created": number, **ends}
    targets = [entry.target for entry in entries[1:]]
    assert targets == ([f"key:k{index}" for index in range(number)] if told_each else [])


async def test_how_many_of_many_keys_are_new_is_known_of_one_organization_alone(world: World) -> None:
    """Else only how many there are in the file."""
    many = [line(f"key-{index}", key_id=f"k{index}") for index in range(100)]
    await load(world, line("known"))
    await load(world, line("known"), *many)
    found = json.loads((await world.entries())[-1].after)
    assert (found["keys"], found["created"], found["last_key_id"]) == (101, 100, "k99")
    await load(world, *many, line("new"), line("other", organization_id="globex"))
    found = json.loads((await world.entries())[-1].after)
    assert (found["keys"], "created" in found) == (101, False)


CHANGES: list[tuple[dict[str, Any], bool]] = [
    ({}, False),
    ({"created_at": "2025-01-01T00:00:00Z"}, False),
    ({"secret_token": None, "secret_hash": f"sha256:{'0' * 64}"}, False),  # which cannot be compared
    ({"secret_token": "another-token-in-the-file"}, True),
    ({"domains": ["other.example.com"]}, True),
    ({"scopes": ["orders:read"]}, True),
    ({"networks": ["192.0.2.0/24"]}, True),
    ({"origins": ["https://app.example.com"]}, True),
    ({"is_active": False}, True),
    ({"expires_at": "2027-01-01T00:00:00Z"}, True),
    ({"critical": True}, True),
    ({"name": "other"}, True),
    ({"metadata": {"a": 1}}, True),
]
leaks.register("another-token-in-the-file")


@pytest.mark.parametrize(("fields", "is_told"), CHANGES)
async def test_a_known_key_with_other_fields_is_left_as_it_is_and_told(
    fields: dict[str, Any],
    is_told: bool,  # noqa: FBT001 - a column
    world: World,
) -> None:
    """Somebody may have changed the line and believe that the key has changed."""
    await load(world, line("one"))
    before = (await world.store.list_keys()).items
    report = await load(world, b"\n", line("one", **fields))
    assert counts(report) == (0, 1, 0)
    assert (await world.store.list_keys()).items == before
    note = "line 2: this key is there already, with other fields; it was left as it is"
    assert report.notes == ((note,) if is_told else ())


async def test_a_known_key_that_cannot_be_read_is_told_as_changed(world: World) -> None:
    """What it is, nobody knows."""
    await load(world, line("one"))
    world.faults.errors["find"] = StoreCorrupt("nonsense")
    assert len((await load(world, line("one"))).notes) == 1


async def test_an_empty_file_is_no_error(world: World) -> None:
    """Blank lines too."""
    assert counts(await load(world)) == (0, 0, 0)
    assert counts(await load(world, b"\n", b"  \n")) == (0, 0, 0)
    assert await world.entries() == []


BAD = [
    (b"{\n", "is not JSON in UTF-8"),
    (line("x y"), "api_key: must be 1 to 256 characters of printable ASCII without space or comma"),
    (line("two", domains=[f"h{n}.example.com" for n in range(101)]), "domains: at most 100"),
    (line("two", previous_secret_hash=f"sha256:{'0' * 64}", previous_grace=-1),
     "previous_grace: must be a whole number of seconds"),
    (line("one", name="other"), "api_key: stands on an earlier line already, with other fields"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "problem"), BAD)
async def test_an_error_in_the_middle_imports_nothing(bad: bytes, problem: str, world: World) -> None:
    """It is told by its line."""
    report = await load(world, line("one"), bad, line("three"))
    assert (report.is_stored, counts(report)) == (False, (0, 0, 1))
    assert report.reports == (LineProblem(2, problem),)
    assert await keys(world) == []
    assert await world.entries() == []
    assert world.events == []


@pytest.mark.parametrize(("bad", "problem"), BAD)
async def test_keeping_going_imports_the_good_lines(bad: bytes, problem: str, world: World) -> None:
    """And reports each bad one."""
    report = await load(world, line("one"), bad, line("three"), line("one"), keep_going=True)
    assert (report.is_stored, counts(report)) == (True, (2, 1, 1))
    assert report.reports == (LineProblem(2, problem),)
    assert sorted(await keys(world)) == ["one", "three"]


async def test_a_refused_line_does_not_stand_in_the_way_of_a_later_one(world: World) -> None:
    """With the same api_key."""
    report = await load(world, line("one", scopes=["a b"]), line("one"), keep_going=True)
    assert counts(report) == (1, 0, 1)


async def test_reports_stop_at_a_thousand_and_counts_do_not(world: World) -> None:
    """The first ones, in order, whoever refused them."""
    await load(world, line("taken", organization_id="globex"))
    report = await load(world, line("taken"), *[b"{\n"] * 1_500, keep_going=True)
    assert counts(report) == (0, 0, 1_501)
    assert [item.line for item in report.reports] == list(range(1, 1_001))
    assert report.reports[0].problem == "api_key: is taken"


async def test_keys_that_work_by_headers_only_are_noted(world: World) -> None:
    """The first hundred; not those that are there already."""
    lines = [line(f"a:{number}") for number in range(150)]
    report = await load(world, *lines)
    assert len(report.notes) == 100
    assert report.notes[0] == "line 1: this api_key holds : or . and works by the two headers only"


# -- what only the store knows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_going", [False, True])
async def test_identifiers_that_are_taken_are_told_by_line(keep_going: bool, world: World) -> None:  # noqa: FBT001 - a column
    """By another organization's key, or by another key."""
    known = [line("mine", key_id="key_mine"), line("old", key_id="key_old")]
    await load(world, line("theirs", organization_id="globex"), *known)
    report = await load(
        world,
        line("new"),
        line("theirs"),
        line("mine", key_id="key_mine"),
        line("mine-too", key_id="key_mine-too"),
        line("other", key_id="key_old"),
        keep_going=keep_going,
    )
    assert report.reports == (
        LineProblem(2, "api_key: is taken"),
        LineProblem(5, "key_id: is taken"),
    )
    assert counts(report) == ((2, 1, 2) if keep_going else (0, 0, 2))
    assert ("new" in await keys(world)) is keep_going


async def test_who_does_not_reach_every_key_is_not_told_that_there_is_another_one(world: World) -> None:
    """The same words for whatever it is, a key that cannot be read included."""
    await load(world, line("theirs", organization_id="globex", key_id="key_theirs"))
    report = await load(world, line("theirs"), line("new", key_id="key_theirs"), actor=ACME)
    assert report.reports == (
        LineProblem(1, "api_key: cannot be used here"),
        LineProblem(2, "key_id: cannot be used here"),
    )
    world.faults.errors |= {"add_many": Conflict("taken"), "find": StoreCorrupt("broken")}
    report = await load(world, line("one"), actor=ACME)
    assert report.reports == (LineProblem(1, "api_key: cannot be used here"),)


@pytest.mark.parametrize(("call", "problem"), [("find", "api_key: is taken"), ("get", "key_id: is taken")])
async def test_identifiers_of_a_key_that_cannot_be_decoded_are_taken(call: str, problem: str, world: World) -> None:
    """It is there."""
    world.faults.errors |= {"add_many": Conflict("taken"), call: StoreCorrupt("broken")}
    report = await load(world, line("one"))
    assert report.reports == (LineProblem(1, problem),)


async def test_an_identifier_that_is_free_again_is_no_problem(world: World) -> None:
    """The import is tried again, some times."""

    async def refuse_once() -> None:
        world.faults.errors["add_many"] = Conflict("taken")
        world.faults.before["find"] = forget

    async def forget() -> None:
        del world.faults.errors["add_many"]

    world.faults.before["add_many"] = refuse_once
    assert counts(await load(world, line("one"))) == (1, 0, 0)
    world.faults.errors["add_many"] = Conflict("taken")
    with pytest.raises(Conflict):
        await load(world, line("two"))
    assert world.faults.calls["add_many"] == 5


@pytest.mark.parametrize("call", ["add_many", "find"])
async def test_a_store_that_goes_away_fails_the_import_as_a_whole(call: str, world: World) -> None:
    """The caller may repeat it."""
    if call == "find":
        world.faults.errors["add_many"] = Conflict("taken")
    world.faults.stop(call)
    with pytest.raises(StoreUnavailable):
        await load(world, line("one"), line("two"), keep_going=True)
    assert await keys(world) == []
    assert await world.entries() == []


# -- who may import what --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("organization_id", ["globex", "missing", "gatekey"])
async def test_another_organizations_line_is_refused_whether_there_is_one(organization_id: str, world: World) -> None:
    """Without telling."""
    report = await load(world, line("one", organization_id=organization_id), actor=ACME)
    assert report.reports == (LineProblem(1, "organization_id: there is no such organization"),)
    assert await keys(world) == []


async def test_an_organizations_actor_makes_no_organization(world: World) -> None:
    """Not even its own, where somebody else keeps it elsewhere."""
    lost = Actor(organization_id="lost", name="key:k", scopes=())
    report = await load(world, line("one", organization_id="lost"), line("two", organization_id="lost"), actor=lost)
    assert {item.problem for item in report.reports} == {"organization_id: there is no such organization"}
    assert counts(report) == (0, 0, 2)


@pytest.mark.parametrize(
    ("actor", "scopes", "allowed"),
    [
        (ACME, ["orders:*", "gatekey:read"], True),
        (ACME, ["gatekey:verify"], False),
        (LIMITED, ["gatekey:verify"], False),
        (OPERATOR, ["gatekey:verify"], True),
        (COMMAND, ["gatekey:anything"], True),
    ],
)
async def test_a_line_grants_what_its_importer_may_grant(
    actor: Actor,
    scopes: list[str],
    allowed: bool,  # noqa: FBT001 - a column
    world: World,
) -> None:
    """The importer knows the secret."""
    report = await load(world, line("one", scopes=scopes), actor=actor)
    assert counts(report) == ((1, 0, 0) if allowed else (0, 0, 1))
    if not allowed:
        assert report.reports[0].problem == "scopes: a gatekey: scope can be granted only by whoever holds it"


# -- as it goes on --------------------------------------------------------------------------------------------------------


async def test_progress_is_told_every_thousand_lines_and_at_the_end(world: World) -> None:
    """Blank lines and bad ones too."""
    told: list[int] = []
    lines = [line("one"), b"\n", b"{"] * 833 + [b""]
    await world.manager.import_lines(COMMAND, lines, keep_going=True, progress=told.append)
    assert told == [1_000, 2_000, 2_500]
    told.clear()
    await world.manager.import_lines(COMMAND, [line("one")] * 1_000, progress=told.append)
    assert told == [1_000]


async def test_other_work_goes_on_while_a_file_is_read(world: World) -> None:
    """The loop that reads it also answers requests."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count())
    await load(world, *[line(f"key-{number}") for number in range(400)])
    task.cancel()
    await asyncio.wait({task})
    assert turns >= 400 / imports_module._BREATH


async def test_a_file_is_read_once_line_by_line(world: World) -> None:
    """Any iterable will do; no line is asked for before the ones before it were looked at."""
    assert counts(await world.manager.import_lines(COMMAND, iter([line("one"), line("two")]))) == (2, 0, 0)


# -- export ---------------------------------------------------------------------------------------------------------------


async def exported(world: World) -> list[bytes]:
    return [item async for item in world.manager.export(COMMAND)]


async def test_an_export_has_the_contracts_fields_and_no_secret(world: World) -> None:
    """One key a line."""
    issued = await world.key(name="Zoë", expires_at=in_seconds(0.5), metadata='{"a":1}', critical=True)
    (text,) = await exported(world)
    assert text.endswith(b"}\n")
    assert json.loads(text) == {
        "organization_id": "acme",
        "api_key": issued.record.api_key,
        "secret_hash": f"hmac-sha256:1:{issued.record.secret.digest.hex()}",
        "domains": [DOMAIN],
        "scopes": [],
        "networks": [],
        "origins": [],
        "is_active": True,
        "expires_at": "2026-01-02T03:04:05.500000Z",
        "name": "Zoë",
        "metadata": {"a": 1},
        "key_id": issued.record.key_id,
        "state": "active",
        "created_at": "2026-01-02T03:04:05Z",
        "critical": True,
    }
    assert PEPPERS.match(issued.secret.reveal(), read_key_lines([text], peppers=PEPPERS, now=START).records[0].secret)


async def test_an_export_of_many_keys_has_all_of_them_once(world: World) -> None:
    """In pages."""
    await load(world, *[line(f"key-{number}") for number in range(2_500)])
    names = [json.loads(text)["api_key"] for text in await exported(world)]
    assert sorted(names) == sorted(f"key-{number}" for number in range(2_500))


async def test_what_was_exported_can_be_imported_elsewhere(world: World) -> None:
    """And the keys go on working, in a rotation too."""
    old = await world.key(scopes=("orders:read",))
    new = await world.manager.rotate(ACME, old.record.key_id)
    leaks.register(new.secret.reveal())
    await world.key("globex")
    text = await exported(world)
    elsewhere = await new_world()
    assert counts(await elsewhere.manager.import_lines(COMMAND, text)) == (2, 0, 0)
    record = await elsewhere.store.get(old.record.key_id)
    assert PEPPERS.match(new.secret.reveal(), record.secret, record.previous_secret) is SecretMatch.CURRENT
    assert PEPPERS.match(old.secret.reveal(), record.secret, record.previous_secret) is SecretMatch.PREVIOUS
    assert (record.previous_expires_at, record.previous_grace) == (in_seconds(30 * 86_400), 86_400)
    assert [item async for item in elsewhere.manager.export(COMMAND)] == text
    assert counts(await world.manager.import_lines(COMMAND, text)) == (0, 2, 0)


HASHES = st.builds(SecretHash, st.just(1), st.binary(min_size=32, max_size=32), st.booleans())
MOMENTS = st.integers(-10_000_000, 10_000_000).map(lambda value: in_seconds(value / 1000))
TIMES = st.none() | MOMENTS
RECORDS = st.builds(
    make_key,
    st.text("abc.:-_", min_size=1, max_size=8),
    secret=HASHES,
    key_id=st.text("abcXYZ019_-", min_size=1, max_size=64).map(lambda text: "k" + text[1:]),
    domains=st.sampled_from([(), (DOMAIN,), ("*.example.com", "@gatekey", "https://api.example.com/v1")]),
    scopes=st.sampled_from([(), ("orders:*", "gatekey:read")]),
    networks=st.sampled_from([(), ("192.0.2.0/24", "2001:db8::/32")]),
    origins=st.sampled_from([(), ("https://app.example.com",)]),
    state=st.sampled_from(KeyState),
    expires_at=TIMES,
    critical=st.booleans(),
    name=st.text(st.characters(categories=("L", "N", "P", "S"), include_characters=" "), max_size=20),
    metadata=st.sampled_from(["{}", '{"a":[1,2.5,null],"é":"\\"\\u0000"}']),
    created_at=MOMENTS,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no defect
@given(RECORDS, st.none() | HASHES, MOMENTS, st.none() | st.integers(0, 366 * 86_400))
def test_every_key_survives_export_and_import(
    record: KeyRecord, previous: SecretHash | None, ends: Any, grace: int | None
) -> None:
    """But for its version, the times of its last change and rotation, and an old secret that is over."""
    alone = record
    if previous is not None:
        record = replace(record, previous_secret=previous, previous_expires_at=ends, previous_grace=grace)
    (again,) = read_key_lines([export_line(record, START)], peppers=PEPPERS, now=START).records
    assert again == replace(record if ends > START else alone, updated_at=record.created_at)


async def test_an_export_leaves_out_an_old_secret_that_is_over(world: World) -> None:
    """Its pepper may be taken out of the settings, and elsewhere it never was."""
    issued = await world.key()
    new = await world.manager.rotate(ACME, issued.record.key_id)
    leaks.register(new.secret.reveal())
    names = {"previous_secret_hash", "previous_expires_at", "previous_grace"}
    for seconds, shown in ((30 * 86_400 - 1, names), (1, set())):
        world.clock.advance(seconds)
        (text,) = await exported(world)
        assert names & json.loads(text).keys() == shown


async def test_an_export_is_restricted_as_a_listing_is(world: World) -> None:
    """Asked for by name."""
    await world.key()
    other = await world.key("globex")
    lines = [item async for item in world.manager.export(OPERATOR, "globex")]
    assert [json.loads(item)["key_id"] for item in lines] == [other.record.key_id]
    assert (await world.manager.list_keys(OPERATOR, KeyFilter(organization_id="globex"))).items == (other.record,)


async def test_what_the_service_begins_with_is_in_the_audit_trail_once(world: World) -> None:
    """However many processes begin with the same file."""
    seed = read_key_lines([key_line("first-one"), key_line("first-two")], peppers=PEPPERS, now=START)
    actor = Actor(organization_id="gatekey", name="command:serve --import", scopes=(), unlimited=True)
    for _ in range(3):
        await world.manager.load(actor, seed)
    entries = (await world.journal.list_audit("acme")).items
    assert [(entry.action, entry.actor) for entry in entries if entry.target == "import:start"] == [
        ("keys.imported", "command:serve --import")
    ]
