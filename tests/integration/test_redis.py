"""The client of everything but the hot path: what callers see of a connection that was lost."""

import asyncio

import pytest
from redis.exceptions import ConnectionError  # noqa: A004

from gateway.cli.embedded import EmbeddedValkey
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
