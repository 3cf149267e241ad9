"""What workers and their parent say to each other about metrics: a line of JSON each, the shape once, then numbers.

JSON and no pickle: nothing that comes from a worker is ever run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from prometheus_client.samples import Exemplar

from service.observe.merge import Head, Series, Shape, Snapshot

if TYPE_CHECKING:
    import socket

__all__ = [
    "MAX_LINE",
    "Link",
    "decode_shape",
    "decode_snapshot",
    "encode_shape",
    "encode_snapshot",
    "read_page",
    "write_page",
]

MAX_LINE: Final = 4 * 1024 * 1024
"""Bytes of a line; a shape has some 50,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A worker's ends of the sockets that the parent made: inherited, without a name that anybody else could open."""

    questions: socket.socket
    """A byte for each question of the parent; the worker answers with lines."""
    entrance: socket.socket
    """Takes a scrape to the parent, with a socket for the answer; shared by all workers."""

    def close(self) -> None:
        """In the parent, once the worker has its own."""
        self.questions.close()


def encode_shape(shape: Shape) -> bytes:
    """The first line."""
    heads = [[head.name, head.kind, head.text, head.across] for head in shape.heads]
    series = [list(each) for each in shape.series]
    return orjson.dumps([heads, series], option=orjson.OPT_APPEND_NEWLINE)


def decode_shape(line: bytes) -> Shape:
    """Raises ``ValueError``, ``TypeError`` or ``KeyError`` for anything else."""
    heads, series = orjson.loads(line)
    return Shape(
        heads=tuple(Head(name=name, kind=kind, text=text, across=across) for name, kind, text, across in heads),
        series=tuple(
            Series(family, name, tuple((label, value) for label, value in labels)) for family, name, labels in series
        ),
    )


def encode_snapshot(snapshot: Snapshot, *, answers: int) -> bytes:
    """Every further line; it answers that many questions. A value that is no number is told as none."""
    exemplars = {
        str(place): [exemplar.labels, exemplar.value, None if exemplar.timestamp is None else float(exemplar.timestamp)]
        for place, exemplar in snapshot.exemplars.items()
    }
    return orjson.dumps([answers, snapshot.values, exemplars], option=orjson.OPT_APPEND_NEWLINE)


def decode_snapshot(line: bytes, shape: Shape) -> tuple[int, Snapshot]:
    """The number of questions it answers, and the snapshot; raises as ``decode_shape`` does."""
    answers, values, exemplars = orjson.loads(line)
    if len(values) != len(shape.series):
        raise ValueError("the numbers do not fit the shape")
    found = {int(place): Exemplar(*exemplar) for place, exemplar in exemplars.items()}
    return int(answers), Snapshot(shape=shape, values=values, exemplars=found)


def write_page(body: bytes, content_type: str) -> bytes:
    """The answer to a scrape."""
    return b"%d %s\n" % (len(body), content_type.encode("latin-1")) + body


def read_page(answer: bytes | bytearray) -> tuple[bytes, str] | None:
    """Body and content type, ``None`` while a part is missing."""
    head, newline, body = bytes(answer).partition(b"\n")
    length, _, content_type = head.partition(b" ")
    if not newline or len(body) < int(length):
        return None
    return body, content_type.decode("latin-1")
