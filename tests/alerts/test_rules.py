"""The rules for Prometheus hold what promtool's tests of them say, and every alert has one that it passes both ways."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.alerts import (
    DASHBOARDS,
    RULE_FILES,
    RUNBOOKS,
    TEST_FILES,
    alert_names,
    alerts,
    ids,
    promtool,
    read,
    rules,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.alerts import Rule

ALWAYS = {"GatekeyWatchdog"}
"""Alerts that are meant to fire without end."""
NO_FIGURE = {"GatekeyDown", "GatekeyAbsent", "GatekeyWatchdog"}
"""Alerts about something that is there or not."""
GRAFANA = "https://grafana.example.com/d/"
DOCS = "https://gatekey.example.com/docs/runbooks/"


def minutes(text: str) -> float:
    """A duration of Prometheus."""
    units = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


def expectations() -> dict[str, list[tuple[float, list[dict[str, Any]]]]]:
    """What the tests expect of each alert: minute and firing alerts, one list for each test."""
    found: dict[str, list[tuple[float, list[dict[str, Any]]]]] = {}
    for path in TEST_FILES:
        for number, test in enumerate(read(path)["tests"]):
            for case in test.get("alert_rule_test", ()):
                key = f"{case['alertname']} {path.stem} {number}"
                found.setdefault(key, []).append((minutes(case["eval_time"]), case["exp_alerts"]))
    return found


EXPECTATIONS = expectations()


@pytest.mark.usefixtures("promtool")
def test_the_rules_pass_every_check_of_promtool() -> None:
    """Syntax, templates, and no rule that another one of the same file repeats."""
    code, printed = promtool("check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)
    assert code == 0, printed


@pytest.mark.usefixtures("promtool")
@pytest.mark.parametrize("path", TEST_FILES, ids=ids(TEST_FILES))
def test_the_alerts_fire_when_they_should(path: Path) -> None:
    """And not before, and no longer."""
    code, printed = promtool("test", "rules", path)
    assert code == 0, printed


@pytest.mark.parametrize("path", TEST_FILES, ids=ids(TEST_FILES))
def test_tests_name_every_group_in_the_order_of_evaluation(path: Path) -> None:
    """Otherwise promtool evaluates groups in any order, and a test holds today and fails tomorrow."""
    content = read(path)
    files = [(path.parent / name).resolve() for name in content["rule_files"]]
    assert content["group_eval_order"] == [group["name"] for file in files for group in read(file)["groups"]]


@pytest.mark.parametrize("alert", [rule for rule in alerts() if rule.name not in ALWAYS], ids=lambda rule: rule.name)
def test_every_alert_is_seen_quiet_then_firing_then_over(alert: Rule) -> None:
    """Within one of its tests; those with a wait also at the last moment before it is over."""
    for key, cases in EXPECTATIONS.items():
        mine = [
            (at, [one for one in firing if _is(alert, one)]) for at, firing in cases if key.split()[0] == alert.name
        ]
        first = next((index for index, (_, firing) in enumerate(mine) if firing), 0)
        if first and not mine[-1][1] and not mine[first - 1][1]:
            return
    pytest.fail(f"no test sees {alert.name} {alert.labels} begin and end")


def _is(alert: Rule, firing: dict[str, Any]) -> bool:
    return all(firing["exp_labels"].get(label) == value for label, value in alert.labels.items())


def test_what_always_fires_is_tested_too() -> None:
    """From the first moment."""
    for name in ALWAYS:
        assert any(key.startswith(f"{name} ") and cases[0][1] for key, cases in EXPECTATIONS.items())


@pytest.mark.parametrize("alert", alerts(), ids=lambda rule: rule.name)
def test_every_alert_says_how_urgent_it_is_what_is_the_matter_and_where_to_look(alert: Rule) -> None:
    """The figure is written for people; both links lead to something that is there."""
    assert alert.name.startswith("Gatekey")
    assert alert.labels["severity"] == ("none" if alert.name in ALWAYS else alert.labels["severity"])
    assert alert.labels["severity"] in {"page", "ticket", "none"}
    assert set(alert.annotations) == {"summary", "description", "dashboard_url", "runbook_url"}
    texts = alert.annotations["summary"], alert.annotations["description"]
    assert all((text.endswith(".") and text[0].isupper()) or text.startswith("{{") for text in texts)
    assert (re.search(r"\{\{ \$value \| humanize\w* \}\}", " ".join(texts)) is None) == (alert.name in NO_FIGURE)
    assert "$value }}" not in " ".join(texts)
    assert alert.annotations["runbook_url"] == f"{DOCS}{alert.name}.md"
    assert (RUNBOOKS / f"{alert.name}.md").is_file()


def test_an_alerts_name_and_labels_are_its_own() -> None:
    """Two rules that look alike to whoever is woken cannot be told apart."""
    seen = [(alert.name, tuple(sorted(alert.labels.items()))) for alert in alerts()]
    assert len(seen) == len(set(seen))


def test_a_denial_wakes_nobody_for_availability() -> None:
    """Only errors count as bad; promtool's tests have a flood of denials besides."""
    for rule in rules():
        if rule.labels.get("slo") == "availability" and not rule.is_alert and "bad" in rule.name:
            assert re.findall(r"gatekey_decisions_total\{([^}]*)\}", rule.expr) == ['outcome="error"']


def test_what_must_wake_somebody_is_there() -> None:
    """The list that operators were promised."""
    assert set(alert_names()) >= {
        f"Gatekey{name}"
        for name in (
            "Down", "Absent", "ErrorBudgetBurn", "StoreDown", "StoreErrors", "StorePoolSaturated", "BreakerOpen",
            "InvalidationLinkDown", "RevocationSlow", "StaleAnswers", "LogLinesDropped", "KnownKeyDenials", "KeyGuessing",
            "TrafficVanished", "CacheThrash", "KeysExpiring", "CertificateExpiring", "VersionSkew", "WorkerMissing",
            "WorkersDying", "SeriesBudget", "Watchdog",
        )
    }  # fmt: skip


@pytest.mark.parametrize("path", [*RULE_FILES, *TEST_FILES], ids=ids([*RULE_FILES, *TEST_FILES]))
def test_each_file_says_what_it_is_about(path: Path) -> None:
    """In its first line."""
    assert re.match(r"# [A-Z].{15,}", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("alert", alerts(), ids=lambda rule: rule.name)
def test_the_dashboard_of_an_alert_exists(alert: Rule) -> None:
    """Under the identifier that the link names."""
    link = alert.annotations["dashboard_url"]
    assert link.startswith(GRAFANA)
    uids = {read(path)["uid"] for path in DASHBOARDS.glob("*.json")}  # JSON is YAML
    assert re.split(r"[?/]", link.removeprefix(GRAFANA))[0] in uids
