"""The client of everything but the hot path: what callers see of Redis' errors, and of a connection that was lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions
from redis.exceptions import ConnectionError  # noqa: A004

from gateway.cli.local.embedded import EmbeddedValkey, free_port
from schemas import redis
from schemas.redis import RedisAway
from tests.faults.proxy import Proxy

DEADLINE_S = 30


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey of the test's own, to be set up as badly as it likes."""
    made = EmbeddedValkey(tmp_path / "valkey", port=free_port(), fsync="no")
    made.start()
    yield made
    made.stop()


async def setting(server: EmbeddedValkey, *words: str) -> None:
    """What an operator does."""
    operator = redis.connect(server.url)
    await operator.execute_command(*words)
    await operator.aclose()


async def stopped(server: EmbeddedValkey, client: Any) -> None:
    await client.set("a", "b")
    server.stop()
    await client.get("a")


async def frozen(server: EmbeddedValkey, client: Any) -> None:
    await client.ping()
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        await client.get("a")
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


async def full(server: EmbeddedValkey, client: Any) -> None:
    await setting(server, "CONFIG", "SET", "maxmemory", "1")
    await client.set("a", "b")


async def full_for_a_pipeline(server: EmbeddedValkey, client: Any) -> None:
    await setting(server, "CONFIG", "SET", "maxmemory", "1")
    await client.pipeline(transaction=False).set("a", "b").execute()


async def demoted(server: EmbeddedValkey, client: Any) -> None:
    await setting(server, "REPLICAOF", "127.0.0.1", "1")
    await client.set("a", "b")


async def demoted_while_waiting(server: EmbeddedValkey, client: Any) -> None:
    waiting = asyncio.create_task(client.xread({"s": "0"}, block=5_000))
    operator: Any = redis.connect(server.url)
    while not (await operator.info("clients"))["blocked_clients"]:
        await asyncio.sleep(0.005)
    await operator.aclose()
    await setting(server, "REPLICAOF", "127.0.0.1", "1")
    await waiting


async def cut_off_from_its_primary(server: EmbeddedValkey, client: Any) -> None:
    await setting(server, "CONFIG", "SET", "replica-serve-stale-data", "no")
    await setting(server, "REPLICAOF", "127.0.0.1", "1")
    await client.get("a")


async def without_the_replicas_it_needs(server: EmbeddedValkey, client: Any) -> None:
    await setting(server, "CONFIG", "SET", "min-replicas-to-write", "1")
    await client.set("a", "b")


async def without_the_replicas_a_pipeline_needs(server: EmbeddedValkey, client: Any) -> None:
    await setting(server, "CONFIG", "SET", "min-replicas-to-write", "1")
    await client.pipeline(transaction=False).set("a", "b").execute()


async def busy_with_a_script(server: EmbeddedValkey, client: Any) -> None:
    await client.config_set("busy-reply-threshold", 1)
    operator: Any = redis.connect(server.url)
    looping = asyncio.create_task(operator.eval("while true do end", 0))
    try:
        while True:
            await client.get("a")
            await asyncio.sleep(0.001)
    finally:
        await client.script_kill()
        await asyncio.gather(looping, return_exceptions=True)
        await operator.aclose()


async def with_a_password_that_we_do_not_have(server: EmbeddedValkey, client: Any) -> None:
    await setting(server, "CONFIG", "SET", "requirepass", "changed")
    await client.get("a")


async def out_of_clients(server: EmbeddedValkey, client: Any) -> None:
    operator: Any = redis.connect(server.url)
    await operator.config_set("maxclients", 1)
    try:
        await client.get("a")
    finally:
        await operator.aclose()


async def emptied_between_two_commands(server: EmbeddedValkey, client: Any) -> None:
    await client.xinfo_stream("s")


async def rebuilt_by_another(server: EmbeddedValkey, client: Any) -> None:
    await client.xgroup_create("s", "opened", mkstream=True)
    await client.xgroup_create("s", "opened", mkstream=True)


async def written_to_while_it_is_rebuilt(server: EmbeddedValkey, client: Any) -> None:
    await client.xadd("s", {"a": "b"}, id="5-0")
    await client.execute_command("XSETID", "s", "4-0")


