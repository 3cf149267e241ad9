"""Import files: every field, every defect by its line, and nothing half loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.records import FoundKey, KeyRecord, KeyState, Organization, SecretHash
from service.auth.keyfile import KeyFileError, KeyLine, LineProblem, Seed, read_key_lines, read_lines
from service.auth.loaded import LoadedKey
from service.auth.tokens import generate_api_key, generate_secret_token
from tests.support import leaks
from tests.support.clock import START
from tests.support.keys import PEPPERS

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "the-token-in-the-file"
OWN_KEY, OWN_SECRET = generate_api_key("live"), generate_secret_token().reveal()
leaks.register(TOKEN, OWN_SECRET)
HEX = hashlib.sha256(TOKEN.encode()).hexdigest()
LEAST = {"organization_id": "acme", "api_key": "one", "secret_token": TOKEN, "domains": ["api.example.com"]}


def read(*lines: bytes | dict[str, Any]) -> Seed:
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines]
    return read_key_lines(encoded, peppers=PEPPERS, now=START)


def record_of(**fields: Any) -> KeyRecord:
    return read({**LEAST, **fields}).records[0]


def nested(depth: int) -> dict[str, Any]:
    """An object in an object, ``depth`` of them."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def problem_of(line: bytes | dict[str, Any]) -> str:
    with pytest.raises(KeyFileError) as caught:
        read(line)
    (problem,) = caught.value.problems
    assert problem.line == 1
    for text in (TOKEN, OWN_SECRET, HEX):
        assert text not in f"{problem} {problem!r} {caught.value} {caught.value!r}"
    return problem.problem


# -- what a line may hold -------------------------------------------------------------------------------------------------


def test_the_least_line_is_a_key() -> None:
    """Everything else has its default."""
    assert record_of() == KeyRecord(
        key_id="key_" + hashlib.sha256(b"acme\0one").hexdigest()[:32],
        organization_id="acme",
        api_key="one",
        secret=PEPPERS.hash(TOKEN),
        domains=("api.example.com",),
        created_at=START,
        updated_at=START,
    )


def test_every_field_of_the_contract_is_read() -> None:
    """Contract 6 names them."""
    line = {
        "organization_id": "acme-2",
        "api_key": OWN_KEY,
        "secret_hash": f"hmac-sha256:1:{HEX}",
        "previous_secret_hash": f"sha256:{HEX}",
        "domains": ["API.Example.com", "*.example.com", "https://api.example.com/v1/", "@gatekey", "api.example.com."],
        "scopes": ["orders:read", "orders:*", "gatekey:read", "orders:read"],
        "networks": ["192.0.2.7", "2001:DB8::/32"],
        "origins": ["https://App.example.com/"],
        "is_active": False,
        "expires_at": "2027-01-31T13:30:00.123456+01:30",
        "name": "Zoë's key",
        "metadata": {"team": "é", "a": [1, 2.5, None, True, {"b": "c"}]},
        "key_id": "key_Own-1",
        "state": "revoked",
        "created_at": "2025-12-24T18:00:00Z",
        "critical": True,
    }
    created = datetime(2025, 12, 24, 18, tzinfo=UTC)
    assert read(line).records == (
        KeyRecord(
            key_id="key_Own-1",
            organization_id="acme-2",
            api_key=OWN_KEY,
            secret=SecretHash(1, bytes.fromhex(HEX)),
            previous_secret=PEPPERS.wrap_sha256(bytes.fromhex(HEX)),
            previous_expires_at=START + timedelta(days=30),
            previous_grace=86_400,
            domains=("api.example.com", "*.example.com", "https://api.example.com/v1", "@gatekey"),
            scopes=("orders:read", "orders:*", "gatekey:read"),
            networks=("192.0.2.7/32", "2001:db8::/32"),
            origins=("https://app.example.com",),
            state=KeyState.REVOKED,
            expires_at=datetime(2027, 1, 31, 12, 0, 0, 123456, UTC),
            name="Zoë's key",
            metadata='{"a":[1,2.5,null,true,{"b":"c"}],"team":"é"}',
            critical=True,
            created_at=created,
            updated_at=created,
        ),
    )


