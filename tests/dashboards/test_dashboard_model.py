"""What every dashboard and panel must have: the JSON is what the code makes, and nothing depends on one installation."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from dashboards import files
from tests.support.dashboards import ALERTS, DASHBOARDS, FOLDER, NAMES, ROOT, panels

MADE = dict(files())
PANELS = [(name, panel) for name in NAMES for panel in panels(name)]
IDS = [f"{name}-{panel['id']}" for name, panel in PANELS]
SOURCES = ("${prometheus_datasource}", "${loki_datasource}", "${tempo_datasource}")

NO_LIMIT = {
    "Customers refused, by reason": "what is usual differs; the grey line is last week's",
    "Strangers refused, by reason": "likewise, and no harm by itself",
    "Decisions by outcome": "traffic has no right amount; the colours say what is bad",
    "Decisions, beside last week's": "likewise; the grey line is last week's",
    "Look-ups in the cache": "likewise; stale is red",
    "Look-ups by result": "likewise; stale is red",
    "Store operations by result": "likewise; what is bad is red",
    "Operations": "likewise",
    "Operations without an answer": "any is bad, so that what is drawn at all is",
    "Errors by reason": "likewise",
    "Slower than 10 ms, by source": "likewise; the limit is in the heatmap and the budget",
    "Mistakes of proxies and shadow mode": "likewise",
    "Changes of keys": "what operators do",
    "Changes that arrived": "likewise; reconnect is red",
    "Keys by state": "an inventory",
    "Entries that left": "lru is red",
    "Workers and what waits": "depends on what is configured",
    "Workers that answer": "the dashed line is what there should be",
    "Running for": "a fall is what counts",
    "Waiting and refused": "depends on the traffic",
    "Connections, breaker, link": "three things with a scale of their own",
    "Decisions and their lines": "one line must lie upon the other",
    "Sign-in and rate limits": "depends on the traffic",
    "Requests by route": "likewise",
    "CPU": "depends on the number of workers",
    "Memory": "depends on the machine",
    "Open files": "depends on the machine",
    "Distribution of the time to decide": "a heatmap; the panels above have the limits",
    "What is running": "a table of labels",
    "Errors and refused customers": "lines of the log",
    "Denials and errors": "lines of the log",
}
"""Panels without a threshold, and why."""


def links(panel: dict[str, Any]) -> list[dict[str, Any]]:
    overrides = [prop for item in panel["fieldConfig"]["overrides"] for prop in item["properties"]]
    return [
        *panel["fieldConfig"]["defaults"].get("links", []),
        *(link for prop in overrides if prop["id"] == "links" for link in prop["value"]),
    ]


LINKS = [(name, panel, link) for name, panel in PANELS for link in links(panel)]


@pytest.mark.parametrize("file", sorted(MADE))
def test_a_committed_dashboard_is_what_the_code_makes(file: str) -> None:
    """Whoever changes one without the other finds out here; ``python -m dashboards`` writes them."""
    assert (FOLDER / file).read_text(encoding="utf-8") == MADE[file]


def test_there_is_no_dashboard_that_nothing_makes() -> None:
    """A file left behind by a renamed page would go stale unseen."""
    assert {f"{name}.json" for name in NAMES} == set(MADE)
    assert len(NAMES) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_has_the_settings_of_all(name: str) -> None:
    """Read-only, UTC, one crosshair, a name for links, the current schema."""
    dashboard = DASHBOARDS[name]
    settings = {key: dashboard[key] for key in ("uid", "editable", "timezone", "graphTooltip", "schemaVersion", "tags")}
    assert settings == {
        "uid": name,
        "editable": False,
        "timezone": "utc",
        "graphTooltip": 1,
        "schemaVersion": 42,  # a plain `pip install` of the SDK brings one that makes 36
        "tags": ["gatekey"],
    }
    assert dashboard["title"].startswith("Gatekey / ")


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_has_a_number_of_its_own(name: str) -> None:
    """Given by hand, in the hundred of its row, so that it stays when panels move."""
    row = 0
    numbers = []
    for panel in DASHBOARDS[name]["panels"]:
        if panel["type"] == "row":
            assert panel["id"] % 100 == 0
            row = panel["id"]
            numbers.append(row)
        for inner in panel.get("panels", []) if panel["type"] == "row" else [panel]:
            assert row < inner["id"] < row + 100, inner["title"]
            numbers.append(inner["id"])
    assert all(before < after for before, after in pairwise(numbers))


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap(name: str) -> None:
    """Each has a place of its own in the grid; rows follow each other without a gap."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len(taken) == 24 * (max(y for _, y in taken) + 1)


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=IDS)
def test_a_panel_says_what_it_shows_and_what_is_good(name: str, panel: dict[str, Any]) -> None:
    """Title, description with a sentence on what is good, and a unit."""
    assert panel["title"], name
    assert re.fullmatch(r".{30,} Good: .+\.", panel["description"]), panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=IDS)
