"""The import of a file of keys (contract 6): read line by line, stored as a whole or not at all, unless told to keep going."""

from __future__ import annotations

import asyncio
import hmac
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from backends.errors import Conflict, NotFound, StoreCorrupt
from backends.records import Organization
from service.auth.key_fields import FieldProblem
from service.auth.keyfile import LineProblem, read_lines
from service.manage.model import ImportReport
from service.manage.rights import CANNOT_GRANT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from datetime import datetime

    from backends.contract import KeyStore
    from backends.records import KeyRecord
    from service.auth.keyfile import KeyLine
    from service.auth.peppers import Peppers
    from service.manage.actor import Actor

__all__ = ["KeyImport"]

NO_ORGANIZATION: Final = "there is no such organization"

LEFT_AS_IT_IS: Final = "this key is there already, with other fields; it was left as it is"

_MAX_REPORTS: Final = 1_000
_MAX_NOTES: Final = 100
_MAX_NAMED: Final = 100  # keys, each with an audit entry of its own
_MAX_COMPARED: Final = 10_000  # lines
_COMPARED: Final = (
    "domains", "scopes", "origins", "networks", "state", "expires_at", "critical", "name", "metadata",
)  # fmt: skip
_PROGRESS: Final = 1_000  # lines
_BREATH: Final = 20  # lines, some 2 ms, after which other work of the same event loop goes on
_AT_ONCE: Final = 64  # look-ups
_ATTEMPTS: Final = 3  # against others that take identifiers meanwhile

_T = TypeVar("_T")


