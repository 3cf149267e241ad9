"""What the processes do: workers, versions, CPU, memory, files, the event loop, HTTP, and what a scrape costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.links import dashboard as to
from dashboards.links import lines as to_lines
from dashboards.links import runbook, traces
from dashboards.page import Row, page
from dashboards.panels import ALERT, BAD, GOOD, graph, labels, stat
from dashboards.queries import answer_time, gauge, grew, missing_workers, quantile, rate, share

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

__all__ = ["dashboard"]

_DAY: Final = 86400
_CHOSEN: Final = '{job=~"$job",instance=~"$instance"}'


def dashboard() -> Dashboard:
    """The page for a process that is missing, busy, leaking or of another version."""
    rows = (
        Row(100, "Now", _now(), wide=(4,), high=4),
        Row(200, "Processes", _processes()),
        Row(300, "Load", _load()),
        Row(400, "HTTP and scrapes", _http()),
        Row(500, "Versions", (_versions(),), wide=(24,), high=4),
        Row(600, "Deaths, starts and certificates", _lives()),
    )
    return page("gatekey-workers", "Workers", "Worker processes, what they use and what they answer.", rows)


def _now() -> tuple[Panel, ...]:
    return (
        stat(
            101,
            "Instances down",
            "Scrape targets that do not answer.",
            f"count(up{_CHOSEN}) - sum(up{_CHOSEN})",
            good="0.",
            unit="short",
            limits=(1, 1),
            links=(runbook("GatekeyDown"),),
        ),
        stat(
            102,
            "Workers",
            "Workers that answered the last scrape, of all instances.",
            gauge("sum", "workers"),
            good="as many as are configured (GATEKEY_WORKERS for each instance).",
            unit="short",
            limits=((0, BAD), (1, GOOD)),
        ),
        stat(
            103,
            "Workers missing",
            "Workers that are configured and did not answer the last scrape.",
            missing_workers(),
            good="0; a killed worker is replaced within seconds.",
            unit="short",
            limits=(1, 1),
            links=(runbook("GatekeyWorkerMissing"),),
        ),
        stat(
            104,
            "Versions",
            "Different versions at work at the same time.",
            f"count({gauge('count', 'build_info', by='version')})",
            good="1, and 2 only while you roll out.",
            unit="short",
            limits=(2, 3),
            links=(runbook("GatekeyVersionSkew"),),
        ),
        stat(
            105,
            "Answers 5xx",
            "Share of HTTP answers that were the service's fault.",
            share("http_requests_total", 'status="5xx"'),
            good="0.",
            unit="percentunit",
            limits=(0.0005, 0.005),
            links=(to("gatekey-slo", "Objectives"), to_lines('outcome="error"')),
        ),
        stat(
            106,
            "Series of a target",
            "The most series that one scrape brought; it does not depend on the traffic.",
            f"max(scrape_samples_post_metric_relabeling{_CHOSEN})",
            good="at most 500.",
            unit="short",
            limits=(501, 501),
            links=(runbook("GatekeySeriesBudget"),),
        ),
    )


def _processes() -> tuple[Panel, ...]:
    return (
        graph(
            201,
            "Workers that answer",
            "By instance, beside what is configured for all that are shown (dashed).",
            [
                (gauge("sum", "workers", by="instance"), "{{instance}}"),
                (gauge("sum", "workers_configured"), "configured, all"),
            ],
            good="no step down; all instances together reach the dashed line.",
            unit="short",
            before=("configured, all",),
            links=(runbook("GatekeyWorkerMissing"),),
        ),
        graph(
            202,
            "Memory",
            "Resident memory of all workers, by instance.",
            [(gauge("sum", "process_resident_memory_bytes", by="instance"), "{{instance}}")],
            good="flat; a step down is a worker that was replaced.",
            unit="bytes",
        ),
        graph(
            203,
            "Open files",
            "Files and sockets, by instance.",
            [(gauge("sum", "process_open_fds", by="instance"), "{{instance}}")],
            good="flat in steady traffic, far from the limit (ulimit -n).",
            unit="short",
        ),
    )


def _load() -> tuple[Panel, ...]:
    return (
        graph(
            301,
            "CPU",
            "Cores in use by all workers of an instance.",
            [(rate("process_cpu_seconds_total", by="instance"), "{{instance}}")],
            good="below the number of workers.",
            unit="short",
        ),
        graph(
            302,
            "p99 of the loop's lag",
            "How late the event loop wakes a task: everything else in a worker waits as long.",
            [(quantile(0.99, "loop_lag_seconds", by="instance"), "{{instance}}")],
            good="below 10 ms.",
            unit="s",
            limits=(0.01, 0.1),
        ),
        graph(
            303,
            "Waiting and refused",
            "Decisions that wait for the store, and requests refused because too many wait, by instance.",
            [
                (gauge("sum", "decisions_in_flight", by="instance"), "waiting: {{instance}}"),
                (rate("shed_total", by="reason"), "refused a second: {{reason}}"),
            ],
            good="near 0.",
            unit="short",
            links=(runbook("GatekeyShedding"), to_lines('reason="overloaded"')),
        ),
    )


def _http() -> tuple[Panel, ...]:
    return (
        graph(
            401,
            "Requests by route",
            "Route groups; the doors are the proxies' questions.",
            [(rate("http_requests_total", by="route") + " > 0", "{{route}}")],
            good="as always at this hour.",
            unit="reqps",
            stacked=True,
        ),
        graph(
            402,
            "p99 of an answer, by route",
            "The whole HTTP request as the service sees it; a line at 1.2 s stands for that and more.",
            [(answer_time(), "{{route}}")],
            good="doors below 1 ms with a warm cache, pages below 0.1 s.",
            unit="s",
            limits=(0.1, 1),
            links=(traces("duration > 100ms"),),
        ),
        graph(
            403,
            "A scrape takes",
            "How long Prometheus waits for /metrics, by instance.",
            [(f"max by (instance) (scrape_duration_seconds{_CHOSEN})", "{{instance}}")],
            good="below 0.2 s; at 0.2 s a worker did not answer in time.",
            unit="s",
            limits=(0.2, 1),
        ),
    )


def _versions() -> Panel:
    return labels(
        501,
        "What is running",
        "Version, revision, Python and kind of store of every instance.",
        gauge("max", "build_info", by="instance, version, revision, python, store"),
        good="one version, but for the time of a roll-out.",
        hidden=("job",),
    )


def _lives() -> tuple[Panel, ...]:
    return (
        graph(
            601,
            "Workers that died",
            "In each minute, by instance: ended by themselves or could not start. Each is replaced, mostly between two scrapes.",
            [(grew("worker_deaths_total", window="1m", by="instance"), "{{instance}}")],
            good="0; three in an hour are told by an alert.",
            unit="short",
            limits=(1, 3),
            shown_to=3,
            links=(runbook("GatekeyWorkersDying"),),
        ),
        graph(
            602,
            "Running for",
            "Time since the service was started, by instance; with one worker since that worker was.",
            [(f"time() - {gauge('max', 'process_start_time_seconds', by='instance')}", "{{instance}}")],
            good="growing; a fall to 0 is a restart that you know of.",
            unit="s",
        ),
        graph(
            603,
            "Certificates end in",
            "Time until the certificates in use end, the first of all instances. Empty where Gatekey uses none.",
            [
                (
                    f"{gauge('min', 'tls_certificate_expiry_timestamp_seconds', by='certificate')} - time()",
                    "{{certificate}}",
                )
            ],
            good="weeks; a renewed file is in use after a restart.",
            unit="s",
            limits=((0, BAD), (2 * _DAY, ALERT), (14 * _DAY, GOOD)),
            links=(runbook("GatekeyCertificateExpiring"),),
        ),
    )
