"""Policies of the proxy doors (contract 3): every field, every problem, and a reload that takes all or nothing."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.auth.credentials import Form
from service.policies import Policy, PolicyBook, read_policies
from service.settings import SettingsError, read_policy_file
from tests.support.app import running_gatekey

if TYPE_CHECKING:
    from pathlib import Path


def read(text: str) -> tuple[dict[str, Policy], list[str]]:
    return read_policies(tomllib.loads(text).get("policy", {}))


def test_without_a_block_there_is_default_which_demands_only_a_valid_key() -> None:
    """``default`` always exists, and its fields are the defaults of every policy."""
    policies, problems = read_policies({})
    assert problems == []
    assert policies == {"default": Policy(name="default")}
    default = policies["default"]
    assert (default.organization, default.scopes, default.client, default.mode) == ("", (), "auto", "enforce")
    assert (default.credentials, default.preflight, default.cors_origins) == (frozenset(Form), "deny", frozenset())


def test_a_block_sets_every_field() -> None:
    """Each in its canonical form; what is not set keeps its default, and ``default`` can be set like any other."""
    policies, problems = read("""
        [policy.orders]
        organization = "acme"
        scopes = ["orders:read", "orders:read", "orders:*"]
        client = "api"
        credentials = ["headers", "bearer"]
        preflight = "pass"
        cors_origins = ["https://App.example.com:443"]
        mode = "shadow"
        [policy.default]
        client = "browser"
        [policy."v1.2_x-Y"]
    """)
    assert problems == []
    assert policies["orders"] == Policy(
        name="orders",
        organization="acme",
        scopes=("orders:read", "orders:*"),
        client="api",
        credentials=frozenset({Form.HEADERS, Form.BEARER}),
        preflight="pass",
        cors_origins=frozenset({"https://app.example.com"}),
        mode="shadow",
    )
    assert policies["default"] == Policy(name="default", client="browser")
    assert policies["v1.2_x-Y"] == Policy(name="v1.2_x-Y")


IDENTIFIER = "must be an organization's identifier (lower-case letters, digits and -)"
FORMS = "must be a list of at least one of headers, basic, bearer"


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("organization", '"Acme Inc"', IDENTIFIER),
        ("organization", "5", IDENTIFIER),
        ("organization", '""', IDENTIFIER),
        ("scopes", '"orders:read"', "must be a list of strings"),
        ("scopes", "[1]", "must be a list of strings"),
        ("scopes", '["orders read"]', None),
        ("scopes", '["gatekey:*"]', None),
        ("scopes", str([f"scope:{number}" for number in range(33)]), "must be at most 32 scopes: no key has more"),
        ("client", '"robot"', "must be one of auto, api, browser"),
        ("client", "[]", "must be one of auto, api, browser"),
        ("credentials", "[]", FORMS),
        ("credentials", '["cookie"]', FORMS),
        ("credentials", '"headers"', "must be a list of strings"),
        ("preflight", "true", "must be one of deny, pass"),
        ("cors_origins", '["*"]', None),
        ("cors_origins", '["app.example.com"]', "must be an origin, scheme://host[:port]"),
        ("cors_origins", '["https://app.example.com/path"]', "must be an origin, scheme://host[:port]"),
        ("mode", '"off"', "must be one of enforce, shadow"),
        (
            "scope",
            '["orders:read"]',
            "is no field of a policy; there are organization, scopes, client, credentials, preflight, cors_origins, mode",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_policy(field: str, value: str, problem: str | None) -> None:
    """``policy.<name>.<field>: what it must be``."""
    _, problems = read(f"[policy.orders]\n{field} = {value}\n")
    (found,) = problems
    assert found.startswith(f"policy.orders.{field}: ")
    assert problem is None or found == f"policy.orders.{field}: {problem}"


@pytest.mark.parametrize(
    "field", ["organization", "scopes", "client", "credentials", "preflight", "cors_origins", "mode", "nonsense"]
)
@pytest.mark.parametrize("value", ['"canary q7x2v"', '["canary q7x2v"]', '[["canary q7x2v"]]', '{a = "canary q7x2v"}'])
def test_no_problem_of_a_policy_repeats_a_value(field: str, value: str) -> None:
    """A secret in the wrong place must not reach a log."""
    _, problems = read(f"[policy.orders]\n{field} = {value}\n")
    assert len(problems) == 1
    assert "canary" not in problems[0]


@pytest.mark.parametrize(
    "table",
    [
        'policy = "orders"',
        '[policy]\norders = "x"',
        '[policy."a/b"]',
        '[policy.".."]',
        '[policy.""]',
        f"[policy.{'x' * 65}]",
    ],
)
def test_a_policy_is_a_table_whose_name_can_stand_in_a_path(table: str) -> None:
    """A name is one segment of a path, and never a dot segment."""
    _, problems = read(table)
    assert len(problems) == 1
    assert problems[0].startswith("policy")


def test_all_problems_of_all_policies_are_told_at_once() -> None:
    """Each with its policy and field."""
    _, problems = read('[policy.a]\nmode = "x"\nclient = "x"\n[policy.b]\nscopes = 1\n')
    assert [problem.partition(":")[0] for problem in problems] == [
        "policy.a.mode",
        "policy.a.client",
        "policy.b.scopes",
    ]


_TREES: Any = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=12), st.sampled_from(["api", "headers", "a:b"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
_NAMES = st.one_of(st.text(max_size=8), st.sampled_from(["organization", "scopes", "client", "credentials", "mode"]))


@given(st.one_of(_TREES, st.dictionaries(st.text(max_size=8), st.dictionaries(_NAMES, _TREES, max_size=4), max_size=3)))
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_table_gives_policies_or_problems_on_one_line_each(table: Any) -> None:
    """Whatever stands under ``policy``, reading it raises nothing."""
    policies, problems = read_policies(table)
    assert all(problem.isprintable() for problem in problems)
    assert all(isinstance(policy, Policy) for policy in policies.values())
    assert "default" in policies


def test_replacing_the_policies_swaps_all_of_them() -> None:
    """What is not in the new set is gone; a name that does not exist is ``None``."""
    book = PolicyBook({"default": Policy(name="default"), "old": Policy(name="old")})
    given = {"default": Policy(name="default"), "new": Policy(name="new")}
    book.replace(given)
    given.clear()  # the book has its own copy
    assert book.find("old") is None
    assert book.find("new") == Policy(name="new")
    assert len(book) == 2


def test_a_reload_takes_good_policies_and_keeps_the_old_ones_when_any_is_wrong(tmp_path: Path) -> None:
    """One wrong field, broken TOML or a missing file changes nothing; the next good file does."""
    path = tmp_path / "gatekey.toml"
    path.write_text('[policy.one]\nclient = "api"\n', encoding="utf-8")
    with running_gatekey(environ={"GATEKEY_CONFIG": str(path)}) as gatekey:
        gatekey.reload_policies()
        assert gatekey.policies.find("one") is not None
        for bad in ('[policy.two]\n[policy.three]\nmode = "x"\n', "[policy.two\n", None):
            path.unlink() if bad is None else path.write_text(bad, encoding="utf-8")
            gatekey.reload_policies()
            assert gatekey.policies.find("one") == Policy(name="one", client="api")
            assert gatekey.policies.find("two") is None
        path.write_text("[policy.two]\n", encoding="utf-8")
        gatekey.reload_policies()
        assert gatekey.policies.find("one") is None
        assert gatekey.policies.find("two") == Policy(name="two")
        assert gatekey.policies.find("default") == Policy(name="default")


def test_a_file_whose_settings_changed_meanwhile_can_still_be_reloaded(tmp_path: Path) -> None:
    """A reload looks at the policies alone; settings take a restart."""
    path = tmp_path / "gatekey.toml"
    path.write_text('port = "none"\nnonsense = 1\n[policy.two]\n', encoding="utf-8")
    assert set(read_policy_file(path)) == {"default", "two"}
    path.write_text("[policy.two]\nmode = 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"policy\.two\.mode"):
        read_policy_file(path)
