"""What a ``postgresql://`` URL may say, and that no message repeats any of it."""

from __future__ import annotations

import asyncpg  # type: ignore[import-untyped]  # the driver comes without types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import Conflict, NotFound, StoreCorrupt, StoreError, StoreNotReady, StoreUnavailable, StoreUnfit
from backends.factory import create_store
from backends.postgres_errors import DriverError, translate
from backends.postgres_url import parse_url
from tests.support import leaks

PASSWORD = "telltale-password"
leaks.register(PASSWORD)
BASE = f"postgresql://user:{PASSWORD}@db.example"


def test_without_options_the_usual_is_taken() -> None:
    """Schema ``public``, ten connections, no pooler, the driver's own choice of the server."""
    options = parse_url(f"{BASE}/keys")
    assert (options.schema, options.pool_size) == ("public", 10)
    assert options.connect.hosts == (("db.example", None),)
    assert options.connect.dsn == f"{BASE}/keys"
    assert (options.connect.pgbouncer, options.connect.target_session_attrs, options.connect.timeout) == (
        False,
        None,
        2,
    )


def test_our_own_options_do_not_reach_the_server() -> None:
    """It would refuse them; the others are passed on."""
    url = f"{BASE}/keys?schema=gate&pool_size=3&pgbouncer=true&connect_timeout=7&sslmode=require&application_name=a%20b"
    options = parse_url(url)
    assert (options.schema, options.pool_size) == ("gate", 3)
    assert (options.connect.pgbouncer, options.connect.timeout, options.connect.names_itself) == (True, 7, True)
    assert options.connect.dsn == f"{BASE}/keys?sslmode=require&application_name=a+b"


@pytest.mark.parametrize(
    ("place", "hosts"),
    [
        ("one:1,two:2", (("one", 1), ("two", 2))),
        ("user@one,two:2", (("one", None), ("two", 2))),
        ("[::1]:5433", (("::1", 5433),)),
        ("%2Frun%2Fpostgresql", (("/run/postgresql", None),)),
        ("", ()),
    ],
)
def test_hosts_are_read_as_they_stand(place: str, hosts: tuple[object, ...]) -> None:
    """Several, addresses of version 6, folders of sockets, none."""
    assert parse_url(f"postgresql://{place}/keys").connect.hosts == hosts


def test_of_several_hosts_the_one_that_can_be_written_to_is_wanted() -> None:
    """A copy that lags is not believed, so it is not worth a connection; whoever knows better says so."""
    assert parse_url("postgresql://one,two/keys").connect.target_session_attrs == "read-write"
    assert parse_url("postgresql:///keys?host=one,two").connect.target_session_attrs == "read-write"
    assert parse_url("postgresql://one,two/keys?target_session_attrs=any").connect.target_session_attrs == "any"
    assert parse_url("postgresql://one/keys").connect.target_session_attrs is None


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (f"{BASE}/keys?schema=telltale-schema", "schema"),
        (f"{BASE}/keys?schema=pg_telltale", "schema"),
        (f"{BASE}/keys?schema=", "schema"),
        (f"{BASE}/keys?pool_size=telltale", "pool_size"),
        (f"{BASE}/keys?pool_size=0", "pool_size"),
        (f"{BASE}/keys?pgbouncer=telltale", "pgbouncer"),
        (f"{BASE}/keys?sslmode=telltale", "sslmode"),
        (f"{BASE}/keys?target_session_attrs=prefer-standby", "target_session_attrs"),
        (f"{BASE}/keys?telltale=1", "known are"),
        (f"{BASE}/keys?schema=a&schema=b", "twice"),
        (f"{BASE}/keys?telltale", "percent-encode"),
        (f"{BASE}:telltale/keys", "host"),
        (f"{BASE}:99999/keys", "port"),
        (f"postgresql://user:{PASSWORD}#@host/keys", "fragment"),
        (f"postgresql://[{PASSWORD}/keys", "percent-encode"),
    ],
)
def test_a_mistake_is_named_without_its_value(url: str, named: str) -> None:
    """It stops the start, and is printed."""
    with pytest.raises(ValueError, match=named) as caught:
        create_store(url)
    assert "telltale" not in f"{caught.value!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_nothing_of_a_url_is_repeated(text: str) -> None:
    """Whatever is wrong with it, or nothing."""
    secret = "q7" + "".join(character for character in text if character.isalnum())[:8] + "7q"
    try:
        shown = repr(parse_url(f"postgresql://{secret}:{secret}{text}@host/{text}?{text}"))
    except ValueError as error:
        shown = str(error)
    assert secret not in shown


