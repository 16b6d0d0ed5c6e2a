"""The hot path's connection to Redis, against a server that is slow to answer."""

import asyncio
import contextlib

import pytest

from gateway.ingest import pipe as pipes
from gateway.ingest.pipe import Address, Pipe, command


async def test_a_late_reply_to_a_greeting_is_not_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stalls while it is greeted: what it says at last belongs to a connection that was given up."""
    monkeypatch.setattr(pipes, "CONNECT_TIMEOUT_S", 0.1)
    connections = 0
    closed = asyncio.Event()
    greeted = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        stalling = connections == 1
        monkeypatch.setattr(pipes, "CONNECT_TIMEOUT_S", 20)  # of those after it
        await reader.readuntil(b"server\r\n")
        if stalling:
            await greeted.wait()
        writer.write(b"+OK\r\n$47\r\nrun_id:%b\r\n" % (40 * b"a"))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if not stalling:
                await reader.readuntil(b"PING\r\n")
                async with asyncio.timeout(20):
                    await closed.wait()
                writer.write(b"+PONG\r\n")
            await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    changed = asyncio.Event()
    pipe = Pipe(Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), changed.set)
    running = asyncio.create_task(pipe.run())
    try:
        async with asyncio.timeout(20):
            while not pipe.connected:
                await asyncio.sleep(0.005)
            replied: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            pipe.send(command(b"PING"), 1, replied.set_result)
            greeted.set()
            assert await replied == [b"PONG"]
        assert (pipe.connected, connections, pipe.server) == (True, 2, bytes.fromhex(16 * "a"))
    finally:
        running.cancel()
        await asyncio.wait([running])
        server.close()
