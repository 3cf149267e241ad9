"""Made-up keys for tests: one function, every field can be set."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any

from backends.journal import NO_HASH, AuditEntry
from backends.records import FoundKey, KeyRecord, Organization, SecretHash
from service.auth.loaded import LoadedKey
from service.auth.peppers import Peppers
from tests.support.clock import START

PEPPERS = Peppers({1: b"p" * 32}, current=1)
SECRET = "s3cret-of-the-tests"
DOMAIN = "api.example.com"


def make_organization(organization_id: str = "acme", **fields: Any) -> Organization:
    return Organization(**{"organization_id": organization_id, "created_at": START, **fields})


def make_key(api_key: str = "key-one", *, secret: str | SecretHash = SECRET, **fields: Any) -> KeyRecord:
    defaults: dict[str, Any] = {
        "key_id": f"key_{api_key}",
        "organization_id": "acme",
        "api_key": api_key,
        "secret": secret if isinstance(secret, SecretHash) else hash_secret(secret),
        "domains": (DOMAIN,),
        "created_at": START,
        "updated_at": START,
    }
    return KeyRecord(**{**defaults, **fields})


def known_key(api_key: str = "key-one", **fields: Any) -> LoadedKey:
    """As a process has it that loaded it."""
    return loaded(make_key(api_key, **fields))


def loaded(record: KeyRecord) -> LoadedKey:
    """The record's key, of an organization that is active."""
    return LoadedKey(FoundKey(record, organization_is_active=True))


def make_entry(seq: int = 1, *, organization_id: str = "acme", **fields: Any) -> AuditEntry:
    """The ``seq``-th entry of a chain whose hashes are made up, but link."""
    defaults: dict[str, Any] = {
        "organization_id": organization_id,
        "seq": seq,
        "at": in_seconds(seq),
        "actor": "key:key_operator",
        "actor_organization_id": "gatekey",
        "action": "key.created",
        "target": "key:key_one",
        "client_ip": "192.0.2.1",
        "request_id": f"request-{seq}",
        "before": "{}",
        "after": '{"name":"one"}',
        "previous_hash": entry_hash(organization_id, seq - 1),
        "hash": entry_hash(organization_id, seq),
    }
    return AuditEntry(**{**defaults, **fields})


def entry_hash(organization_id: str, seq: int) -> str:
    return sha256(f"{organization_id} {seq}".encode()).hexdigest() if seq > 0 else NO_HASH


def hash_secret(secret: str) -> SecretHash:
    return PEPPERS.hash(secret)


def in_seconds(seconds: float) -> datetime:
    return datetime.fromtimestamp(START.timestamp() + seconds, START.tzinfo)