ERRORS: list[tuple[Exception, type[StoreError], str]] = [
    (asyncpg.UndefinedTableError("telltale"), StoreNotReady, "gatekey migrate"),
    (asyncpg.InvalidSchemaNameError("telltale"), StoreNotReady, "gatekey migrate"),
    (asyncpg.UndefinedColumnError("telltale"), StoreUnfit, "gatekey migrate"),
    (asyncpg.DuplicateTableError("telltale"), StoreUnfit, "schema of its own"),
    (asyncpg.UniqueViolationError("telltale"), Conflict, "taken"),
    (asyncpg.ForeignKeyViolationError("telltale"), NotFound, "organization"),
    (asyncpg.ReadOnlySQLTransactionError("telltale"), StoreUnavailable, "read-only"),
    (asyncpg.DiskFullError("telltale"), StoreUnavailable, "disk is full"),
    (asyncpg.TooManyConnectionsError("telltale"), StoreUnavailable, "no more connections"),
    (asyncpg.OutOfMemoryError("telltale"), StoreUnavailable, "out of resources"),
    (asyncpg.InsufficientPrivilegeError("telltale"), StoreUnavailable, "lacks a right"),
    (asyncpg.InvalidPasswordError("telltale"), StoreUnavailable, "password"),
    (asyncpg.InvalidCatalogNameError("telltale"), StoreUnavailable, "no such database"),
    (asyncpg.QueryCanceledError("telltale"), StoreUnavailable, "too long"),
    (asyncpg.DeadlockDetectedError("telltale"), StoreUnavailable, "other writes"),
    (asyncpg.CannotConnectNowError("telltale"), StoreUnavailable, "starting or stopping"),
    (asyncpg.ConnectionDoesNotExistError("telltale"), StoreUnavailable, "was lost"),
    (asyncpg.AdminShutdownError("telltale"), StoreUnavailable, "was lost"),
    (asyncpg.ClientConfigurationError("telltale"), StoreUnavailable, "settings"),
    (asyncpg.CharacterNotInRepertoireError("telltale"), StoreCorrupt, "no value"),
    (UnicodeDecodeError("utf-8", b"telltale", 0, 1, "telltale"), StoreCorrupt, "no value"),
    (asyncpg.SyntaxOrAccessError("telltale"), StoreUnavailable, "refused"),
    (asyncpg.InterfaceError("telltale"), StoreUnavailable, "was lost"),
    (asyncpg.TargetServerAttributeNotMatched("telltale"), StoreUnavailable, "written to"),
    (ConnectionRefusedError("telltale"), StoreUnavailable, "cannot be reached"),
    (TimeoutError("telltale"), StoreUnavailable, "in time"),
    (FileNotFoundError("telltale"), StoreUnavailable, "cannot be opened"),
]


@pytest.mark.parametrize(("error", "kind", "named"), ERRORS, ids=[type(error).__name__ for error, _, _ in ERRORS])
def test_the_drivers_error_becomes_ours_without_its_words(error: Exception, kind: type[StoreError], named: str) -> None:
    """They hold values, addresses and users; type and SQLSTATE are kept."""
    translated = translate(error)
    assert type(translated) is kind
    assert named in str(translated)
    assert type(error).__name__ in str(translated)
    assert isinstance(translated.__cause__, DriverError)
    assert "telltale" not in f"{translated} {translated!r} {translated.__cause__!r}"
