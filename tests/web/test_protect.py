"""``api_key_required`` and ``current_key`` in an application of one's own (contract 8)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from flask import Blueprint, abort
from flask.views import MethodView, View

from service import api_key_required, current_key
from tests.support import leaks
from tests.support.cases import pair
from tests.support.in_process import ask, logged_gatekey
from tests.support.keys import DOMAIN, SECRET
from tests.support.servers import ROOT, clean_environment, key_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.in_process import LoggedGatekey
    from tests.support.raw_http import RawResponse

HOST = (("Host", DOMAIN),)
LINES = [
    key_line("reader", scopes=["orders:read"], name="Reading"),
    key_line("writer", scopes=["orders:*"]),
    key_line("own", domains=["@gatekey"]),
]


@pytest.fixture
def logged() -> Iterator[LoggedGatekey]:
    with logged_gatekey(LINES) as found:
        yield found


def _get(
    logged: LoggedGatekey, target: str, api_key: str = "", *lines: tuple[str, str], method: str = "GET"
) -> RawResponse:
    return ask(logged.app, method, target, (*HOST, *(pair(api_key) if api_key else ()), *lines))


def _who() -> dict[str, Any]:
    """What a function called by a view sees."""
    return {"key": current_key.key_id, "organization": current_key.organization_id, "method": current_key.method}


def test_a_view_without_options_demands_a_valid_key(logged: LoggedGatekey) -> None:
    """``@api_key_required`` alone; the view does not run without one."""
    runs = []

    @logged.app.get("/bare")
    @api_key_required
    def bare() -> str:
        runs.append(1)
        return current_key.name

    assert _get(logged, "/bare").status == 401
    assert _get(logged, "/bare", "own").status == 401
    assert runs == []
    assert _get(logged, "/bare", "reader").body == b"Reading"
    assert [line["reason"] for line in logged.decisions()] == ["missing_credentials", "wrong_domain", "ok"]


def test_a_websockets_handshake_is_decided_like_any_request(logged: LoggedGatekey) -> None:
    """The routing must not refuse it before anybody looked at its key."""

    @logged.app.get("/socket")
    @api_key_required
    def socket() -> str:
        return "ok"

    handshake = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
    assert _get(logged, "/socket", "reader", *handshake).status == 200
    assert _get(logged, "/socket", "", *handshake).status == 401


def test_arguments_names_and_results_pass_unchanged(logged: LoggedGatekey) -> None:
    """A protected view is the same view for Flask: its name makes the endpoint, its arguments come from the address."""

    @logged.app.get("/sync/<int:number>")
    @api_key_required
    def sync_view(number: int) -> tuple[dict[str, int], int, dict[str, str]]:
        """Documentation."""
        return {"number": number}, 202, {"X-Own": "1"}

    @logged.app.get("/async/<int:number>")
    @api_key_required(scopes=["orders:read"])
    async def async_view(number: int) -> tuple[dict[str, int], int]:
        await asyncio.sleep(0)
        return {"number": number}, 203

    assert (sync_view.__name__, sync_view.__doc__, async_view.__name__) == ("sync_view", "Documentation.", "async_view")
    assert {"sync_view", "async_view"} <= logged.app.view_functions.keys()
    answer = _get(logged, "/sync/7", "reader")
    assert (answer.status, answer.json(), answer.header("x-own")) == (202, {"number": 7}, "1")
    assert _get(logged, "/async/8", "reader").json() == {"number": 8}


def test_another_decorator_over_a_protected_view_runs(logged: LoggedGatekey) -> None:
    """Whether the view may run or not, and the decision is still one: Gatekey takes no short way around it."""
    runs = []

    def counted(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        async def around(**arguments: Any) -> Any:
            runs.append(1)
            return await view(**arguments)

        return around

    @logged.app.get("/counted")
    @counted
    @api_key_required
    async def inside() -> str:
        return current_key.name

    assert _get(logged, "/counted", "reader").body == b"Reading"
    assert _get(logged, "/counted").status == 401
    assert runs == [1, 1]
    assert [line["reason"] for line in logged.decisions()] == ["ok", "missing_credentials"]


def test_an_async_view_is_decided_about_on_its_request_s_own_thread(
    logged: LoggedGatekey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the view itself runs on the loop, and a refusal never gets there."""
    decided, run = [], []
    decide = logged.gatekey.authenticator.decide_cached

    def decide_here(*arguments: Any) -> Any:
        decided.append(threading.current_thread())
        return decide(*arguments)

    @logged.app.get("/where")
    @api_key_required
    async def where() -> str:
        run.append(threading.current_thread())
        return current_key.name

    _get(logged, "/where", "reader")  # which has to ask the store
    run.clear()
    monkeypatch.setattr(logged.gatekey.authenticator, "decide_cached", decide_here)
    assert _get(logged, "/where").status == 401
    assert _get(logged, "/where", "reader").body == b"Reading"
    assert decided == [threading.current_thread()] * 2
    assert len(run) == 1
    assert run[0] is not threading.current_thread()


