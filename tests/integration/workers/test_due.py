"""One question for all loops of a worker: who is woken by it, and what happens when it is wrong."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.postgres import Pool
from workers import command_clock, due, firmware_sweep, key_overlaps, license_clock, replies, standings
from workers.importer import leases
from workers.rollouts import store as rollouts

CONDITIONS = [
    command_clock.DUE,
    firmware_sweep.DUE,
    key_overlaps.DUE,
    license_clock.DUE,
    replies.DUE,
    rollouts.DUE,
    standings.DUE,
]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_loop_takes_its_step_when_its_condition_holds_and_no_other(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All take one at the beginning, whatever they would find."""
    monkeypatch.setattr(due, "INTERVAL_S", 0.01)
    taken = {"due": 0, "not due": 0}

    async def step(name: str) -> None:
        taken[name] += 1

    stop = asyncio.Event()
    steps = {"1 + 1 = 2": lambda: step("due"), "1 + 1 = 3": lambda: step("not due")}
    running = asyncio.create_task(due.run(pool, steps, stop))
    await until(lambda: taken["due"] > 3)
    stop.set()
    await running
    assert taken["not due"] == 1


async def test_a_step_that_takes_long_holds_up_no_other(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands time out while a rollout goes through a fleet."""
    monkeypatch.setattr(due, "INTERVAL_S", 0.01)
    free, taken = asyncio.Event(), 0

    async def quick() -> None:
        nonlocal taken
        taken += 1

    stop = asyncio.Event()
    running = asyncio.create_task(due.run(pool, {"1 = 1": free.wait, "2 = 2": quick}, stop))
    await until(lambda: taken > 3)
    stop.set()
    free.set()
    await running


async def test_what_is_overlooked_is_done_by_and_by(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is ahead of that of Postgres, say, or a condition that leaves something out."""
    monkeypatch.setattr(due, "INTERVAL_S", 0.01)
    monkeypatch.setattr(due, "SWEEP_S", 0.05)
    taken = 0

    async def step() -> None:
        nonlocal taken
        taken += 1

    stop = asyncio.Event()
    running = asyncio.create_task(due.run(pool, {"1 = 2": step}, stop))
    await until(lambda: taken > 2)
    stop.set()
    await running


async def test_nothing_is_due_of_an_installation_that_is_new(pool: Pool) -> None:
    """All conditions can be asked at once."""
    row = await pool.fetchrow(f"SELECT {', '.join(CONDITIONS)}")
    assert row is not None
    assert set(row) == {False}
    assert not await leases.some_due(pool)
