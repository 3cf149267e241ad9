"""Every operation on the store moves one series with the right result, and changes nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backends.breaker import BreakerState
from backends.errors import (
    Conflict,
    NotFound,
    StoreClosed,
    StoreCorrupt,
    StoreNotReady,
    StoreUnavailable,
    VersionConflict,
)
from backends.guard import GuardedStore
from backends.records import KeyState
from service.observe.metrics import Metrics
from service.observe.store import ObservedStore
from tests.support.clock import START
from tests.support.keys import make_key, make_organization
from tests.support.stores import GatedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from backends.contract import KeyStore


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(store="memory", version="1")


@pytest.fixture
async def inner() -> AsyncIterator[GatedStore]:
    store = GatedStore()
    await store.open()
    await store.add_many([make_organization()], [make_key()])
    yield store
    await store.close()


def counted(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["operation"], sample.labels["result"]): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "gatekey_store_operations_total" and sample.value
    }


def timed(metrics: Metrics, operation: str) -> float | None:
    labels = {"store": "memory", "operation": operation}
    return metrics.registry.get_sample_value("gatekey_store_operation_duration_seconds_count", labels)


CALLS: dict[str, tuple[Callable[[KeyStore], Awaitable[object]], tuple[str, str]]] = {
    "ping": (lambda s: s.ping(), ("ping", "ok")),
    "find": (lambda s: s.find("key-one"), ("find", "ok")),
    "find nothing": (lambda s: s.find("no-such-key"), ("find", "not_found")),
    "get": (lambda s: s.get("key_key-one"), ("read", "ok")),
    "list": (lambda s: s.list_keys(), ("read", "ok")),
    "count": (lambda s: s.count_keys(now=START), ("read", "ok")),
    "count expiring": (lambda s: s.count_expiring(now=START, until=[START]), ("read", "ok")),
    "add": (lambda s: s.add(make_key("key-two")), ("write", "ok")),
    "add many": (lambda s: s.add_many([], [make_key("key-two")]), ("write", "ok")),
    "replace": (lambda s: s.replace(make_key(name="new"), expected_version=1), ("write", "ok")),
    "set state": (lambda s: s.set_state("key_key-one", KeyState.REVOKED, now=START), ("write", "ok")),
    "delete": (lambda s: s.delete("key_key-one"), ("write", "ok")),
    "add organization": (lambda s: s.add_organization(make_organization("other")), ("organizations", "ok")),
    "get organization": (lambda s: s.get_organization("acme"), ("organizations", "ok")),
    "list organizations": (lambda s: s.list_organizations(), ("organizations", "ok")),
    "set organization": (
        lambda s: s.set_organization_active("acme", False, now=START),  # noqa: FBT003 - the contract's signature
        ("organizations", "ok"),
    ),
}


@pytest.mark.parametrize("name", CALLS)
async def test_an_operation_is_counted_and_timed_once(inner: GatedStore, metrics: Metrics, name: str) -> None:
    """In its group, with its result."""
    call, (operation, result) = CALLS[name]
    await call(ObservedStore(inner, metrics))
    assert counted(metrics) == {(operation, result): 1}
    assert timed(metrics, operation) == 1


async def test_results_are_those_of_the_store_itself(inner: GatedStore, metrics: Metrics) -> None:
    """Nothing is changed on the way."""
    observed = ObservedStore(inner, metrics)
    assert observed.name == inner.name
    assert await observed.find("key-one") == await inner.find("key-one")
    assert await observed.get("key_key-one") == await inner.get("key_key-one")


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (StoreUnavailable("x"), "unavailable"),
        (StoreNotReady("x"), "unavailable"),
        (asyncio.CancelledError(), "unavailable"),
        (StoreCorrupt("x"), "corrupt"),
        (StoreClosed("x"), "error"),
        (RuntimeError("x"), "error"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_a_failed_look_up_is_counted_by_what_it_says_about_the_store(
    inner: GatedStore, metrics: Metrics, error: Exception, result: str
) -> None:
    """The error itself goes on to whoever asked."""
    inner.error = error
    with pytest.raises(type(error)):
        await ObservedStore(inner, metrics).find("key-one")
    assert counted(metrics) == {("find", result): 1}
    assert timed(metrics, "find") == 1


@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        (lambda s: s.get("no-such-key"), NotFound, ("read", "not_found")),
        (lambda s: s.add(make_key()), Conflict, ("write", "conflict")),
        (lambda s: s.replace(make_key(), expected_version=9), VersionConflict, ("write", "conflict")),
        (lambda s: s.get_organization("other"), NotFound, ("organizations", "not_found")),
        (lambda s: s.add_organization(make_organization()), Conflict, ("organizations", "conflict")),
    ],
    ids=["get", "add", "replace", "organization", "add organization"],
)
async def test_a_refused_operation_is_no_failure_of_the_store(
    inner: GatedStore,
    metrics: Metrics,
    call: Callable[[KeyStore], Awaitable[object]],
    error: type[Exception],
    expected: tuple[str, str],
) -> None:
    """Not found and conflict are answers."""
    with pytest.raises(error):
        await call(ObservedStore(inner, metrics))
    assert counted(metrics) == {expected: 1}


async def test_what_an_open_breaker_refuses_is_counted_but_not_timed(inner: GatedStore, metrics: Metrics) -> None:
    """Refusals take no time at all: among the durations a store that is down would be the quickest of all."""
    guarded = GuardedStore(inner)
    observed = ObservedStore(guarded, metrics)
    inner.error = StoreUnavailable("x")
    asked, refused = 5, 3
    for _ in range(asked + refused):
        with pytest.raises(StoreUnavailable):
            await observed.find("key-one")
    assert guarded.breaker_state is not BreakerState.CLOSED
    assert len(inner.finds) == asked
    assert counted(metrics) == {("find", "unavailable"): asked + refused}
    assert timed(metrics, "find") == asked
    await guarded.close()
