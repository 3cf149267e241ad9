"""Judging an answer: who gave it, was the request refused, and what to say about it. Pure, and free of secrets.

The rule: without valid credentials nothing but a refusal is good. A 404, a redirect that is no sign-in or a server error
may come from the application, so they are no refusal; a proxy that fails on a trick must not pass for one that holds.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from service.doctor.messages import Reply, Silence, SilenceKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from service.doctor.messages import Ask

__all__ = [
    "Result",
    "Seen",
    "Verdict",
    "code_of",
    "describe",
    "failed",
    "is_gatekeys",
    "is_login_redirect",
    "is_open",
    "is_refusal",
    "passed",
    "problem_of",
    "skipped",
    "worst",
]

Seen = Reply | Silence

_CODE: Final = re.compile(r"[a-z][a-z_]{0,39}")
_LOCATION: Final = re.compile(r"[\x21-\x7e]{1,200}")
_PROBLEM: Final = "application/problem+json"
_REFUSALS: Final = frozenset({400, 401, 403, 405, 414, 421, 429, 431, 501})
_REDIRECTS: Final = frozenset({302, 303})


class Result(StrEnum):
    """A probe's word."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``seen`` says in a few words what happened; ``advice`` replaces the probe's own hint where more is known."""

    result: Result
    seen: str
    advice: str = ""


def passed(seen: str) -> Verdict:
    """It holds."""
    return Verdict(Result.PASS, seen)


def failed(seen: str, advice: str = "") -> Verdict:
    """It does not."""
    return Verdict(Result.FAIL, seen, advice)


def skipped(why: str) -> Verdict:
    """It cannot be told."""
    return Verdict(Result.SKIP, why)


def worst(asks: Iterable[Ask], send: Callable[[Ask], Seen], judge: Callable[[Ask, Seen], Verdict]) -> Verdict:
    """Send one after the other; the first failure is the verdict, else what all of them saw, each thing once."""
    sights: dict[str, None] = {}
    for ask in asks:
        verdict = judge(ask, send(ask))
        if verdict.result is Result.FAIL:
            return verdict
        sights[verdict.seen] = None
    return passed(", ".join(sights))


def describe(seen: Seen) -> str:
    """The answer in a few words: status, public code, where a redirect leads (without its query)."""
    if isinstance(seen, Silence):
        return seen.detail
    words = [str(seen.status)]
    if code := code_of(seen):
        words.append(code)
    location = seen.header("location")
    if location and _LOCATION.fullmatch(location):
        words.append("to " + location.partition("?")[0])
    return " ".join(words)


def problem_of(reply: Reply) -> dict[str, Any]:
    """The members of a ``problem+json`` answer, ``{}`` for any other."""
    if reply.header("content-type").partition(";")[0].strip().lower() != _PROBLEM:
        return {}
    try:
        problem = json.loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def code_of(seen: Seen) -> str:
    """The public code of a Gatekey answer, ``""`` where there is none. Never any other text of the answer."""
    code = problem_of(seen).get("code") if isinstance(seen, Reply) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def is_gatekeys(seen: Seen) -> bool:
    """Whether Gatekey itself refused: its problem document, its challenge, or a redirect to its login page."""
    if not isinstance(seen, Reply) or seen.status < 300:  # noqa: PLR2004 - HTTP
        return False
    problem = problem_of(seen)
    challenged = 'realm="gatekey"' in seen.header("www-authenticate")
    return challenged or is_login_redirect(seen) or bool(problem.get("code") and problem.get("request_id"))


def is_login_redirect(seen: Seen) -> bool:
    """Whether a browser is sent to sign in: a redirect whose address carries ``next``."""
    if not isinstance(seen, Reply) or seen.status not in _REDIRECTS:
        return False
    try:
        return "next" in parse_qs(urlsplit(seen.header("location")).query)
    except ValueError:
        return False


def is_open(seen: Seen) -> bool:
    """Whether the application seems to have answered, and gladly."""
    return isinstance(seen, Reply) and seen.status < 400 and not is_login_redirect(seen)  # noqa: PLR2004 - HTTP


def is_refusal(seen: Seen) -> bool:
    """Whether the request was turned away before the application: by Gatekey, or by the proxy itself."""
    if isinstance(seen, Silence):
        return seen.kind is SilenceKind.CLOSED
    if seen.status in _REFUSALS or is_login_redirect(seen):
        return True
    return 400 <= seen.status < 500 and is_gatekeys(seen)  # noqa: PLR2004 - HTTP
