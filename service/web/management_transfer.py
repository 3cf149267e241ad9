"""``/v1/keys/import`` and ``/v1/keys/export``: keys by the file, one JSON object a line (contract 6).

An export goes out as it is read. Should the store fail in the middle, its last line says so, and is one that no import
takes: half a backup must not pass for a whole one.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final

import orjson
import structlog
from flask import Blueprint, Response, request

from service.web.answers import ApiError
from service.web.keys import TAG
from service.web.management_operation import READ, WRITE, Call, operation
from service.web.management_reply import Reply
from service.web.openapi_operation import NDJSON
from service.web.schemas.queries import ExportQuery, ImportQuery
from service.web.schemas.reading import NoBody
from service.web.schemas.report_answers import ImportedLines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from service.portal import Portal

__all__ = ["blueprint"]

_PIECE: Final = 64 * 1024  # bytes of lines that are sent in one go
_BROKEN_OFF: Final = orjson.dumps({"incomplete": "the export was broken off"}) + b"\n"

_log = structlog.get_logger(__name__)

blueprint = Blueprint("transfer", __name__, url_prefix="/keys")


@blueprint.post("/import")
@operation(
    WRITE,
    tag=TAG,
    answers={200: ImportedLines},
    query=ImportQuery,
    body=NoBody,
    media_type=NDJSON,
    once=True,
    refusals=(413,),
)
async def import_keys(call: Call[ImportQuery, NoBody]) -> Reply:
    """Store keys from JSON lines, all or nothing. With `continue` the good lines; over 1 MiB use `gatekey keys import`."""
    if request.mimetype != NDJSON:
        raise ApiError(415, detail=f"Send the lines as {NDJSON}.")
    lines = BytesIO(request.get_data())
    report = await call.manager.import_lines(call.actor, lines, keep_going=call.query.keep_going)
    if not report.is_stored:
        members = {"report": ImportedLines.of(report, None).model_dump(mode="json")}
        raise ApiError(
            422, detail=f"Nothing was stored: {report.refused} of the lines cannot be used.", members=members
        )
    return Reply(ImportedLines.of(report, await call.in_force()))


@blueprint.get("/export")
@operation(READ, tag=TAG, answers={200: NDJSON}, query=ExportQuery, body=NoBody, refusals=(404,))
async def export_keys(call: Call[ExportQuery, NoBody]) -> Response:
    """Give all keys as JSON lines. They hold hashes of the secrets, and can be imported again under the same pepper."""
    lines = call.manager.export(call.actor, call.query.organization_id)
    first = await _piece(lines)  # what cannot be read at all is answered as any error
    return Response(_pieces(call.gatekey.portal, lines, first), mimetype=NDJSON)


async def _piece(lines: AsyncIterator[bytes]) -> bytes:
    """The next lines, ``b""`` at the end."""
    found = bytearray()
    async for line in lines:
        found += line
        if len(found) >= _PIECE:
            break
    return bytes(found)


def _pieces(portal: Portal, lines: AsyncIterator[bytes], piece: bytes) -> Iterator[bytes]:
    """The rest of them, on the thread that sends the answer; each step of reading is a step on the loop."""
    try:
        while piece:
            yield piece
            piece = portal.run(_piece, lines)
    except Exception as error:  # noqa: BLE001 - whatever it is, what was sent must not look whole
        _log.error("export_broken_off", error_type=type(error).__name__)
        yield _BROKEN_OFF
    finally:
        close = getattr(lines, "aclose", None)
        if close is not None:
            portal.run(close)
