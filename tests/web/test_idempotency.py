"""``Idempotency-Key``: sent again, a request is answered as before and not carried out again; and no secret is kept for that."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from backends.errors import StoreUnavailable
from backends.memory import MemoryKeyStore
from backends.memory_journal import MemoryJournal
from tests.support import leaks
from tests.support.clock import FakeClock
from tests.support.in_process import logged_gatekey
from tests.support.management_api import ACME, ACME_WRITER, LINES, OPERATOR, Api, names, pages, remembered
from tests.support.servers import key_line, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backends.records import KeyRecord, Organization
    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse

KEYS = "/v1/organizations/acme/keys"
BODY = {"domains": ["api.example.com"], "name": "once"}


class Store(MemoryKeyStore):
    """Fails a write on demand, loses the answer to one, or holds it until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.loses_an_answer = False
        self.held: threading.Event | None = None
        self.adding = 0

    async def add(self, record: KeyRecord) -> None:
        self.adding += 1
        if self.error is not None:
            raise self.error
        if self.held is not None:
            await asyncio.to_thread(self.held.wait, 10)
        await super().add(record)
        self._lose()

    async def replace(self, record: KeyRecord, *, expected_version: int) -> KeyRecord:
        stored = await super().replace(record, expected_version=expected_version)
        self._lose()
        return stored

    async def add_organization(self, organization: Organization) -> None:
        await super().add_organization(organization)
        self._lose()

    def _lose(self) -> None:
        if self.loses_an_answer:
            self.loses_an_answer = False
            raise StoreUnavailable("memory write")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def logged(store: Store, clock: FakeClock) -> Iterator[LoggedGatekey]:
    with logged_gatekey(LINES, store=store, clock=clock) as found:
        yield found


def post(api: Api, target: str, body: Any = None, *, once: str = "one", **options: Any) -> RawResponse:
    headers = {"Idempotency-Key": once, **options.pop("headers", {})}
    return api.ask("POST", target, body, headers=headers, **options)


def journal_of(logged: LoggedGatekey) -> MemoryJournal:
    journal = logged.gatekey.store.journal
    while not isinstance(journal, MemoryJournal):
        journal = journal._inner  # type: ignore[attr-defined]  # the wrapper that counts
    return journal


def test_a_replay_gives_the_same_key_and_no_secret(api: Api, logged: LoggedGatekey) -> None:
    """The same status, body and headers but for that, and a mark; there is one key, and no secret is kept."""
    first = post(api, KEYS, BODY)
    made = remembered(first)
    again = post(api, KEYS, BODY)
    assert (first.status, again.status) == (201, 201)
    assert again.json() == {**made, "secret_token": None}
    assert again.header("idempotent-replayed") == "true"
    assert not first.has("idempotent-replayed")
    for name in ("etag", "location", "content-type", "cache-control"):
        assert again.header(name) == first.header(name)
    assert names(pages(api, f"{KEYS}?name=once")) == [made["key_id"]]
    kept = str(vars(journal_of(logged)))
    assert made["key_id"] in kept
    leaks.check(kept, "the journal")


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/organizations", {"organization_id": "initech"}),
        ("/v1/keys/{key}/rotate", None),
        ("/v1/keys/{key}/rotate", {"grace": "1h"}),
        ("/v1/keys/{key}/revoke", None),
    ],
)
def test_every_post_of_the_management_can_be_repeated(api: Api, target: str, body: Any) -> None:
    """A second rotation would end the secret that clients still use."""
    key = api.create()
    target = target.format(key=key["key_id"])
    first = post(api, target, body)
    made = remembered(first)
    again = post(api, target, body)
    assert (again.status, again.header("idempotent-replayed")) == (first.status, "true")
    assert again.json() == {**made, **({"secret_token": None} if "secret_token" in made else {})}
    assert api.ask("GET", f"/v1/keys/{key['key_id']}").json()["version"] == (1 if "organizations" in target else 2)


def test_an_import_can_be_repeated(api: Api) -> None:
    """With its report."""
    options: dict[str, Any] = {"raw": key_line("imported"), "headers": {"Content-Type": "application/x-ndjson"}}
    first = post(api, "/v1/keys/import", **options)
    again = post(api, "/v1/keys/import", **options)
    assert again.json() == first.json()
    assert again.header("idempotent-replayed") == "true"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (KEYS, {**BODY, "name": "other"}),
        (KEYS, {"name": "once", "domains": ["api.example.com"]}),
        (f"{KEYS}?wait=1", BODY),
        ("/v1/organizations/globex/keys", BODY),
        ("/v1/organizations", BODY),
    ],
)
def test_the_same_key_with_another_request_is_409(api: Api, target: str, body: Any) -> None:
    """Another body, query or address; byte for byte."""
    remembered(post(api, KEYS, BODY))
    answer = post(api, target, body)
    assert (answer.status, answer.json()["code"]) == (409, "conflict")
    assert "another request" in answer.json()["detail"]


