"""``gatekey audit verify``: whether anything of the trail was changed, put in or taken away.

A chain proves that it is whole up to its head. Whoever can write to the store could make a whole new chain, so heads are
kept elsewhere and held against it later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Final

import click

from backends.errors import StoreCorrupt
from service.cli.common import Failed
from service.cli.documents import print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import on_store
from service.cli.output import counted, table
from service.manage.chain import ChainProblem, verify_chain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backends.journal import Journal
    from service.app import Management
    from service.manage.chain import ChainReport

__all__ = ["command"]

_NO_FILE: Final = "is not what `gatekey audit verify --json` prints"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """The entry at which a chain ended when somebody looked, kept since then."""

    seq: int
    hash: str


@click.command("verify", short_help="Find out whether anything was changed or taken away.")
@click.argument("organizations", metavar="[ORG]...", nargs=-1)
@click.option(
    "--against",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE",
    help="Heads that an earlier --json printed; they must still be there.",
)
@as_json_option
def command(organizations: tuple[str, ...], *, against: IO[str] | None, as_json: bool) -> None:
    """Read the whole audit trail, of every organization or of each ORG, and find what was changed or taken away.

    Prints the head of each chain. Keep heads where nobody who reaches the store can change them: held --against the
    trail later, they show also a chain that was made anew. Exit status 1 when anything is wrong.

    \b
    Examples:
      gatekey audit verify
      gatekey audit verify --json > /elsewhere/heads.json
      gatekey audit verify --against /elsewhere/heads.json
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    kept = {} if against is None else _read_heads(against)

    async def verify(parts: Management) -> list[ChainReport]:
        journal = parts.store.journal
        names = organizations or sorted({*await journal.audit_chains(), *kept})
        chains = [await _verify(journal, name, kept.get(name)) for name in names]
        unknown = [c.organization_id for c in chains if organizations and not (c.entries or c.head.seq or c.problems)]
        if unknown:
            raise Failed(f"{name}: there is no audit trail of an organization of this name" for name in unknown)
        return chains

    chains = on_store(verify)
    bad = sum(bool(chain.problems) for chain in chains)
    if as_json:
        print_json({"valid": not bad, "items": [_document(chain) for chain in chains]})
    else:
        _print(chains)
    if bad:
        raise Failed(f"the audit trail of {counted(bad, 'organization')} is not as it was written")


async def _verify(journal: Journal, organization_id: str, kept: _Head | None) -> ChainReport:
    report = await verify_chain(journal, organization_id)
    if kept is None or not kept.seq:
        return report
    try:
        missed = await _missed(journal, organization_id, kept)
    except StoreCorrupt:
        missed = [ChainProblem(kept.seq, "cannot be read")]
    return replace(report, problems=(*report.problems, *missed))


async def _missed(journal: Journal, organization_id: str, kept: _Head) -> list[ChainProblem]:
    head = await journal.audit_head(organization_id)
    if kept.seq < head.pruned_seq:
        return []  # older than what is still kept: nothing can be said of it
    if kept.seq == head.pruned_seq:
        found = head.pruned_hash
    else:
        page = await journal.list_audit(organization_id, after=str(kept.seq - 1), limit=1)
        found = next((entry.hash for entry in page.items if entry.seq == kept.seq), "")
    if found == kept.hash:
        return []
    return [ChainProblem(kept.seq, "is another entry than the kept head" if found else "the kept head is gone")]


def _read_heads(file: IO[str]) -> Mapping[str, _Head]:
    try:
        return {str(item["organization_id"]): _read_head(item) for item in json.load(file)["items"]}
    except (ValueError, KeyError, TypeError):
        raise click.BadParameter(_NO_FILE, param_hint="--against") from None


def _read_head(item: Mapping[str, object]) -> _Head:
    seq, digest = item["head_seq"], item["head_hash"]
    if not isinstance(seq, int) or not isinstance(digest, str):
        raise TypeError
    return _Head(seq=seq, hash=digest)


def _document(chain: ChainReport) -> dict[str, object]:
    return {
        "organization_id": chain.organization_id,
        "entries": chain.entries,
        "head_seq": chain.head.seq,
        "head_hash": chain.head.hash,
        "problems": [{"seq": problem.seq, "problem": problem.problem} for problem in chain.problems],
    }


def _print(chains: list[ChainReport]) -> None:
    table(
        ("ORGANIZATION", "ENTRIES", "RESULT", "HEAD", "HASH OF THE HEAD"),
        [
            (
                chain.organization_id,
                f"{chain.entries:,}",
                "BAD" if chain.problems else "whole",
                str(chain.head.seq),
                chain.head.hash,
            )
            for chain in chains
        ],
    )
    for chain in chains:
        for problem in chain.problems:
            click.echo(f"{chain.organization_id}: entry {problem.seq}: {problem.problem}")