def test_what_was_read_is_what_the_decision_accepts() -> None:
    """Canonical rules, aware UTC times."""
    record = record_of(domains=["Bücher.example:8443"], expires_at="2027-01-01T00:00:00+05:00")
    LoadedKey(FoundKey(record, organization_is_active=True))
    assert record.expires_at is not None
    assert record.expires_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, KeyState.ACTIVE),
        ({"is_active": True}, KeyState.ACTIVE),
        ({"is_active": False}, KeyState.DISABLED),
        ({"state": None}, KeyState.ACTIVE),
        ({"is_active": False, "state": None}, KeyState.DISABLED),
        ({"state": "active"}, KeyState.ACTIVE),
        ({"state": "disabled"}, KeyState.DISABLED),
        ({"state": "revoked"}, KeyState.REVOKED),
        ({"is_active": True, "state": "active"}, KeyState.ACTIVE),
        ({"is_active": False, "state": "disabled"}, KeyState.DISABLED),
        ({"is_active": False, "state": "revoked"}, KeyState.REVOKED),
    ],
)
def test_state_and_is_active_say_the_same(fields: dict[str, Any], state: KeyState) -> None:
    """An export has both."""
    assert record_of(**fields).state is state


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (f"hmac-sha256:1:{HEX}", SecretHash(1, bytes.fromhex(HEX))),
        (f"hmac-sha256:1:{HEX.upper()}", SecretHash(1, bytes.fromhex(HEX))),
        (f"sha256:{HEX}", PEPPERS.wrap_sha256(bytes.fromhex(HEX))),
        (f"sha256:{HEX.upper()}", PEPPERS.wrap_sha256(bytes.fromhex(HEX))),
    ],
)
@pytest.mark.parametrize("field", ["secret_hash", "previous_secret_hash"])
def test_a_hash_comes_in_two_forms(field: str, form: str, expected: SecretHash) -> None:
    """Under a pepper, or a plain SHA-256, which is wrapped in one before it is stored."""
    line = {**LEAST, field: form}
    if field == "secret_hash":
        del line["secret_token"]
    record = read(line).records[0]
    assert (record.secret if field == "secret_hash" else record.previous_secret) == expected


def test_an_imported_sha256_accepts_its_secret() -> None:
    """Without anybody knowing the secret at import."""
    line = {**LEAST, "secret_token": None, "secret_hash": f"sha256:{HEX}"}
    assert PEPPERS.match(TOKEN, read(line).records[0].secret)


IN_30_DAYS, LATER = START + timedelta(days=30), datetime(2026, 6, 1, tzinfo=UTC)
LATER_TEXT = "2026-06-01T00:00:00Z"


@pytest.mark.parametrize(
    ("fields", "ends", "grace"),
    [
        ({}, IN_30_DAYS, 86_400),
        ({"previous_grace": None, "previous_expires_at": None}, IN_30_DAYS, 86_400),
        ({"previous_grace": 0}, IN_30_DAYS, 0),
        ({"previous_grace": 366 * 86_400}, IN_30_DAYS, 366 * 86_400),
        ({"previous_expires_at": LATER_TEXT}, LATER, None),
        ({"previous_expires_at": LATER_TEXT, "previous_grace": None}, LATER, None),
        ({"previous_expires_at": LATER_TEXT, "previous_grace": 60}, LATER, 60),
        ({"previous_expires_at": "2027-01-03T03:04:05Z"}, START + timedelta(days=366), None),
        ({"previous_expires_at": "2026-01-02T03:04:06Z"}, START + timedelta(seconds=1), None),
    ],
)
def test_a_secret_from_before_a_rotation_always_has_an_end(
    fields: dict[str, Any], ends: datetime, grace: int | None
) -> None:
    """As an export in the middle of a rotation says, or that of a rotation without options; never none."""
    record = record_of(previous_secret_hash=f"hmac-sha256:1:{HEX}", **fields)
    previous = SecretHash(1, bytes.fromhex(HEX))
    assert record == replace(record_of(), previous_secret=previous, previous_expires_at=ends, previous_grace=grace)


@pytest.mark.parametrize("ends", ["2026-01-02T03:04:05Z", "2001-01-01T00:00:00Z"])
@pytest.mark.parametrize("version", [1, 9])
def test_a_secret_from_before_a_rotation_that_is_over_is_left_out(ends: str, version: int) -> None:
    """Its pepper may have gone with it."""
    fields = {"previous_secret_hash": f"hmac-sha256:{version}:{HEX}", "previous_expires_at": ends, "previous_grace": 5}
    assert record_of(**fields) == record_of()


