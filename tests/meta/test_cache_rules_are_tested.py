"""Each rule of the cache is broken on purpose in a copy of the source, and the test that guards it must then fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CACHE = "service/auth/cache.py"
LOADS = "service/auth/loads.py"
LANES = "service/auth/lanes.py"
AUTHENTICATOR = "service/auth/authenticator.py"
CREDENTIALS = "service/auth/credentials.py"
RULES = set(range(1, 12))  # of 7, what the cache itself does; the rest is kept by the stores and the contract suite


class Break(NamedTuple):
    """``right`` stands in ``file`` once; with ``broken`` in its place, ``guard`` (module::test) must fail."""

    name: str
    file: str
    right: str
    broken: str
    guard: str


BREAKS = [
    Break(
        "1: age counts from the start",
        CACHE,
        "LoadedKey(found), started)",
        "LoadedKey(found), self._clock.age())",
        "cache::test_age_counts_from_the_start_of_the_load",
    ),
    Break(
        "1: records, no verdicts",
        AUTHENTICATOR,
        "            wall=wall,",
        "            wall=0.0,",
        "authenticator::test_a_key_expires_in_the_middle_of_its_time_in_the_cache",
    ),
    Break(
        "2: generation of a key",
        CACHE,
        "if generation == self._generations[stripe] and epoch",
        "if epoch",
        "cache::test_a_load_that_began_before_an_invalidation_does_not_fill_the_cache",
    ),
    Break(
        "2: epoch",
        CACHE,
        "and epoch == self._epoch:",
        "and True:",
        "cache::test_a_load_that_began_before_an_invalidation_does_not_fill_the_cache",
    ),
    Break(
        "2: who comes later loads again",
        CACHE,
        "self._loads.forget(api_key)  #",
        "#",
        "cache::test_who_comes_after_an_invalidation_starts_a_load_of_its_own",
    ),
    Break(
        "2: also after a bulk change",
        CACHE,
        "self._loads.forget_all()",
        "pass",
        "cache::test_who_comes_after_an_invalidation_starts_a_load_of_its_own",
    ),
    Break(
        "3: single flight",
        LOADS,
        "load = self._loads.get(api_key)\n        if lane",
        "load = None\n        if lane",
        "cache::test_a_thousand_callers_cause_one_load",
    ),
    Break(
        "3: own deadlines",
        LOADS,
        "loop.call_later(budget, _settle, waiter, None)",
        "loop.call_later(0.2, _settle, waiter, None)",
        "cache::test_a_waiter_with_more_time_waits_longer",
    ),
    Break(
        "3: a waiter cancels nothing",
        LOADS,
        "            lane.waiting -= 1\n",
        "            lane.waiting -= 1; load.task.cancel()\n",
        "cache::test_a_waiter_that_leaves_does_not_cancel_the_load",
    ),
    Break(
        "3: an error is not kept",
        LOADS,
        "            del self._loads[load.api_key]",
        "            pass",
        "cache::test_an_error_is_shared_but_never_kept",
    ),
    Break(
        "4: negative entries",
        CACHE,
        "self._negative[api_key] = entry",
        "pass",
        "cache::test_an_unknown_key_is_remembered_briefly",
    ),
    Break(
        "4: briefly",
        CACHE,
        "self._negative.get(api_key), self._negative_ttl",
        "self._negative.get(api_key), 1e9",
        "cache::test_an_unknown_key_is_remembered_briefly",
    ),
    Break(
        "4: a budget of their own",
        CACHE,
        "            self._negative[api_key] = entry",
        "            self._entries[api_key] = entry",
        "cache::test_random_keys_never_evict_real_ones",
    ),
    Break(
        "4: removed by an announcement",
        CACHE,
        " or self._negative.pop(api_key, None) is not None",
        "",
        "cache::test_creating_a_key_removes_its_negative_entry",
    ),
    Break(
        "5: a bad checksum asks nobody",
        CREDENTIALS,
        "or _refused(api_key) or",
        "or",
        "credentials::test_what_a_client_sends_is_one_pair_or_a_reason",
    ),
    Break(
        "5: an unusable credential asks nobody",
        AUTHENTICATOR,
        "        if isinstance(credentials, Reason):\n            return Decision(credentials)\n        entry",
        "        if isinstance(credentials, Reason):\n            self._cache.peek(''); return None\n        entry",
        "authenticator::test_unusable_credentials_touch_neither_cache_nor_store",
    ),
    Break(
        "6: trust ends with the signs of life",
        CACHE,
        "if self._clock.age() - self._heartbeat_at > self._stale_if_error:",
        "if False:",
        "cache::test_stale_trust_ends_after_the_last_heartbeat",
    ),
    Break(
        "6: no trust before the first one",
        CACHE,
        'self._heartbeat_at = float("-inf")',
        "self._heartbeat_at = clock.age()",
        "cache::test_there_is_no_trust_before_the_first_sign_of_life",
    ),
    Break(
        "6: never after an invalidation",
        CACHE,
        "if self._entries.pop(api_key, None) is not None or",
        "if self._entries.get(api_key, None) is not None or",
        "cache::test_no_stale_answer_after_an_invalidation",
    ),
    Break(
        "6: never for a critical key",
        CACHE,
        " or entry.loaded.terms.critical",
        "",
        "cache::test_no_stale_answer_for_a_critical_key",
    ),
    Break(
        "6: it can only allow",
        AUTHENTICATOR,
        "if not decision.allowed:",
        "if False:",
        "authenticator::test_a_stale_record_never_denies",
    ),
    Break(
        "6: nobody waits to learn again that the store does not answer",
        CACHE,
        "known.unanswered_at = self._clock.age()",
        "pass",
        "authenticator::test_who_comes_after_a_look_up_without_an_answer_does_not_wait_for_another",
    ),
    Break(
        "6: the store is asked again behind the callers' backs",
        CACHE,
        "if since >= _REREAD_INTERVAL:",
        "if False:",
        "authenticator::test_a_store_that_did_not_answer_is_asked_again_once_a_second",
    ),
    Break(
        "6: silence makes entries old",
        CACHE,
        "(age >= _UNTRUSTED_LINK_TTL and now - self._heartbeat_at > _LINK_SILENCE)",
        "False",
        "cache::test_while_announcements_are_missing_entries_are_read_again_after_five_seconds",
    ),
    Break(
        "7: an old heartbeat vouches for nothing new",
        CACHE,
        "self._clock.age() - delay)",
        "self._clock.age())",
        "cache::test_a_heartbeat_vouches_for_the_time_when_it_was_sent",
    ),
    Break(
        "7: an answer from before a pause proves nothing",
        CACHE,
        " or self._clock.age() - started > LOAD_LIMIT:",
        ":",
        "cache::test_an_answer_from_before_a_pause_proves_nothing",
    ),
    Break(
        "8: a fresh read before bad_secret",
        AUTHENTICATOR,
        "if decision.reason is Reason.BAD_SECRET and not self._cache.is_recent(entry):\n            return None",
        "if False:\n            return None",
        "authenticator::test_a_rotated_secret_is_accepted_although_the_old_record_is_cached",
    ),
    Break(
        "8: a fresh one indeed",
        AUTHENTICATOR,
        "if decision.reason is Reason.BAD_SECRET and not self._cache.is_recent(entry):\n            return Decision",
        "if False:\n            return Decision",
        "authenticator::test_a_wrong_secret_is_not_refused_by_a_record_that_was_long_on_its_way",
    ),
    Break(
        "8: at most one a second",
        CACHE,
        "if now - entry.reread_at < _REREAD_INTERVAL:",
        "if False:",
        "cache::test_a_wrong_secret_causes_at_most_one_fresh_read_a_second",
    ),
    Break(
        "9: refreshed before the end",
        CACHE,
        "loop.call_soon_threadsafe(self._refresh, api_key)",
        "pass",
        "cache::test_a_hot_key_is_read_again_before_it_expires",
    ),
    Break(
        "9: also before silence makes entries old",
        CACHE,
        "age >= _UNTRUSTED_REFRESH and",
        "False and",
        "cache::test_while_announcements_are_missing_entries_are_read_again_before_anybody_waits",
    ),
    Break(
        "9: not again and again",
        CACHE,
        "entry.refresh_at = now + 1.0",
        "pass",
        "cache::test_a_refresh_that_fails_leaves_the_entry",
    ),
    Break(
        "10: ages from the injected clock",
        CACHE,
        "now = self._clock.age()\n        entry",
        "import time; now = time.monotonic()\n        entry",
        "cache::test_while_announcements_are_missing_entries_are_read_again_after_five_seconds",
    ),
    Break(
        "10: expiry from the injected clock",
        AUTHENTICATOR,
        "wall = self._clock.wall()",
        "wall = __import__('time').time()",
        "authenticator::test_the_reason_follows_the_order_of_the_contract",
    ),
    Break(
        "11: bounded",
        CACHE,
        "            self._evict()",
        "            pass",
        "cache::test_eviction_is_bounded_when_every_entry_is_used",
    ),
    Break(
        "11: bounded for unknown keys",
        CACHE,
        "self._negative.popitem(last=False)",
        "pass",
        "cache::test_random_keys_never_evict_real_ones",
    ),
    Break(
        "11: bounded in who waits",
        LOADS,
        "lane.waiting >= self._max_waiting or",
        "False or",
        "cache::test_more_misses_than_allowed_are_shed",
    ),
    Break(
        "11: strangers leave room",
        LOADS,
        "Lane(max_loads - max_loads // 4,",
        "Lane(max_loads,",
        "cache::test_strangers_leave_room_for_known_keys",
    ),
    Break(
        "11: bounded in what is loading",
        LOADS,
        "running < self._max_loads and running",
        "running",
        "loads::test_known_keys_are_served_first",
    ),
    Break(
        "2: what was not asked yet is asked after the change",
        LOADS,
        "if load is not None and load.has_begun:",
        "if load is not None:",
        "loads::test_a_change_moves_nobody_who_waits_for_a_turn",
    ),
    Break(
        "3: a turn that everybody left is not taken",
        LOADS,
        "            load.lane.queue.pop(load.api_key, None)\n",
        "            pass\n",
        "loads::test_a_turn_that_everybody_left_is_not_taken",
    ),
    Break(
        "3: a turn that ends is given to the next",
        LOADS,
        "        self._finish(load, found)\n        self._start_next()",
        "        self._finish(load, found)",
        "loads::test_turns_are_given_in_the_order_of_arrival",
    ),
    Break(
        "11: known keys first",
        LOADS,
        "for lane in (self._known, self._strangers):\n            while lane.queue and lane.has_turn",
        "for lane in (self._strangers, self._known):\n            while lane.queue and lane.has_turn",
        "loads::test_known_keys_are_served_first",
    ),
    Break(
        "11: no more made-up keys than this",
        LANES,
        "return self._left + (now - self._counted_at) * self._rate - expected >= 1",
        "return True",
        "loads::test_a_flood_of_made_up_keys_is_refused_at_once",
    ),
    Break(
        "11: a flood's own queue counts",
        LANES,
        "expected = self._nothing * (len(self.queue) + self.running)",
        "expected = 0.0",
        "loads::test_whoever_waits_is_taken_to_find_what_the_latest_found",
    ),
    Break(
        "11: few at a time in a flood",
        LANES,
        "(self._turns_in_flood if self.is_paced() else self._turns)",
        "self._turns",
        "loads::test_a_flood_has_few_turns",
    ),
    Break(
        "11: whoever waits in vain counts",
        LOADS,
        "                lane.left(self._clock.age())\n",
        "",
        "loads::test_a_flood_spends_what_it_may_also_by_waiting",
    ),
    Break(
        "11: one by one in a flood",
        LOADS,
        "            load.lane.paused = True\n",
        "            pass\n",
        "loads::test_a_flood_comes_one_by_one",
    ),
    Break(
        "11: and then the next",
        LOADS,
        "        lane.paused = False\n",
        "        pass\n",
        "loads::test_a_burst_of_made_up_keys_is_answered",
    ),
    Break(
        "11: a flood ends with what somebody has",
        LANES,
        "self._nothing >= _FLOOD and",
        "True and",
        "loads::test_new_keys_that_somebody_has_end_a_flood",
    ),
    Break(
        "11: a flood makes no known key a stranger",
        CACHE,
        "api_key not in self._entries and self._loads.turns_away(api_key)",
        "self._loads.turns_away(api_key)",
        "authenticator::test_a_known_key_is_no_stranger_in_a_flood",
    ),
    Break(
        "11: a flood keeps nobody from joining",
        LOADS,
        "if api_key in self._loads or self._strangers.admits",
        "if self._strangers.admits",
        "loads::test_who_asks_for_what_is_being_looked_up_joins_in_a_flood",
    ),
    Break(
        "11: new keys that somebody has are no flood",
        LOADS,
        "nothing=found.loaded is None",
        "nothing=True",
        "loads::test_new_keys_that_somebody_has_are_no_flood",
    ),
    Break(
        "11: bounded in what hangs",
        LOADS,
        "running + len(self._given_up) < 2 * self._max_loads",
        "True",
        "loads::test_what_hangs_is_bounded_and_its_end_makes_room",
    ),
]

RUNNER = """
import os, sys
import pytest
import hypothesis.stateful, tests.support.stores, service.auth.authenticator  # what they import is kept for all runs
for name in list(sys.modules):
    if name.partition(".")[0] in ("service", "backends", "tests"):
        del sys.modules[name]