def test_scopes_must_all_be_granted(logged: LoggedGatekey) -> None:
    """A wildcard counts; a missing scope is 403 with a challenge that says so."""

    @logged.app.get("/both")
    @api_key_required(scopes=("orders:read", "orders:write"))
    async def both() -> str:
        return "passed"

    refused = _get(logged, "/both", "reader")
    assert (refused.status, refused.json()["code"]) == (403, "insufficient_scope")
    assert refused.header("www-authenticate") == 'Bearer realm="gatekey", error="insufficient_scope"'
    assert _get(logged, "/both", "writer").body == b"passed"


def test_one_function_behind_two_addresses_demands_what_each_says(logged: LoggedGatekey) -> None:
    """The decorator keeps nothing on the function that it wraps."""

    def view() -> str:
        return current_key.key_id

    logged.app.add_url_rule("/free", "free", view)
    logged.app.add_url_rule("/read", "read", api_key_required(scopes=["orders:read"])(view))
    logged.app.add_url_rule("/write", "write", api_key_required(scopes=["orders:write"])(view))
    protected = api_key_required(view)
    logged.app.add_url_rule("/one", "one", protected)
    logged.app.add_url_rule("/two", "two", protected)
    statuses = {path: _get(logged, path, "reader").status for path in ("/free", "/read", "/write", "/one", "/two")}
    assert statuses == {"/free": 500, "/read": 200, "/write": 403, "/one": 200, "/two": 200}


def test_class_based_views_are_protected_by_their_decorators(logged: LoggedGatekey) -> None:
    """Flask's ``decorators`` attribute, with methods of either kind, and a partial of a coroutine function."""

    class Orders(MethodView):
        decorators: ClassVar[list[Callable[..., Any]]] = [api_key_required(scopes=["orders:read"])]

        def get(self) -> dict[str, Any]:
            return _who()

        async def post(self) -> dict[str, Any]:
            await asyncio.sleep(0)
            return _who()

    class Plain(View):
        decorators: ClassVar[list[Callable[..., Any]]] = [api_key_required]

        async def dispatch_request(self) -> dict[str, Any]:  # type: ignore[override]  # Flask types sync views only
            return _who()

    async def greet(word: str) -> dict[str, str]:
        return {"word": word, "key": current_key.key_id}

    logged.app.add_url_rule("/orders", view_func=Orders.as_view("orders"))
    logged.app.add_url_rule("/plain", view_func=Plain.as_view("plain"))
    logged.app.add_url_rule("/partial", "partial", api_key_required(partial(greet, "hello")))
    for method, path in (("GET", "/orders"), ("POST", "/orders"), ("GET", "/plain"), ("GET", "/partial")):
        assert _get(logged, path, method=method).status == 401
        assert _get(logged, path, "reader", method=method).json()["key"].startswith("key_")