def test_a_revoked_key_may_come_without_its_pepper() -> None:
    """Nothing of it is ever checked again; it stays refused wherever it is imported."""
    text = f"hmac-sha256:9:{HEX}"
    fields = {"secret_token": None, "secret_hash": text, "previous_secret_hash": text}
    record = record_of(state="revoked", is_active=False, **fields)
    assert (record.secret, record.previous_secret) == (SecretHash(9, bytes.fromhex(HEX)),) * 2
    for state in ("active", "disabled"):
        assert problem_of({**LEAST, **fields, "state": state}).endswith("names a pepper version that is not configured")


@pytest.mark.parametrize("text", ["k", "_", "_-", "exports", "verify-1", "Export", "0" * 64])
def test_a_key_id_is_a_part_of_an_address(text: str) -> None:
    """Words that only look like one of those that are taken may be one."""
    assert record_of(key_id=text).key_id == text


def test_metadata_may_nest_up_to_a_depth() -> None:
    """Far less than what an encoder takes, since it is shown inside other JSON."""
    for value in (nested(32), {"a": [nested(30), nested(30)], "b": 1}):
        assert orjson.loads(record_of(metadata=value).metadata) == value


def test_a_hash_may_say_that_it_was_made_of_a_sha256() -> None:
    """An export of a key whose secret nobody knows yet; it goes on accepting its secret."""
    stored = PEPPERS.wrap_sha256(bytes.fromhex(HEX))
    text = f"hmac-sha256:1:{stored.digest.hex()}"
    record = record_of(
        secret_token=None,
        secret_hash=text,
        secret_prehashed=True,
        previous_secret_hash=text,
        previous_secret_prehashed=True,
    )
    assert (record.secret, record.previous_secret) == (stored, stored)
    assert record_of(secret_token=None, secret_hash=text, secret_prehashed=False).secret != stored


@pytest.mark.parametrize(
    "field", ["expires_at", "name", "metadata", "key_id", "state", "created_at", "previous_secret_hash"]
)
def test_null_is_the_default(field: str) -> None:
    """As in the contract's example."""
    assert record_of(**{field: None}) == record_of()


def test_the_same_line_makes_the_same_key() -> None:
    """So that importing it again changes nothing; ``key_id`` follows from owner and ``api_key``."""
    assert read(LEAST) == read(LEAST)
    assert record_of().key_id != record_of(api_key="two").key_id
    assert record_of().key_id != record_of(organization_id="other").key_id


def test_missing_organizations_are_made_once_each() -> None:
    """In order."""
    seed = read(
        {**LEAST, "organization_id": "b"},
        {**LEAST, "api_key": "two", "organization_id": "a"},
        {**LEAST, "api_key": "three", "organization_id": "b"},
    )
    assert seed.organizations == tuple(Organization(organization_id=name, created_at=START) for name in "ab")
    assert [record.api_key for record in seed.records] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("api_key", "noted"),
    [("a:b", True), ("a.b", True), ("a-b", False), (OWN_KEY, False)],
    ids=["colon", "dot", "dash", "one of ours"],
)
def test_a_key_that_works_by_headers_only_is_noted(api_key: str, noted: bool) -> None:  # noqa: FBT001 - a column
    """Basic splits at the first colon, Bearer at the first dot."""
    notes = read({**LEAST, "api_key": api_key}).notes
    assert notes == (("line 1: this api_key holds : or . and works by the two headers only",) if noted else ())


@pytest.mark.parametrize("blank", [b"", b"\n", b"  \t\r\n"])
def test_blank_lines_count_but_hold_nothing(blank: bytes) -> None:
    """The number in a message is that of the editor."""
    assert read(blank, LEAST, blank).records == read(LEAST).records
    with pytest.raises(KeyFileError) as caught:
        read(blank, LEAST, blank, b"{")
    assert [problem.line for problem in caught.value.problems] == [4]


def test_an_empty_file_is_an_empty_seed() -> None:
    """No error."""
    assert read() == Seed((), (), ())


def test_line_ends_of_other_systems_are_no_problem() -> None:
    """CRLF."""
    assert read(json.dumps(LEAST).encode() + b"\r\n").records == (record_of(),)


