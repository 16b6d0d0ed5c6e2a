"""The client of everything but the hot path: what callers see of a connection that was lost."""

import asyncio

import pytest
from redis.exceptions import ConnectionError  # noqa: A004

from gateway.cli.local.embedded import EmbeddedValkey
from schemas import redis


async def test_a_connection_that_was_lost_unnoticed_is_a_redis_error(valkey_server: EmbeddedValkey) -> None:
    """And not one of the event loop, which would end a worker; the next command has a new one."""
    client = redis.connect(valkey_server.url)
    pool = client.connection_pool
    connection = await pool.get_connection()
    connection._writer.transport.abort()
    await asyncio.sleep(0.01)
    with pytest.raises(ConnectionError):
        await connection.send_command("PING")
    await pool.release(connection)
    assert await client.ping()
    await client.aclose()


async def test_a_connection_that_is_closed_while_it_is_used_is_a_redis_error(valkey_server: EmbeddedValkey) -> None:
    """Another task may close it when it finds the cluster changed: before a command is sent, or before its reply."""
    client = redis.connect(valkey_server.url)
    pool = client.connection_pool
    for sent in (False, True):
        connection = await pool.get_connection()
        if sent:
            await connection.send_command("BLPOP", "nothing", 1)
            using = asyncio.create_task(connection.read_response())
            await asyncio.sleep(0.01)
        else:
            using = asyncio.create_task(connection.send_command("PING"))
            await asyncio.sleep(0)
        await connection.disconnect(nowait=True)
        with pytest.raises(ConnectionError):
            await using
        await pool.release(connection)
    await client.aclose()
