"""Every secret that the suite uses, and the search for them in whatever the suite sees printed, logged or measured."""

from __future__ import annotations

from tests.support.keys import SECRET

_known: set[str] = {SECRET, "demo-secret"}
_MIN_LENGTH = 8  # shorter texts turn up by chance


def register(*secrets: str) -> None:
    """Remember secrets that a test uses; too short ones would be found everywhere and are refused."""
    for secret in secrets:
        assert len(secret) >= _MIN_LENGTH, "give the secret of a test at least 8 characters"
        _known.add(secret)


def check(text: str, where: str, *, allowed: tuple[str, ...] = ()) -> None:
    """Fail when one of the secrets stands in ``text``; ``where`` says what the text is, never what it holds."""
    found = [secret for secret in _known if secret not in allowed and secret in text]
    assert not found, f"{len(found)} secret(s) of the tests stand in {where}"
