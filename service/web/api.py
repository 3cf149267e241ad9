"""Gatekey's own API for back ends and for a caller who asks who it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import Blueprint, Response, g, request

from service.auth.decision import AccessRequest, Decision, Door
from service.auth.reasons import REASONS, Outcome, Reason
from service.doors.attempt import credentials_from_values
from service.manage.actor import OPERATORS
from service.observe.request_ids import trace_id_of
from service.web.answers import flask_response, render_denial
from service.web.management_reply import private
from service.web.openapi_operation import Operation, describe
from service.web.protect import api_key_required, current_key, gatekey_of_app
from service.web.schemas.answers import Verdict, Whoami
from service.web.schemas.bodies import VerifyRequest
from service.web.schemas.reading import parse_body

if TYPE_CHECKING:
    from service.runtime import Gatekey

__all__ = ["blueprint"]

TAG: Final = "Credentials"

blueprint = Blueprint("gatekey_api", __name__, url_prefix="/v1")


@blueprint.get("/whoami")
@describe(Operation(tag=TAG, answers={200: Whoami, 302: None}))
@api_key_required(own_path=True)
async def whoami() -> Response:
    """Tell who the credentials belong to. A browser without any is sent to the login page."""
    return _answer(
        Whoami(
            organization_id=current_key.organization_id,
            key_id=current_key.key_id,
            name=current_key.name,
            scopes=current_key.scopes,
            method=current_key.method,
        )
    )


@blueprint.post("/keys/verify")
@describe(Operation(tag=TAG, scope="gatekey:verify", answers={200: Verdict}, body=VerifyRequest))
@api_key_required(scopes=["gatekey:verify"], client="api", own_path=True)
async def verify() -> Response:
    """Check somebody else's credentials. The status is 200 whether they are valid or not: look at `valid`."""
    gatekey = gatekey_of_app()
    body = parse_body(VerifyRequest, request)
    question = _question(gatekey, body)
    decision = await gatekey.authenticator.decide(question)
    cannot_tell = REASONS[decision.reason].outcome is Outcome.ERROR
    gatekey.observer.decided(question, decision, 503 if cannot_tell else 200)
    if cannot_tell:
        return flask_response(render_denial(gatekey, decision.reason, presented=True, client="api"))
    return _answer(_verdict(decision))


def _question(gatekey: Gatekey, body: VerifyRequest) -> AccessRequest:
    caller = current_key.organization_id
    question = AccessRequest(
        credentials=credentials_from_values(body.api_key, body.secret_token),
        target=body.target,
        door=Door.VERIFY,
        started=gatekey.clock.age(),
        organization_id="" if caller == OPERATORS else caller,
        required_scopes=body.scopes,
        origin=body.origin,
        client_ip=body.client_ip or "",
        method=request.method,
        path=request.path,
        user_agent=request.headers.get("User-Agent", ""),
        request_id=g.gatekey_request_id,
        trace_id=trace_id_of(request.headers.get("traceparent")),
    )
    if gatekey.observer.tracing is not None:
        gatekey.observer.tracing.begin(question, request.headers.get("traceparent"))
    return question


def _verdict(decision: Decision) -> Verdict:
    key = decision.key
    if decision.reason is not Reason.OK or key is None:
        return Verdict(valid=False, code=REASONS[decision.reason].code)
    return Verdict(
        valid=True,
        organization_id=key.organization_id,
        key_id=key.key_id,
        scopes=key.scopes,
        expires_at=key.expires_at,
    )


def _answer(model: Whoami | Verdict) -> Response:
    """What was not set has no place in it; the line ends, for whoever asks on a terminal."""
    text = model.model_dump_json(exclude_unset=True)
    return private(Response(text + "\n", mimetype="application/json"))
