"""The decision as a whole: its three laws, and what the cache's rules mean for a caller."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import StoreCorrupt, StoreNotReady, StoreUnavailable
from backends.records import FoundKey, KeyState, SecretHash
from service.auth.authenticator import Authenticator
from service.auth.cache import KeyCache
from service.auth.credentials import Credentials
from service.auth.decision import AccessRequest, Decision, Door, Source
from service.auth.domains import parse_target
from service.auth.peppers import Peppers, _Hmac
from service.auth.reasons import REASONS, Outcome, Reason
from service.auth.secret import Secret
from service.observe.metrics import Metrics
from tests.support.clock import START, FakeClock
from tests.support.keys import DOMAIN, PEPPERS, SECRET, in_seconds, make_key, make_organization
from tests.support.settle import settle
from tests.support.stores import GatedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class World:
    """A store, a cache and an authenticator on a clock that stands still."""

    def __init__(self, *, organization_id: str = "", **cache: Any) -> None:
        self.clock = FakeClock()
        self.store = GatedStore()
        self.metrics = Metrics(store="memory", version="test")
        settings: dict[str, Any] = {"ttl": 100.0, **cache}
        self.cache = KeyCache(self.store, clock=self.clock, metrics=self.metrics, **settings)
        self.authenticator = Authenticator(
            self.cache,
            peppers=PEPPERS,
            clock=self.clock,
            metrics=self.metrics,
            organization_id=organization_id,
            budget=5.0,
        )

    def request(self, api_key: str = "known", secret: str = SECRET, **fields: Any) -> AccessRequest:
        defaults: dict[str, Any] = {
            "credentials": Credentials(api_key, Secret(secret)),
            "target": parse_target(DOMAIN, "https", "/"),
            "door": Door.FORWARD,
            "started": self.clock.age(),
            "client_ip": "192.0.2.7",
        }
        return AccessRequest(**{**defaults, **fields})

    async def decide(self, *arguments: str, **fields: Any) -> Decision:
        return await self.authenticator.decide(self.request(*arguments, **fields))

    @property
    def in_flight(self) -> float | None:
        return self.metrics.registry.get_sample_value("gatekey_decisions_in_flight")

    def lookups(self, result: str) -> float | None:
        return self.metrics.registry.get_sample_value("gatekey_cache_lookups_total", {"result": result})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await fill(world)
    yield world
    await world.cache.close()


async def fill(world: World) -> None:
    await world.store.open()
    await world.store.add_organization(make_organization())
    await world.store.add(make_key("known"))


# -- every reason, in the contract's order ----------------------------------------------------------------------------

REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any], Reason]] = [
    ("all in order", {}, {}, Reason.OK),
    ("another organization's policy", {}, {"organization_id": "other"}, Reason.WRONG_ORGANIZATION),
    ("the right organization's policy", {}, {"organization_id": "acme"}, Reason.OK),
    ("another domain", {"domains": ("elsewhere.example.com",)}, {}, Reason.WRONG_DOMAIN),
    ("no usable host", {}, {"target": None}, Reason.WRONG_DOMAIN),
    ("a disabled key", {"state": KeyState.DISABLED}, {}, Reason.INACTIVE),
    ("a revoked key", {"state": KeyState.REVOKED}, {}, Reason.INACTIVE),
    ("a key that expires now", {"expires_at": START}, {}, Reason.EXPIRED),
    ("a key that expires in a second", {"expires_at": in_seconds(1)}, {}, Reason.OK),
    (
        "another origin",
        {"origins": ("https://app.example.com",)},
        {"origin": "https://evil.example"},
        Reason.ORIGIN_NOT_ALLOWED,
    ),
    ("the right origin", {"origins": ("https://app.example.com",)}, {"origin": "https://app.example.com"}, Reason.OK),
    ("another network", {"networks": ("10.0.0.0/8",)}, {}, Reason.NETWORK_NOT_ALLOWED),
    ("the right network", {"networks": ("192.0.2.0/24",)}, {}, Reason.OK),
    ("a missing scope", {"scopes": ("a:read",)}, {"required_scopes": ("a:read", "b:read")}, Reason.INSUFFICIENT_SCOPE),
    ("the right scopes", {"scopes": ("a:read", "b:*")}, {"required_scopes": ("a:read", "b:read")}, Reason.OK),
    (
        "wrong organization before wrong domain",
        {"domains": ()},
        {"organization_id": "other"},
        Reason.WRONG_ORGANIZATION,
    ),
    ("wrong domain before inactive", {"domains": (), "state": KeyState.REVOKED}, {}, Reason.WRONG_DOMAIN),
    ("inactive before expired", {"state": KeyState.DISABLED, "expires_at": START}, {}, Reason.INACTIVE),
    ("expired before origin", {"expires_at": START, "origins": ("https://a.example",)}, {}, Reason.EXPIRED),
    (
        "origin before network",
        {"origins": ("https://a.example",), "networks": ("10.0.0.0/8",)},
        {},
        Reason.ORIGIN_NOT_ALLOWED,
    ),
    ("network before scopes", {"networks": ("10.0.0.0/8",)}, {"required_scopes": ("x",)}, Reason.NETWORK_NOT_ALLOWED),
]


@pytest.mark.parametrize(("fields", "asked", "reason"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
async def test_the_reason_follows_the_order_of_the_contract(
    world: World, fields: dict[str, Any], asked: dict[str, Any], reason: Reason
) -> None:
    """From the store and from the cache alike."""
    await world.store.add(make_key("this", **fields))
    first = await world.decide("this", **asked)
    second = await world.decide("this", **asked)
    assert (first.reason, first.source) == (reason, Source.STORE)
    assert (second.reason, second.source) == (reason, Source.CACHE)
    assert second.key is not None


@pytest.mark.parametrize("reason", [Reason.MISSING_CREDENTIALS, Reason.MALFORMED_KEY])
async def test_unusable_credentials_touch_neither_cache_nor_store(world: World, reason: Reason) -> None:
    """Rule 5: garbage costs nothing but its own refusal."""
    cached = world.authenticator.decide_cached(world.request(credentials=reason))
    for decision in (cached, await world.decide(credentials=reason)):
        assert decision is not None
        assert (decision.reason, decision.source) == (reason, Source.NONE)
    assert world.store.finds == []
    assert world.lookups("miss") == 0


async def test_an_inactive_organization_switches_its_keys_off(world: World) -> None:
    """Without a write to any of them."""
    await world.store.set_organization_active("acme", is_active=False, now=START)
    assert (await world.decide()).reason is Reason.INACTIVE


async def test_only_the_installations_organization_passes() -> None:
    """GATEKEY_ORGANIZATION_ID."""
    world = World(organization_id="other")
    await fill(world)
    assert (await world.decide()).reason is Reason.WRONG_ORGANIZATION
    await world.cache.close()


async def test_the_secret_is_told_wrong_before_anything_of_the_key_is(world: World) -> None:
    """Whoever does not know the secret learns nothing of the key's state."""
    await world.store.add(make_key("off", state=KeyState.REVOKED, domains=()))
    assert (await world.decide("off", "wrong")).reason is Reason.BAD_SECRET