def test_each_caller_has_keys_of_its_own(api: Api) -> None:
    """Two that choose the same text do not meet."""
    made = [remembered(post(api, KEYS, BODY, key=caller)) for caller in (OPERATOR, ACME, ACME_WRITER)]
    assert len(set(names(made))) == 3


@pytest.mark.parametrize("once", ["", "x" * 256, "ä", "a\x7f"])
def test_a_key_that_is_none_is_400(api: Api, once: str) -> None:
    """1 to 255 printable ASCII characters."""
    assert post(api, KEYS, BODY, once=once).json()["code"] == "bad_request"


@pytest.mark.parametrize("once", ["x", "x" * 255, '"quoted, with comma"', "~ !"])
def test_any_other_text_will_do(api: Api, once: str) -> None:
    """Whatever form clients give it."""
    remembered(post(api, KEYS, BODY, once=once))
    assert post(api, KEYS, BODY, once=once).header("idempotent-replayed") == "true"


@pytest.mark.parametrize(
    ("body", "status"), [({"domains": ["no/path"]}, 422), ({**BODY, "scopes": ["gatekey:*"]}, 422), ({}, 422)]
)
def test_a_request_that_failed_can_be_sent_again_corrected(api: Api, body: Any, status: int) -> None:
    """A refusal keeps nothing."""
    assert post(api, KEYS, body).status == status
    assert remembered(post(api, KEYS, BODY))["name"] == "once"


def test_a_request_that_the_store_failed_is_taken_up_again_after_a_minute(
    api: Api, store: Store, clock: FakeClock
) -> None:
    """Nobody knows whether the write happened: it counts as under way until then, and is done under the same identifier."""
    store.error = StoreUnavailable("memory add")
    assert post(api, KEYS, BODY).status == 503
    store.error = None
    early = post(api, KEYS, BODY)
    assert (early.status, early.header("retry-after")) == (409, "60")
    clock.advance(61)
    assert "secret_token" in remembered(post(api, KEYS, BODY))
    assert len(names(pages(api, f"{KEYS}?name=once"))) == 1


def test_a_creation_whose_confirmation_was_lost_makes_no_second_key(api: Api, store: Store, clock: FakeClock) -> None:
    """It was made all the same; nobody knows its secret, so it is shown without one."""
    store.loses_an_answer = True
    assert post(api, KEYS, BODY).status == 503
    assert post(api, KEYS, BODY).status == 409
    clock.advance(61)
    answer = post(api, KEYS, BODY)
    assert (answer.status, answer.json()["secret_token"]) == (201, None)
    assert names(pages(api, f"{KEYS}?name=once")) == [answer.json()["key_id"]]


def test_a_rotation_whose_confirmation_was_lost_is_not_repeated(api: Api, store: Store, clock: FakeClock) -> None:
    """A second one would end the secret that clients still use."""
    key = api.create()
    target = f"/v1/keys/{key['key_id']}/rotate"
    store.loses_an_answer = True
    assert post(api, target).status == 503
    for _ in range(2):
        assert post(api, target).status == 409
        clock.advance(61)
    assert api.ask("GET", f"/v1/keys/{key['key_id']}").json()["version"] == 2


def test_an_organization_whose_confirmation_was_lost_is_shown(api: Api, store: Store, clock: FakeClock) -> None:
    """What was made is what was asked for: its name is not taken, it is there."""
    body = {"organization_id": "initech", "name": "Initech"}
    store.loses_an_answer = True
    assert post(api, "/v1/organizations", body).status == 503
    clock.advance(61)
    answer = post(api, "/v1/organizations", body)
    assert (answer.status, answer.json()["name"]) == (201, "Initech")
    assert answer.header("location") == "/v1/organizations/initech"


@pytest.mark.parametrize("passed", [0, 20])
def test_the_rest_of_the_minute_is_told(api: Api, store: Store, clock: FakeClock, passed: int) -> None:
    """Who asks again then is not told the same once more."""
    store.error = StoreUnavailable("memory add")
    post(api, KEYS, BODY)
    clock.advance(passed)
    assert post(api, KEYS, BODY).header("retry-after") == str(60 - passed)


def test_while_the_first_is_under_way_the_second_is_409(api: Api, store: Store) -> None:
    """With the time after which to ask again; then it is a replay."""
    store.held = threading.Event()
    answers: list[RawResponse] = []
    first = threading.Thread(target=lambda: answers.append(post(api, KEYS, BODY)))
    first.start()
    wait_until(lambda: store.adding, "the first request writes")
    second = post(api, KEYS, BODY)
    assert (second.status, second.header("retry-after")) == (409, "60")
    assert "still being carried out" in second.json()["detail"]
    store.held.set()
    first.join(10)
    made = remembered(answers[0])
    assert post(api, KEYS, BODY).json()["key_id"] == made["key_id"]
    assert store.adding == 1