# -- what a line may not hold ---------------------------------------------------------------------------------------------

HASH_FORM = "must be hmac-sha256:<pepper version>:<64 hex> or sha256:<64 hex>"
KEY_FORM = "must be 1 to 256 characters of printable ASCII without space or comma"
TIME_FORM = "must be a time such as 2027-01-31T12:00:00Z"
NAME_FORM = "name: must be printable text of at most 200 characters"
BOOL_FORM = "must be true or false"
PATH_FORM = "its path must have no dot segments, //, backslashes, encoded slashes or control characters"
LIST_FORM = "must be a list of text"
KEY_ID_FORM = "must be 1 to 64 of letters, digits, _ and -, not begin with -, and be none of export, import, verify"
SECONDS_FORM = "must be a whole number of seconds"

BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"organization_id": "Acme"}, "organization_id: must be lower-case letters, digits and -"),
    ({"organization_id": ""}, "organization_id: must be lower-case letters, digits and -"),
    ({"organization_id": "-a"}, "organization_id: must be lower-case letters, digits and -"),
    ({"organization_id": "a" * 64}, "organization_id: must be lower-case letters, digits and -"),
    ({"organization_id": "a\n"}, "organization_id: must be lower-case letters, digits and -"),
    ({"organization_id": 7}, "organization_id: must be text"),
    ({"organization_id": None}, "organization_id: must be text"),
    ({"api_key": ""}, f"api_key: {KEY_FORM}"),
    ({"api_key": "k" * 257}, f"api_key: {KEY_FORM}"),
    ({"api_key": "a b"}, f"api_key: {KEY_FORM}"),
    ({"api_key": "a,b"}, f"api_key: {KEY_FORM}"),
    ({"api_key": "clé"}, f"api_key: {KEY_FORM}"),
    ({"api_key": "\ud800"}, f"api_key: {KEY_FORM}"),
    ({"api_key": "gk_live_short"}, "api_key: begins with gk_ but has not that form"),
    ({"api_key": OWN_KEY[:-1] + ("0" if OWN_KEY[-1] != "0" else "1")}, "api_key: its checksum is wrong"),
    ({"api_key": ["one"]}, "api_key: must be text"),
    ({"secret_token": ""}, f"secret_token: {KEY_FORM}"),
    ({"secret_token": f"{TOKEN} "}, f"secret_token: {KEY_FORM}"),
    ({"secret_token": f"{TOKEN}é"}, f"secret_token: {KEY_FORM}"),
    ({"secret_token": OWN_SECRET[:-1]}, "secret_token: begins with gks_ but has not that form"),
    ({"secret_token": OWN_SECRET[:-1] + ("0" if OWN_SECRET[-1] != "0" else "1")}, "secret_token: its checksum is wrong"),
    ({"secret_token": 7}, "secret_token: must be text"),
    ({"secret_token": None}, "secret_token: give this or secret_hash, one of the two"),
    ({"secret_hash": f"sha256:{HEX}"}, "secret_token: give this or secret_hash, one of the two"),
    *(
        ({"secret_token": None, "secret_hash": form}, f"secret_hash: {HASH_FORM}")
        for form in (
            "", HEX, TOKEN, f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX}\n", f"sha256:{HEX[:-1]}g", f"SHA256:{HEX}",
            f"sha1:{HEX[:40]}", f"md5:{HEX[:32]}", f"sha512:{HEX}{HEX}", f"hmac-sha256:{HEX}", f"hmac-sha256::{HEX}",
            f"hmac-sha256:-1:{HEX}", f"hmac-sha256:x:{HEX}", f"hmac-sha256:{'1' * 10}:{HEX}", f"hmac-sha256-sha256:1:{HEX}",
            "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", "$2b$12$abcdefghijklmnopqrstuv", f"{{SHA256}}{HEX}",
        )
    ),
    ({"secret_token": None, "secret_hash": 7}, "secret_hash: must be text"),
    (
        {"secret_token": None, "secret_hash": f"hmac-sha256:2:{HEX}"},
        "secret_hash: names a pepper version that is not configured",
    ),
    ({"previous_secret_hash": HEX}, f"previous_secret_hash: {HASH_FORM}"),
    ({"previous_secret_hash": 7}, "previous_secret_hash: must be text"),
    (
        {"previous_secret_hash": f"hmac-sha256:2:{HEX}"},
        "previous_secret_hash: names a pepper version that is not configured",
    ),
    ({"previous_secret_hash": f"sha256:{HEX}", "previous_grace": -1}, f"previous_grace: {SECONDS_FORM}"),
    ({"previous_secret_hash": f"sha256:{HEX}", "previous_grace": 10**9 + 1}, f"previous_grace: {SECONDS_FORM}"),
    ({"previous_secret_hash": f"sha256:{HEX}", "previous_grace": 1.0}, f"previous_grace: {SECONDS_FORM}"),
    ({"previous_secret_hash": f"sha256:{HEX}", "previous_grace": True}, f"previous_grace: {SECONDS_FORM}"),
    ({"previous_grace": 0}, "previous_secret_hash: is missing"),
    ({"previous_expires_at": "2026-06-01T00:00:00Z"}, "previous_secret_hash: is missing"),
    ({"previous_expires_at": "2001-06-01T00:00:00Z", "previous_grace": 5}, "previous_secret_hash: is missing"),
    (
        {"previous_secret_hash": f"sha256:{HEX}", "previous_grace": 366 * 86_400 + 1},
        "previous_grace: must be at most 366 days",
    ),
    (
        {"previous_secret_hash": f"sha256:{HEX}", "previous_expires_at": "2027-01-03T03:04:05.000001Z"},
        "previous_expires_at: must be at most 366 days ahead",
    ),
    ({"previous_secret_hash": f"sha256:{HEX}", "previous_expires_at": "soon"}, f"previous_expires_at: {TIME_FORM}"),
    (
        {"previous_secret_hash": f"sha256:{HEX}", "previous_secret_prehashed": None},
        f"previous_secret_prehashed: {BOOL_FORM}",
    ),
    ({"secret_token": None, "secret_hash": f"sha256:{HEX}", "secret_prehashed": 1}, f"secret_prehashed: {BOOL_FORM}"),
    ({"domains": [f"h{number}.example.com" for number in range(101)]}, "domains: at most 100"),
    ({"domains": "api.example.com"}, f"domains: {LIST_FORM}"),
    ({"domains": [7]}, f"domains: {LIST_FORM}"),
    ({"domains": None}, f"domains: {LIST_FORM}"),
    ({"domains": {"a": 1}}, f"domains: {LIST_FORM}"),
    (
        {"domains": ["ok.example", f"{TOKEN}!"]},
        "domains: is not a host name or IP address with an optional port, * being the whole first label only",
    ),
    ({"domains": ["api.example.com/v1"]}, "domains: a rule with a path needs a scheme, for instance https://"),
    ({"domains": ["https://a.example/\ud800"]}, f"domains: {PATH_FORM}"),
    ({"scopes": ["a b"]}, "scopes: must be 1 to 64 characters of printable ASCII without space, comma, quote or backslash"),
    ({"scopes": ["gatekey:*"]}, "scopes: may hold * only as its last part, as in orders:*, and not for gatekey: scopes"),
    ({"scopes": [f"s{number}" for number in range(33)]}, "scopes: at most 32"),
    ({"scopes": None}, f"scopes: {LIST_FORM}"),
    ({"networks": ["10.0.0.1/8"]}, "networks: must be an IP network such as 192.0.2.0/24, without host bits"),
    ({"networks": None}, f"networks: {LIST_FORM}"),
    ({"origins": ["app.example.com"]}, "origins: must be an origin, scheme://host[:port]"),
    ({"origins": "https://a.example"}, f"origins: {LIST_FORM}"),
    ({"is_active": None}, f"is_active: {BOOL_FORM}"),
    ({"is_active": 1}, f"is_active: {BOOL_FORM}"),
    ({"is_active": "true"}, f"is_active: {BOOL_FORM}"),
    ({"critical": "no"}, f"critical: {BOOL_FORM}"),
    ({"state": "paused"}, "state: must be one of active, disabled, revoked"),
    ({"state": "Active"}, "state: must be one of active, disabled, revoked"),
    ({"state": []}, "state: must be text"),
    ({"state": {}}, "state: must be text"),
    ({"state": "revoked", "is_active": True}, "state: contradicts is_active"),
    ({"state": "active", "is_active": False}, "state: contradicts is_active"),
    *(
        ({"expires_at": time}, f"expires_at: {TIME_FORM}")
        for time in (
            "", "tomorrow", "90d", "2027-02-30T00:00:00Z", "2027-13-01T00:00:00Z", "2027-01-01T25:00:00Z", "2027-01-01T00:60:00Z",
            "2026-12-31T23:59:60Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2027-01-01T00:00:00+25:00", "1798761600",
            "2027-01-01T00:00:00Z ", "2027-01-01T00:00:00ZZ",
        )
    ),
    ({"expires_at": 1798761600}, f"expires_at: {TIME_FORM}"),
    ({"expires_at": "2027-01-31"}, "expires_at: needs a time zone, for instance a final Z"),
    ({"expires_at": "2027-01-31T12:00:00"}, "expires_at: needs a time zone, for instance a final Z"),
    ({"expires_at": "9999-12-31T23:59:59-01:00"}, "expires_at: is out of range"),
    ({"created_at": "0001-01-01T00:00:00+01:00"}, "created_at: is out of range"),
    ({"created_at": "yesterday"}, f"created_at: {TIME_FORM}"),
    ({"name": "n" * 201}, NAME_FORM),
    ({"name": "a\nb"}, NAME_FORM),
    ({"name": "\x1b[31m"}, NAME_FORM),
    ({"name": "\u202egnp"}, NAME_FORM),
    ({"name": "\ud800"}, NAME_FORM),
    ({"name": 7}, NAME_FORM),
    ({"metadata": []}, "metadata: must be an object"),
    ({"metadata": "{}"}, "metadata: must be an object"),
    ({"metadata": {"a": "m" * 8_200}}, "metadata: at most 8192 bytes"),
    ({"metadata": nested(33)}, "metadata: at most 32 lists and objects within each other"),
    ({"metadata": {"a": [nested(31)]}}, "metadata: at most 32 lists and objects within each other"),
    ({"metadata": nested(300)}, "metadata: at most 32 lists and objects within each other"),
    ({"metadata": {"a": 2**64}}, "metadata: holds a number or a text that cannot be stored"),
    ({"metadata": {"a": "\ud800"}}, "metadata: holds a number or a text that cannot be stored"),
    *(
        ({"key_id": text}, f"key_id: {KEY_ID_FORM}")
        for text in ("", "k" * 65, "a/b", "-", "--help", "-key", "export", "import", "verify", "key\n", "export\n")
    ),
    ({"key_id": 7}, "key_id: must be text"),
    ({"domain": "api.example.com"}, "domain: is no field"),
    ({TOKEN: 1}, "holds something that is no field"),
    ({OWN_SECRET: 1}, "holds something that is no field"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "problem"), BAD_FIELDS)
