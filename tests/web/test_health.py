"""``/livez`` and ``/readyz``: what an orchestrator is told in each state of the process."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from backends.errors import StoreUnavailable
from service.app import create_app
from service.lifecycle import Lifecycle
from tests.support.app import running_gatekey
from tests.support.keys import DOMAIN, SECRET
from tests.support.servers import key_line, wait_until
from tests.support.stores import GatedStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from flask.testing import FlaskClient

    from service.runtime import Gatekey

NOT_READY = 503


class LosableStore(GatedStore):
    """The memory store, which can be lost and come back."""

    def __init__(self, *, lost: bool = False) -> None:
        super().__init__()
        self.lost = lost

    async def ping(self) -> None:
        if self.lost:
            raise StoreUnavailable("lost by the test")
        await super().ping()

    def lose(self) -> None:
        self.lost, self.error = True, StoreUnavailable("lost by the test")

    def bring_back(self) -> None:
        self.lost, self.error = False, None


class NotedStore(GatedStore):
    """The memory store, which notes when it has answered a ping, and when it is asked for the number of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    async def ping(self) -> None:
        await super().ping()
        self.noted.append("ping")

    async def count_keys(self, *, now: datetime) -> Mapping[str, int]:
        self.noted.append("count_keys")
        return await super().count_keys(now=now)


@contextmanager
def client_of(gatekey: Gatekey) -> Iterator[FlaskClient]:
    with create_app(gatekey=gatekey).test_client() as client:
        yield client


def readiness(client: FlaskClient) -> tuple[int, dict[str, object]]:
    response = client.get("/readyz")
    assert response.content_type == "application/json"
    return response.status_code, response.get_json()


def up(gatekey: Gatekey) -> float | None:
    return gatekey.metrics.registry.get_sample_value("gatekey_store_up", {"store": "memory"})


def test_a_process_that_answers_is_alive_and_ready() -> None:
    """The usual state."""
    with running_gatekey() as gatekey, client_of(gatekey) as client:
        response = client.get("/livez")
        assert (response.status_code, response.get_json()) == (200, {"status": "alive"})
        assert readiness(client) == (200, {"status": "ready", "degraded": []})
        assert up(gatekey) == 1


def test_before_the_store_has_first_answered_the_process_is_alive_but_not_ready() -> None:
    """Sent to such a process, every client would get a 503."""
    store = LosableStore(lost=True)
    with running_gatekey(store=store) as gatekey, client_of(gatekey) as client:
        assert readiness(client) == (NOT_READY, {"status": "not_ready", "problems": ["store"]})
        assert client.get("/livez").status_code == 200
        assert up(gatekey) == 0
        store.bring_back()
        wait_until(lambda: readiness(client) == (200, {"status": "ready", "degraded": []}), "the store has answered")
        assert up(gatekey) == 1


def test_a_store_that_is_lost_later_degrades_and_known_keys_still_pass() -> None:
    """Taking the process out of service would turn away clients that it can still serve."""
    store = LosableStore()
    headers = {"Host": DOMAIN, "x-api-key": "key-one", "x-secret-token": SECRET}
    lines = [key_line("key-one", domains=["@gatekey"])]
    with running_gatekey(lines, store=store) as gatekey, client_of(gatekey) as client:
        assert client.get("/v1/whoami", headers=headers).status_code == 200
        store.lose()
        wait_until(lambda: readiness(client)[1].get("degraded") == ["store"], "the loss is noticed")
        assert readiness(client) == (200, {"status": "ready", "degraded": ["store"]})
        assert up(gatekey) == 0
        assert client.get("/v1/whoami", headers=headers).status_code == 200
        assert client.get("/v1/whoami", headers={**headers, "x-api-key": "another-key"}).status_code == 503
        store.bring_back()
        wait_until(lambda: readiness(client) == (200, {"status": "ready", "degraded": []}), "the store is back")
        assert up(gatekey) == 1


