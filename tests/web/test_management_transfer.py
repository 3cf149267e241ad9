"""Import and export by the API: a report of lines, all or nothing, and a stream that never passes for whole when it is not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from backends.contract import EVERY_KEY
from backends.errors import StoreUnavailable
from backends.memory import MemoryKeyStore
from service.auth.keyfile import read_key_lines
from service.manage.manager import KeyManager
from tests.support.clock import START
from tests.support.in_process import logged_gatekey
from tests.support.keys import PEPPERS, make_key
from tests.support.management_api import (
    ACME_READER,
    ACME_WRITER,
    GLOBEX,
    LINES,
    OPERATOR,
    Api,
    credentials,
    names,
    pages,
    remembered,
)
from tests.support.servers import key_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask

    from backends.records import KeyFilter, KeyRecord, Page
    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse

NDJSON = {"Content-Type": "application/x-ndjson"}


class FailingStore(MemoryKeyStore):
    """Gives its second page of keys an error."""

    fails = False

    async def list_keys(self, *, where: KeyFilter = EVERY_KEY, after: str = "", limit: int = 100) -> Page[KeyRecord]:
        if self.fails and after:
            raise StoreUnavailable("memory list_keys")
        return await super().list_keys(where=where, after=after, limit=limit)


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


@pytest.fixture
def logged(store: FailingStore) -> Iterator[LoggedGatekey]:
    with logged_gatekey(LINES, store=store) as found:
        yield found


def head(app: Flask) -> None:
    """Ask for the headers of an export."""
    answer = Api(app).ask("HEAD", "/v1/keys/export")
    assert (answer.status, answer.body) == (200, b"")


def first_piece_only(app: Flask) -> None:
    """Read the beginning of an export and leave, as a server does when its client has gone."""
    with app.test_client() as client:
        answer = client.get("/v1/keys/export", headers=credentials(OPERATOR), buffered=False)
        assert answer.status_code == 200
        assert next(answer.iter_encoded())
        answer.close()


def import_(api: Api, raw: bytes, query: str = "", **options: Any) -> RawResponse:
    return api.ask("POST", f"/v1/keys/import{query}", raw=raw, **{"headers": NDJSON, **options})


def test_good_lines_are_stored_and_the_same_again_changes_nothing(api: Api) -> None:
    """Missing organizations are made; the digest of the body is the one in the audit trail."""
    body = key_line("one", organization_id="initech", scopes=["orders:*"]) + key_line("a.b", organization_id="initech")
    first = import_(api, body, "?wait=1").json()
    digest = first["digest"]
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert first == {
        **first, "created": 2, "unchanged": 0, "refused": 0, "lines": [], "digest": digest,
        "notes": ["line 2: this api_key holds : or . and works by the two headers only"],
    }  # fmt: skip
    assert first["in_force"]["here"] is True
    again = import_(api, body).json()
    assert (again["created"], again["unchanged"], again["digest"]) == (0, 2, digest)
    assert sorted(names(pages(api, "/v1/organizations/initech/keys"), "api_key")) == ["a.b", "one"]
    newest = api.ask("GET", "/v1/audit?organization_id=initech").json()["items"]
    assert ("keys.imported", f"import:{digest}") in [(item["action"], item["target"]) for item in newest]


def test_a_bad_line_in_the_middle_stores_nothing_unless_told_to_go_on(api: Api) -> None:
    """Each is told by its number; with ``continue`` the good ones are stored."""
    body = key_line("one") + b'{"organization_id":"acme"}\n\n' + b"nonsense\n" + key_line("two")
    refused = import_(api, body)
    assert (refused.status, refused.json()["code"]) == (422, "unprocessable_content")
    assert refused.json()["report"] == {
        **refused.json()["report"],
        "created": 0,
        "unchanged": 0,
        "refused": 2,
        "lines": [{"line": 2, "problem": "api_key: is missing"}, {"line": 4, "problem": "is not JSON in UTF-8"}],
        "in_force": None,
    }
    before = names(pages(api, "/v1/organizations/acme/keys"), "api_key")
    went_on = import_(api, body, "?continue=1")
    assert went_on.status == 200
    assert (went_on.json()["created"], went_on.json()["refused"]) == (2, 2)
    after = names(pages(api, "/v1/organizations/acme/keys"), "api_key")
    assert sorted(after) == sorted([*before, "one", "two"])


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", ""])
def test_lines_are_sent_as_what_they_are(api: Api, media_type: str) -> None:
    """Anything else is 415."""
    answer = import_(api, key_line("one"), headers={"Content-Type": media_type})
    assert (answer.status, answer.json()["code"]) == (415, "unsupported_media_type")


def test_an_empty_import_is_none(api: Api) -> None:
    """It stores nothing and is no error."""
    answer = import_(api, b"")
    assert (answer.status, answer.json()["created"]) == (200, 0)


def test_an_organization_imports_its_own_keys(api: Api) -> None:
    """Without being told of others."""
    assert import_(api, key_line("own"), key=ACME_WRITER).json()["created"] == 1
    assert import_(api, key_line("own-two", organization_id="globex"), key=ACME_WRITER).status == 422


def test_an_export_can_be_imported_again_and_holds_hashes_only(api: Api) -> None:
    """Everything that a key is, under the same pepper."""
    key = api.create(scopes=["orders:*"], metadata={"a": 1}, expires_in="1d", name="Büro", critical=True)
    remembered(api.ask("POST", f"/v1/keys/{key['key_id']}/rotate"))
    answer = api.ask("GET", "/v1/keys/export?organization_id=acme", key=ACME_READER)
    assert answer.header("content-type").startswith("application/x-ndjson")
    assert answer.header("cache-control") == "no-store"
    exported = {line["key_id"]: line for line in map(orjson.loads, answer.body.splitlines())}
    assert exported[key["key_id"]]["secret_hash"].startswith("hmac-sha256:1:")
    with logged_gatekey(LINES[:1]) as other:
        copy = Api(other.app)
        assert import_(copy, answer.body).json()["created"] == len(exported)
        assert copy.ask("GET", f"/v1/keys/{key['key_id']}").json()["scopes"] == ["orders:*"]
        body = {"api_key": key["api_key"], "secret_token": key["secret_token"], "domain": "api.example.com"}
        assert copy.ask("POST", "/v1/keys/verify", body).json()["valid"] is True


def test_an_export_of_many_keys_is_whole(api: Api, logged: LoggedGatekey) -> None:
    """It goes out in pieces, over several pages of the store."""
    records = [make_key(f"many-{number}", organization_id="globex") for number in range(2500)]
    logged.gatekey.portal.run(logged.gatekey.store.add_many, [], records)
    lines = api.ask("GET", "/v1/keys/export", key=GLOBEX).body.splitlines()
    assert len({orjson.loads(line)["key_id"] for line in lines}) == len(lines) == 2501


def test_an_export_that_breaks_off_says_so_in_its_last_line(
    api: Api, logged: LoggedGatekey, store: FailingStore
) -> None:
    """And no import takes it: half a backup must not pass for a whole one."""
    records = [make_key(f"many-{number}", organization_id="globex") for number in range(1500)]
    logged.gatekey.portal.run(logged.gatekey.store.add_many, [], records)
    store.fails = True
    answer = api.ask("GET", "/v1/keys/export", key=GLOBEX)
    *lines, last = answer.body.splitlines()
    assert answer.status == 200
    assert 0 < len(lines) <= 1000
    assert orjson.loads(last) == {"incomplete": "the export was broken off"}
    with pytest.raises(Exception, match="problems in the import file"):
        read_key_lines(answer.body.splitlines(), peppers=PEPPERS, now=START)
    assert [event["error_type"] for event in logged.events() if event["event"] == "export_broken_off"] == [
        "StoreUnavailable"
    ]


def test_an_export_s_headers_can_be_had_alone(logged: LoggedGatekey) -> None:
    """Without a body."""
    head(logged.app)


@pytest.mark.parametrize("leave", [first_piece_only])
def test_an_export_that_nobody_reads_to_its_end_holds_nothing_open(
    monkeypatch: pytest.MonkeyPatch, logged: LoggedGatekey, leave: Callable[[Flask], None]
) -> None:
    """For a client that leaves: the reading is closed with the answer, not when the collector comes by."""
    records = [make_key(f"many-{number}", organization_id="globex") for number in range(1500)]
    logged.gatekey.portal.run(logged.gatekey.store.add_many, [], records)
    export, readings, ended = KeyManager.export, list[AsyncIterator[bytes]](), list[int]()

    async def watched(*arguments: Any) -> AsyncIterator[bytes]:
        given = 0
        try:
            async for line in export(*arguments):
                given += 1
                yield line
        finally:
            ended.append(given)

    def kept(*arguments: Any) -> AsyncIterator[bytes]:
        readings.append(watched(*arguments))
        return readings[-1]

    monkeypatch.setattr(KeyManager, "export", kept)
    leave(logged.app)
    assert len(ended) == len(readings) == 1
    assert 0 < ended[0] < 1500