def test_a_bad_field_is_told_by_name_and_never_by_value(fields: dict[str, Any], problem: str) -> None:
    """The operator finds it, nobody else learns anything."""
    assert problem_of({**LEAST, **fields}) == problem


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("organization_id", "organization_id: is missing"),
        ("api_key", "api_key: is missing"),
        ("domains", "domains: is missing"),
        ("secret_token", "secret_token: give this or secret_hash, one of the two"),
    ],
)
def test_a_missing_field_is_told(field: str, problem: str) -> None:
    """Each of those that must be there."""
    assert problem_of({name: value for name, value in LEAST.items() if name != field}) == problem


DEEP = b"[" * 100_000

BAD_LINES: list[tuple[bytes, str]] = [
    (b"{", "is not JSON in UTF-8"),
    (b"null", "is not a JSON object"),
    (b"[]", "is not a JSON object"),
    (b'"text"', "is not a JSON object"),
    (b"7", "is not a JSON object"),
    (b"x", "is not JSON in UTF-8"),
    (b"{} {}", "is not JSON in UTF-8"),
    (b"{'a': 1}", "is not JSON in UTF-8"),
    (b"\xff", "is not JSON in UTF-8"),
    (b"\x00", "is not JSON in UTF-8"),
    (b'{"a": "\x00"}', "is not JSON in UTF-8"),
    (json.dumps(LEAST).encode("utf-16"), "is not JSON in UTF-8"),
    (DEEP, "is not JSON in UTF-8"),
    (b'{"metadata": ' + b"9" * 5_000 + b"}", "is not JSON in UTF-8"),
    (b'{"a": 1, "a": 1}', "a field stands twice"),
    (b'{"metadata": {"a": 1, "a": 2}}', "a field stands twice"),
    (b'{"metadata": {"a": NaN}}', "holds a number that is not finite"),
    (b'{"metadata": {"a": -Infinity}}', "holds a number that is not finite"),
    (b'{"metadata": {"a": 1e999}}', "holds a number that is not finite"),
    (b"{}", "api_key: is missing"),
]


