"""Loops of a worker: what is tried again, and what ends the process."""

import asyncio

import asyncpg
import pytest
from redis.exceptions import ResponseError

from schemas.postgres import Pool
from schemas.redis import Redis
from workers.schedule import every
from workers.shares import Shares

LOCKS = 0x74657374


async def test_a_step_that_finds_a_store_away_or_busy_is_taken_again(pool: Pool, redis_client: Redis) -> None:
    """Nothing is lost by waiting for the next time."""
    stop = asyncio.Event()
    steps = [
        lambda: pool.execute("SET default_transaction_read_only = on; CREATE TABLE t ()"),
        lambda: pool.execute("SELECT pg_sleep(60)", timeout=0.01),
        lambda: pool.execute("SELECT pg_terminate_backend(pg_backend_pid())"),
        lambda: redis_client.execute_command("XINFO", "STREAM", "s"),
    ]

    async def step() -> None:
        if not steps:
            stop.set()
            return
        await steps.pop(0)()

    await every(0.001, step, stop)
    assert not steps


@pytest.mark.parametrize("store", ["postgres", "redis"])
async def test_a_mistake_of_ours_ends_the_loop(pool: Pool, redis_client: Redis, store: str) -> None:
    """With its cause; a loop that went on in silence would never do its work again."""

    async def mistaken(*_: object) -> None:
        if store == "postgres":
            await pool.execute("SELECT $1::int, $2::int", 1)
        await redis_client.execute_command("XLEN")

    expected = asyncpg.InterfaceError if store == "postgres" else ResponseError
    with pytest.raises(expected):
        await every(0.001, mistaken, asyncio.Event())


async def test_a_mistake_in_the_work_on_a_slot_ends_the_worker(dsn: str, pool: Pool) -> None:
    """It would only go wrong again elsewhere, at whoever takes the slot next."""

    async def mistaken(slot: int, done: asyncio.Event) -> None:
        await pool.execute("SELECT $1::int, $2::int", 1)

    with pytest.raises(asyncpg.InterfaceError, match="expects 2 arguments"):
        async with asyncio.timeout(20):
            await Shares(dsn, "test", LOCKS, 1, mistaken).run(asyncio.Event())
