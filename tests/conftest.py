"""Options and settings of the whole suite, and its search for secrets in whatever the tests print, log or measure."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.support import leaks

if TYPE_CHECKING:
    from collections.abc import Generator

if not os.environ.get("CI"):  # where it is set, hypothesis has a profile of its own, without this limit too
    settings.register_profile("gatekey", deadline=None)
    settings.load_profile("gatekey")

_late: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-all",
        action="store_true",
        default=bool(os.environ.get("CI")),
        help="fail where a program or server that a test needs is missing, instead of skipping (on when CI is set)",
    )


@pytest.fixture(scope="session")
def require_all(request: pytest.FixtureRequest) -> bool:
    """Whether a missing program fails instead of being skipped."""
    return bool(request.config.getoption("--require-all"))


def pytest_sessionstart() -> None:
    leaks.listen()


def pytest_collection_finish() -> None:
    """Thousands of tests are hundreds of thousands of objects: to go through them again and again stops every loop for long."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that leaks a secret fails when it is over; no report of a failure shows one."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--require-all"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        report.outcome = "failed"
        report.longrepr = f"with --require-all nothing may be skipped: {reason}"
    if report.longrepr is not None and report.failed:
        text = report.longreprtext
        if (safe := leaks.masked(text)) != text:
            report.longrepr = safe
    captured = [text for _, text in report.sections]
    report.sections = [(name, leaks.masked(text)) for name, text in report.sections]
    if report.when == "teardown":
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        problem = leaks.end_of_test(item.nodeid, captured, databases_in=folder)
        if problem:
            report.outcome = "failed"
            report.longrepr = "\n".join(filter(None, [report.longreprtext, problem]))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Secrets that a test registered after another one had printed them."""
    _late.extend(leaks.end_of_session())
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several processes (pytest-xdist), whose words only the first one can say
        output["late"] = list(_late)
    elif _late:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what one of several processes found when it ended."""
    _late.extend(getattr(node, "workeroutput", {}).get("late", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for where in _late:
        terminalreporter.write_line(f"FAILED a secret of the tests, registered later, stands in {where}", red=True)
