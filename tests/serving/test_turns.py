"""When the threads of a worker take turns."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from itertools import accumulate

import pytest

from service.turns import Turns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's")


class _Sleeper:
    """A thread that is there until told to end."""

    def __init__(self) -> None:
        self._end, started = threading.Event(), threading.Event()

        def wait() -> None:
            started.set()
            self._end.wait(60)

        self._thread = threading.Thread(target=wait)
        self._thread.start()
        started.wait(60)
        assert self._thread.native_id is not None
        self.native_id = self._thread.native_id

    def end(self) -> None:
        self._end.set()
        self._thread.join(60)


@pytest.mark.parametrize(
    ("shares", "turns"),
    [
        ([0.0, 0.5, 0.74], [False, False, False]),
        ([0.75, 2.0], [True, True]),
        ([0.9, 0.4, 0.31, 0.29, 0.4], [True, True, True, False, False]),
        ([0.9, 0.0, 0.9], [True, False, True]),
    ],
    ids=["calm", "busy", "what turns save is no reason to end them", "again and again"],
)
def test_turns_are_for_a_worker_that_needs_a_core_and_has_it(shares: list[float], turns: list[bool]) -> None:
    """``shares`` of a core were used between one look and the next; every thread has the policy afterwards."""
    sleepers = [_Sleeper(), _Sleeper()]
    used = iter([0.0, *accumulate(share / 4 for share in shares)])
    times = iter([0.0, *accumulate(0.25 for _ in shares)])
    try:
        subject = Turns(
            cpu_seconds=lambda: next(used),
            now=lambda: next(times),
            threads=lambda: [sleeper.native_id for sleeper in sleepers],
        )
        found = []
        for _ in shares:
            subject.look()
            policies = {os.sched_getscheduler(sleeper.native_id) for sleeper in sleepers}
            assert len(policies) == 1
            found.append(policies == {os.SCHED_BATCH})
        assert found == turns
    finally:
        for sleeper in sleepers:
            sleeper.end()


def test_a_thread_that_has_ended_meanwhile_is_left_out() -> None:
    """The list of threads is a moment old when the policy is set."""
    gone, there = _Sleeper(), _Sleeper()
    gone.end()
    used, times = iter([0.0, 1.0]), iter([0.0, 1.0])
    try:
        Turns(
            cpu_seconds=lambda: next(used),
            now=lambda: next(times),
            threads=lambda: [gone.native_id, there.native_id],
        ).look()
        assert os.sched_getscheduler(there.native_id) == os.SCHED_BATCH
    finally:
        there.end()


_PROCESS = """
import itertools, os, sys, threading
from service.turns import Turns
os.sched_setscheduler(0, int(sys.argv[1]), os.sched_param(0))
threading.Thread(target=sys.stdin.read, daemon=True).start()
looks = threading.Semaphore(0)
Turns(cpu_seconds=itertools.count().__next__, now=itertools.count().__next__).start()
for _ in range(600 if any(each.name == "gatekey-turns" for each in threading.enumerate()) else 0):
    policies = {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
    if policies == {os.SCHED_BATCH}:
        break
    looks.acquire(timeout=0.05)
print({os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")})
"""


@pytest.mark.parametrize(("chosen", "found"), [("SCHED_OTHER", "SCHED_BATCH"), ("SCHED_IDLE", "SCHED_IDLE")])
def test_a_policy_that_somebody_chose_for_the_service_stays(chosen: str, found: str) -> None:
    """In a process that is always busy: the usual policy gives way, for all its threads, and another one does not."""
    command = [sys.executable, "-c", _PROCESS, str(getattr(os, chosen))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read().strip() == str({getattr(os, found)})
