"""Explanations: every step in the contract's order, and the reason that the decision itself gives."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from backends.errors import StoreCorrupt, StoreUnavailable
from backends.records import FoundKey, KeyState, SecretHash
from service.auth.credentials import Credentials
from service.auth.decision import AccessRequest, Door
from service.auth.domains import parse_target_url
from service.auth.evaluate import evaluate
from service.auth.loaded import LoadedKey
from service.auth.peppers import Peppers
from service.auth.reasons import Reason
from service.auth.secret import Secret
from service.manage.explain import Explanation, Question, explain
from tests.support import leaks
from tests.support.case_doors import verify_body
from tests.support.case_table import CASES
from tests.support.cases import POLICIES, import_lines
from tests.support.clock import START
from tests.support.keys import DOMAIN, PEPPERS, SECRET, in_seconds, make_key, make_organization
from tests.unit.manage.world import ACME, COMMAND, GLOBEX, new_world

if TYPE_CHECKING:
    from tests.support.cases import Case
    from tests.unit.manage.world import World

NAMES = (
    "credentials", "form", "key", "organization", "secret", "domain", "active", "expiry", "origin", "network", "scopes",
    "rate limit",
)  # fmt: skip
OLD_SECRET = "the-old-secret-of-the-tests"
leaks.register(OLD_SECRET)
ANSWERABLE = [case for case in CASES if verify_body(case) is not None]


async def ask(world: World, **fields: Any) -> Explanation:
    question = Question(**{"api_key": "key-one", "domain": DOMAIN, "secret": Secret(SECRET), **fields})
    return await explain(world.store, question, peppers=PEPPERS, wall=world.clock.wall())


def failed(explanation: Explanation) -> list[str]:
    return [step.name for step in explanation.steps if step.passed is False]


@pytest.fixture(scope="module")
def cases_world() -> World:
    async def made() -> World:
        world = await new_world()
        assert (await world.manager.import_lines(COMMAND, import_lines())).refused == 0
        return world

    return asyncio.run(made())


@pytest.mark.parametrize("case", ANSWERABLE, ids=lambda case: case.name)
async def test_the_table_of_cases_is_explained_as_it_is_decided(case: Case, cases_world: World) -> None:
    """Wherever a case can be put as a question at all."""
    body = json.loads(verify_body(case) or b"")
    question = Question(
        api_key=body["api_key"],
        secret=Secret(body["secret_token"]),
        domain=body["domain"],
        organization_id=POLICIES.get(case.policy, {}).get("organization", ""),
        required_scopes=tuple(body["scopes"]),
        client_ip=body["client_ip"],
        origin=body.get("origin"),
    )
    explanation = await cases_world.manager.explain(COMMAND, question)
    assert explanation.reason == case.reason
    assert (failed(explanation) == []) is (case.reason == "ok")
    assert tuple(step.name for step in explanation.steps) == NAMES[: len(explanation.steps)]


def test_most_cases_can_be_put_as_a_question() -> None:
    """Else the comparison above would say little."""
    assert len(ANSWERABLE) > 80
    assert len({case.reason for case in ANSWERABLE}) >= 10


KEY_DEFECTS: dict[str, dict[str, Any]] = {
    "domain": {"domains": ("elsewhere.example.com",)},
    "active": {"state": KeyState.DISABLED},
    "expiry": {"expires_at": START},
    "origin": {"origins": ("https://app.example.com",)},
    "network": {"networks": ("10.0.0.0/8",)},
}
QUESTION_DEFECTS: dict[str, dict[str, Any]] = {
    "organization": {"organization_id": "globex"},
    "secret": {"secret": Secret("secret-after-rotation-7c2f")},
    "scopes": {"required_scopes": ("orders:read",)},
}
DEFECTS = {**KEY_DEFECTS, **QUESTION_DEFECTS}


@pytest.mark.parametrize("size", range(len(DEFECTS) + 1))
async def test_all_defects_are_told_and_the_decisions_own_reason(size: int, world: World) -> None:
    """For every set of them, compared with the decision's rules."""
    for names in itertools.combinations(DEFECTS, size):
        record = make_key("key-one", **{k: v for name in names for k, v in KEY_DEFECTS.get(name, {}).items()})
        await world.store.add(record)
        fields = {k: v for name in names for k, v in QUESTION_DEFECTS.get(name, {}).items()}
        explanation = await ask(world, client_ip="192.0.2.7", **fields)
        request = AccessRequest(
            credentials=Credentials("key-one", Secret(SECRET)),
            target=parse_target_url(DOMAIN),
            door=Door.APP,
            started=0.0,
            client_ip="192.0.2.7",
            organization_id=fields.get("organization_id", ""),
            required_scopes=fields.get("required_scopes", ()),
        )
        reason = evaluate(
            request,
            LoadedKey(FoundKey(record, organization_is_active=True)),
            secret_matches="secret" not in names,
            only_organization="",
            wall=world.clock.wall(),
        )
        assert (explanation.reason, explanation.record) == (reason, record), names
        assert failed(explanation) == [name for name in NAMES if name in names]
        await world.store.delete(record.key_id)


