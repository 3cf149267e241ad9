"""docs/traces.md says which attributes spans have and which variables are checked, as the code has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from service.observe.trace_settings import _RULES, BATCH, QUEUE, SAMPLERS
from tests.support.cases import five
from tests.support.in_process import ask, logged_gatekey
from tests.support.otlp import receiver
from tests.support.processes import KEY
from tests.support.servers import key_line

if TYPE_CHECKING:
    import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "traces.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]


def test_every_attribute_of_a_span_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kind of span that has it; nothing else is."""
    documented = {(row[1], row[0]) for row in ROWS if row[1] in ("decision", "store call")}
    with receiver() as collector:
        for name, value in collector.environ.items():
            monkeypatch.setenv(name, value)
        environ = {"GATEKEY_TRACES": "on", "GATEKEY_MODE": "shadow"}
        with logged_gatekey([key_line("key-one")], environ=environ) as logged:
            for lines in ((), KEY):
                ask(logged.app, "GET", "/auth/forward/default", (*five(), *lines))
    kinds = {"auth.decision": "decision", "store.find": "store call"}
    assert {(kinds[span.name], name) for span in collector.spans for name in span.attributes} == documented


def test_every_variable_that_is_checked_is_documented() -> None:
    """But those that say the same for traces alone; defaults and samplers are the code's."""
    table = {row[0]: row[1:] for row in ROWS if row[0].startswith("OTEL_")}
    checked = {name for names, _, _ in _RULES for name in names if not name.startswith("OTEL_EXPORTER_OTLP_TRACES_")}
    assert checked <= table.keys()
    assert [table[name][0] for name, _ in (QUEUE, BATCH)] == [str(number) for _, number in (QUEUE, BATCH)]
    described = set(re.findall(r"`(\w+)`", table["OTEL_TRACES_SAMPLER"][1])) - {"parentbased_"}
    assert described | {f"parentbased_{name}" for name in described} == set(SAMPLERS)
