"""Every secret that the suite uses, and the search for them in whatever the suite sees printed, logged or measured.

A secret counts as found in every form of ``leak_forms``. Nothing here ever names one.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from service.auth.peppers import Peppers
from service.observe.metrics import Metrics
from service.observe.writer import LineWriter
from tests.support.keys import SECRET
from tests.support.leak_forms import forms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from backends.records import SecretHash
    from service.observe.lines import DecisionLine

_MIN_LENGTH = 8  # shorter texts turn up by chance
_MIN_CHARACTERS = 6  # different ones in a secret that was not registered but seen; "aaaaaaaa" turns up by chance
_MAX_KEPT = 32 * 1024 * 1024  # characters kept for secrets that are registered later
_DATABASE = b"SQLite format 3\0"
_BESIDE_DATABASE = ("-wal", "-journal")
_LARGEST = 16 * 1024 * 1024  # bytes of a database that is searched
_MASK = "[secret of the tests]"

_known: dict[str, tuple[str, ...]] = {}
_passing: dict[str, tuple[str, ...]] = {}
_heard: deque[str] = deque()


class _Kept(NamedTuple):
    where: str
    text: str
    known: int  # how many secrets were known when it was searched
    allowed: Collection[str]


_kept: deque[_Kept] = deque()
_kept_size = 0


def register(*secrets: str) -> None:
    """Remember secrets that a test uses; too short ones would be found everywhere and are refused."""
    for secret in secrets:
        assert len(secret) >= _MIN_LENGTH, "give the secret of a test at least 8 characters"
        _known.setdefault(secret, forms(secret))


def check_bytes(data: bytes, where: str, *, allowed: Collection[str] = ()) -> None:
    """The same for what is no text, such as a database; it is not kept."""
    _search(data.decode("utf-8", "surrogateescape"), where, allowed)


def hear(text: str) -> None:
    """Something that must be free of secrets; the test that runs fails at its end if it is not."""
    _heard.append(text)


def check(text: str, where: str, *, allowed: Collection[str] = ()) -> None:
    """Fail when one of the secrets stands in ``text``; ``where`` says what the text is, never what it holds.

    The text is searched again at the end of the session for secrets that are registered later.
    """
    _keep(where, text, allowed)
    _search(text, where, allowed)


def masked(text: str) -> str:
    """The text without any secret in it."""
    for found in (*_known.values(), *_passing.values()):
        for form in found:
            text = text.replace(form, _MASK)
    return text


def listen() -> None:
    """From now on hear every line that the service logs in this process and every scrape that it renders.

    Secrets of keys that are made meanwhile are known until the test is over.
    """
    put, render, hash_secret = LineWriter.put, Metrics.render, Peppers.hash

    @wraps(put)
    def put_and_hear(self: LineWriter, line: bytes | DecisionLine) -> None:
        _heard.append((line if isinstance(line, bytes) else line.line).decode("utf-8", "backslashreplace"))
        put(self, line)

    @wraps(render)
    def render_and_hear(self: Metrics, accept: str) -> tuple[bytes, str]:
        body, content_type = render(self, accept)
        _heard.append(body.decode())
        return body, content_type

    @wraps(hash_secret)
    def hash_and_remember(self: Peppers, secret: str) -> SecretHash:
        if secret not in _passing and len(secret) >= _MIN_LENGTH and len(set(secret)) >= _MIN_CHARACTERS:
            _passing[secret] = forms(secret)
        return hash_secret(self, secret)

    LineWriter.put = put_and_hear  # type: ignore[method-assign]  # heard, not changed
    Metrics.render = render_and_hear  # type: ignore[method-assign]  # likewise
    Peppers.hash = hash_and_remember  # type: ignore[method-assign]  # likewise


def search_databases(folder: Path) -> None:
    """Fail when a secret stands in an SQLite file under the folder, rows that were deleted and its log included."""
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):  # a process that still runs has cleared it away, or a test its rights
            if path.is_file() and path.stat().st_size <= _LARGEST and _is_database(path):
                check_bytes(path.read_bytes(), f"the database file {path.name}")


def end_of_test(name: str, captured: Iterable[str], *, databases_in: Path | None = None) -> str:
    """What is to be said about the leaks of a test that has ended, ``""`` when there are none."""
    heard = [_heard.popleft() for _ in range(len(_heard))]
    problems = []
    for what, texts in (("captured output", captured), ("log, metrics, traces or refusals", heard)):
        try:
            check("\n".join(texts), f"the {what} of {name}")
        except AssertionError as error:
            problems.append(str(error))
    if databases_in is not None:
        try:
            search_databases(databases_in)
        except AssertionError as error:
            problems.append(f"{error} of {name}")
    _passing.clear()
    return "; ".join(problems)


def end_of_session() -> list[str]:
    """Where secrets stand that were registered only after the text had been searched."""
    found = []
    for kept in _kept:
        later = dict(islice(_known.items(), kept.known, None))
        if _count(kept.text, later, kept.allowed):
            found.append(kept.where)
    return found


def _keep(where: str, text: str, allowed: Collection[str]) -> None:
    global _kept_size  # noqa: PLW0603 - the size of what this module keeps
    if not text:
        return
    _kept.append(_Kept(where, text, len(_known), allowed))
    _kept_size += len(text)
    while _kept_size > _MAX_KEPT:
        _kept_size -= len(_kept.popleft().text)


def _is_database(path: Path) -> bool:
    if path.name.endswith(_BESIDE_DATABASE):
        return True
    with path.open("rb") as file:
        return file.read(len(_DATABASE)) == _DATABASE


def _search(text: str, where: str, allowed: Collection[str]) -> None:
    count = _count(text, _known, allowed) + _count(text, _passing, allowed)
    if count:
        raise AssertionError(f"{count} secret(s) of the tests stand in {where}")


def _count(text: str, secrets: dict[str, tuple[str, ...]], allowed: Collection[str]) -> int:
    return sum(any(form in text for form in found) for secret, found in list(secrets.items()) if secret not in allowed)


register(SECRET, "demo-secret")
