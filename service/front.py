"""The RSGI application: the three proxy doors on the worker's event loop, everything else over the bridge to Flask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.answers.client_kind import is_browser
from service.app import create_app
from service.auth.credentials import Form
from service.bridge import Bridge, Refused
from service.doors.attempt import credentials_of
from service.doors.refused import log_refused
from service.observe.request_ids import request_id_for
from service.rsgi_request import RsgiRequest

if TYPE_CHECKING:
    import asyncio

    from granian._granian import RSGIHTTPProtocol as HTTPProtocol
    from granian.rsgi import Scope

    from service.answers.answer import Answer
    from service.runtime import Gatekey

__all__ = ["Front"]

MAX_HEADERS: Final = 16 * 1024
_ALL_FORMS: Final = frozenset(Form)


class Front:
    """What a worker of Granian runs. ``gatekey`` lives on the worker's loop from ``__rsgi_init__`` to ``__rsgi_del__``."""

    def __init__(self, gatekey: Gatekey) -> None:
        self._gatekey = gatekey
        self._doors = gatekey.doors
        self._bridge = Bridge(create_app(gatekey=gatekey))

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        gatekey = self._gatekey
        gatekey.portal.attach(loop)
        loop.run_until_complete(gatekey.start())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._gatekey.portal.detach()
        self._bridge.close()
        loop.run_until_complete(self._gatekey.stop())

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        raw = RsgiRequest(scope)
        if raw.size() > MAX_HEADERS:
            _send(protocol, self._refusal(raw, 431))
            return
        call = self._doors.find(scope.path)
        if call is not None:
            _send(protocol, await self._doors.answer(call, raw))
            return
        try:
            await self._bridge.handle(raw, protocol)
        except Refused as refused:
            _send(protocol, self._refusal(raw, refused.status))

    def _refusal(self, raw: RsgiRequest, status: int) -> Answer:
        """The answer to what neither a door nor Flask gets to see; counted and logged here, because nobody else does."""
        gatekey = self._gatekey
        if status == 503:  # noqa: PLR2004 - HTTP
            gatekey.metrics.shed("bridge")
        gatekey.metrics.http_request("other", status, 0.0)
        request_id = request_id_for(raw.header("x-request-id"))
        client_ip = gatekey.proxies.scheme_and_client(raw)[1]
        log_refused(status, method=raw.method, path=raw.scope.path, client_ip=client_ip, request_id=request_id)
        browser = is_browser(
            method=raw.method,
            header=raw.header,
            credential_presented=credentials_of(raw, _ALL_FORMS)[1],
            client="auto",
            unsure=gatekey.settings.unsure_client,
        )
        answer = gatekey.responder.http_error(status, browser=browser, request_id=request_id)
        answer.headers.append(("connection", "close"))  # what is left of the request is not read any more
        return answer


def _send(protocol: HTTPProtocol, answer: Answer) -> None:
    if answer.body:
        protocol.response_bytes(answer.status, answer.headers, answer.body)
    else:
        protocol.response_empty(answer.status, answer.headers)
