"""What a decision without the store costs, in counts that hold on a busy machine; times are for ``make bench``.

The front decides on the event loop itself, so whatever waits, hops or makes tasks there is paid for by every caller.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from flask import Blueprint

from service import api_key_required
from service.app import create_app
from service.auth.credentials import Credentials
from service.auth.decision import AccessRequest, Door
from service.auth.domains import parse_target
from service.auth.reasons import REASONS, Outcome, Reason
from service.auth.secret import Secret
from service.auth.tokens import generate_api_key
from tests.support.app import running_gatekey
from tests.support.cases import OWN_KEY, OWN_SECRET, WRONG_SECRET, pair
from tests.support.counted import Counts, count_on
from tests.support.counted_gatekey import counted_front, counted_gatekey
from tests.support.faulty_store import FaultyStore
from tests.support.in_process import ask
from tests.support.keys import DOMAIN, SECRET
from tests.support.servers import key_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from service.auth.decision import Decision
    from service.runtime import Gatekey
    from tests.support.cases import Lines
    from tests.support.counted_gatekey import CountedFront

CALLS = {"allow": 88, "denial": 90, "nginx's denial": 137, "decorator": 101}
"""Python functions that one request may enter from the front's first line to its answer; the decorator, beside its view.

Each costs 50 ns or more before it does anything, so a layer more shows here before it shows in ``make bench``. Whoever
makes the path leaner lowers the number. Whoever adds a layer raises it, and says in the commit what the layer is worth.
"""
LINE = 560
"""Bytes of the line of a decision about a request like the one below, whose texts are short: it is the contract's fields."""
LOADS = 1_000
"""Look-ups of strangers that may be under way at a time (docs/cache.md)."""

ELSEWHERE = (
    *("flask", "werkzeug", "structlog", "logging"),
    *("asyncio", "concurrent", "threading", "queue"),
    *("service.bridge", "service.portal", "service.loop_call"),
    *("backends.guard", "backends.breaker", "backends.memory", "service.observe.store"),
)
"""Where a decision at a door enters no function: Flask, the log's way for rare words, other threads and loops, the store."""

DOORS = {
    "forward": "/auth/forward/default",
    "nginx": "/auth/nginx/default",
    "envoy": "/auth/envoy/default/orders",
}
MISTYPED_KEY = OWN_KEY[:-1] + ("0" if OWN_KEY[-1] != "0" else "1")
MISTYPED_SECRET = OWN_SECRET[:-1] + ("0" if OWN_SECRET[-1] != "0" else "1")
CASES: dict[str, tuple[Lines, Reason, str]] = {
    "a known key": (pair(), Reason.OK, "hit"),
    "a key of ours": (pair(OWN_KEY, OWN_SECRET), Reason.OK, "hit"),
    "a wrong secret": (pair(secret=WRONG_SECRET), Reason.BAD_SECRET, "hit"),
    "a key that expired": (pair("expired"), Reason.EXPIRED, "hit"),
    "a stranger": (pair("nobody"), Reason.UNKNOWN_KEY, "negative_hit"),
    "a key with a bad checksum": (pair(MISTYPED_KEY, OWN_SECRET), Reason.MALFORMED_KEY, ""),
    "a secret with a bad checksum": (pair(OWN_KEY, MISTYPED_SECRET), Reason.MALFORMED_KEY, ""),
    "nothing": ((), Reason.MISSING_CREDENTIALS, ""),
}
"""What is presented, what is decided, and which look-up of the cache is counted (``""`` for none)."""

each_case = pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
each_door = pytest.mark.parametrize("door", DOORS)


@pytest.fixture(scope="module")
def front() -> Iterator[CountedFront]:
    with counted_front() as made:
        yield made


@each_door
@each_case
def test_a_decision_at_a_door_is_made_where_it_arrives(front: CountedFront, case: str, door: str) -> None:
    """Allow and deny alike: no turn of the loop, no hop, no task, no lock, no store, and nothing of Flask."""
    lines, reason, looked_up = CASES[case]
    front.ask(DOORS[door], lines)  # now the cache knows what it can know
    front.counted.series("decisions_total")  # now nobody has to add up what was noted
    before = front.counted.store.calls["find"], front.flask_contexts
    status, counts = front.ask(DOORS[door], lines)
    assert status == REASONS[reason].status
    assert (counts.suspensions, counts.hops, counts.tasks, counts.waits_for_locks) == (0, 0, 0, 0)
    assert counts.entered_in(*ELSEWHERE) == []
    assert (front.counted.store.calls["find"], front.flask_contexts) == before
    assert counts.entered_in("service.auth.cache") == (["service.auth.cache"] if looked_up else [])


