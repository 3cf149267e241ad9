"""The stores that the contract suite runs with, one after the other."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.keys import make_organization
from tests.support.stores import KINDS, WRAPPERS, contract_params, network_params

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from backends.contract import KeyStore
    from tests.support.stores import NetworkKind, StoreKind, StoreUnderTest


def known(scheme: str, *, require_all: bool) -> Any:
    """How to make the store; a scheme that nobody entered in ``KINDS`` fails, so that no store escapes the suite."""
    found = {**KINDS, **WRAPPERS}.get(scheme)
    if found is None:
        pytest.fail(f"the store for {scheme}:// is not entered in KINDS of tests/support/stores.py")
    missing = found.missing()
    if missing:
        (pytest.fail if require_all else pytest.skip)(f"{scheme}:// is not tested: {missing}")
    return found


@pytest.fixture(params=contract_params())
def kind(request: pytest.FixtureRequest, require_all: bool) -> StoreKind:  # noqa: FBT001 - a fixture
    """Every store."""
    found: StoreKind = known(request.param, require_all=require_all)
    return found


@pytest.fixture(params=network_params())
def network_kind(request: pytest.FixtureRequest, require_all: bool) -> NetworkKind:  # noqa: FBT001 - a fixture
    """Every store that has a server, and so a line to it that can break."""
    found: NetworkKind = known(request.param, require_all=require_all)
    return found


@pytest.fixture
async def under_test(kind: StoreKind) -> AsyncIterator[StoreUnderTest]:
    """A store with data of its own, not yet open; closed at the end."""
    async with kind.make(f"gk{uuid.uuid4().hex}") as under_test:
        yield under_test
        await under_test.store.close()


@pytest.fixture
async def store(under_test: StoreUnderTest) -> KeyStore:
    """The open store with one organization, ``acme``."""
    await under_test.store.open()
    await under_test.store.add_organization(make_organization())
    return under_test.store
