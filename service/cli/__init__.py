"""The command line: each command in a module of its own, loaded when it is called."""

from __future__ import annotations

from typing import Final

import click

from service import __version__
from service.cli.lazy import LazyGroup

__all__ = ["main"]

_COMMANDS: Final = {
    "serve": ("service.cli.serve", "Run the service until Ctrl-C or SIGTERM."),
    "check": ("service.cli.check", "Validate the settings and policies, and print them."),
    "migrate": ("service.cli.migrate", "Prepare the store, or bring it up to this version."),
    "bootstrap": ("service.cli.bootstrap", "Make the operators' first key."),
    "orgs": ("service.cli.orgs", "Create, list, disable and enable organizations."),
    "keys": ("service.cli.keys", "Create, list, rotate, revoke, import and export keys."),
    "audit": ("service.cli.audit", "Read the audit trail, and prove that it is whole."),
    "pepper": ("service.cli.pepper", "Say which peppers are still in use."),
    "explain": ("service.cli.explain", "Say why a request is or would be denied."),
    "doctor": ("service.cli.doctor", "Probe the proxy in front from outside."),
}


@click.group(cls=LazyGroup, members=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatekey")
def main() -> None:
    """Gatekey decides for every request to your API whether the caller's key and secret are valid for the domain.

    \b
    Examples:
      gatekey serve --demo        try it, with a demo key, nothing to configure
      gatekey check               are the settings right?
      gatekey migrate             prepare the store that GATEKEY_STORE_URL names
      gatekey bootstrap           make the operators' first key
      gatekey doctor --url URL    is the proxy in front of Gatekey set up safely?
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