@each_door
@each_case
def test_a_decision_at_a_door_is_counted_and_logged_once(front: CountedFront, case: str, door: str) -> None:
    """One line, not longer than its fields make it; one decision, one duration, one request, at most one look-up."""
    lines, reason, looked_up = CASES[case]
    front.ask(DOORS[door], lines)
    outcome = REASONS[reason].outcome.value
    expected = {
        "decisions_total": {f"{outcome}/{reason.value}": 1},
        "cache_lookups_total": {looked_up: 1} if looked_up else {},
        "http_requests_total": {f"door_{door}/{REASONS[reason].status // 100}xx": 1},
    }
    names = (*expected, "decision_duration_seconds_count", "decision_log_dropped_total")
    before = {name: front.counted.series(name) for name in names}
    logged = len(front.counted.lines())
    front.ask(DOORS[door], lines)
    (line,) = front.counted.lines()[logged:]
    moved = {}
    for name in names:
        now = front.counted.series(name)
        moved[name] = {
            labels: now[labels] - before[name][labels] for labels in now if now[labels] != before[name][labels]
        }
    assert list(moved.pop("decision_duration_seconds_count").values()) == [1]
    assert moved == {**expected, "decision_log_dropped_total": {}}
    assert len(line) <= LINE
    assert (json.loads(line)["reason"], json.loads(line)["door"]) == (reason.value, door)


@each_door
@each_case
def test_a_decision_at_a_door_enters_few_functions(front: CountedFront, case: str, door: str) -> None:
    """The cheapest of a few, because now and then a request adds up what others have noted."""
    lines, reason, _ = CASES[case]
    front.ask(DOORS[door], lines)
    calls = min(front.ask(DOORS[door], lines)[1].calls for _ in range(3))
    denial = "nginx's denial" if door == "nginx" else "denial"
    assert calls <= CALLS["allow" if reason is Reason.OK else denial]


def test_what_these_tests_count_is_seen_where_it_happens(front: CountedFront) -> None:
    """A guard for the tests above: a look-up in the store waits, makes tasks and takes locks; a page makes a context."""
    before = front.counted.store.calls["find"], front.flask_contexts
    status, counts = front.ask(DOORS["forward"], pair("reader"))
    assert (status, front.counted.store.calls["find"]) == (200, before[0] + 1)
    assert counts.suspensions > 0
    assert counts.tasks > 0
    assert counts.waits_for_locks > 0
    assert counts.entered_in("asyncio", "service.auth.cache", "service.front") != []
    assert front.ask("/livez")[0] == 200
    assert front.flask_contexts == before[1] + 1


# -- the decorator ------------------------------------------------------------------------------------------------------


class Views:
    """Protected views and open ones, asked in this thread as a WSGI server's thread would."""

    def __init__(self, app: Flask, gatekey: Gatekey) -> None:
        self._app = app
        self._gatekey = gatekey

    def forget(self, api_key: str) -> None:
        async def changed() -> None:
            self._gatekey.cache.key_changed(api_key)

        self._gatekey.portal.run(changed)

    def ask(self, path: str, lines: Lines) -> tuple[int, Counts]:
        with Counts() as counts:
            answer = ask(self._app, "GET", path, (("Host", DOMAIN), ("User-Agent", "curl/8.5.0"), *lines))
        return answer.status, counts


@pytest.fixture(scope="module")
def views() -> Iterator[Views]:
    with counted_gatekey() as counted:
        count_on(counted.gatekey.portal.start())
        app = create_app(gatekey=counted.gatekey)
        protected = api_key_required(Blueprint("protected", __name__))

        def sync() -> str:
            return "passed"

        async def on_the_loop() -> str:
            return "passed"

        app.add_url_rule("/open/sync", "open_sync", sync)
        app.add_url_rule("/open/async", "open_async", on_the_loop)
        app.add_url_rule("/sync", "sync", api_key_required(sync))
        app.add_url_rule("/async", "async", api_key_required(on_the_loop))
        protected.add_url_rule("/blueprint", view_func=sync)
        app.register_blueprint(protected)
        yield Views(app, counted.gatekey)
        counted.gatekey.portal.stop()