async def test_an_unknown_key_costs_the_same_work_as_a_wrong_secret(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed, whatever is stored for the key: from the store, from the cache and from a negative entry."""
    work: list[int] = []
    original = _Hmac.digest

    def counting(*arguments: Any) -> bytes:
        work.append(1)
        return original(*arguments)

    await world.store.add(make_key("rotating", previous_secret=PEPPERS.hash("the-old-one")))
    await world.store.add(make_key("imported", secret=PEPPERS.wrap_sha256(bytes(32))))
    monkeypatch.setattr(_Hmac, "digest", counting)
    costs = set()
    for api_key in ("stranger", "known", "rotating", "imported"):
        for _ in range(2):
            work.clear()
            assert (await world.decide(api_key, "wrong")).reason in (Reason.UNKNOWN_KEY, Reason.BAD_SECRET)
            costs.add(len(work))
    assert costs == {2}


async def test_an_unknown_key_is_answered_from_the_negative_entry(world: World) -> None:
    """The second time without the store."""
    assert (await world.decide("stranger")).source is Source.STORE
    assert (await world.decide("stranger")).source is Source.NEGATIVE
    assert world.store.finds == ["stranger"]
    assert world.lookups("negative_hit") == 1


# -- rule 1 and 10: records, and time as data ---------------------------------------------------------------------------


async def test_a_key_expires_in_the_middle_of_its_time_in_the_cache(world: World) -> None:
    """A record is cached, not the verdict about it."""
    await world.store.add(make_key("brief", expires_at=in_seconds(10)))
    assert (await world.decide("brief")).reason is Reason.OK
    world.clock.advance(10)
    world.cache.heartbeat()
    decision = await world.decide("brief")
    assert (decision.reason, decision.source) == (Reason.EXPIRED, Source.CACHE)


# -- rule 8: a secret rotated a moment ago --------------------------------------------------------------------------------


async def test_a_rotated_secret_is_accepted_although_the_old_record_is_cached(world: World) -> None:
    """The announcement is late; the wrong secret causes one fresh read."""
    await world.decide()
    world.clock.advance(2)
    found = FoundKey(make_key("known", secret="the-new-one"), organization_is_active=True)
    world.store.answers["known"] = found
    decision = await world.decide("known", "the-new-one")
    assert (decision.reason, decision.source) == (Reason.OK, Source.STORE)


async def test_a_wrong_secret_for_a_young_record_is_refused_without_the_store(world: World) -> None:
    """Guessing costs at most one look-up a second."""
    for _ in range(5):
        assert (await world.decide("known", "wrong")).reason is Reason.BAD_SECRET
    assert world.store.finds == ["known"]


async def test_a_wrong_secret_for_an_old_record_is_refused_only_with_fresh_evidence(world: World) -> None:
    """401 needs the store's word: while it is down, nothing is proved."""
    await world.decide()
    world.clock.advance(2)
    world.store.error = StoreUnavailable("down")
    for _ in range(2):
        assert (await world.decide("known", "wrong")).reason is Reason.STORE_UNAVAILABLE
    assert (await world.decide()).reason is Reason.OK
    world.store.error = None
    world.clock.advance(1)
    assert (await world.decide("known", "wrong")).reason is Reason.BAD_SECRET


async def test_a_wrong_secret_is_not_refused_by_a_record_that_was_long_on_its_way(world: World) -> None:
    """Who joins a load that began before the rotation has no fresh evidence."""
    world.store.hold()
    first = asyncio.create_task(world.decide("known", "the-new-one"))
    await world.store.arrived()
    world.clock.advance(1.5)
    late = [asyncio.create_task(world.decide("known", secret)) for secret in ("the-new-one", SECRET)]
    await asyncio.sleep(0)
    world.store.release()
    assert [(await task).reason for task in (first, *late)] == [
        Reason.STORE_UNAVAILABLE,
        Reason.STORE_UNAVAILABLE,
        Reason.OK,
    ]


async def test_the_previous_secret_passes_while_it_is_stored(world: World) -> None:
    """A rotation gives clients time; from the store and from the cache."""
    record = make_key("rotating", secret="the-new-one", previous_secret=PEPPERS.hash("the-old-one"))
    await world.store.add(record)
    for secret in ("the-old-one", "the-new-one", "the-old-one"):
        assert (await world.decide("rotating", secret)).reason is Reason.OK
    await world.store.replace(replace(record, previous_secret=None), expected_version=1)
    world.cache.key_changed("rotating")
    assert (await world.decide("rotating", "the-new-one")).reason is Reason.OK
    assert (await world.decide("rotating", "the-old-one")).reason is Reason.BAD_SECRET


async def test_the_previous_secret_passes_until_its_time(world: World) -> None:
    """To the microsecond, from the cache and from the store; the decision tells which of the two it was."""
    ends = in_seconds(10)
    record = make_key(
        "rotating", secret="the-new-one", previous_secret=PEPPERS.hash("the-old-one"), previous_expires_at=ends
    )
    await world.store.add(record)
    assert [(await world.decide("rotating", secret)).used_previous for secret in ("the-old-one", "the-new-one")] == [
        True,
        False,
    ]
    world.clock.advance(9.999)
    assert (await world.decide("rotating", "the-old-one")).reason is Reason.OK
    world.clock.advance(0.001)
    assert (await world.decide("rotating", "the-old-one")).reason is Reason.BAD_SECRET
    assert (await world.decide("rotating", "the-new-one")).reason is Reason.OK


async def test_a_store_with_another_pepper_verifies_nothing(world: World) -> None:
    """A stolen dump is worthless: not even its own secrets match under a pepper that is not theirs."""
    thief = Authenticator(
        world.cache, peppers=Peppers({1: b"q" * 32}, current=1), clock=world.clock, metrics=world.metrics, budget=5.0
    )
    assert (await world.decide()).reason is Reason.OK
    assert (await thief.decide(world.request())).reason is Reason.BAD_SECRET


# -- the three laws -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreUnavailable("down"), Reason.STORE_UNAVAILABLE),
        (StoreNotReady("no epoch marker"), Reason.STORE_UNAVAILABLE),
        (StoreCorrupt("nonsense"), Reason.STORE_CORRUPT),
        (RuntimeError("a bug"), Reason.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_whatever_goes_wrong_in_the_store_is_503(world: World, error: Exception, reason: Reason) -> None:
    """Never 401, never 200."""
    world.store.error = error
    decision = await world.decide()
    assert (decision.reason, decision.status, decision.outcome) == (reason, 503, Outcome.ERROR)


async def test_whatever_goes_wrong_in_the_cached_path_is_503(world: World) -> None:
    """A defect is an error of ours, not of the caller."""
    decision = world.authenticator.decide_cached(world.request(target="not a target", credentials=object()))
    assert decision is not None
    assert decision.reason is Reason.INTERNAL


async def test_too_many_look_ups_are_503() -> None:
    """Load shedding has its own reason."""
    world = World(max_waiting=0)
    await fill(world)
    assert (await world.decide()).reason is Reason.OVERLOADED
    await world.cache.close()


async def test_under_overload_a_record_past_its_time_still_allows_while_announcements_come() -> None:
    """A flood of unknown keys does not lock out the known ones, and does not keep a revoked one alive."""
    world = World()
    await fill(world)
    await world.decide()
    world.clock.advance(150)
    world.cache._loads._max_waiting = 0  # as if so many others were waiting
    world.cache.heartbeat()
    decision = await world.decide()
    assert (decision.reason, decision.source) == (Reason.OK, Source.STALE)
    assert (await world.decide("known", "wrong")).reason is Reason.OVERLOADED
    world.clock.advance(1.6)
    assert (await world.decide()).reason is Reason.OVERLOADED
    await world.cache.close()


async def test_a_hash_under_a_pepper_that_is_not_configured_proves_nothing(world: World) -> None:
    """Neither that the secret is right nor that it is wrong."""
    record = replace(make_key("foreign"), secret=SecretHash(9, bytes(32)))
    world.store.answers["foreign"] = FoundKey(record, organization_is_active=True)
    assert (await world.decide("foreign")).reason is Reason.STORE_CORRUPT


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (KeyState.ACTIVE, Reason.STORE_CORRUPT),
        (KeyState.DISABLED, Reason.STORE_CORRUPT),
        (KeyState.REVOKED, Reason.BAD_SECRET),
    ],
)
async def test_a_revoked_key_needs_no_pepper_to_be_refused(state: KeyState, reason: Reason, world: World) -> None:
    """It is over for good, whatever its secret is; a disabled one may come back."""
    record = replace(make_key("foreign"), secret=SecretHash(9, bytes(32)), state=state)
    world.store.answers["foreign"] = FoundKey(record, organization_is_active=True)
    assert (await world.decide("foreign")).reason is reason


