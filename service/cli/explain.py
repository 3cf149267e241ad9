"""``gatekey explain``: the decision about a request, step by step, from what is stored at this moment.

The secret comes from a file, a variable or a hidden prompt: on a command line everybody on the machine could read it.
"""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any, Final

import click

from service.auth.reasons import REASONS, Outcome, Reason
from service.auth.secret import Secret
from service.cli.common import Failed, settings_or_fail
from service.cli.documents import print_json
from service.cli.hints import hint_for
from service.cli.inputs import as_json_option, asks
from service.cli.on_store import on_store, operator
from service.cli.output import printable
from service.doors.peers import parse_address
from service.manage.explain import Question

if TYPE_CHECKING:
    from service.app import Management
    from service.manage.explain import Explanation
    from service.policies import Policy
    from service.settings import Settings

__all__ = ["command"]

SECRET_VARIABLE: Final = "EXPLAIN_SECRET_TOKEN"  # noqa: S105 - the variable's name
_OWN: Final = "@gatekey"
_SIGNS: Final = {True: "✓", False: "✗", None: "–"}  # noqa: RUF001 - a dash is what is meant
_WORDS: Final = {True: "ok", False: "NO", None: "-"}


def _an_address(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A client's address, in its one form."""
    address = None if value is None else parse_address(value)
    if value is not None and address is None:
        raise click.BadParameter("must be an IP address, such as 192.0.2.7", ctx, param)
    return None if address is None else str(address)


@click.command("explain", short_help="Say why a request is or would be denied.")
@click.option("--api-key", required=True, metavar="KEY", help="The key of the request.")
@click.option("--domain", required=True, metavar="HOST", help="Where it goes: a host, host:port, a URL, or @gatekey.")
@click.option(
    "--secret-token-file",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE",
    help=f"The secret, its first line; - is standard input. Or set {SECRET_VARIABLE}.",
)
@click.option("--scope", "scopes", multiple=True, help="A scope that the request needs; may be repeated.")
@click.option("--client-ip", callback=_an_address, metavar="IP", help="The client's address.")
@click.option("--origin", help="The request's Origin.")
@click.option("--policy", "policy_name", metavar="NAME", help="The policy of the door, from gatekey.toml.")
@as_json_option
def command(
    *,
    api_key: str,
    domain: str,
    secret_token_file: IO[str] | None,
    scopes: tuple[str, ...],
    client_ip: str | None,
    origin: str | None,
    policy_name: str | None,
    as_json: bool,
) -> None:
    """Say step by step why a request with such a key would be allowed or denied, and what to change.

    Without a secret its step is left out. Reads the store itself, so it tells what holds now, whatever a serving process
    may still have in its memory. Exit status 0 when the request would be allowed, 1 when not.

    \b
    Examples:
      gatekey explain --api-key gk_live_... --domain api.example.com
      gatekey explain --api-key gk_live_... --domain https://api.example.com/v1 --secret-token-file secret.txt
      gatekey explain --api-key gk_live_... --domain api.example.com --client-ip 192.0.2.7 --policy orders --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    settings = settings_or_fail()
    policy = _policy(settings, policy_name)
    question = Question(
        api_key=api_key,
        secret=_secret(secret_token_file),
        domain="localhost" if domain == _OWN else domain,
        own_path=domain == _OWN,
        organization_id=policy.organization,
        only_organization=settings.organization_id,
        required_scopes=tuple(dict.fromkeys((*policy.scopes, *scopes))),
        client_ip=client_ip or "",
        origin=origin,
    )

    async def explain(parts: Management) -> Explanation:
        return await parts.manager.explain(operator(), question)

    found = on_store(explain)
    hint = hint_for(found)
    if as_json:
        print_json(_document(found, hint))
    else:
        _print(found, hint, without_secret=question.secret is None)
    if settings.mode == "shadow" or policy.mode == "shadow":
        click.echo("gatekey: shadow mode is on: such a request passes all the same", err=True)
    if REASONS[found.reason].outcome is not Outcome.ALLOW:
        raise Failed(f"such a request is not allowed: {found.reason}")


def _policy(settings: Settings, name: str | None) -> Policy:
    policy = settings.policies.get("default" if name is None else name)
    if policy is None:
        known = ", ".join(sorted(settings.policies))
        raise Failed(f"{Reason.UNKNOWN_POLICY}: there is no policy of this name; known: {known}")
    return policy


def _secret(file: IO[str] | None) -> Secret | None:
    if file is not None:
        try:
            return Secret(file.readline().strip())
        except UnicodeDecodeError:
            raise click.UsageError("the file of --secret-token-file is no text") from None
    if SECRET_VARIABLE in os.environ:
        return Secret(os.environ[SECRET_VARIABLE])
    if not asks(sure=False):
        return None
    typed = click.prompt("Secret (empty: leave it out)", default="", show_default=False, hide_input=True, err=True)
    return Secret(typed) if typed else None


def _print(found: Explanation, hint: str, *, without_secret: bool) -> None:
    signs = _SIGNS if sys.stdout.isatty() and "utf" in (sys.stdout.encoding or "").lower() else _WORDS
    width = max(len(step.name) for step in found.steps)
    for step in found.steps:
        click.echo(f"{signs[step.passed]:2}  {step.name:{width}}  {printable(step.detail)}".rstrip())
    info = REASONS[found.reason]
    if info.outcome is Outcome.ALLOW:
        click.echo("allowed, if the secret is right" if without_secret else "allowed")
        return
    click.echo(f"{'denied' if info.outcome is Outcome.DENY else 'cannot be decided'}: {info.reason}")
    click.echo(f"answer: {info.status} {info.code}")
    click.echo(f"hint: {hint}")


def _document(found: Explanation, hint: str) -> dict[str, Any]:
    info = REASONS[found.reason]
    record = found.record
    return {
        "allowed": info.outcome is Outcome.ALLOW,
        "outcome": info.outcome.value,
        "reason": info.reason.value,
        "status": info.status,
        "code": info.code or None,
        "key_id": None if record is None else record.key_id,
        "organization_id": None if record is None else record.organization_id,
        "steps": [{"name": step.name, "passed": step.passed, "detail": step.detail} for step in found.steps],
        "hint": hint or None,
    }