@pytest.mark.parametrize(
    ("fields", "reason", "step"),
    [
        ({"api_key": "key one"}, Reason.MALFORMED_KEY, "form"),
        ({"api_key": "gk_live_short"}, Reason.MALFORMED_KEY, "form"),
        ({"secret": Secret("gks_short")}, Reason.MALFORMED_KEY, "form"),
        ({"api_key": "key-two"}, Reason.UNKNOWN_KEY, "key"),
        ({"only_organization": "globex"}, Reason.WRONG_ORGANIZATION, "organization"),
        ({"domain": "no host!"}, Reason.WRONG_DOMAIN, "domain"),
        ({"domain": f"http://{DOMAIN}:81/"}, Reason.WRONG_DOMAIN, "domain"),
    ],
)
async def test_what_is_wrong_with_a_question_is_told(
    fields: dict[str, Any], reason: Reason, step: str, world: World
) -> None:
    """At its step; what was asked for stands in it, the secret never."""
    await world.store.add(make_key("key-one"))
    explanation = await ask(world, **fields)
    assert (explanation.reason, failed(explanation)) == (reason, [step])
    assert SECRET not in repr(explanation)


async def test_without_a_secret_everything_else_is_checked(world: World) -> None:
    """The step says so."""
    await world.store.add(make_key("key-one"))
    explanation = await ask(world, secret=None)
    assert explanation.reason is Reason.OK
    assert [(step.name, step.detail) for step in explanation.steps if step.passed is None] == [
        ("secret", "not checked"),
        ("rate limit", "not checked"),
    ]
    assert explanation.steps[0].detail == "an api_key is presented; the secret is left out"


@pytest.mark.parametrize("secret", [None, Secret(SECRET)])
@pytest.mark.parametrize("api_key", ["key-two", "key one", "key-one"])
async def test_a_secret_is_said_to_be_presented_only_where_one_was_given(
    api_key: str, secret: Secret | None, world: World
) -> None:
    """Also of a key that is not there, or has no such form."""
    await world.store.add(make_key("key-one"))
    (first, *_) = (await ask(world, api_key=api_key, secret=secret)).steps
    assert (first.name, first.passed) == ("credentials", True)
    assert (first.detail == "an api_key and a secret are presented") == (secret is not None)


async def test_details_say_what_the_key_is_bound_to(world: World) -> None:
    """So that it can be put right."""
    await world.store.add(
        make_key(
            "key-one",
            scopes=("orders:read",),
            origins=("https://app.example.com",),
            networks=("192.0.2.0/24",),
            expires_at=in_seconds(60),
        )
    )
    explanation = await ask(
        world,
        client_ip="192.0.2.1",
        origin="https://app.example.com",
        required_scopes=("orders:read", "orders:write"),
        organization_id="acme",
        only_organization="acme",
    )
    assert {step.name: step.detail for step in explanation.steps} == {
        "credentials": "an api_key and a secret are presented",
        "form": "well formed",
        "key": "key_id key_key-one, organization acme",
        "organization": "demanded: acme",
        "secret": "the secret in force",
        "domain": "the key's domains: api.example.com",
        "active": "the key is active, its organization is active",
        "expiry": "expires at 2026-01-02T03:05:05+00:00",
        "origin": "only these origins: https://app.example.com",
        "network": "only these networks: 192.0.2.0/24",
        "scopes": "missing: orders:write",
        "rate limit": "not checked",
    }


async def test_a_disabled_organization_is_told(world: World) -> None:
    """Its keys are not active either."""
    await world.store.add(make_key("key-one", domains=()))
    await world.store.set_organization_active("acme", is_active=False, now=START)
    explanation = await ask(world)
    details = {step.name: step.detail for step in explanation.steps}
    assert failed(explanation) == ["domain", "active"]
    assert details["active"] == "the key is active, its organization is disabled"
    assert details["domain"] == "the key's domains: none"