# -- rule 6: stale if error -----------------------------------------------------------------------------------------------


async def expire_and_break(world: World, api_key: str = "known", **fields: Any) -> None:
    if api_key != "known":
        await world.store.add(make_key(api_key, **fields))
    assert (await world.decide(api_key)).reason is Reason.OK
    world.clock.advance(150)
    world.cache.heartbeat()
    world.store.error = StoreUnavailable("down")


async def test_a_record_past_its_time_still_allows_while_the_store_is_down(world: World) -> None:
    """Known keys keep working."""
    await expire_and_break(world)
    decision = await world.decide()
    assert (decision.reason, decision.source) == (Reason.OK, Source.STALE)
    assert world.lookups("stale") == 1


async def test_who_comes_after_a_look_up_without_an_answer_does_not_wait_for_another(world: World) -> None:
    """The store is not asked, the loop is not needed; what a stale record would deny is still not told from it."""
    await expire_and_break(world)
    assert world.authenticator.decide_cached(world.request()) is None
    await world.decide()
    asked = len(world.store.finds)
    decision = world.authenticator.decide_cached(world.request())
    assert decision is not None
    assert (decision.reason, decision.source) == (Reason.OK, Source.STALE)
    assert world.lookups("stale") == 2
    assert world.authenticator.decide_cached(world.request("known", "wrong")) is None
    assert len(world.store.finds) == asked