options = ["-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", "--no-cov", "--tb=line"]
options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what was imported already is not rewritten, nor need be
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        os.dup2(2, 1)
        try:
            status = pytest.main([*options, *line.split()])
        except BaseException as error:
            print(repr(error), flush=True)
            status = 99  # not 1, which says that a test failed
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""One process that has imported everything but our own source, and forks for each line of tests it is given."""


class Copy:
    """The source and the tests of the decision, apart from the checkout, and a process that runs the tests there."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder = folder
        self._writes = 0
        for name in ("service", "backends", "tests/support", "tests/unit/auth"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the unbroken modules need not be compiled again for each run
        with output.open("wb") as errors:
            self._runner = subprocess.Popen(
                [sys.executable, "-c", RUNNER],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def run(self, guards: set[str]) -> int:
        """Pytest's exit status: 0 all passed, 1 some failed, more where they could not run."""
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        tests = [f"tests/unit/auth/test_{guard.replace('::', '.py::')}" for guard in sorted(guards)]
        self._runner.stdin.write(" ".join(tests) + "\n")
        self._runner.stdin.flush()
        return int(self._runner.stdout.readline())

    def write(self, file: str, text: str) -> None:
        """Change a module; never with the time of an earlier change, or the bytecode of that one would run."""
        path = self.folder / file
        path.write_text(text, encoding="utf-8")
        self._writes += 1
        os.utime(path, (self._writes, self._writes))

    def close(self) -> None:
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        self._runner.stdin.close()
        self._runner.wait(60)
        self._runner.stdout.close()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    copy = Copy(tmp_path_factory.mktemp("broken"), tmp_path_factory.mktemp("output") / "output.txt")
    yield copy
    copy.close()


def test_every_rule_is_broken_at_least_once() -> None:
    """And every rule stands in docs/cache.md by the same number."""
    assert {int(row.name.partition(":")[0]) for row in BREAKS} == RULES
    text = (ROOT / "docs/cache.md").read_text(encoding="utf-8")
    assert {int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)} == RULES


def test_the_copy_passes_unbroken(copy: Copy) -> None:
    """Otherwise the tests below would prove nothing."""
    assert copy.run({row.guard for row in BREAKS}) == 0


@pytest.mark.parametrize("row", BREAKS, ids=[row.name for row in BREAKS])
def test_breaking_the_rule_fails_its_test(copy: Copy, row: Break) -> None:
    """A rule without a test that notices is no rule."""
    source = (copy.folder / row.file).read_text(encoding="utf-8")
    assert source.count(row.right) == 1, "the rule's line has moved: adapt the table"
    copy.write(row.file, source.replace(row.right, row.broken))
    try:
        assert copy.run({row.guard}) == 1
    finally:
        copy.write(row.file, source)