@pytest.mark.parametrize("view", ["sync", "blueprint"])
@each_case
def test_a_decision_about_a_sync_view_needs_no_loop(views: Views, case: str, view: str) -> None:
    """It is made in the thread that serves the request, which waits for nobody."""
    lines, reason, _ = CASES[case]
    views.ask(f"/{view}", lines)
    status, counts = views.ask(f"/{view}", lines)
    assert status == REASONS[reason].status
    assert (counts.hops, counts.tasks, counts.waits_for_locks) == (0, 0, 0)
    assert counts.entered_in("asyncio", "concurrent", "threading", "service.loop_call") == []


@each_case
def test_a_decision_about_an_async_view_makes_no_hop(views: Views, case: str) -> None:
    """The one hop and the one task are the view's, which needs them without a decorator, too; a refusal has neither."""
    lines, reason, _ = CASES[case]
    views.ask("/open/async", ())
    views.ask("/async", lines)
    (_, plain), (status, counts) = views.ask("/open/async", ()), views.ask("/async", lines)
    assert status == REASONS[reason].status
    assert (plain.hops, plain.tasks) == (1, 1)
    expected = (plain.hops, plain.tasks, plain.waits_for_locks) if reason is Reason.OK else (0, 0, 0)
    assert (counts.hops, counts.tasks, counts.waits_for_locks) == expected


@pytest.mark.parametrize(("api_key", "status", "hops"), [("plain", 200, 2), ("nobody", 401, 1)])
def test_a_miss_of_an_async_view_hops_once_for_the_decision(views: Views, api_key: str, status: int, hops: int) -> None:
    """The other hop is the view's, which a refused request never makes."""
    views.ask("/async", pair(api_key))
    views.forget(api_key)
    answered, counts = views.ask("/async", pair(api_key))
    assert (answered, counts.hops) == (status, hops)


def test_the_decorator_enters_few_functions(views: Views) -> None:
    """Beside what Flask does for the same view without it."""
    cost = {}
    for path in ("/open/sync", "/sync"):
        views.ask(path, pair())
        cost[path] = min(views.ask(path, pair())[1].calls for _ in range(3))
    assert 0 < cost["/sync"] - cost["/open/sync"] <= CALLS["decorator"]


# -- a flood of strangers -----------------------------------------------------------------------------------------------


def question(api_key: str) -> AccessRequest:
    return AccessRequest(
        credentials=Credentials(api_key, Secret(SECRET)),
        target=parse_target(DOMAIN, "https", "/"),
        door=Door.FORWARD,
        started=0.0,
    )


def test_a_flood_of_well_formed_keys_asks_the_store_once_for_each() -> None:
    """Three times each, at once, and once more afterwards: as many look-ups as there are keys."""
    store, keys = FaultyStore(), [generate_api_key("live") for _ in range(40)]
    with running_gatekey(store=store, environ={"GATEKEY_STORE_TIMEOUT": "4"}) as gatekey:

        async def flood(times: int) -> list[Decision]:
            return await asyncio.gather(*(gatekey.authenticator.decide(question(key)) for key in keys * times))

        for times in (3, 1):
            assert {decision.reason for decision in gatekey.portal.run(flood, times)} == {Reason.UNKNOWN_KEY}
            assert store.calls["find"] == len(keys)


def test_a_flood_that_the_store_does_not_answer_is_bounded_and_known_keys_pass() -> None:
    """No more look-ups than the documentation says; nobody is refused without evidence, and whom the cache knows gets in."""
    store, keys = FaultyStore(), [generate_api_key("live") for _ in range(LOADS + 200)]
    with running_gatekey([key_line("known")], store=store) as gatekey:
        decide = gatekey.authenticator.decide

        async def flood() -> list[Decision]:
            await decide(question("known"))
            before = store.calls["find"]
            store.hang()
            asked = [asyncio.create_task(decide(question(key))) for key in keys]
            await store.arrived("find", times=before + 1)
            cached = gatekey.authenticator.decide_cached(question("known"))
            assert cached is not None
            assert cached.reason is Reason.OK
            decisions = await asyncio.gather(*asked)
            assert 0 < store.calls["find"] - before <= LOADS
            store.release()
            return decisions

        assert {REASONS[decision.reason].outcome for decision in gatekey.portal.run(flood)} == {Outcome.ERROR}