async def test_a_store_that_did_not_answer_is_asked_again_once_a_second(world: World) -> None:
    """Behind the backs of those who come, and its answer counts; when nobody has come for 2 s, the next one asks."""
    await expire_and_break(world)
    await world.decide()
    for _ in range(2):
        asked = len(world.store.finds)
        world.clock.advance(1.0)
        for _ in range(3):
            decision = world.authenticator.decide_cached(world.request())
            assert decision is not None
            assert decision.source is Source.STALE
        await settle()
        assert len(world.store.finds) == asked + 1
    world.clock.advance(2.001)
    assert world.authenticator.decide_cached(world.request()) is None
    world.store.error = None
    assert (await world.decide()).source is Source.STORE
    decision = world.authenticator.decide_cached(world.request())
    assert decision is not None
    assert decision.source is Source.CACHE


async def test_a_revoked_key_is_not_served_though_the_store_did_not_answer_a_moment_ago(world: World) -> None:
    """The announcement takes the record away."""
    await expire_and_break(world)
    await world.decide()
    world.cache.key_changed("known")
    assert world.authenticator.decide_cached(world.request()) is None
    assert (await world.decide()).reason is Reason.STORE_UNAVAILABLE


async def test_stale_ends_with_the_trust_in_the_announcements(world: World) -> None:
    """300 s after the last heartbeat."""
    await expire_and_break(world)
    world.clock.advance(300.001)
    assert (await world.decide()).reason is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    ("api_key", "fields", "asked"),
    [
        ("expiring", {"expires_at": in_seconds(120)}, {}),
        ("critical", {"critical": True}, {}),
        ("known", {}, {"target": parse_target("elsewhere.example.com", "https", "/")}),
        ("known", {}, {"secret": "wrong"}),
        ("known", {}, {"required_scopes": ("x",)}),
    ],
    ids=["past expires_at", "critical", "wrong domain", "wrong secret", "missing scope"],
)
async def test_a_stale_record_never_denies(
    world: World, api_key: str, fields: dict[str, Any], asked: dict[str, Any]
) -> None:
    """What it would deny is 503."""
    await expire_and_break(world, api_key, **fields)
    secret = asked.pop("secret", SECRET)
    decision = await world.decide(api_key, secret, **asked)
    assert (decision.reason, decision.status) == (Reason.STORE_UNAVAILABLE, 503)


