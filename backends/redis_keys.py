"""The names of everything that a Redis store keeps. ``gk`` stands for the URL's ``prefix``.

Keys proper live in 256 buckets, NNN being CRC16(api_key) mod 256 in three digits. The braces make all names of a bucket
fall into one slot of a cluster, so that a look-up is one ``MGET`` of three names, and one consistent read, anywhere::

    gk:{bNNN}:<api_key>        string   the record as JSON (backends/codec.py); an api_key that is one of the two names
                                        below, or begins with a comma, has a comma before it
    gk:{bNNN}:epoch            string   the marker: {"schema":1,"epoch":"…"}; written by ``migrate`` alone
    gk:{bNNN}:disabled         string   JSON list, the same in all buckets: the ids of disabled organizations, and
                                        import:<id> of imports under way, whose records do not exist yet

Everything else is in one slot::

    gk:{m}:epoch, :disabled    string   the same once more, for what reads no bucket
    gk:{m}:ids                 hash     key_id -> NNN:<name of the record in its bucket>
    gk:{m}:keys                zset     every key_id, all scores 0, for listings in order
    gk:{m}:keys:<organization> zset     those of one organization
    gk:{m}:state:disabled      set      key_ids; likewise :revoked (the rest is active)
    gk:{m}:expiring            zset     key_ids of active keys that expire, by the microsecond
    gk:{m}:organizations       hash     organization_id -> JSON
    gk:{m}:organizations:names zset     their ids, for listings in order
    gk:{m}:inactive            set      ids of disabled organizations, what the lists above are made of
    gk:{m}:log                 stream   the last 10,000 changes, about: k <api_key>, or a (anything)
    gk:{m}:import              string   the id of the import that may write now; expires with its process
    gk:{m}:imports             set      imports that are not finished
    gk:{m}:import:<id>         list     what that import has written so far
    gk:{m}:usage               zset     key_ids by the first hour that is counted
    gk:{m}:usage:<key_id>      hash     hour -> count
    gk:{m}:last_use            hash     key_id -> microseconds of the last use, and of the previous secret's
    gk:{m}:audit               hash     organization_id -> head of its chain
    gk:{m}:audit:<organization> stream  the chain, seq being the first part of an entry's id
    gk:{m}:claims              hash     name -> fingerprint and until when; :answers and :until beside it
    gk:{m}:waits               string   written before WAIT, so that the wait covers all that came before

Channels: ``gk:{m}:changes:<db>`` for announcements (channels know no databases), ``gk:{m}:alive:<random>`` for one
process's signs of life.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

__all__ = ["BUCKETS", "Names", "address_of", "bucket_of"]

BUCKETS: Final = 256
_TAKEN: Final = (b"epoch", b"disabled")


class Names:
    """The names under one prefix, as bytes."""

    def __init__(self, prefix: str, db: int) -> None:
        self.prefix = prefix.encode()
        self.tracked = self.prefix + b":{b"
        """What every name in a bucket begins with, and no other."""
        self.changes = b"%s:{m}:changes:%d" % (self.prefix, db)
        self.markers = tuple(b"%s%03d}:epoch" % (self.tracked, bucket) for bucket in range(BUCKETS))
        self.disabled = tuple(b"%s%03d}:disabled" % (self.tracked, bucket) for bucket in range(BUCKETS))

    def own(self, name: str) -> bytes:
        """A name in the slot of everything that is in no bucket."""
        return b"%s:{m}:%s" % (self.prefix, name.encode("utf-8", "surrogatepass"))

    def alive(self, token: str) -> bytes:
        """The channel of one process's signs of life."""
        return self.own(f"alive:{token}")

    def record(self, address: bytes) -> bytes:
        """The record at an address as it stands in ``ids``."""
        return b"%s%s}:%s" % (self.tracked, address[:3], address[4:])

    def api_key(self, name: bytes) -> bytes | None:
        """The ``api_key`` whose record has this name; ``None`` for another name of a bucket."""
        last = name[len(self.tracked) + 5 :]
        return None if last in _TAKEN else last.removeprefix(b",")


def bucket_of(api_key: str) -> int:
    """The bucket of a key."""
    return crc_hqx(_encoded(api_key), 0) % BUCKETS  # CRC-16/XMODEM, what Redis computes slots with


def address_of(api_key: str) -> bytes:
    """Bucket and name of a key's record."""
    name = _encoded(api_key)
    return b"%03d:%s" % (bucket_of(api_key), b"," + name if name in _TAKEN or name.startswith(b",") else name)


def _encoded(api_key: str) -> bytes:
    return api_key.encode("utf-8", "surrogatepass")