AWAY = (
    stopped,
    frozen,
    full,
    full_for_a_pipeline,
    demoted,
    demoted_while_waiting,
    cut_off_from_its_primary,
    without_the_replicas_it_needs,
    without_the_replicas_a_pipeline_needs,
    busy_with_a_script,
    with_a_password_that_we_do_not_have,
    out_of_clients,
    emptied_between_two_commands,
    rebuilt_by_another,
    written_to_while_it_is_rebuilt,
)


async def a_key_of_another_type(server: EmbeddedValkey, client: Any) -> None:
    await client.set("s", "text")
    await client.xlen("s")


async def too_few_arguments(server: EmbeddedValkey, client: Any) -> None:
    await client.execute_command("XLEN")


async def too_few_arguments_in_a_pipeline(server: EmbeddedValkey, client: Any) -> None:
    await client.pipeline(transaction=False).execute_command("XLEN").execute()


async def a_value_that_cannot_be_sent(server: EmbeddedValkey, client: Any) -> None:
    await client.set("a", None)


async def a_command_that_is_not_permitted(server: EmbeddedValkey, client: Any) -> None:
    await setting(server, "ACL", "SETUSER", "default", "-get")
    await client.get("a")


OURS: dict[Callable[[EmbeddedValkey, Any], Awaitable[None]], type[Exception]] = {
    a_key_of_another_type: exceptions.ResponseError,
    too_few_arguments: exceptions.ResponseError,
    too_few_arguments_in_a_pipeline: exceptions.ResponseError,
    a_value_that_cannot_be_sent: exceptions.DataError,
    a_command_that_is_not_permitted: exceptions.NoPermissionError,
}


@pytest.mark.parametrize(
    ("provoke", "expected"),
    [*((provoke, RedisAway) for provoke in AWAY), *OURS.items()],
    ids=lambda value: value.__name__,
)
async def test_an_error_means_what_the_table_says(
    server: EmbeddedValkey,
    monkeypatch: pytest.MonkeyPatch,
    provoke: Callable[[EmbeddedValkey, Any], Awaitable[None]],
    expected: type[Exception],
) -> None:
    """Try again later, or the client's own error where the fault lies in the command."""
    monkeypatch.setattr(redis, "TIMEOUT_S", 1.0 if provoke is not frozen else 0.1)
    client = redis.connect(server.url)
    with pytest.raises(expected):
        async with asyncio.timeout(DEADLINE_S) as deadline:
            await provoke(server, client)
    assert not deadline.expired()
    await client.aclose()


@pytest.mark.parametrize(
    "complaint",
    [
        b"LOADING Valkey is loading the dataset in memory",
        b"MISCONF Errors writing to the AOF file: No space left on device",
        b"CLUSTERDOWN The cluster is down",
        b"TRYAGAIN Multiple keys request during rehashing of slot",
        b"MOVED 866 127.0.0.1:1",
    ],
)
async def test_a_server_that_says_so_itself_is_away(server: EmbeddedValkey, complaint: bytes) -> None:
    """Alone and within a pipeline."""
    proxy = Proxy(server.port)
    await proxy.start()
    proxy.complaint = complaint
    client: Any = redis.connect(f"redis://127.0.0.1:{proxy.port}/0")
    with pytest.raises(RedisAway):
        await client.xadd("s", {"a": "b"})
    with pytest.raises(RedisAway):
        await client.pipeline(transaction=False).xadd("s", {"a": "b"}).execute()
    await client.aclose()
    await proxy.stop()


async def test_a_cluster_that_nobody_reaches_is_away() -> None:
    """Its client has an exception of its own for that, outside its family."""
    client: Any = redis.connect(f"redis+cluster://127.0.0.1:{free_port()}/0")
    with pytest.raises(RedisAway):
        await client.get("a")
    with pytest.raises(RedisAway):
        await client.pipeline().get("a").execute()
    with pytest.raises(RedisAway):
        await redis.nodes_of(client, ["a"])
    await client.aclose()


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
            await connection.send_command("BLPOP", "nothing", 0)
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