@pytest.mark.parametrize(
    ("ends", "reason", "detail"),
    [
        (None, Reason.OK, "the secret from before the last rotation, which still counts"),
        (1, Reason.OK, "the secret from before the last rotation, which still counts"),
        (0, Reason.BAD_SECRET, "it is neither the secret in force nor one from before a rotation that still counts"),
    ],
)
async def test_the_secret_from_before_a_rotation_is_told_apart(
    ends: int | None, reason: Reason, detail: str, world: World
) -> None:
    """While it counts."""
    await world.store.add(
        make_key(
            "key-one",
            previous_secret=PEPPERS.hash(OLD_SECRET),
            previous_expires_at=None if ends is None else in_seconds(ends),
        )
    )
    explanation = await ask(world, secret=Secret(OLD_SECRET))
    assert explanation.reason is reason
    assert [step.detail for step in explanation.steps if step.name == "secret"] == [detail]


@pytest.mark.parametrize("secret", [None, Secret(SECRET)])
@pytest.mark.parametrize("defect", ["rule", "pepper", "undecodable"])
async def test_a_corrupt_key_is_a_step_that_did_not_pass(defect: str, secret: Secret | None, world: World) -> None:
    """As the decision says it: 503, whatever else is wrong."""
    record = make_key("key-one", organization_id="globex")
    if defect == "rule":
        record = replace(record, domains=("API.example.com",))
    if defect == "pepper":
        record = replace(record, secret=SecretHash(9, bytes(32)))
    await world.store.add(record)
    if defect == "undecodable":
        world.faults.errors["find"] = StoreCorrupt("the stored key's name is missing or wrong")
    explanation = await ask(world, secret=secret, organization_id="acme")
    assert (explanation.reason, failed(explanation)) == (Reason.STORE_CORRUPT, ["key"])


@pytest.mark.parametrize("secret", [None, Secret(SECRET)])
async def test_a_revoked_key_needs_no_pepper_to_be_explained(secret: Secret | None, world: World) -> None:
    """As it is decided."""
    record = make_key("one", secret=SecretHash(9, bytes(32)), state=KeyState.REVOKED)
    await world.store.add(record)
    explanation = await world.manager.explain(ACME, Question(api_key="one", domain=DOMAIN, secret=secret))
    assert explanation.record == record
    assert explanation.reason is (Reason.INACTIVE if secret is None else Reason.BAD_SECRET)


async def test_a_missing_pepper_of_an_old_secret_matters_only_where_it_is_asked(world: World) -> None:
    """The secret in force is compared first."""
    await world.store.add(make_key("key-one", previous_secret=SecretHash(9, bytes(32))))
    assert (await ask(world)).reason is Reason.OK
    assert (await ask(world, secret=Secret("secret-after-rotation-7c2f"))).reason is Reason.STORE_CORRUPT


async def test_a_store_that_is_away_explains_nothing(world: World) -> None:
    """The error is the answer."""
    world.faults.errors["find"] = StoreUnavailable("down")
    with pytest.raises(StoreUnavailable):
        await ask(world)


async def test_another_organizations_key_is_unknown(world: World) -> None:
    """Word for word."""
    await world.store.add(make_key("key-one"))
    question = Question(api_key="key-one", domain=DOMAIN)
    assert (await world.manager.explain(ACME, question)).reason is Reason.OK
    told = await world.manager.explain(GLOBEX, question)
    assert told == await world.manager.explain(COMMAND, replace(question, api_key="key-two"))
    assert told.reason is Reason.UNKNOWN_KEY


async def test_gatekeys_own_paths_can_be_asked_about(world: World) -> None:
    """Where ``@gatekey`` matches."""
    await world.store.add(make_key("key-one", domains=("@gatekey",)))
    assert (await ask(world)).reason is Reason.WRONG_DOMAIN
    assert (await ask(world, own_path=True)).reason is Reason.OK


async def test_an_installation_with_other_peppers_says_corrupt(world: World) -> None:
    """Not a wrong secret: it cannot know."""
    await world.store.add(make_key("key-one"))
    await world.store.add_organization(make_organization("new"))
    question = Question(api_key="key-one", domain=DOMAIN, secret=Secret(SECRET))
    found = await explain(world.store, question, peppers=Peppers({5: b"x" * 32}, current=5), wall=world.clock.wall())
    assert found.reason is Reason.STORE_CORRUPT