def test_a_look_at_the_store_that_is_cancelled_from_within_is_a_loss_and_not_the_last_look() -> None:
    """A driver may cancel its own call; whoever looks after the store must go on looking."""

    class Cancelling(GatedStore):
        cancels = False

        async def ping(self) -> None:
            if self.cancels:
                raise asyncio.CancelledError
            await super().ping()

    store = Cancelling()
    with running_gatekey(store=store) as gatekey, client_of(gatekey) as client:
        store.cancels = True
        wait_until(lambda: readiness(client)[1].get("degraded") == ["store"], "the loss is noticed")
        store.cancels = False
        wait_until(lambda: readiness(client)[1].get("degraded") == [], "the store is back")


def test_a_draining_process_is_not_ready_but_goes_on_serving() -> None:
    """Whoever balances the load looks elsewhere; who comes nevertheless is answered."""
    headers = {"Host": DOMAIN, "x-api-key": "key-one", "x-secret-token": SECRET}
    with running_gatekey([key_line("key-one", domains=["@gatekey"])]) as gatekey, client_of(gatekey) as client:
        gatekey.lifecycle.drain()
        assert readiness(client) == (NOT_READY, {"status": "not_ready", "problems": ["draining"]})
        assert client.get("/livez").status_code == 200
        assert client.get("/v1/whoami", headers=headers).status_code == 200


def test_a_process_whose_loop_does_not_answer_is_not_ready() -> None:
    """Nothing that needs the store could be answered; it is ready again when the loop is."""
    release = threading.Event()

    async def block() -> None:
        release.wait(30)  # what must not happen on the loop

    with running_gatekey() as gatekey, client_of(gatekey) as client:
        blocker = threading.Thread(target=gatekey.portal.run, args=(block,))
        blocker.start()
        try:
            wait_until(lambda: not gatekey.portal.is_alive(0.01), "the loop is blocked")
            assert readiness(client) == (NOT_READY, {"status": "not_ready", "problems": ["event_loop"]})
            assert client.get("/livez").status_code == 200
        finally:
            release.set()
            blocker.join()
        assert readiness(client)[0] == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_needs_no_key_and_is_no_decision(path: str) -> None:
    """Orchestrators have no key; what they ask is counted as a request of its own group and nothing else."""
    with running_gatekey() as gatekey, client_of(gatekey) as client:
        assert client.get(path).status_code == 200
        assert client.head(path).status_code == 200
        assert client.post(path).status_code == 405
        value = gatekey.metrics.registry.get_sample_value
        decisions = [
            sample.value
            for family in gatekey.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "gatekey_decisions_total"
        ]
        assert sum(decisions) == 0
        assert value("gatekey_http_requests_total", {"route": "health", "status": "2xx"}) == 2


@pytest.mark.parametrize("role", ["all", "doors", "app"])
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_every_role_can_be_watched(role: str, path: str) -> None:
    """Health and metrics belong to the process, not to what it serves."""
    with running_gatekey(environ={"GATEKEY_ROLE": role}) as gatekey, client_of(gatekey) as client:
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("answers", "draining", "loop_alive", "problems", "degraded"),
    [
        ([], False, True, ["store"], ["store"]),
        ([False], False, True, ["store"], ["store"]),
        ([True], False, True, [], []),
        ([True, False], False, True, [], ["store"]),
        ([True, False, True], False, True, [], []),
        ([False, True], False, True, [], []),
        ([True], True, True, ["draining"], []),
        ([True], False, False, ["event_loop"], []),
        ([False], True, False, ["draining", "event_loop", "store"], ["store"]),
    ],
)
def test_readiness_is_a_table(
    answers: list[bool], *, draining: bool, loop_alive: bool, problems: list[str], degraded: list[str]
) -> None:
    """The store must have answered once; draining and a dead loop count always."""
    lifecycle = Lifecycle()
    for answer in answers:
        lifecycle.store_answers(up=answer)
    if draining:
        lifecycle.drain()
    assert lifecycle.problems(loop_alive=loop_alive) == problems
    assert lifecycle.degraded() == degraded


def test_a_start_does_not_wait_for_the_number_of_keys() -> None:
    """A million take a while to count: it begins when the store has answered, and with that the process is ready."""
    store = NotedStore()
    with running_gatekey(store=store):
        wait_until(lambda: "count_keys" in store.noted, "the keys are counted")
    assert store.noted[:2] == ["ping", "count_keys"]
