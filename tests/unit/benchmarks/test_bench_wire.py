"""Where a response ends, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bench.contender import Request
from benchmarks.bench.wire import request_bytes, response_end, status_of

LENGTH = b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\nabc\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize(("response", "status"), [(LENGTH, 200), (CHUNKED, 401), (EMPTY, 204)])
def test_a_whole_response_has_its_end_and_its_status(response: bytes, status: int) -> None:
    """Also with the next response behind it."""
    assert response_end(response) == len(response)
    assert response_end(response + LENGTH) == len(response)
    assert status_of(response) == status


@settings(max_examples=60)
@given(st.sampled_from([LENGTH, CHUNKED, EMPTY]), st.integers(0, 200))
def test_a_piece_of_a_response_has_no_end_yet(response: bytes, cut: int) -> None:
    """Wherever it is cut."""
    if cut < len(response):
        assert response_end(response[:cut]) is None


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-x", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"]
)
def test_what_has_no_end_that_could_be_told_is_refused(data: bytes) -> None:
    """Another protocol, an old one, and a body that ends with the connection."""
    with pytest.raises(ValueError, match="the answer"):
        response_end(data)


def test_a_request_carries_its_headers_and_one_host() -> None:
    """Its own host where it names one."""
    sent = request_bytes(Request(path="/a", headers={"Host": "api.example.com", "x-api-key": "k"}), port=80)
    assert sent == b"GET /a HTTP/1.1\r\nHost: api.example.com\r\nx-api-key: k\r\n\r\n"