def test_after_a_day_the_text_may_be_used_again(api: Api, clock: FakeClock) -> None:
    """Then it is a request like any other."""
    first = remembered(post(api, KEYS, BODY))
    clock.advance(timedelta(hours=23, minutes=59).total_seconds())
    assert post(api, KEYS, BODY).json()["key_id"] == first["key_id"]
    clock.advance(120)
    later = remembered(post(api, KEYS, {**BODY, "name": "later"}))
    assert later["key_id"] != first["key_id"]


class Killed(BaseException):
    """What ends a request in the middle, as a process that dies does: nobody cleans up."""


def cut_off(api: Api, logged: LoggedGatekey, monkeypatch: pytest.MonkeyPatch, target: str, body: Any = None) -> None:
    """Carry out a request whose process dies before its answer is kept."""

    async def die(*_arguments: Any, **_options: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MemoryJournal, "settle", die)
        with pytest.raises(Killed):
            post(api, target, body)
    logged.events()


def test_a_creation_that_was_cut_off_makes_no_second_key(
    api: Api, logged: LoggedGatekey, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a minute it counts as under way, then the key that was made is shown; its secret is lost."""
    cut_off(api, logged, monkeypatch, KEYS, BODY)
    assert post(api, KEYS, BODY).status == 409
    clock.advance(61)
    answer = post(api, KEYS, BODY)
    assert (answer.status, answer.json()["secret_token"]) == (201, None)
    assert names(pages(api, f"{KEYS}?name=once")) == [answer.json()["key_id"]]


def test_a_rotation_that_was_cut_off_is_not_repeated(
    api: Api, logged: LoggedGatekey, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might have been carried out, and a second one would end the secret that clients still use."""
    key = api.create()
    target = f"/v1/keys/{key['key_id']}/rotate"
    cut_off(api, logged, monkeypatch, target)
    clock.advance(61)
    answer = post(api, target)
    assert answer.status == 409
    assert "cut off" in answer.json()["detail"]
    assert api.ask("GET", f"/v1/keys/{key['key_id']}").json()["version"] == 2


def test_an_answer_that_cannot_be_kept_is_given_all_the_same(
    api: Api, logged: LoggedGatekey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is made, and its secret would be lost otherwise."""

    async def fail(*_arguments: Any, **_options: Any) -> None:
        raise StoreUnavailable("memory settle")

    monkeypatch.setattr(MemoryJournal, "settle", fail)
    assert remembered(post(api, KEYS, BODY))["secret_token"].startswith("gks_")
    assert [event["operation"] for event in logged.events() if event["event"] == "claim_not_written"] == ["settle"]


def test_an_answer_that_cannot_be_written_down_is_given_all_the_same(
    api: Api, logged: LoggedGatekey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a defect in keeping it turn a key that was made into a failure, and into a second one."""

    def fail(_reply: object) -> dict[str, object]:
        raise TypeError("Recursion limit reached")

    monkeypatch.setattr("service.web.idempotency._without_secret", fail)
    assert remembered(post(api, KEYS, BODY))["secret_token"].startswith("gks_")
    told = [event for event in logged.events() if event["event"] == "claim_not_written"]
    assert [(event["operation"], event["error_type"]) for event in told] == [("settle", "TypeError")]
    assert post(api, KEYS, BODY).status == 409
    assert len(names(pages(api, f"{KEYS}?name=once"))) == 1


def test_what_is_kept_of_a_body_tells_nothing_without_the_pepper(api: Api, logged: LoggedGatekey) -> None:
    """An import may hold secrets that people chose, which could be guessed from a plain digest."""
    line = key_line("imported")
    post(api, "/v1/keys/import", raw=line, headers={"Content-Type": "application/x-ndjson"})
    claims = journal_of(logged)._claims
    assert len(claims) == 1
    ((name, (claim, _)),) = claims.items()
    who = ["gatekey", f"key:key_{OPERATOR}"]
    body = hashlib.sha256(line).hexdigest()
    plain = orjson.dumps([*who, "POST", "/v1/keys/import", "", body])
    assert name == hashlib.sha256(orjson.dumps([*who, "one"])).hexdigest()
    assert body not in claim.fingerprint
    assert hashlib.sha256(plain).hexdigest() not in claim.fingerprint


def test_without_the_header_each_request_is_its_own(api: Api) -> None:
    """And the header means nothing to what is no POST."""
    assert api.create()["key_id"] != api.create()["key_id"]
    for _ in range(2):
        answer = api.ask("PATCH", "/v1/organizations/acme", {"is_active": True}, headers={"Idempotency-Key": "x"})
        assert not answer.has("idempotent-replayed")
