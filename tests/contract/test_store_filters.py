"""Filtered listings: each filter alone and with others, and that paging comes to the end whatever is left out."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from backends.contract import EVERY_KEY
from backends.journal import UsageCount
from backends.records import KeyFilter, KeyState
from tests.support.clock import START
from tests.support.keys import in_seconds, make_key, make_organization

if TYPE_CHECKING:
    from backends.contract import KeyStore

DAY = 86_400.0
NOON = in_seconds(DAY)

KEYS: dict[str, dict[str, Any]] = {
    "a": {"name": "Billing Service", "expires_at": in_seconds(DAY - 0.000001)},
    "b": {"name": "billing-BACKUP", "state": KeyState.DISABLED, "expires_at": NOON},
    "c": {"name": "reports", "state": KeyState.REVOKED, "expires_at": in_seconds(60)},
    "d": {"name": "100% off_5*?[x]\\'\"", "organization_id": "other"},
    "e": {"name": "ÄRGER mit billing", "organization_id": "other", "expires_at": in_seconds(60)},
    "f": {"name": "", "state": KeyState.DISABLED},
    "g": {"name": "billing", "state": KeyState.REVOKED, "organization_id": "acme-2", "expires_at": in_seconds(DAY * 2)},
}
LAST_USED = {
    "a": in_seconds(DAY - 0.000001),
    "b": NOON,
    "c": in_seconds(0),
    "e": in_seconds(60),
    "g": in_seconds(DAY * 2),
}
"""``d`` and ``f`` were never used."""


@pytest.fixture
async def full(store: KeyStore) -> KeyStore:
    """With the keys above, of three organizations."""
    for name in ("other", "acme-2"):
        await store.add_organization(make_organization(name))
    await store.add_many([], [make_key(name, **fields) for name, fields in KEYS.items()])
    used = [UsageCount(key_id=f"key_{name}", hour=START, count=1, last_used_at=at) for name, at in LAST_USED.items()]
    await store.journal.add_usage(used)
    return store


async def listed(store: KeyStore, where: KeyFilter, *, limit: int = 100) -> str:
    """The handles that match, through every page; a page may be short, but neither too long nor in a loop."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await store.list_keys(where=where, after=after, limit=limit)
        assert len(page.items) <= limit
        assert page.next_after is None or page.next_after > after, "the cursor does not move"
        found += [record.api_key for record in page.items]
        after = page.next_after
    return "".join(found)


FILTERS: dict[str, tuple[dict[str, Any], str]] = {
    "organization": ({"organization_id": "other"}, "de"),
    "an organization that is not there": ({"organization_id": "nobody"}, ""),
    "an organization is no prefix": ({"organization_id": "acme"}, "abcf"),
    "a part of the name": ({"name": "billing"}, "abeg"),
    "in any case": ({"name": "BiLLinG"}, "abeg"),
    "with a space": ({"name": "g S"}, "a"),
    "an empty part": ({"name": ""}, "abcdefg"),
    "letters beyond ASCII as they are": ({"name": "ÄRGER"}, "e"),
    "which have their case": ({"name": "ärger"}, ""),
    "a per cent sign": ({"name": "0%"}, "d"),
    "an underscore": ({"name": "f_5"}, "d"),
    "an underscore is no wildcard": ({"name": "b_l"}, ""),
    "a per cent sign is no wildcard": ({"name": "b%g"}, ""),
    "a star": ({"name": "*?[x]"}, "d"),
    "a star is no wildcard": ({"name": "b*g"}, ""),
    "a backslash and quotes": ({"name": "\\'\""}, "d"),
    "active": ({"states": frozenset({KeyState.ACTIVE})}, "ade"),
    "disabled": ({"states": frozenset({KeyState.DISABLED})}, "bf"),
    "revoked": ({"states": frozenset({KeyState.REVOKED})}, "cg"),
    "two states": ({"states": frozenset({KeyState.ACTIVE, KeyState.REVOKED})}, "acdeg"),
    "no state": ({"states": frozenset()}, ""),
    "expiring before": ({"expires_before": NOON}, "ace"),
    "expiring before the very time of one": ({"expires_before": in_seconds(60)}, ""),
    "expiring at all": ({"expires_before": in_seconds(DAY * 999)}, "abceg"),
    "last used before": ({"last_used_before": NOON}, "acdef"),
    "last used before anything": ({"last_used_before": in_seconds(0)}, "df"),
    "last used at some time or never": ({"last_used_before": in_seconds(DAY * 999)}, "abcdefg"),
}


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(("fields", "expected"), FILTERS.values(), ids=FILTERS)
async def test_a_filter_shows_what_matches_and_nothing_else(
    full: KeyStore, fields: dict[str, Any], expected: str, limit: int
) -> None:
    """On pages of any size."""
    assert await listed(full, KeyFilter(**fields), limit=limit) == expected


