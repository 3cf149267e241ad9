"""``make demo``: run the stack until Ctrl-C; beside it, break something (``fault``) or point a shell at it (``env``).

Exit status: 0 ended as asked, 1 something failed, 2 wrong usage, 3 a program is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo import state as states
from demo.banner import banner, shell
from demo.faults import FAULTS, Broken
from demo.parts import Failure
from demo.places import ROOT, Places, choose_ports, environment
from demo.programs import Programs
from demo.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

FAILED: Final = 1
MISSING: Final = 3


def up(chosen: argparse.Namespace) -> int:
    """Start, tell where everything is, and wait."""
    programs = Programs.find()
    if isinstance(programs, tuple):
        _say(*(f"missing: {line}" for line in programs))
        return MISSING
    if programs.alertmanager is None:
        _say("without Alertmanager, which is not installed (apt install prometheus-alertmanager)")
    stopped = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: stopped.set())
    folder: Path = chosen.folder
    places = Places(folder, choose_ports(free=chosen.free_ports))
    state = states.claim(folder)
    stack = Stack(places, programs, state)
    try:
        stack.run(stopped)
        state.addresses, state.settings = stack.addresses(), places.settings("gatekey")
        state.write(folder)
        if not stopped.is_set():
            print(json.dumps(state.addresses) if chosen.json else banner(state.addresses, _again(folder)), flush=True)
        while not stopped.wait(1):
            stack.check()
    finally:
        stack.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def fault(chosen: argparse.Namespace) -> int:
    """Break something for a while."""
    state = states.ready(chosen.folder)
    ended = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: ended.set())
    act = FAULTS[chosen.name]
    _say(f"{chosen.name} for {chosen.seconds:g} s: {(act.__doc__ or '').strip()}")
    act(Broken(state, {**environment(), **state.settings}, ended), chosen.seconds)
    _say(f"{chosen.name} is over")
    return 0


def env(chosen: argparse.Namespace) -> int:
    """Print what the commands of the runbooks take from the shell, for ``eval``."""
    print(shell(states.ready(chosen.folder), chosen.folder))
    return 0


def _again(folder: Path) -> str:
    """How to call this beside the demo."""
    words = [os.path.relpath(sys.executable), "-m", "demo"] if Path.cwd() == ROOT else [sys.executable, "-m", "demo"]
    return shlex.join(words if folder == states.default_folder() else [*words, "--folder", str(folder)])


def _say(*lines: str) -> None:
    for line in lines:
        print(f"demo: {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=states.default_folder(), help="where everything of it is kept")
    parser.add_argument("--json", action="store_true", help="print the addresses as one JSON document")
    parser.add_argument("--free-ports", action="store_true", help="take any free ports instead of the usual ones")
    parser.set_defaults(act=up)
    commands = parser.add_subparsers(metavar="COMMAND")
    breaking = commands.add_parser("fault", help="break something in a running demo for a while")
    breaking.add_argument(
        "name", choices=FAULTS, help="; ".join(f"{name}: {act.__doc__}" for name, act in FAULTS.items())
    )
    breaking.add_argument("--seconds", type=float, default=60.0, help="for how long (60)")
    breaking.set_defaults(act=fault)
    pointing = commands.add_parser(
        "env", help='for a shell: eval "$(python -m demo env)", then the commands of the runbooks'
    )
    pointing.set_defaults(act=env)
    return parser


def main(arguments: Sequence[str]) -> int:
    """The exit status; a failure is told, not thrown."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.act(chosen))
    except Failure as failure:
        _say(str(failure))
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
