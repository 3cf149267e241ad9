"""The proxy of the fault tests does what it says; else they would prove nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.support.fault_proxy import FaultProxy, Mode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEADLINE = 10.0


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """In front of a server that answers each line with the line."""
    asked: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                asked.append(line)
                writer.write(line)
        writer.transport.abort()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with FaultProxy(*server.sockets[0].getsockname()) as proxy:
        proxy.asked = asked  # type: ignore[attr-defined]  # what came through
        yield proxy
    server.close()
    await server.wait_closed()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: bytes = b"hello, who is there?\n") -> bytes:
        self.writer.write(line)
        return await self.answer(len(line))

    async def answer(self, size: int) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read(size)


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    client = Client(reader, writer)
    assert await client.ask(b"first\n") == b"first\n"
    yield client
    writer.transport.abort()


async def suffered(proxy: FaultProxy, times: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while proxy.faults < times:  # noqa: ASYNC110 - a number has no event to wait for
            await asyncio.sleep(0.001)


async def test_it_refuses_and_listens_again(proxy: FaultProxy, client: Client) -> None:
    """On the same port; what was open is reset."""
    await proxy.become(Mode.REFUSE)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    with pytest.raises(ConnectionResetError):
        await client.answer(1)
    await proxy.become(Mode.PASS)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await Client(reader, writer).ask() == b"hello, who is there?\n"
    writer.close()


@pytest.mark.parametrize("mode", [Mode.RESET, Mode.CLOSE])
async def test_a_request_ends_its_connection(proxy: FaultProxy, client: Client, mode: Mode) -> None:
    """With RST, or in good order; nothing comes through."""
    await proxy.become(mode)
    if mode is Mode.RESET:
        with pytest.raises(ConnectionResetError):
            await client.ask()
    else:
        assert await client.ask() == b""
    assert proxy.asked == [b"first\n"]  # type: ignore[attr-defined]
    assert proxy.faults == 1


async def test_a_cut_resets_what_is_open(proxy: FaultProxy, client: Client) -> None:
    """New connections are as before."""
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.answer(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await Client(reader, writer).ask() == b"hello, who is there?\n"
    writer.close()


async def test_what_is_lost_stays_lost(proxy: FaultProxy, client: Client) -> None:
    """New connections are as before, so that the difference shows."""
    proxy.lose()
    waiting = asyncio.ensure_future(client.ask())
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    other = Client(reader, writer)
    for _ in range(3):
        assert await other.ask() == b"hello, who is there?\n"
    assert not waiting.done()
    waiting.cancel()
    writer.close()


@pytest.mark.parametrize(("mode", "asked"), [(Mode.STALL, 1), (Mode.STALL_REPLIES, 2)])
async def test_a_stall_holds_bytes_back_and_loses_none(
    proxy: FaultProxy, client: Client, mode: Mode, asked: int
) -> None:
    """Requests and replies, or replies alone."""
    await proxy.become(mode)
    waiting = asyncio.ensure_future(client.ask())
    await suffered(proxy, 1)
    assert len(proxy.asked) == asked  # type: ignore[attr-defined]
    assert not waiting.done()
    await proxy.become(Mode.PASS)
    assert await waiting == b"hello, who is there?\n"


async def test_a_new_connection_is_accepted_while_it_stalls(proxy: FaultProxy) -> None:
    """As a stopped server's kernel does."""
    await proxy.become(Mode.STALL)
    _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.close()


async def test_slow_is_slow_and_complete(proxy: FaultProxy, client: Client) -> None:
    """Each piece is held back, both ways."""
    await proxy.become(Mode.SLOW, pause=0.01)
    assert await client.ask() == b"hello, who is there?\n"
    assert proxy.faults == 2


async def test_half_of_a_reply_comes(proxy: FaultProxy, client: Client) -> None:
    """And then the end."""
    await proxy.become(Mode.TRUNCATE)
    assert await client.ask(b"12345678\n") == b"1234"
    assert await client.answer(10) == b""
    assert len(proxy.asked) == 2  # type: ignore[attr-defined]


async def test_garbage_comes_in_the_place_of_a_reply(proxy: FaultProxy, client: Client) -> None:
    """Which no protocol knows."""
    await proxy.become(Mode.GARBAGE)
    assert b"garbage" in await client.ask()


async def test_connections_are_counted(proxy: FaultProxy, client: Client) -> None:
    """Those that are open at the moment."""
    assert (proxy.connections, proxy.accepted) == (1, 1)
    client.writer.close()
    async with asyncio.timeout(DEADLINE):
        while proxy.connections:  # noqa: ASYNC110 - a number has no event to wait for
            await asyncio.sleep(0.001)
    assert proxy.accepted == 1