async def test_a_stale_record_does_not_answer_for_a_corrupt_one(world: World) -> None:
    """The store did answer, and what it said is wrong."""
    await expire_and_break(world)
    world.store.error = StoreCorrupt("nonsense")
    assert (await world.decide()).reason is Reason.STORE_CORRUPT


async def test_time_spent_waiting_for_the_store_is_told(world: World) -> None:
    """On a miss only."""
    world.store.hold()
    waiting = asyncio.create_task(world.decide())
    await world.store.arrived()
    world.clock.advance(0.125)
    world.store.release()
    assert (await waiting).store_seconds == pytest.approx(0.125)
    assert (await world.decide()).store_seconds == 0


async def test_decisions_that_wait_for_the_store_are_counted(world: World) -> None:
    """One while it waits, none after it, whether it was answered, cancelled or failed."""
    assert world.in_flight == 0
    world.store.hold()
    answered, cancelled = (asyncio.create_task(world.decide(name)) for name in ("known", "stranger"))
    await world.store.arrived()
    await asyncio.sleep(0)
    assert world.in_flight == 2
    cancelled.cancel()
    await asyncio.wait({cancelled})
    assert world.in_flight == 1
    world.store.release()
    await answered
    assert world.in_flight == 0
    for error in (StoreUnavailable("down"), RuntimeError("a bug")):
        world.store.error = error
        await world.decide("another")
        assert world.in_flight == 0