@pytest.mark.parametrize(("line", "problem"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_line_that_is_no_object_is_told(line: bytes, problem: str) -> None:
    """One problem, not a traceback."""
    assert problem_of(line) == problem


# -- the file as a whole --------------------------------------------------------------------------------------------------


def test_every_bad_line_is_told_by_its_number_and_nothing_is_loaded() -> None:
    """All or nothing, in one go."""
    with pytest.raises(KeyFileError) as caught:
        read(LEAST, b"{", {**LEAST, "api_key": "two"}, b"", {**LEAST, "api_key": "x y"}, {**LEAST, "is_active": 1})
    assert [str(problem) for problem in caught.value.problems] == [
        "line 2: is not JSON in UTF-8",
        f"line 5: api_key: {KEY_FORM}",
        "line 6: is_active: must be true or false",
    ]
    assert str(caught.value) == "3 problems in the import file"
    assert caught.value.problems[0] == LineProblem(2, "is not JSON in UTF-8")


def test_problems_stop_at_a_hundred() -> None:
    """A wrong file is told as one, not line by line for ever."""
    with pytest.raises(KeyFileError) as caught:
        read(*[b"{"] * 150)
    assert [problem.line for problem in caught.value.problems] == list(range(1, 101))


def test_the_same_line_again_changes_nothing() -> None:
    """Two exports put together import as one."""
    assert read(LEAST, LEAST, dict(reversed(LEAST.items()))) == read(LEAST)


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ({"name": "other"}, "api_key: stands on an earlier line already, with other fields"),
        ({"organization_id": "other"}, "api_key: stands on an earlier line already, with other fields"),
        ({"secret_token": TOKEN + "2"}, "api_key: stands on an earlier line already, with other fields"),
        ({"api_key": "two", "key_id": "key_same"}, "key_id: stands on an earlier line already"),
    ],
)
def test_two_lines_that_cannot_both_be_are_told(second: dict[str, Any], problem: str) -> None:
    """At the later one."""
    first = {**LEAST, "key_id": "key_same"} if "key_id" in second else LEAST
    with pytest.raises(KeyFileError) as caught:
        read(first, b"", {**LEAST, **second})
    assert caught.value.problems == (LineProblem(3, problem),)


