from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.doctor.messages import MAX_BODY, MAX_HEAD, Ask, Garbled, Reply, parse_reply, render_ask
from service.doctor.site import parse_site

SITE = parse_site("http://api.example.com/orders")


def whole(data: bytes, *, head_only: bool = False) -> Reply | None:
    return parse_reply(data, head_only=head_only, ended=False)


def test_a_request_goes_out_exactly_as_it_is_written() -> None:
    """Doubled and underscored names, dot segments and bytes outside ASCII are kept in their order."""
    ask = Ask(target="/a/../b", headers=(("X-Api-Key", "a"), ("X-Api-Key", "b"), ("X_Api_Key", "\xe9")))
    assert render_ask(ask, SITE) == (
        b"GET /a/../b HTTP/1.1\r\nHost: api.example.com\r\nX-Api-Key: a\r\nX-Api-Key: b\r\nX_Api_Key: \xe9\r\n"
        b"Accept: application/json\r\nUser-Agent: gatekey-doctor\r\nConnection: close\r\n\r\n"
    )


def test_a_header_of_the_probe_replaces_the_usual_one() -> None:
    """A probe that says Connection or Accept itself gets no second line of it."""
    data = render_ask(Ask(target="/", headers=(("connection", "close, X-Api-Key"), ("ACCEPT", "text/html"))), SITE)
    assert data.lower().count(b"\nconnection:") == data.lower().count(b"\naccept:") == 1


@pytest.mark.parametrize(
    ("hosts", "lines"),
    [(None, ["api.example.com"]), ((), []), (("a", "b"), ["a", "b"])],
)
def test_the_host_lines_are_the_probes_own_where_it_has_any(hosts: tuple[str, ...] | None, lines: list[str]) -> None:
    """No, one or several Host lines."""
    data = render_ask(Ask(target="/", hosts=hosts), SITE).decode()
    assert [line[6:] for line in data.split("\r\n") if line.startswith("Host: ")] == lines


@pytest.mark.parametrize(
    ("headers", "framing"),
    [((), b"Content-Length: 2\r\n"), ((("Transfer-Encoding", "chunked"),), b"Transfer-Encoding: chunked\r\n")],
)
def test_a_body_is_framed_once(headers: tuple[tuple[str, str], ...], framing: bytes) -> None:
    """By its length, unless the probe frames it itself."""
    data = render_ask(Ask(target="/", method="POST", headers=headers, body=b"xy"), SITE)
    assert framing in data
    assert (b"Content-Length" in data) != (b"Transfer-Encoding" in data)
    assert data.endswith(b"\r\n\r\nxy")


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", 200, b"ab"),
        (b"HTTP/1.0 200\r\ncontent-length:0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b""),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello", 101, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\nContent-Length: 1\n\nx", 401, b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", 200, b"abcd"),
    ],
)
def test_an_answer_ends_where_its_framing_says(data: bytes, status: int, body: bytes) -> None:
    """Without waiting for the connection to end; interim answers are skipped."""
    reply = whole(data)
    assert reply is not None
    assert (reply.status, reply.body) == (status, body)


def test_the_answer_to_head_has_no_body() -> None:
    """Whatever length it announces."""
    reply = whole(b"HTTP/1.1 401 No\r\nContent-Length: 50\r\n\r\n", head_only=True)
    assert reply is not None
    assert reply.body == b""


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_whole_is_waited_for(data: bytes) -> None:
    """There is no verdict about half an answer."""
    assert whole(data) is None


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", b"abc"),
    ],
)
def test_a_body_cut_short_is_taken_as_it_is(data: bytes, body: bytes) -> None:
    """Once nothing more can come."""
    reply = parse_reply(data, head_only=False, ended=True)
    assert reply is not None
    assert reply.body == body


@pytest.mark.parametrize(
    "framing",
    [b"", b"Content-Length: 999999999\r\n", b"Transfer-Encoding: chunked\r\n"],
)
def test_a_huge_body_is_cut(framing: bytes) -> None:
    """The rest is never waited for."""
    chunk = b"FFFFFF\r\n" if b"chunked" in framing else b""
    reply = whole(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + chunk + b"x" * (MAX_BODY + 10))
    assert reply is not None
    assert reply.body == b"x" * MAX_BODY


@pytest.mark.parametrize(
    ("data", "ended"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", False),
        (b"HTTP/2 200 OK\r\n\r\n", False),
        (b"HTTP/1.1 999 OK\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nX: y", True),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD, False),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(data: bytes, ended: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """Another protocol, half a head, or a head without end."""
    with pytest.raises(Garbled):
        parse_reply(data, head_only=False, ended=ended)


@settings(max_examples=200)
@given(
    prefix=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]),
    data=st.binary(max_size=200),
    ended=st.booleans(),
)
def test_no_answer_breaks_the_reader(prefix: bytes, data: bytes, ended: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever comes back is an answer, half of one, or garbled."""
    try:
        reply = parse_reply(prefix + data, head_only=False, ended=ended)
    except Garbled:
        return
    assert reply is not None or not ended


@settings(max_examples=50)
@given(chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=5), cut=st.integers(min_value=0, max_value=200))
def test_a_chunked_body_is_put_together_wherever_it_is_cut(chunks: list[bytes], cut: int) -> None:
    """A part of it is never more, and never other, than the beginning of the whole."""
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    reply = whole(data + b"0\r\n\r\n")
    assert reply is not None
    assert reply.body == b"".join(chunks)
    partly = parse_reply(data[: max(cut, data.index(b"\r\n\r\n") + 4)], head_only=False, ended=True)
    assert partly is not None
    assert reply.body.startswith(partly.body)


def test_neither_requests_nor_answers_show_what_they_carry() -> None:
    """Both may hold the operator's key, and a repr ends up in tracebacks."""
    ask = Ask(target="/", headers=(("X-Secret-Token", "doctor-repr-secret"),))
    reply = Reply(status=200, body=b"doctor-repr-secret")
    assert "doctor-repr-secret" not in repr((ask, reply))


def test_lines_of_one_header_are_joined() -> None:
    """And an absent one is empty."""
    reply = Reply(status=200, headers=(("a", "1"), ("b", "2"), ("a", "3")))
    assert (reply.header("a"), reply.lines("a"), reply.header("c")) == ("1, 3", ["1", "3"], "")