def test_a_blueprint_is_protected_whole_with_those_nested_in_it(logged: LoggedGatekey) -> None:
    """Each of its views, once for each request; a nested blueprint may demand more."""
    outer = api_key_required(Blueprint("outer", __name__, url_prefix="/outer"))
    inner = api_key_required(Blueprint("inner", __name__, url_prefix="/inner"), scopes=["orders:write"])

    @outer.get("/sync")
    def outer_sync() -> dict[str, Any]:
        return _who()

    @outer.get("/async")
    async def outer_async() -> dict[str, Any]:
        return _who()

    @inner.get("/sync")
    def inner_sync() -> dict[str, Any]:
        return _who()

    outer.register_blueprint(inner)
    logged.app.register_blueprint(outer)
    for path in ("/outer/sync", "/outer/async", "/outer/inner/sync"):
        assert _get(logged, path).status == 401
    assert [_get(logged, path, "reader").status for path in ("/outer/sync", "/outer/async", "/outer/inner/sync")] == [
        200,
        200,
        403,
    ]
    assert _get(logged, "/outer/inner/sync", "writer").json()["organization"] == "acme"
    assert [line["reason"] for line in logged.decisions()] == (
        ["missing_credentials"] * 3 + ["ok", "ok"] + ["ok", "insufficient_scope"] + ["ok", "ok"]
    )


def test_what_is_not_in_the_blueprint_stays_open(logged: LoggedGatekey) -> None:
    """Protecting a part protects no more; there is nobody behind ``current_key`` then."""
    logged.app.register_blueprint(api_key_required(Blueprint("closed", __name__, url_prefix="/closed")))

    @logged.app.get("/open")
    def open_view() -> dict[str, Any]:
        with pytest.raises(RuntimeError, match="only inside a view that api_key_required protects"):
            _who()
        return {"open": True}

    assert _get(logged, "/open", "reader").json() == {"open": True}
    assert logged.decisions() == []


def test_current_key_outside_of_a_request_is_a_clear_error(logged: LoggedGatekey) -> None:
    """Not Flask's about a missing context: the reader should learn what to do."""
    with pytest.raises(RuntimeError, match="only inside a view that api_key_required protects"):
        _who()
    with (
        logged.app.app_context(),
        pytest.raises(RuntimeError, match="only inside a view that api_key_required protects"),
    ):
        _who()


def test_current_key_says_who_passed(logged: LoggedGatekey) -> None:
    """Organization, identifier, name, scopes and method; on the loop also in tasks that the view starts."""

    @logged.app.get("/who")
    @api_key_required
    async def who() -> dict[str, Any]:
        async def below() -> dict[str, Any]:
            await asyncio.sleep(0)
            return {**_who(), "name": current_key.name, "scopes": list(current_key.scopes)}

        here, there = await asyncio.gather(below(), asyncio.create_task(below()))
        assert here == there
        return here

    body = _get(logged, "/who", "reader").json()
    assert body.pop("key").startswith("key_")
    assert body == {"organization": "acme", "method": "api-key", "name": "Reading", "scopes": ["orders:read"]}


