"""``gatekey explain``: the same verdict as the decision, every step of it, and what to do about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from service.auth.tokens import generate_api_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Commands


def asked(
    gatekey: Commands, api_key: str, *options: str, domain: str = "api.example.com", **environ: str
) -> dict[str, Any]:
    """The document, after checking that the exit status and standard error say the same."""
    result = gatekey("explain", "--api-key", api_key, "--domain", domain, "--json", *options, **environ)
    document: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if document["allowed"] else 1)
    assert result.stderr == (
        "" if document["allowed"] else f"gatekey: such a request is not allowed: {document['reason']}\n"
    )
    return document


def test_an_allowed_request_passes_every_step(gatekey: Commands) -> None:
    """With the right secret from the environment, and the key and its owner named."""
    made = gatekey.create()
    found = asked(gatekey, made["api_key"], EXPLAIN_SECRET_TOKEN=made["secret_token"])
    assert (found["reason"], found["status"], found["code"], found["hint"]) == ("ok", 200, None, None)
    assert (found["key_id"], found["organization_id"]) == (made["key_id"], "acme")
    assert {step["name"]: step["passed"] for step in found["steps"]}["secret"] is True


def test_without_a_secret_its_step_is_left_out(gatekey: Commands) -> None:
    """All the others are judged."""
    found = asked(gatekey, gatekey.create()["api_key"])
    assert found["allowed"] is True
    assert {step["name"]: step["passed"] for step in found["steps"]}["secret"] is None
    text = gatekey.ok("explain", "--api-key", gatekey.create()["api_key"], "--domain", "api.example.com")
    assert text.endswith("allowed, if the secret is right\n")
    assert "secret are presented" not in text


@pytest.mark.parametrize("source", ["file", "stdin", "variable"])
def test_a_wrong_secret_is_told_wherever_it_came_from(source: str, gatekey: Commands, tmp_path: Path) -> None:
    """From a file, from standard input or from a variable; never from the command line."""
    api_key = gatekey.create()["api_key"]
    wrong = "not-the-secret-of-this-key"
    file = tmp_path / "secret.txt"
    file.write_text(wrong + "\n")
    words = ("explain", "--api-key", api_key, "--domain", "api.example.com")
    result = {
        "file": lambda: gatekey(*words, "--secret-token-file", str(file)),
        "stdin": lambda: gatekey(*words, "--secret-token-file", "-", stdin=wrong),
        "variable": lambda: gatekey(*words, EXPLAIN_SECRET_TOKEN=wrong),
    }[source]()
    assert result.exit_code == 1
    assert result.stderr == "gatekey: such a request is not allowed: bad_secret\n"
    assert gatekey(*words, "--secret-token", wrong).exit_code == 2


@pytest.mark.parametrize(
    ("key_options", "ask_options", "domain", "reason", "hint"),
    [
        ((), (), "other.example.com", "wrong_domain", "PATCH /v1/keys/"),
        (("--origin", "https://shop.example"), (), "api.example.com", "origin_not_allowed", "--origin"),
        (("--origin", "https://shop.example"), ("--origin", "https://shop.example"), "api.example.com", "ok", None),
        (("--network", "192.0.2.0/24"), ("--client-ip", "198.51.100.1"), "api.example.com", "network_not_allowed", "network"),
        (("--network", "192.0.2.0/24"), ("--client-ip", "192.0.2.7"), "https://api.example.com/v1?x=1", "ok", None),
        (("--scope", "orders:read"), ("--scope", "orders:write"), "api.example.com", "insufficient_scope", "scope"),
        (("--scope", "orders:*"), ("--scope", "orders:write"), "api.example.com", "ok", None),
        (("--domain", "@gatekey"), (), "@gatekey", "ok", None),
        ((), (), "@gatekey", "wrong_domain", "domain"),
    ],
)  # fmt: skip
def test_each_rule_of_a_key_is_judged(  # noqa: PLR0917 - a table
    key_options: tuple[str, ...],
    ask_options: tuple[str, ...],
    domain: str,
    reason: str,
    hint: str | None,
    gatekey: Commands,
) -> None:
    """As the decision does it, with a hint for whoever repairs the key."""
    found = asked(gatekey, gatekey.create(*key_options)["api_key"], *ask_options, domain=domain)
    assert found["reason"] == reason
    assert (found["hint"] is None) if hint is None else (hint in found["hint"])


def test_the_hint_names_the_command_that_helps(gatekey: Commands) -> None:
    """For a key or an organization that was switched off, and for a key that is revoked."""
    made = gatekey.create()
    gatekey.ok("orgs", "disable", "acme")
    assert asked(gatekey, made["api_key"])["hint"] == "`gatekey orgs enable acme`"
    gatekey.ok("orgs", "enable", "acme")
    gatekey.ok("keys", "disable", made["key_id"])
    assert asked(gatekey, made["api_key"])["hint"] == f"`gatekey keys enable {made['key_id']}`"
    gatekey.ok("keys", "revoke", made["key_id"])
    found = asked(gatekey, made["api_key"])
    assert (found["reason"], found["code"]) == ("inactive", "key_inactive")
    assert "make a new one" in found["hint"]


def test_a_key_that_is_unknown_or_malformed_is_told_apart(gatekey: Commands) -> None:
    """To the operator; outside both are invalid_credentials."""
    unknown = asked(gatekey, generate_api_key("live"))
    malformed = asked(gatekey, "gk_live_mistyped")
    assert (unknown["reason"], malformed["reason"]) == ("unknown_key", "malformed_key")
    assert unknown["code"] == malformed["code"] == "invalid_credentials"
    assert unknown["key_id"] is None


def test_a_policy_adds_what_it_demands(gatekey: Commands, tmp_path: Path) -> None:
    """Its organization and its scopes; an unknown policy is named as such."""
    config = tmp_path / "gatekey.toml"
    config.write_text(
        '[policy.orders]\nscopes = ["orders:read"]\n[policy.beta]\norganization = "beta"\nmode = "shadow"\n',
        encoding="utf-8",
    )
    gatekey.environ["GATEKEY_CONFIG"] = str(config)
    api_key = gatekey.create()["api_key"]
    assert asked(gatekey, api_key, "--policy", "default")["reason"] == "ok"
    assert asked(gatekey, api_key, "--policy", "orders")["reason"] == "insufficient_scope"
    words = ("explain", "--api-key", api_key, "--domain", "api.example.com")
    shadow = gatekey(*words, "--policy", "beta")
    assert shadow.exit_code == 1
    assert "wrong_organization" in shadow.stdout
    assert "shadow mode is on" in shadow.stderr
    assert gatekey.refused(*words, "--policy", "none").startswith("unknown_policy: ")


@pytest.mark.parametrize("address", ["nonsense", "192.0.2.0/24", "192.0.2", ""])
def test_an_address_that_is_none_is_wrong_usage(address: str, gatekey: Commands) -> None:
    """A mistyped one must not be judged as if the request came from nowhere."""
    words = ("explain", "--api-key", "one", "--domain", "api.example.com", "--client-ip", address)
    result = gatekey(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--client-ip" in result.stderr


def test_the_installations_own_organization_counts(gatekey: Commands) -> None:
    """GATEKEY_ORGANIZATION_ID refuses the keys of all others."""
    api_key = gatekey.create()["api_key"]
    assert asked(gatekey, api_key, GATEKEY_ORGANIZATION_ID="beta")["reason"] == "wrong_organization"


def test_people_read_one_line_for_each_step(gatekey: Commands) -> None:
    """In ASCII where it is no terminal; then the verdict, the answer outside and the hint."""
    made = gatekey.create("--name", "batch")
    result = gatekey("explain", "--api-key", made["api_key"], "--domain", "other.example.com")
    assert result.exit_code == 1
    assert result.stdout.isascii()
    *steps, verdict, answer, hint = result.stdout.splitlines()
    assert {line[:2].strip() for line in steps} == {"ok", "NO", "-"}
    assert [line.split()[1] for line in steps if line.startswith("NO")] == ["domain"]
    assert verdict == "denied: wrong_domain"
    assert answer == "answer: 401 domain_not_allowed"
    assert hint.startswith("hint: ")


def test_every_denial_that_can_be_explained_has_a_hint() -> None:
    """Whatever reason comes out."""
    from service.auth.reasons import Reason
    from service.cli.hints import hint_for
    from service.manage.explain import Explanation

    judged = ("malformed_key", "unknown_key", "bad_secret", "wrong_organization", "wrong_domain", "inactive", "expired",
              "origin_not_allowed", "network_not_allowed", "insufficient_scope", "store_corrupt")  # fmt: skip
    assert all(hint_for(Explanation((), Reason(reason), None)) for reason in judged)
