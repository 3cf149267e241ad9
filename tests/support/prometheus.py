"""A real Prometheus on a free loopback port that scrapes every second, in a folder of its own, ended by its process id."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.support.servers import Process, clean_environment, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

JOB = "gatekey"
INSTANCE = "gatekey-1"
_STEP = 2.0  # seconds between two samples of what was measured before


def missing() -> str:
    """What this machine lacks, ``""`` for nothing."""
    return "" if shutil.which("prometheus") and shutil.which("promtool") else "install Debian's prometheus"


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What promtool says."""
    program = shutil.which("promtool")
    assert program is not None, "look at missing() first"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


class Prometheus(Process):
    """``targets`` are instance -> ``host:port``; ``past`` is OpenMetrics text with what was measured before."""

    def __init__(self, folder: Path, targets: Mapping[str, str], *, rules: Iterable[Path] = (), past: str = "") -> None:
        data = folder / "data"
        if past:
            (folder / "past.om").write_text(past)
            done = promtool("tsdb", "create-blocks-from", "openmetrics", folder / "past.om", data)
            assert done.returncode == 0, done.stderr
        config = folder / "prometheus.yml"
        config.write_text(json.dumps(_configuration(targets, rules)))  # JSON is YAML
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        program = shutil.which("prometheus")
        assert program is not None, "look at missing() first"
        options = [f"--config.file={config}", f"--storage.tsdb.path={data}", "--enable-feature=exemplar-storage"]
        options += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        super().__init__([program, *options], env=clean_environment(), cwd=folder)
        wait_until(self._is_ready, "Prometheus is ready")

    def query(self, query: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """What the query finds now."""
        return self._get("query", query=query, **({} if at is None else {"time": str(at)}))

    def query_range(self, query: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """What the query finds over time."""
        return self._get("query_range", query=query, start=str(start), end=str(end), step=str(step))

    def _get(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        address = f"{self.base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own server
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{json.load(error)['error']}: {parameters['query']}") from None
        return found

    def _is_ready(self) -> bool:
        assert self.returncode is None, self.lines
        try:
            with urllib.request.urlopen(f"{self.base}/-/ready", timeout=5) as answer:  # noqa: S310 - our own server
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False


def past(speeds: Mapping[str, float], *, start: float, end: float) -> str:
    """OpenMetrics of series (all but the scrape's labels and the closing brace) that grow by so much a second."""
    steps = range(int((end - start) / _STEP) + 1)
    lines = [
        f'{series},job="{JOB}",instance="{INSTANCE}"}} {speed * _STEP * step:.3f} {start + _STEP * step:.3f}'
        for series, speed in speeds.items()
        for step in steps
    ]
    return "\n".join([*lines, "# EOF", ""])


def _configuration(targets: Mapping[str, str], rules: Iterable[Path]) -> dict[str, Any]:
    found = [{"targets": [address], "labels": {"instance": name}} for name, address in targets.items()]
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"},
        "rule_files": [str(path.resolve()) for path in rules],
        "scrape_configs": [{"job_name": JOB, "static_configs": found}],
    }
