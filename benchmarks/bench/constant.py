"""Starts the open-loop generator in a process of its own, where nothing else takes its time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson

from benchmarks.bench.errors import BadRun
from benchmarks.bench.openloop import Latency
from tests.support.servers import ROOT

if TYPE_CHECKING:
    from benchmarks.bench.openloop import Plan

__all__ = ["run"]


def run(plan: Plan) -> Latency:
    """What ``openloop.measure`` says and raises."""
    command = [sys.executable, "-m", "benchmarks.bench.openloop"]
    done = subprocess.run(command, input=orjson.dumps(asdict(plan)), cwd=ROOT, capture_output=True, check=False)  # noqa: S603 - our own command
    try:
        found = orjson.loads(done.stdout)
    except orjson.JSONDecodeError:
        raise BadRun(f"the load generator failed: {done.stderr.decode()[-200:]}") from None
    if "problem" in found:
        raise BadRun(found["problem"])
    return Latency(**found)