def test_lines_are_read_one_by_one_and_a_refused_one_is_forgotten() -> None:
    """Whoever reads may refuse a key that is well formed; a later line may be that key."""

    def refuse(record: KeyRecord) -> None:
        if record.name == "bad":
            raise ValueError("name: is not liked here")

    asked: list[int] = []

    def lines() -> Iterator[bytes]:
        for number, name in enumerate(("bad", "good", "good")):
            asked.append(number)
            yield json.dumps({**LEAST, "name": name}).encode()

    items = read_lines(lines(), peppers=PEPPERS, now=START, check=refuse)
    assert next(items) == KeyLine(1, problem="name: is not liked here")
    assert asked == [0]
    good = record_of(name="good")
    assert list(items) == [KeyLine(2, good), KeyLine(3, good, is_repeated=True)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no defect
@given(
    st.dictionaries(st.sampled_from([*LEAST, "scopes", "state", "metadata", "expires_at", "name", "secret_hash"]), JSON)
)
def test_no_json_makes_the_reader_raise_anything_else(fields: dict[str, Any]) -> None:
    """Wrong shapes of every kind."""
    try:
        seed = read(json.dumps({**LEAST, **fields}).encode())
    except KeyFileError:
        return
    assert len(seed.records) == 1
    orjson.loads(seed.records[0].metadata)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise_anything_else(line: bytes) -> None:
    """Nor any other file."""
    try:
        records = read(line).records
    except KeyFileError:
        return
    assert records == ()
