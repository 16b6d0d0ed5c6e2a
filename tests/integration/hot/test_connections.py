"""What the hot path must keep of what uvicorn gives: how connections live and end.

These pin the internals that gateway.ingest.protocol leans on: when one of them changes under it, a test here fails.
"""

import asyncio
import os
import shutil
import signal
import ssl
from pathlib import Path

import pytest
from certificates import self_signed
from connections import BODY, Client
from edges import RunningEdge, open_shards, running_edge

from schemas.redis import Redis


async def test_an_idle_connection_is_closed_after_the_set_time(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """Counted from its last answer; one that talks is kept."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, keep_alive_s=1) as edge:
        idle, talking = await Client(edge).connect(), await Client(edge).connect()
        loop = asyncio.get_running_loop()
        idle.writer.write(idle.head() + BODY)
        assert (await idle.answer())[0] == 201
        began = loop.time()
        ending = asyncio.create_task(idle.end())
        while not ending.done():
            talking.writer.write(talking.head() + BODY)
            assert (await talking.answer())[0] == 201
            await asyncio.sleep(0.1)
        assert ending.result() == b""
        assert loop.time() - began >= 0.9
        talking.writer.write(talking.head() + BODY)
        assert (await talking.answer())[0] == 201
        talking.writer.close()


async def test_a_request_under_way_is_finished_when_the_edge_is_told_to_go(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """Its body may still arrive; it is answered, then the connection ends; an idle one ends at once."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, shutdown_timeout_s=20) as edge:
        slow, idle = await Client(edge).connect(), await Client(edge).connect()
        idle.writer.write(idle.head() + BODY)
        assert (await idle.answer())[0] == 201
        slow.writer.write(slow.head() + BODY[:5])
        await slow.writer.drain()
        async with asyncio.timeout(20):
            while not any(protocol.arriving for protocol in edge.server.server_state.connections):  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
        edge.end()
        assert await idle.end() == b""
        slow.writer.write(BODY[5:])
        answer = await slow.end()
        assert answer.startswith(b"HTTP/1.1 201")
        assert b"Connection: close" in answer


async def test_slow_bodies_arrive_whole(edge: RunningEdge) -> None:
    """Byte by byte is as good as in one piece."""
    client = await Client(edge).connect()
    for byte in client.head() + BODY:
        client.writer.write(bytes([byte]))
        await client.writer.drain()
        await asyncio.sleep(0)
    assert (await client.answer())[0] == 201
    client.writer.close()


async def test_answers_keep_their_order_between_both_paths(edge: RunningEdge) -> None:
    """A slow ordinary call, telemetry behind it, and an ordinary call again, all sent at once."""
    client = await Client(edge).connect()
    get = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    client.writer.write(get + client.head() + BODY + get + client.head(2) + b"{}" + get)
    answers = [await client.answer() for _ in range(5)]
    assert [status for status, _ in answers] == [200, 201, 200, 422, 200]
    client.writer.close()


async def test_http_1_0_and_close_end_the_connection(edge: RunningEdge) -> None:
    """After the answer; a client of HTTP/1.0 gets no `100 Continue`, which it would take for that."""
    client = await Client(edge).connect()
    client.writer.write(client.head(extra="Connection: close\r\n") + BODY)
    assert (await client.end()).startswith(b"HTTP/1.1 201")
    for extra in ("", "Expect: 100-continue\r\n"):
        older = await Client(edge).connect()
        older.writer.write(older.head(extra=extra).replace(b"HTTP/1.1", b"HTTP/1.0") + BODY)
        assert (await older.end()).startswith(b"HTTP/1.1 201")


async def test_a_client_that_is_gone_before_its_answer_harms_nobody(edge: RunningEdge) -> None:
    """The message is stored all the same; others are answered."""
    clients = [await Client(edge).connect() for _ in range(20)]
    for client in clients:
        client.writer.write(client.head() + BODY)
        await client.writer.drain()
        client.writer.transport.abort()
    other = await Client(edge).connect()
    other.writer.write(other.head() + BODY)
    assert (await other.answer())[0] == 201
    other.writer.close()
    assert edge.services.metrics.refused._metrics == {}


async def test_too_many_connections_are_told_so(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """503, and those within the bound go on."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, connections_max=5) as edge:
        clients = [await Client(edge).connect() for _ in range(4)]
        for client in clients:
            client.writer.write(client.head() + BODY)
            assert (await client.answer())[0] == 201
        beyond = [await Client(edge).connect() for _ in range(3)]
        answers = [await client.end() for client in beyond[1:]]
        assert all(b" 503 " in answer and b"Too many connections" in answer for answer in answers)
        clients[0].writer.write(clients[0].head() + BODY)
        assert (await clients[0].answer())[0] == 201
        for client in clients + beyond:
            client.writer.close()


async def test_telemetry_over_tls(dsn: str, redis_url: str, redis_client: Redis, tmp_path: Path) -> None:
    """The hot path, pipelined requests and a body in two pieces, through TLS."""
    await open_shards(redis_client)
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    async with running_edge(dsn, redis_url, tls_certificate=str(certificate), tls_key=str(key)) as edge:
        client = await Client(edge).connect(context)
        request = client.head() + BODY
        client.writer.write(request + request + request[:-4])
        await client.writer.drain()
        client.writer.write(request[-4:])
        assert [(await client.answer())[0] for _ in range(3)] == [201, 201, 201]
        client.writer.close()


async def test_silent_handshakes_count_as_connections_and_end_soon(
    dsn: str, redis_url: str, redis_client: Redis, tmp_path: Path
) -> None:
    """Who says nothing where TLS is to begin takes a place for a moment; when it is over others find one."""
    await open_shards(redis_client)
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    settings = {"tls_certificate": str(certificate), "tls_key": str(key), "tls_handshake_timeout_s": 1}
    async with running_edge(dsn, redis_url, connections_max=4, **settings) as edge:
        silent = [await Client(edge).connect() for _ in range(4)]
        with pytest.raises(OSError, match=r"."):
            await Client(edge).connect(context)
        assert [await one.end() for one in silent] == [b""] * 4
        client = await Client(edge).connect(context)
        client.writer.write(client.head() + BODY)
        assert (await client.answer())[0] == 201
        client.writer.close()


async def test_what_is_no_tls_ends_and_harms_nobody(
    dsn: str, redis_url: str, redis_client: Redis, tmp_path: Path
) -> None:
    """Plain HTTP, half a handshake and then gone, or an edge that is told to go meanwhile."""
    await open_shards(redis_client)
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    settings = {"tls_certificate": str(certificate), "tls_key": str(key), "shutdown_timeout_s": 1}
    async with running_edge(dsn, redis_url, **settings) as edge:
        plain, gone, silent = [await Client(edge).connect() for _ in range(3)]
        plain.writer.write(plain.head() + BODY)
        await plain.end()
        gone.writer.write(b"\x16\x03\x01")
        await gone.writer.drain()
        gone.writer.transport.abort()
        client = await Client(edge).connect(context)
        client.writer.write(client.head() + BODY)
        assert (await client.answer())[0] == 201
        client.writer.close()
        edge.end()
        assert await silent.end() == b""


async def test_a_renewed_certificate_is_served_to_new_connections(
    dsn: str, redis_url: str, redis_client: Redis, tmp_path: Path
) -> None:
    """When the files change and on SIGHUP; connections that stand go on, and half a renewal is not taken."""
    await open_shards(redis_client)
    certificate, key = self_signed(tmp_path)
    async with running_edge(dsn, redis_url, tls_certificate=str(certificate), tls_key=str(key)) as edge:
        trusted = ssl.create_default_context(cafile=certificate)
        standing = await Client(edge).connect(trusted)

        async def is_served() -> bool:
            try:
                client = await Client(edge).connect(trusted)
            except ssl.SSLCertVerificationError:
                return False
            client.writer.close()
            return True

        for renew in ("SIGHUP", "change"):
            old = key.read_bytes()
            self_signed(tmp_path)
            new = key.read_bytes()
            key.write_bytes(old)
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            assert await is_served()
            key.write_bytes(new)
            trusted = ssl.create_default_context(cafile=certificate)
            if renew == "SIGHUP":
                os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(20):
                while not await is_served():
                    await asyncio.sleep(0.05)
            standing.writer.write(standing.head() + BODY)
            assert (await standing.answer())[0] == 201
        standing.writer.close()


async def test_a_certificate_is_replaced_under_load_by_one_with_another_kind_of_key(
    dsn: str, redis_url: str, redis_client: Redis, tmp_path: Path
) -> None:
    """Behind a link that is set elsewhere, as Kubernetes does it. No request is lost, and nobody gets the old one; what
    cannot be used is not taken."""
    await open_shards(redis_client)
    for name, kind in (("old", "ec"), ("new", "rsa")):
        (tmp_path / name).mkdir()
        self_signed(tmp_path / name, kind)
    for name in ("empty", "garbage", "foreign"):
        shutil.copytree(tmp_path / "new", tmp_path / name)
    (tmp_path / "empty/certificate.pem").write_bytes(b"")
    (tmp_path / "garbage/certificate.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    shutil.copy(tmp_path / "old/key.pem", tmp_path / "foreign/key.pem")
    (tmp_path / "..data").symlink_to("old")
    for name in ("certificate.pem", "key.pem"):
        (tmp_path / name).symlink_to(f"..data/{name}")

    def point_to(name: str) -> None:
        (tmp_path / "..next").symlink_to(name)
        os.replace(tmp_path / "..next", tmp_path / "..data")

    paths = {"tls_certificate": str(tmp_path / "certificate.pem"), "tls_key": str(tmp_path / "key.pem")}
    async with running_edge(dsn, redis_url, **paths) as edge:
        trust = {
            name: ssl.create_default_context(cafile=tmp_path / name / "certificate.pem") for name in ("old", "new")
        }
        standing = await Client(edge).connect(trust["old"])
        answered = 0
        ended = asyncio.Event()

        async def load() -> None:
            nonlocal answered
            while not ended.is_set():
                standing.writer.write(standing.head() + BODY)
                assert (await standing.answer())[0] in (201, 429)
                answered += 1

        async def is_served(name: str) -> bool:
            try:
                client = await Client(edge).connect(trust[name])
            except ssl.SSLCertVerificationError:
                return False
            client.writer.close()
            return True

        loading = asyncio.create_task(load())
        for unusable in ("empty", "garbage", "foreign", "missing"):
            point_to(unusable)
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            assert await is_served("old"), unusable
        point_to("new")
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(10):
            while not await is_served("new"):
                await asyncio.sleep(0.01)
        assert not await is_served("old")
        before = answered
        async with asyncio.timeout(10):
            while answered == before:
                await asyncio.sleep(0.01)
        ended.set()
        await loading
        standing.writer.close()
