"""What a store may raise.

::

    StoreError
    ├── StoreUnavailable      no answer that can be believed; the caller must not conclude anything
    │   ├── StoreNotAsked     it was not even asked, because it did not answer lately (the breaker is open)
    │   └── StoreNotReady     the store answered, but its epoch marker is missing (never migrated, wiped, wrong database)
    │       └── StoreUnfit    it answered, and as it is it will never do (schema too old or new, evicts keys): do not start
    ├── StoreCorrupt          the store answered for this key with something that is not a record
    ├── StoreClosed           used before ``open`` or after ``close`` (a programming error)
    ├── NotFound              the addressed key or organization does not exist
    ├── Conflict              what is stored rules the change out
    ├── VersionConflict       somebody else changed the record first
    └── UnknownScheme         no store is registered for the URL's scheme

Messages name the store's kind and the operation, never an address, an ``api_key`` or a secret: they end up in logs.
Drivers map their own exceptions to these in one place each, and chain them only where their text cannot hold such a value.
"""

__all__ = [
    "Conflict",
    "NotFound",
    "StoreClosed",
    "StoreCorrupt",
    "StoreError",
    "StoreNotAsked",
    "StoreNotReady",
    "StoreUnavailable",
    "StoreUnfit",
    "UnknownScheme",
    "VersionConflict",
]


class StoreError(Exception):
    """Base of everything a store raises on purpose."""


class StoreUnavailable(StoreError):
    """The store gave no answer that can be believed: down, hung, refused, failing over."""


class StoreNotAsked(StoreUnavailable):
    """The store was spared the question; that this took no time says nothing about the store."""


class StoreNotReady(StoreUnavailable):
    """The store answers but lacks its epoch marker, so even "no such key" proves nothing."""


class StoreUnfit(StoreNotReady):
    """The store answers, but somebody must change it first; the message says what is wrong and what to do."""


class StoreCorrupt(StoreError):
    """The stored form of this one key cannot be decoded; every other key is unaffected."""


class StoreClosed(StoreError):
    """The store was used before ``open`` or after ``close``."""


class NotFound(StoreError):
    """The key or organization that the call addresses does not exist."""


class Conflict(StoreError):
    """What is stored rules the change out: an identifier is taken, a field is fixed, a state is final, a chain has grown."""


class VersionConflict(StoreError):
    """The record was changed since the caller read it (optimistic concurrency)."""


class UnknownScheme(StoreError):
    """No store is registered for the URL's scheme."""
