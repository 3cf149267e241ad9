"""``gatekey doctor``: probe a deployed proxy from outside. The secret never comes from, or goes to, a place people see."""

from __future__ import annotations

import os
import secrets
import ssl
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from service.auth.secret import Secret
from service.auth.tokens import api_key_problem, secret_problem
from service.cli.common import Failed
from service.doctor.messages import Ask, Silence, SilenceKind
from service.doctor.probes import PROBES
from service.doctor.report import as_json, line, summary
from service.doctor.run import examine
from service.doctor.site import Key, Situation, parse_address, parse_path, parse_site
from service.doctor.verdicts import Result
from service.doctor.wire import send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from service.doctor.probe import Send
    from service.doctor.run import Finding
    from service.doctor.site import Site

__all__ = ["command"]

SECRET_VARIABLE: Final = "DOCTOR_SECRET_TOKEN"  # noqa: S105 - the variable's name


@click.command("doctor", short_help="Probe the proxy in front from outside.")
@click.option("--url", required=True, help="A protected address that the application answers with 2xx.")
@click.option("--api-key", help="A key that is valid there, for the probes that need one.")
@click.option(
    "--secret-token-file",
    type=click.File("r", encoding="utf-8"),
    help=f"The key's secret, its first line; - is standard input. Or set {SECRET_VARIABLE}.",
)
@click.option("--echo-path", help="A path of the application that answers with the headers it got.")
@click.option(
    "--client",
    type=click.Choice(["auto", "api", "browser"]),
    default="auto",
    show_default=True,
    help="What the policy says about its clients.",
)
@click.option("--connect", metavar="HOST:PORT", help="Connect here instead (before the name points to the proxy).")
@click.option("--ca-file", type=click.Path(exists=True, dir_okay=False), help="Trust this CA (PEM) for https.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.05, 300),
    default=5.0,
    show_default=True,
    help="Seconds that one request may take.",
)
@click.option("--json", "as_document", is_flag=True, help="Print one JSON document.")
def command(  # noqa: PLR0917 - click passes by keyword
    url: str,
    api_key: str | None,
    secret_token_file: TextIO | None,
    echo_path: str | None,
    client: str,
    connect: str | None,
    ca_file: str | None,
    timeout: float,
    as_document: bool,  # noqa: FBT001 - as above
) -> None:
    """Probe the proxy in front of your application from outside, and print PASS, FAIL or SKIP for each probe.

    Sends what a library would refuse to send: forged, doubled and underscored headers, dot segments, other hosts,
    removed context. Without a key nothing may pass; with one (--api-key) more can be told. Exit status 0 when nothing
    failed, 1 otherwise.

    \b
    Examples:
      gatekey doctor --url https://api.example.com/orders
      gatekey doctor --url https://api.example.com/orders --api-key gk_live_... --secret-token-file secret.txt
      gatekey doctor --url https://api.example.com/ --connect 10.0.0.7:443 --ca-file ca.pem --json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    site = _site(url, connect)
    situation = Situation(
        site=site,
        key=_key(api_key, secret_token_file),
        echo_path=_checked_path(echo_path),
        client=client,
        marker="doctor-" + secrets.token_hex(8),
    )
    sender = partial(send, site=site, timeout=timeout, tls=_context(site, ca_file))
    _fail_unless_reachable(site, sender)
    findings = _examine(situation, sender, quiet=as_document)
    if as_document:
        click.echo(as_json(url, findings))
    else:
        click.echo(summary(findings))
    if any(finding.result is Result.FAIL for finding in findings):
        sys.exit(1)


def _examine(situation: Situation, sender: Send, *, quiet: bool) -> list[Finding]:
    """Run all probes; each line is printed as soon as it is known, unless ``quiet``."""
    findings = []
    with _progress() as advance:
        for finding in examine(situation, sender):
            findings.append(finding)
            advance("" if quiet else line(finding))
    return findings


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A function that prints a line (unless it is empty) and moves the bar, where a terminal shows one, below it."""
    if not sys.stderr.isatty():
        yield lambda text: click.echo(text) if text else None
        return
    with click.progressbar(length=len(PROBES), label="probing", file=sys.stderr) as bar:

        def advance(text: str) -> None:
            click.echo("\r\x1b[K", nl=False, err=True)
            if text:
                click.echo(text)
            bar.update(1)

        yield advance


def _site(url: str, connect: str | None) -> Site:
    try:
        address = None if connect is None else parse_address(connect)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--connect") from None
    try:
        return parse_site(url, address)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None


def _checked_path(echo_path: str | None) -> str:
    try:
        return "" if echo_path is None else parse_path(echo_path)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--echo-path") from None


def _key(api_key: str | None, file: TextIO | None) -> Key | None:
    """The key of the command line and its secret of a file or the environment; both or none."""
    if api_key is None:
        if file is not None:
            raise click.UsageError("--secret-token-file needs --api-key")
        return None
    if problem := api_key_problem(api_key):
        raise click.BadParameter(problem, param_hint="--api-key")
    secret = _secret(file)
    if problem := secret_problem(secret.reveal()):
        raise click.UsageError(f"the secret of --api-key: {problem}")
    return Key(api_key=api_key, secret=secret)


def _secret(file: TextIO | None) -> Secret:
    if file is None:
        if SECRET_VARIABLE not in os.environ:
            raise click.UsageError(
                f"--api-key needs its secret: --secret-token-file, or the variable {SECRET_VARIABLE}"
            )
        return Secret(os.environ[SECRET_VARIABLE])
    try:
        return Secret(file.readline().strip())
    except UnicodeDecodeError:
        raise click.UsageError("the file of --secret-token-file is no text") from None


def _context(site: Site, ca_file: str | None) -> ssl.SSLContext | None:
    if site.scheme == "http":
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise click.BadParameter("it holds no certificate in PEM form", param_hint="--ca-file") from None


def _fail_unless_reachable(site: Site, sender: Send) -> None:
    """One clear line instead of a failure in every probe, when nobody answers at all."""
    seen = sender(Ask(target=site.path))
    if isinstance(seen, Silence):
        where = f"{site.origin} (at {site.connect[0]}:{site.connect[1]})"
        hint = " (name your CA with --ca-file)" if seen.kind is SilenceKind.TLS and "trusted" in seen.detail else ""
        raise Failed(f"no answer from {where}: {seen.detail}{hint}")