def test_the_reason_table_is_complete_and_keeps_the_laws() -> None:
    """Every reason has a row; errors are 503 with one code, allows 200 without one."""
    assert set(REASONS) == set(Reason)
    for row in REASONS.values():
        if row.outcome is Outcome.ERROR:
            assert (row.status, row.code) == (503, "temporarily_unavailable")
        elif row.outcome is Outcome.ALLOW:
            assert (row.status, row.code) == (200, "")
        else:
            assert 400 <= row.status < 500
            assert row.code


# -- a flood of made-up keys --------------------------------------------------------------------------------------------


@pytest.fixture
async def flooded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A world whose strangers have asked for all the keys that may be nobody's; ``known`` is past its time."""
    monkeypatch.setattr("service.auth.loads._NOTHING_BURST", 1)
    monkeypatch.setattr("service.auth.loads._NOTHING_RATE", 0.0)
    world = World(negative_ttl=1.0)
    await fill(world)
    assert (await world.decide("known")).reason is Reason.OK
    assert (await world.decide("made-up")).reason is Reason.UNKNOWN_KEY
    world.clock.advance(100.0)
    world.cache.heartbeat()
    yield world
    await world.cache.close()


async def test_a_stranger_in_a_flood_is_refused_without_a_look_up(flooded: World) -> None:
    """By the first look, in which nothing is made that could wait; whose key it was before does not matter."""
    finds = list(flooded.store.finds)
    for name in ("another", "made-up"):
        decision = flooded.authenticator.decide_cached(flooded.request(name))
        assert decision is not None
        assert decision.reason is Reason.OVERLOADED
    assert flooded.store.finds == finds
    assert flooded.metrics.registry.get_sample_value("gatekey_shed_total", {"reason": "misses"}) == 2
    assert flooded.lookups("miss") == 4


async def test_a_known_key_is_no_stranger_in_a_flood(flooded: World) -> None:
    """What the cache once knew is read again."""
    assert flooded.authenticator.decide_cached(flooded.request("known")) is None
    assert (await flooded.decide("known")).source is Source.STORE
