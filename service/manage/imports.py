"""The import of a file of keys (contract 6): read line by line, stored as a whole or not at all, unless told to keep going."""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from backends.errors import Conflict, NotFound, StoreCorrupt
from backends.records import Organization
from service.auth.key_fields import FieldProblem
from service.auth.keyfile import read_lines
from service.manage.model import ImportReport, LineReport
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

_MAX_REPORTS: Final = 1_000
_MAX_NOTES: Final = 100
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
        self._reports: list[LineReport] = []
        self._notes: list[str] = []
        self._created = 0
        self._is_stored = False
        self.new_organizations: tuple[Organization, ...] = ()
        """Those that this import made."""

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
            try:
                self._created = await self._store.add_many(organizations, list(self._good.values()))
            except NotFound:
                self._refuse(dict.fromkeys(self._good, f"organization_id: {NO_ORGANIZATION}"))
            except Conflict:
                self._refuse(await self._conflicts())
            else:
                self._is_stored = True
                self.new_organizations = missing
                return
        raise Conflict("the identifiers in the file are taken and given back all the time")

    def by_organization(self) -> dict[str, dict[str, Any]]:
        """For each organization the number of its keys in the file, and how many of them are new where that is known."""
        keys = Counter(record.organization_id for record in self._good.values())
        if self._created == len(self._good):
            return {name: {"keys": count, "created": count} for name, count in keys.items()}
        if len(keys) == 1:
            return {name: {"keys": count, "created": self._created} for name, count in keys.items()}
        return {name: {"keys": count} for name, count in keys.items()}

    def report(self) -> ImportReport:
        """What became of the file."""
        return ImportReport(
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
        self._reports += [LineReport(line, "refused", problems[line]) for line in islice(problems, _MAX_REPORTS)]

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

    async def _conflicts(self) -> dict[int, str]:
        """The problems of the lines that the store cannot take, by line; asked only after it has refused."""
        answers = await _all(self._conflict(record) for record in self._good.values())
        return {line: problem for line, problem in zip(self._good, answers, strict=True) if problem}

    async def _conflict(self, record: KeyRecord) -> str:
        try:
            found = await self._store.find(record.api_key)
            if found is not None:
                same = found.key.organization_id == record.organization_id
                return "" if same else "api_key: is taken"
        except StoreCorrupt:
            return "api_key: is taken"
        try:
            await self._store.get(record.key_id)
        except NotFound:
            return ""
        except StoreCorrupt:
            pass
        return "key_id: is taken"


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