SOME: dict[str, tuple[dict[str, Any], str]] = {
    name: FILTERS[name] for name in ("an organization is no prefix", "a part of the name", "disabled", "two states")
} | {name: FILTERS[name] for name in ("expiring at all", "last used before")}
PAIRS = {
    f"{one} + {other}": (one, other)
    for one, other in combinations(SOME, 2)
    if {one, other} != {"disabled", "two states"}
}


@pytest.mark.parametrize("names", PAIRS.values(), ids=PAIRS)
async def test_all_filters_that_are_given_must_match(full: KeyStore, names: tuple[str, str]) -> None:
    """Each pair of them."""
    (one, matches_one), (other, matches_other) = (SOME[name] for name in names)
    expected = "".join(sorted({*matches_one} & {*matches_other}))
    assert await listed(full, KeyFilter(**one, **other), limit=2) == expected


async def test_every_filter_at_once(full: KeyStore) -> None:
    """One key passes them all, and none passes where one fails."""
    where = KeyFilter(
        organization_id="acme",
        name="BILLING",
        states=frozenset({KeyState.ACTIVE, KeyState.DISABLED}),
        expires_before=in_seconds(DAY * 3),
        last_used_before=NOON,
    )
    assert await listed(full, where) == "a"
    await full.set_state("key_a", KeyState.REVOKED, now=START)
    assert await listed(full, where) == ""


async def test_no_filter_shows_every_key(full: KeyStore) -> None:
    """The default, and the same as asking for nothing."""
    assert await listed(full, EVERY_KEY) == await listed(full, KeyFilter()) == "".join(KEYS)
    assert [record.api_key for record in (await full.list_keys()).items] == list(KEYS)


async def test_a_filter_follows_what_changes(full: KeyStore) -> None:
    """Names, states, expiry and use are those of the moment."""
    await full.replace(make_key("f", name="billing at last", expires_at=in_seconds(5)), expected_version=1)
    assert await listed(full, KeyFilter(name="billing", expires_before=in_seconds(6))) == "f"
    await full.set_state("key_f", KeyState.DISABLED, now=START)
    assert await listed(full, KeyFilter(states=frozenset({KeyState.DISABLED}))) == "bf"
    used = UsageCount(key_id="key_f", hour=START, count=1, last_used_at=in_seconds(DAY * 3))
    await full.journal.add_usage([used])
    assert await listed(full, KeyFilter(last_used_before=NOON)) == "acde"
    await full.delete("key_a")
    assert await listed(full, KeyFilter(name="billing")) == "befg"


async def test_few_matches_among_many_keys_are_found_to_the_end(store: KeyStore) -> None:
    """Pages may be short or empty on the way, but the last match is found and the end comes."""
    names = {number: "needle" if number in (3, 1_500, 2_199) else "hay" for number in range(2_200)}
    await store.add_many([], [make_key(f"k{number:04}", name=name) for number, name in names.items()])
    assert await listed(store, KeyFilter(name="needle"), limit=2) == "k0003k1500k2199"
    assert await listed(store, KeyFilter(name="no such"), limit=2) == ""


async def test_a_cursor_is_a_place_and_not_a_match(full: KeyStore) -> None:
    """It may be of a key that the filter hides, or of none."""
    where = KeyFilter(name="billing")
    for after, expected in (("key_a", "beg"), ("key_c", "eg"), ("key_cc", "eg"), ("key_g", ""), ("", "abeg")):
        found = ""
        cursor: str | None = after
        while cursor is not None:
            page = await full.list_keys(where=where, after=cursor, limit=2)
            found += "".join(record.api_key for record in page.items)
            cursor = page.next_after
        assert found == expected


@pytest.mark.parametrize("limit", [0, 1001])
async def test_a_filter_does_not_lift_the_limit(full: KeyStore, limit: int) -> None:
    """Also where nothing matches."""
    with pytest.raises(ValueError, match="limit"):
        await full.list_keys(where=KeyFilter(name="no such"), limit=limit)
