"""What strangers and tenants cannot make an edge hold in memory."""

import asyncio
import io
import socket

from connections import Client
from edges import RunningEdge, open_shards, running_edge

from schemas.redis import Redis


async def unread(edge: RunningEdge, request: bytes, times: int) -> socket.socket:
    """A connection that asks and never reads."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, ("127.0.0.1", edge.port))
    await loop.sock_sendall(made, request * times)
    return made


async def test_clients_that_never_read_are_cut_off(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """Whether they keep the connection or have it closed behind the answer; those that read are served meanwhile."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, write_timeout_s=1) as edge:
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        silent = [await unread(edge, request, 40), await unread(edge, request * 39 + last, 1)]
        connections = edge.server.server_state.connections
        aborted = edge.services.metrics.connections_aborted.labels("time")
        async with asyncio.timeout(20):
            while aborted._value.get() < 2:
                async with edge.http.get(f"{edge.url}/livez") as answer:
                    assert answer.status == 200
                await asyncio.sleep(0.05)
            while len(connections) > 1:
                await asyncio.sleep(0.05)
        for one in silent:
            one.close()


async def test_what_clients_do_not_read_is_bounded_all_together(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """Long before their time is over."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, write_timeout_s=600, unread_bytes_max=2**20) as edge:
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        silent = [await unread(edge, request, 40) for _ in range(12)]
        async with asyncio.timeout(20):
            while not edge.services.metrics.connections_aborted.labels("budget")._value.get():
                await asyncio.sleep(0.05)
        for one in silent:
            one.close()


async def test_a_wrong_key_is_refused_before_the_body_is_sent(edge: RunningEdge) -> None:
    """On the hot path, for many messages at once, and where the ordinary route serves telemetry."""
    for path, extra in (("telemetry", ""), ("children/telemetries", ""), ("telemetry", "Expect: 100-continue\r\n")):
        client = await Client(edge).connect()
        head = client.head(60_000, extra).replace(client.key.encode(), b"0" * 32)
        client.writer.write(head.replace(b"/telemetry ", f"/{path} ".encode()))
        async with asyncio.timeout(20):
            status, _ = await client.answer()
        assert status == 401
        client.writer.close()


async def test_a_connection_goes_on_behind_a_refused_key(edge: RunningEdge) -> None:
    """The body is dropped as it comes, and the next request is served."""
    client = await Client(edge).connect()
    client.writer.write(client.head(60_000).replace(client.key.encode(), b"0" * 32))
    assert (await client.answer())[0] == 401
    client.writer.write(b"x" * 60_000 + client.head(19) + b'{"status":"online"}')
    assert (await client.answer())[0] == 201
    client.writer.write(client.head(19) + b'{"status":"online"}')
    assert (await client.answer())[0] == 201
    client.writer.close()


async def test_a_client_that_wants_its_connection_closed_sees_why_its_key_is_refused(edge: RunningEdge) -> None:
    """The answer comes behind the body: closed before, the connection would be reset under the client's hands."""
    client = await Client(edge).connect()
    client.writer.write(client.head(19, "Connection: close\r\n").replace(client.key.encode(), b"0" * 32))
    await client.writer.drain()
    client.writer.write(b'{"status":"online"}')
    assert b" 401 " in await client.end()


async def test_many_messages_without_a_key_are_fewer(edge: RunningEdge) -> None:
    """Nobody is known before their tokens are read."""
    path = f"{edge.url}/v1/devices/{Client(edge).device_id}/children/telemetries"
    async with edge.http.post(path, data=io.BytesIO(b"{" + b" " * 2**20)) as answer:
        assert answer.status == 413
