"""Each rule of the cache is broken on purpose in a copy of the source, and the rule's tests must then fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CACHE = "service/auth/cache.py"
AUTHENTICATOR = "service/auth/authenticator.py"
CREDENTIALS = "service/auth/credentials.py"

BREAKS: list[tuple[str, str, str, str]] = [
    ("1: age counts from the start", CACHE, "_compiled(found), started)", "_compiled(found), self._clock.age())"),
    ("1: records, no verdicts", AUTHENTICATOR, "wall=self._clock.wall(),", "wall=0.0,"),
    ("2: generation of a key", CACHE, "if generation == self._generations[stripe] and epoch", "if epoch"),
    ("2: epoch", CACHE, "and epoch == self._epoch:", "and True:"),
    ("2: who comes later loads again", CACHE, "self._loads.pop(api_key, None)  #", "#"),
    ("2: also after a bulk change", CACHE, "self._loads.clear()", "pass"),
    ("3: single flight", CACHE, "task = self._loads.get(api_key)", "task = None"),
    ("3: own deadlines", CACHE, "asyncio.wait({task}, timeout=budget)", "asyncio.wait({task}, timeout=None)"),
    ("3: a waiter cancels nothing", CACHE, "self._waiting -= 1", "self._waiting -= 1; task.cancel()"),
    ("4: negative entries", CACHE, "self._negative[api_key] = entry", "pass"),
    ("4: briefly", CACHE, "now - entry.loaded_at >= self._negative_ttl", "False"),
    (
        "4: a budget of their own",
        CACHE,
        "            self._negative[api_key] = entry",
        "            self._entries[api_key] = entry",
    ),
    ("4: removed by an announcement", CACHE, " or self._negative.pop(api_key, None) is not None", ""),
    ("5: a bad checksum asks nobody", CREDENTIALS, "or _refused_key(api_key) or", "or"),
    (
        "6: trust ends with the heartbeats",
        CACHE,
        "if self._clock.age() - self._heartbeat_at > self._stale_if_error:",
        "if False:",
    ),
    ("6: never for a critical key", CACHE, " or entry.loaded.record.critical", ""),
    ("6: it can only allow", AUTHENTICATOR, "if REASONS[reason].outcome is Outcome.ALLOW:", "if True:"),
    ("8: a fresh read before bad_secret", AUTHENTICATOR, "if reason is Reason.BAD_SECRET and not", "if False and not"),
    ("8: at most one a second", CACHE, "if now - entry.reread_at < _REREAD_INTERVAL:", "if False:"),
    ("9: refreshed before the end", CACHE, "self._loop.call_soon_threadsafe(self._refresh, api_key)", "pass"),
    (
        "10: the injected clock",
        CACHE,
        "now = self._clock.age()\n        entry",
        "import time; now = time.monotonic()\n        entry",
    ),
    ("11: bounded", CACHE, "            self._evict()", "            pass"),
    ("11: bounded for unknown keys", CACHE, "self._negative.popitem(last=False)", "pass"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source and the tests of the decision, apart from the checkout."""
    target = tmp_path_factory.mktemp("broken")
    for name in ("service", "backends", "tests/support", "tests/unit/auth"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def run_rule_tests(folder: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", "--no-cov"]
    tests = [f"tests/unit/auth/test_{name}.py" for name in ("cache", "authenticator", "credentials")]
    done = subprocess.run([*command, *tests], cwd=folder, capture_output=True, check=False, timeout=60)
    return done.returncode


def test_the_copy_passes_unbroken(copy: Path) -> None:
    """Otherwise the tests below would prove nothing."""
    assert run_rule_tests(copy) == 0


@pytest.mark.parametrize(("file", "right", "broken"), [row[1:] for row in BREAKS], ids=[row[0] for row in BREAKS])
def test_breaking_the_rule_fails_a_test(copy: Path, file: str, right: str, broken: str) -> None:
    """A rule without a test that notices is no rule."""
    path = copy / file
    source = path.read_text(encoding="utf-8")
    assert source.count(right) == 1, "the rule's line has moved: adapt the table"
    path.write_text(source.replace(right, broken), encoding="utf-8")
    try:
        assert run_rule_tests(copy) == 1
    finally:
        path.write_text(source, encoding="utf-8")
