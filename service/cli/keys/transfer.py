"""``gatekey keys import`` and ``export``: keys as JSON lines (contract 6), a file that holds hashes is nobody else's."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from service.cli.common import Failed
from service.cli.documents import import_document, print_json
from service.cli.inputs import as_json_option
from service.cli.on_store import on_store, operator
from service.cli.output import counted, say_in_force
from service.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.app import Management
    from service.manage.manager import ImportReport, InForce

__all__ = ["export_keys", "import_keys"]

_STEP: Final = 1_000  # keys between two moves of the bar


@click.command("import", short_help="Read keys from a file of JSON lines.")
@click.argument("file", type=click.File("rb"))
@click.option("--continue", "keep_going", is_flag=True, help="Import the good lines although others are bad.")
@as_json_option
def import_keys(file: IO[bytes], *, keep_going: bool, as_json: bool) -> None:
    """Read keys from FILE (- is standard input), one JSON object a line, and make organizations that are missing.

    All lines or none: a bad line is told by its number, and nothing is imported, unless --continue. A key that is there
    already is left as it is, so the same file may be imported again.

    \b
    Examples:
      gatekey keys import keys.jsonl
      gatekey keys import keys.jsonl --continue --json
      zcat backup.jsonl.gz | gatekey keys import -
    """  # noqa: D301 - click wants the character, as an escape in a raw text is not
    try:
        lines = file.readlines()
    except OSError as error:
        raise Failed(f"FILE: cannot be read ({error.strerror})") from None

    async def read(parts: Management) -> tuple[ImportReport, InForce]:
        with progress("checking", len(lines), then="storing …") as reached:
            report = await parts.manager.import_lines(operator(), lines, keep_going=keep_going, progress=reached)
        return report, await parts.manager.in_force(wait=False)

    report, in_force = on_store(read)
    if as_json:
        print_json(import_document(report, in_force if report.is_stored else None))
    elif report.is_stored:
        click.echo(f"Imported {counted(report.created, 'key')}; {counted(report.unchanged, 'line')} changed nothing.")
        if report.created:
            say_in_force(in_force)
    if not as_json:
        for note in report.notes:
            click.echo(f"gatekey: {note}", err=True)
    if report.refused:
        _fail(report)


def _fail(report: ImportReport) -> None:
    """Exit status 1 also where the good lines were imported: somebody must look at the others."""
    told = [str(line) for line in report.reports]
    if report.refused > len(told):
        told.append(f"and {counted(report.refused - len(told), 'more bad line')}")
    end = f"{counted(report.refused, 'line')} refused" if report.is_stored else "nothing was imported"
    raise Failed([*told[:-1], f"{told[-1]}; {end}"])


@click.command("export", short_help="Write keys as JSON lines, secrets as hashes.")
@click.option("--organization", metavar="ORG", help="Only its keys.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write here, for you alone."
)
def export_keys(*, organization: str | None, output: Path | None) -> None:
    """Write all keys as JSON lines, to be imported again by an installation with the same peppers.

    Secrets are written as hashes, which are worthless without the pepper. A file gets the mode 0600 and takes its name only
    when it is whole. Exit status 1 when stored keys cannot be read: all others are written.

    \b
    Examples:
      gatekey keys export --output keys.jsonl
      gatekey keys export --organization acme | gzip > acme.jsonl.gz
    """  # noqa: D301 - as above
    shown = output is not None or not sys.stdout.isatty()  # a bar among the lines would spoil both

    async def write(parts: Management) -> tuple[int, int]:
        total = None if organization else sum((await parts.store.count_keys(now=parts.clock.now())).values())
        done = 0
        with _opened(output) as file, progress("exporting", total, shown=shown) as reached:
            async for line in parts.manager.export(operator(), organization):
                file.write(line)
                done += 1
                if done % _STEP == 0:
                    reached(done)
            reached(done)
        return done, (total or 0) - done

    done, missing = on_store(write)
    if output is not None:
        click.echo(f"Exported {counted(done, 'key')} to {output}.", err=True)
    if missing > 0:
        verb = "is" if missing == 1 else "are"
        raise Failed(
            f"{counted(missing, 'key')} {verb} missing from it: what is stored cannot be read, or went meanwhile"
        )


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that replaces ``output`` only when all of it is written."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if output.exists() and not output.is_file():  # a device or a pipe: it cannot be replaced
        with _told(output), output.open("wb") as file:
            yield file
        return
    with _told(output):
        descriptor, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)  # its mode is 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            Path(name).replace(output)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def _told(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failed(f"{output}: cannot be written ({error.strerror})") from None
