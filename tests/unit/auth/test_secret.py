"""A secret cannot be seen by accident."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import pytest

from service.auth.secret import Secret
from tests.support import leaks

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = "the-text-of-a-secret"
leaks.register(TEXT)


@dataclass
class Holder:
    secret: Secret


SHOWN: dict[str, Callable[[Secret], str]] = {
    "repr": repr,
    "str": str,
    "format": lambda secret: f"{secret} {secret!r} {secret:>40}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the old way, too
    "in a list": lambda secret: str([secret, {"a": secret}]),
    "in a dataclass": lambda secret: repr(Holder(secret)),
    "in an exception": lambda secret: repr(ValueError(secret)),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_a_secret_is_masked_however_it_is_shown(show: Callable[[Secret], str]) -> None:
    """Only ``reveal`` gives the text."""
    shown = show(Secret(TEXT))
    assert TEXT not in shown
    assert "[secret]" in shown


def test_a_secret_is_masked_in_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever logs it by mistake logs the mask."""
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("got %s", Secret(TEXT))
    assert caplog.messages == ["got [secret]"]


def test_reveal_gives_the_text() -> None:
    """By name, so that every place is found by a search."""
    assert Secret(TEXT).reveal() == TEXT


def test_secrets_are_not_compared() -> None:
    """``==`` leaks time; neither with each other nor with text."""
    secret = Secret(TEXT)
    for other in (secret, Secret(TEXT), TEXT, None):
        with pytest.raises(TypeError, match="constant time"):
            _ = secret == other
        with pytest.raises(TypeError, match="constant time"):
            _ = secret != other


def test_a_secret_is_no_dictionary_key() -> None:
    """Nor a member of a set."""
    with pytest.raises(TypeError, match="unhashable"):
        {Secret(TEXT): 1}
    with pytest.raises(TypeError, match="unhashable"):
        {Secret(TEXT)}


@pytest.mark.parametrize("encode", [json.dumps, orjson.dumps], ids=["json", "orjson"])
def test_a_secret_is_no_json(encode: Callable[[object], object]) -> None:
    """It does not slip into an answer."""
    with pytest.raises(TypeError) as caught:
        encode({"secret": Secret(TEXT)})
    assert TEXT not in str(caught.value)


def test_a_secret_has_no_attributes_to_dump() -> None:
    """``vars`` and its users find nothing."""
    with pytest.raises(TypeError):
        vars(Secret(TEXT))
    with pytest.raises(AttributeError):
        Secret(TEXT).other = 1  # type: ignore[attr-defined]  # the mistake


def test_a_secret_travels_to_a_worker() -> None:
    """It pickles and copies, and is a secret there."""
    for made in (pickle.loads(pickle.dumps(Secret(TEXT))), copy.deepcopy(Secret(TEXT))):  # noqa: S301 - our own bytes
        assert made.reveal() == TEXT
        assert repr(made) == "[secret]"


def test_an_empty_secret_is_false() -> None:
    """Whether one is set can be asked without revealing it."""
    assert not Secret("")
    assert Secret("x")
