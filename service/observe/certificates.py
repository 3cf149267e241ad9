"""When certificates end, read from their files as the process reads them: at its start.

What cannot be read is left out; whoever needs the file says so itself, and no figure is made up.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["ends_of"]

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"
_LARGEST: Final = 1 << 20
"""Bytes of a file that is read: several times a whole system's authorities."""
_VERSION: Final = 0xA0  # the tag of [0], which a certificate of the first version lacks
_VALIDITY: Final = 3  # after serial number, algorithm and issuer
_GENERALIZED: Final = 0x18  # GeneralizedTime; UTCTime, the other one, has two digits for the year
_MANY: Final = 0x80  # from here on a length's first byte says how many bytes it takes


def ends_of(files: Mapping[str, Path | None]) -> dict[str, float]:
    """When what each file holds ends (Unix time): a chain with its first certificate, authorities (``…_ca``) with the last.

    A file of authorities may hold some that ended long ago; whoever put a new one beside them has taken care.
    """
    found: dict[str, float] = {}
    for name, path in files.items():
        ends = _ends(path) if path is not None else []
        if ends:
            found[name] = max(ends) if name.endswith("_ca") else min(ends)
    return found


def _ends(path: Path) -> list[float]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return []
        parts = path.read_text(encoding="ascii", errors="replace").split(_BEGIN)[1:]
        texts = [part.partition(_END)[0] for part in parts if _END in part]
        return [_not_after(ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{text}{_END}")) for text in texts]
    except (OSError, ValueError, IndexError, StopIteration):
        return []


def _not_after(certificate: bytes) -> float:
    """Walk to the end of the validity (RFC 5280, 4.1)."""
    signed = next(_fields(next(_fields(certificate))[1]))[1]
    fields = [content for tag, content in _fields(signed) if tag != _VERSION]
    _, (tag, end) = _fields(fields[_VALIDITY])
    digits = end.decode("ascii")
    if tag != _GENERALIZED:
        digits = ("19" if digits >= "5" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value of a sequence (DER)."""
    at = 0
    while at < len(data):
        tag, length, start = data[at], data[at + 1], at + 2
        if length >= _MANY:
            start += length - _MANY
            length = int.from_bytes(data[at + 2 : start], "big")
        yield tag, data[start : start + length]
        at = start + length
