"""Trace context through every shipped proxy configuration: taken along to Gatekey, and given on as docs/traces.md says."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.otlp import Receiver, receiver
from tests.support.proxies import PROXIES, need_proxy, running_proxy, send
from tests.support.proxy_cases import KEY, KEYS
from tests.support.servers import ROOT, GatekeyServer, gatekey
from tests.support.upstream import Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARENT = "00f067aa0ba902b7"
PAGE = (ROOT / "docs" / "traces.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| (\w+) \| `[\w.-]+` \| `(.+?)` \| `(.+?)` \|$", re.MULTILINE)
EDITS = {name.lower(): {old: new} for name, old, new in _ROW.findall(PAGE)}


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture(scope="module")
def behind(collector: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatekeyServer, Upstream]]:
    """One Gatekey and one application for all proxies."""
    keys: Path = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    keys.write_bytes(b"".join(KEYS))
    with ExitStack() as stack:
        application = stack.enter_context(upstream())
        yield stack.enter_context(gatekey("--import", str(keys), env=collector.environ)), application


@pytest.fixture(params=PROXIES)
def name(request: pytest.FixtureRequest) -> str:
    proxy: str = request.param
    need_proxy(proxy, require_all=request.getfixturevalue("require_all"))
    return proxy


@contextmanager
def proxy_of(name: str, behind: tuple[GatekeyServer, Upstream], edit: dict[str, str] | None = None) -> Iterator[str]:
    server, application = behind
    application.requests.clear()
    with running_proxy(name, gatekey_port=server.port, app_port=application.port, edit=edit) as proxy:
        yield proxy.base


def test_the_page_names_every_proxy() -> None:
    """Nobody has to guess."""
    assert set(EDITS) == set(PROXIES)


def test_a_callers_trace_reaches_gatekey_and_the_application(
    name: str, behind: tuple[GatekeyServer, Upstream], collector: Receiver
) -> None:
    """With the configuration as it is shipped: the decision lies below the caller's span, and so may the application's."""
    trace = f"{PROXIES.index(name) + 1:032x}"
    header = f"00-{trace}-{PARENT}-01"
    with proxy_of(name, behind) as base:
        assert send(base, "/v1/orders", headers=(*KEY, ("Traceparent", header))).status == 200
    (line,) = behind[0].decisions(1, trace_id=trace)
    assert collector.of(line["span_id"]).parent_id == PARENT
    (received,) = behind[1].requests
    assert received.value("traceparent") == header


def test_gatekeys_span_reaches_the_application_where_the_proxy_is_told_to(
    name: str, behind: tuple[GatekeyServer, Upstream], collector: Receiver
) -> None:
    """With the one change of the page; a caller who sent no trace gets into one, and hears nothing of it."""
    with proxy_of(name, behind, EDITS[name]) as base:
        reply = send(base, "/v1/orders", headers=KEY)
    assert reply.status == 200
    assert reply.header("traceparent") is None
    (received,) = behind[1].requests
    _, trace, span, _ = str(received.value("traceparent")).split("-")
    (line,) = behind[0].decisions(1, trace_id=trace)
    assert line["span_id"] == span
    assert collector.of(span).parent_id == ""