def test_a_panel_has_limits_or_a_reason_for_none(name: str, panel: dict[str, Any]) -> None:
    """The first step has no value, the others grow; a board's and a table's are part of its kind."""
    assert name
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps[0]["value"] is None
    values = [step["value"] for step in steps[1:]]
    assert values == sorted(values)
    if not values:
        assert panel["title"] in NO_LIMIT


def test_no_reason_for_a_missing_limit_is_left_over() -> None:
    """A panel that was renamed or has got a limit leaves the list."""
    without = {
        panel["title"] for _, panel in PANELS if len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) == 1
    }
    assert set(NO_LIMIT) == without


@pytest.mark.parametrize("name", NAMES)
def test_no_data_source_is_written_down(name: str) -> None:
    """Panels, queries, annotations and variables name one of the variables."""

    def sources(value: Any) -> list[Any]:
        if isinstance(value, list):
            return [found for item in value for found in sources(item)]
        if isinstance(value, dict):
            own = [value["datasource"]] if "datasource" in value else []
            return own + [found for item in value.values() for found in sources(item)]
        return []

    found = sources(DASHBOARDS[name])
    assert len(found) > 20
    assert all(source["uid"] == f"${{{source['type']}_datasource}}" for source in found)


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_asks_for_data_sources_job_and_instance(name: str) -> None:
    """Job and instance are chosen from what is there, all of them at first, and read again when the time changes."""
    variables = {item["name"]: item for item in DASHBOARDS[name]["templating"]["list"]}
    assert set(variables) == {*(source[2:-1] for source in SOURCES), "job", "instance", "logs", "runbooks"}
    for label in ("job", "instance"):
        chosen = variables[label]
        assert (chosen["multi"], chosen["includeAll"], chosen["allValue"], chosen["refresh"]) == (True, True, ".+", 2)
        assert chosen["current"]["value"] == ["$__all"]


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_to_the_service_is_marked_in_every_panel(name: str) -> None:
    """Firing alerts, new versions, restarts and bursts of revocations."""
    marks = {item["name"]: item for item in DASHBOARDS[name]["annotations"]["list"]}
    assert set(marks) == {"Firing alerts", "New version", "Restart", "Revocations"}
    assert all(mark["enable"] for mark in marks.values())


@pytest.mark.parametrize("name", NAMES)
def test_dashboards_link_to_each_other_and_keep_time_and_variables(name: str) -> None:
    """The list at the top finds them by their tag."""
    (link,) = DASHBOARDS[name]["links"]
    assert (link["type"], link["tags"], link["includeVars"], link["keepTime"]) == (
        "dashboards",
        ["gatekey"],
        True,
        True,
    )


@pytest.mark.parametrize(("name", "panel", "link"), LINKS, ids=range(len(LINKS)))
def test_a_panels_link_leads_somewhere_with_time_and_variables(
    name: str, panel: dict[str, Any], link: dict[str, Any]
) -> None:
    """To a dashboard that exists, to a runbook that exists, or to lines and traces of the same time."""
    url = urlsplit(link["url"])
    if link["url"].startswith("${runbooks}/"):
        alert = link["url"].removeprefix("${runbooks}/").removesuffix(".md")
        assert alert in ALERTS or alert == "${__data.fields.alertname}", (name, panel["title"])
    elif url.path.startswith("/d/"):
        assert url.path.removeprefix("/d/") in set(NAMES) - {name}, panel["title"]
        assert url.query == "${__url_time_range}&${__all_variables}"
    else:
        assert url.path == "/explore"
        # Grafana fills the variables in; none of their values has a character that JSON would mind.
        (pane,) = json.loads(parse_qs(url.query)["panes"][0]).values()
        assert pane["datasource"] in SOURCES[1:]
        assert pane["range"] == {"from": "${__from}", "to": "${__to}"}


def test_panels_lead_to_lines_with_the_same_reason_and_to_traces() -> None:
    """The two ways from a number to a single request."""
    by_reason = [
        panel
        for _, panel in PANELS
        if any("by (reason) (rate(gatekey_decisions_total" in target["expr"] for target in panel["targets"])
    ]
    assert len(by_reason) >= 6
    for panel in by_reason:
        assert any("${__field.labels.reason}" in link["url"] for link in links(panel)), panel["title"]
    timed = [panel for _, panel in PANELS if "ime to decide" in panel["title"]]
    assert len(timed) >= 2
    for panel in timed:
        assert any("${tempo_datasource}" in link["url"] for link in links(panel)), panel["title"]


def test_every_page_of_a_dashboard_is_shown_in_the_docs() -> None:
    """docs/dashboards.md has a picture of each, which exists."""
    page = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"images/{name}.png" in page
        assert (ROOT / "docs" / "images" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
