"""Who is meant by ONLY, and what each contender says about itself."""

from __future__ import annotations

import re

import pytest

from benchmarks.bench.contender import Request, selected
from benchmarks.bench.lineup import CONTENDERS
from tests.support.servers import ROOT

NAMES = ["gatekey-door", "gatekey-sync", "flask-granian-1", "flask-granian", "keyshield"]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("", NAMES),
        ("keyshield", ["keyshield"]),
        ("gatekey", ["gatekey-door", "gatekey-sync"]),
        ("keyshield,gatekey-door", ["gatekey-door", "keyshield"]),
        (" keyshield  gatekey-sync,", ["gatekey-sync", "keyshield"]),
        ("flask-granian", ["flask-granian-1", "flask-granian"]),
        ("flask-granian-1", ["flask-granian-1"]),
    ],
)
def test_only_means_names_and_beginnings_of_names(only: str, expected: list[str]) -> None:
    """In the order of the whole list, each once."""
    assert selected(NAMES, only) == expected


@pytest.mark.parametrize("only", ["nobody", "keyshield,nobody", "gate"])
def test_an_unknown_name_is_refused_with_the_names_that_exist(only: str) -> None:
    """Half a word is no beginning of a name."""
    with pytest.raises(ValueError, match=r"there is no contender '(nobody|gate)'; there are: gatekey-door, "):
        selected(NAMES, only)


def test_a_key_that_was_made_up_is_put_where_it_belongs() -> None:
    """Everything else stays as it is."""
    request = Request(path="/", headers={"Authorization": "Bearer {key}", "Accept": "*/*"})
    assert request.with_key("k1").headers == {"Authorization": "Bearer k1", "Accept": "*/*"}


def test_a_changed_request_keeps_its_other_headers() -> None:
    """The wrong secret of the check differs in nothing else."""
    request = Request(path="/", headers={"x-api-key": "a", "x-secret-token": "b"})
    changed = request.changed(expected=401, x_secret_token="c")
    assert changed == Request(path="/", headers={"x-api-key": "a", "x-secret-token": "c"}, expected=401)


@pytest.mark.parametrize("name", CONTENDERS)
def test_each_contender_must_allow_one_request_and_refuse_another(name: str) -> None:
    """One that lets everything pass would be fast."""
    contender = CONTENDERS[name]
    assert {contender.request.expected, contender.refused.expected} == {200, 401}
    assert contender.request.headers != contender.refused.headers


def test_the_page_about_the_benchmark_names_every_contender() -> None:
    """And none that does not exist."""
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)
    assert named == list(CONTENDERS)