def test_requests_at_the_same_time_see_each_their_own_key(logged: LoggedGatekey) -> None:
    """Two views meet in the middle and look again."""
    barrier = threading.Barrier(2, timeout=10)

    @logged.app.get("/meet")
    @api_key_required
    def meet() -> dict[str, Any]:
        before = current_key.key_id
        barrier.wait()
        return {"same": before == current_key.key_id, "scopes": list(current_key.scopes)}

    found: dict[str, Any] = {}

    def call(api_key: str) -> None:
        found[api_key] = _get(logged, "/meet", api_key).json()

    threads = [threading.Thread(target=call, args=(api_key,)) for api_key in ("reader", "writer")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert found == {
        "reader": {"same": True, "scopes": ["orders:read"]},
        "writer": {"same": True, "scopes": ["orders:*"]},
    }


@pytest.mark.parametrize(("client", "status"), [("auto", 302), ("api", 401), ("browser", 302)])
def test_the_view_may_say_who_its_clients_are(logged: LoggedGatekey, client: str, status: int) -> None:
    """A browser that navigates: redirected, unless the view is for API clients."""

    @logged.app.get("/page")
    @api_key_required(client=client)
    def page() -> str:
        return "page"

    navigation = (("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))
    assert _get(logged, "/page", "", *navigation).status == status
    assert _get(logged, "/page").status == (302 if client == "browser" else 401)


def test_a_client_that_is_none_is_refused_when_the_program_starts() -> None:
    """A typo must not wait for the first request."""
    with pytest.raises(ValueError, match="auto, api or browser"):
        api_key_required(client="robot")


def test_shadow_mode_lets_strangers_pass_as_nobody() -> None:
    """Counted and logged as always; our own paths stay closed."""
    with logged_gatekey(LINES, environ={"GATEKEY_MODE": "shadow"}) as logged:

        @logged.app.get("/app")
        @api_key_required(scopes=["orders:write"])
        async def app_view() -> dict[str, Any]:
            return {**_who(), "name": current_key.name, "scopes": list(current_key.scopes)}

        @logged.app.get("/ours")
        @api_key_required(own_path=True)
        def own_view() -> str:
            return "passed"

        nobody = {"key": "", "organization": "", "method": "", "name": "", "scopes": []}
        assert _get(logged, "/app").json() == nobody
        assert _get(logged, "/app", "reader").json() == nobody
        assert _get(logged, "/app", "writer").json()["organization"] == "acme"
        assert _get(logged, "/ours").status == 401
        lines = [(line["reason"], line.get("shadow_reason")) for line in logged.decisions()]
        assert lines == [
            ("shadow", "missing_credentials"),
            ("shadow", "insufficient_scope"),
            ("ok", None),
            ("missing_credentials", None),
        ]


def test_an_own_path_takes_keys_for_our_own_paths(logged: LoggedGatekey) -> None:
    """``@gatekey`` matches there and nowhere else."""

    @logged.app.get("/theirs")
    @api_key_required
    def their_view() -> str:
        return "passed"

    @logged.app.get("/ours")
    @api_key_required(own_path=True)
    def own_view() -> str:
        return "passed"

    assert (_get(logged, "/theirs", "own").status, _get(logged, "/ours", "own").status) == (401, 200)
    assert [line["door"] for line in logged.decisions()] == ["app", "api"]


def test_an_error_of_a_view_is_the_view_s(logged: LoggedGatekey) -> None:
    """Its own status in our shape, with the decision's line alone; a defect is 500 without a word about it."""

    @logged.app.get("/gone")
    @api_key_required
    def gone() -> str:
        abort(410)

    @logged.app.get("/defect")
    @api_key_required
    async def defect() -> str:
        raise LookupError("something internal")

    answer = _get(logged, "/gone", "reader")
    assert (answer.status, answer.json()["status"]) == (410, 410)
    assert [event["event"] for event in logged.events()] == ["auth.decision"]
    answer = _get(logged, "/defect", "reader")
    assert (answer.status, b"internal" in answer.body.replace(b"internal_server_error", b"")) == (500, False)
    assert [event["event"] for event in logged.events()] == ["auth.decision", "request_failed"]


README = """
from service import api_key_required, create_app, current_key

app = create_app()

@app.get("/orders")
@api_key_required(scopes=["orders:read"])
async def orders():
    return {"organization": current_key.organization_id}
"""


def test_the_snippet_of_the_contract_works_as_it_is_written() -> None:
    """In a program of its own, with nothing but the defaults; only a key has to be there."""
    leaks.register(SECRET)
    check = f"""
    import json, sys
    from datetime import UTC, datetime
    from service.auth.keyfile import read_key_lines

    gatekey = app.extensions["gatekey"]
    line = json.dumps(dict(organization_id="acme", api_key="k", secret_token={SECRET!r}, domains=[{DOMAIN!r}],
                           scopes=["orders:read"])).encode()
    seed = read_key_lines([line], peppers=gatekey.settings.make_peppers(), now=datetime.now(UTC))
    client, url = app.test_client(), "http://{DOMAIN}/orders"
    refused = client.get(url)
    gatekey.portal.run(gatekey.store.add_many, seed.organizations, seed.records)
    allowed = client.get(url, headers={{"x-api-key": "k", "x-secret-token": {SECRET!r}}})
    print("result", refused.status_code, allowed.status_code, json.dumps(allowed.get_json()))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", README + textwrap.dedent(check)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=clean_environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 'result 401 200 {"organization": "acme"}' in done.stdout
    leaks.check(done.stdout, "the output of the snippet")