class KeyImport:
    """One import: ``read`` the file, ``store`` what is good, then ask what became of it."""

    def __init__(self, store: KeyStore, actor: Actor, *, peppers: Peppers, now: datetime) -> None:
        self._store = store
        self._actor = actor
        self._peppers = peppers
        self._now = now
        self._digest = hmac.new(peppers.derived_key("import digest"), digestmod="sha256")
        self._good: dict[int, KeyRecord] = {}
        self._repeated = 0
        self._refused = 0
        self._reports: list[LineProblem] = []
        self._notes: list[str] = []
        self._created = 0
        self._is_stored = False
        self.new_organizations: tuple[Organization, ...] = ()
        """Those that this import made."""
        self.new_records: tuple[KeyRecord, ...] = ()
        """Likewise, where the file has few keys."""

    @property
    def digest(self) -> str:
        """What names the file: HMAC-SHA-256 of what was read, since a file may hold secrets that a plain hash would betray."""
        return self._digest.hexdigest()

    @property
    def created(self) -> int:
        """Number of keys that are new."""
        return self._created

    async def read(self, lines: Iterable[bytes], *, progress: Callable[[int], None] | None) -> None:
        """Check every line; nothing is stored."""
        counted = self._counted(lines, progress or (lambda _: None))
        items = read_lines(counted, peppers=self._peppers, now=self._now, check=self._check)
        while batch := list(islice(items, _BREATH)):
            for item in batch:
                self._take(item)
            await asyncio.sleep(0)

    async def store(self, *, keep_going: bool) -> None:
        """Store the good lines; nothing where one is bad, unless told to ``keep_going``."""
        for _ in range(_ATTEMPTS):
            if self._refused and not keep_going:
                return
            organizations = self._organizations()
            missing = await self._missing(organizations)
            new = await self._new() if len(self._good) <= _MAX_NAMED else []
            try:
                self._created = await self._store.add_many(organizations, list(self._good.values()))
            except NotFound:
                self._refuse(dict.fromkeys(self._good, f"organization_id: {NO_ORGANIZATION}"))
            except Conflict:
                self._refuse(await self._conflicts())
            else:
                self._is_stored = True
                self.new_organizations = missing
                if len(new) == self._created:  # else others have imported the same meanwhile
                    self.new_records = tuple(new)
                if self._created < len(self._good):
                    await self._note_differences()
                return
        raise Conflict("the identifiers in the file are taken and given back all the time")

    def by_organization(self) -> dict[str, dict[str, Any]]:
        """What is told of each organization: the number of its keys in the file, how many are new where that is known.

        And the first and the last of them, where they are too many to be told one by one.
        """
        keys: dict[str, list[str]] = {}
        for record in self._good.values():
            keys.setdefault(record.organization_id, []).append(record.key_id)
        told: dict[str, dict[str, Any]] = {}
        for name, key_ids in keys.items():
            told[name] = {"keys": len(key_ids)}
            if self.new_records:
                told[name]["created"] = sum(record.organization_id == name for record in self.new_records)
            elif self._created == len(self._good):
                told[name]["created"] = len(key_ids)
            elif len(keys) == 1:
                told[name]["created"] = self._created
            if not self.new_records:
                told[name] |= {"first_key_id": key_ids[0], "last_key_id": key_ids[-1]}
        return told

    def report(self) -> ImportReport:
        """What became of the file."""
        return ImportReport(
            is_stored=self._is_stored,
            created=self._created,
            unchanged=len(self._good) - self._created + self._repeated if self._is_stored else 0,
            refused=self._refused,
            reports=tuple(sorted(self._reports, key=lambda item: item.line)[:_MAX_REPORTS]),
            notes=tuple(self._notes),
            digest=self.digest,
        )

    def _counted(self, lines: Iterable[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
        count = 0
        for line in lines:
            self._digest.update(line)
            yield line
            count += 1
            if count % _PROGRESS == 0:
                progress(count)
        if count % _PROGRESS:
            progress(count)

    def _check(self, record: KeyRecord) -> None:
        if not self._actor.reaches(record.organization_id):
            raise FieldProblem("organization_id", NO_ORGANIZATION)  # whether there is one or not
        if self._actor.ungrantable(record.scopes):
            raise FieldProblem("scopes", CANNOT_GRANT)

    def _take(self, item: KeyLine) -> None:
        if item.record is None:
            self._refuse({item.line: item.problem})
        elif item.is_repeated:
            self._repeated += 1
        else:
            self._good[item.line] = item.record
            if item.note and len(self._notes) < _MAX_NOTES:
                self._notes.append(item.note)

    def _refuse(self, problems: dict[int, str]) -> None:
        self._refused += len(problems)
        for line in problems:
            self._good.pop(line, None)
        self._reports += [LineProblem(line, problems[line]) for line in islice(problems, _MAX_REPORTS)]

    def _organizations(self) -> list[Organization]:
        """Those that are made where they are missing: only whoever reaches everything may do so."""
        if not self._actor.reaches_everything:
            return []
        slugs = sorted({record.organization_id for record in self._good.values()})
        return [Organization(organization_id=slug, created_at=self._now) for slug in slugs]

    async def _missing(self, organizations: list[Organization]) -> tuple[Organization, ...]:
        async def is_missing(organization: Organization) -> bool:
            try:
                await self._store.get_organization(organization.organization_id)
            except NotFound:
                return True
            return False

        answers = await _all(is_missing(organization) for organization in organizations)
        return tuple(item for item, missing in zip(organizations, answers, strict=True) if missing)

    async def _new(self) -> list[KeyRecord]:
        async def is_new(record: KeyRecord) -> bool:
            try:
                return await self._store.find(record.api_key) is None
            except StoreCorrupt:
                return False

        answers = await _all(is_new(record) for record in self._good.values())
        return [record for record, new in zip(self._good.values(), answers, strict=True) if new]

    async def _note_differences(self) -> None:
        """A key that was there already stays as it is, which somebody who has changed its line must be told."""

        async def differs(record: KeyRecord) -> bool:
            try:
                found = await self._store.find(record.api_key)
            except StoreCorrupt:
                return True
            return found is not None and _differs(record, found.key)

        compared = dict(islice(self._good.items(), _MAX_COMPARED))
        answers = await _all(differs(record) for record in compared.values())
        lines = [line for line, different in zip(compared, answers, strict=True) if different]
        room = _MAX_NOTES - len(self._notes)
        self._notes += [f"line {line}: {LEFT_AS_IT_IS}" for line in lines[:room]]

    async def _conflicts(self) -> dict[int, str]:
        """The problems of the lines that the store cannot take, by line; asked only after it has refused."""
        answers = await _all(self._conflict(record) for record in self._good.values())
        return {line: problem for line, problem in zip(self._good, answers, strict=True) if problem}

    async def _conflict(self, record: KeyRecord) -> str:
        try:
            found = await self._store.find(record.api_key)
            if found is not None:
                same = found.key.organization_id == record.organization_id
                return "" if same else f"api_key: {self._taken}"
        except StoreCorrupt:
            return f"api_key: {self._taken}"
        try:
            await self._store.get(record.key_id)
        except NotFound:
            return ""
        except StoreCorrupt:
            pass
        return f"key_id: {self._taken}"

    @property
    def _taken(self) -> str:
        """Whoever does not reach every key is not told that there is another one."""
        return "is taken" if self._actor.reaches_everything else "cannot be used here"


def _differs(line: KeyRecord, stored: KeyRecord) -> bool:
    """As far as that can be seen: hashes of different kinds cannot be compared."""
    mine, theirs = line.secret, stored.secret
    comparable = (mine.pepper_version, mine.prehashed) == (theirs.pepper_version, theirs.prehashed)
    return (comparable and mine != theirs) or any(getattr(line, name) != getattr(stored, name) for name in _COMPARED)


async def _all(questions: Iterable[Awaitable[_T]]) -> list[_T]:
    """The answers in order, some questions at a time; the first error is raised when its neighbours have ended too."""
    answers: list[_T] = []
    waiting = iter(questions)
    while batch := list(islice(waiting, _AT_ONCE)):
        for answer in await asyncio.gather(*batch, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
    return answers
