"""Slots of work among workers: one at a time, shared out evenly, taken over from those that are gone."""

import asyncio
from collections.abc import Callable

import pytest

from schemas.postgres import Pool
from workers import shares
from workers.shares import Shares

PIECES = 4
LOCKS = 0x74657374


class Worker:
    """A worker that only waits; `overlaps` notes a slot that two worked on at once."""

    busy: set[int]
    overlaps: list[int]

    def __init__(self, dsn: str) -> None:
        self.stop = asyncio.Event()
        self.shares = Shares(dsn, "test", LOCKS, PIECES, self.work)
        self.task = asyncio.create_task(self.shares.run(self.stop))

    async def work(self, slot: int, done: asyncio.Event) -> None:
        if slot in self.busy:
            self.overlaps.append(slot)
        self.busy.add(slot)
        await done.wait()
        await self.step()
        self.busy.discard(slot)

    async def step(self) -> None:
        """What it is doing when it is told to give the slot back."""

    async def end(self) -> None:
        self.stop.set()
        await self.task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_slots_are_shared_out_as_workers_come_and_go(dsn: str, pool: Pool) -> None:
    """One has all four, two have two each, three two at most; whoever stays takes over; never two on one slot."""
    Worker.busy, Worker.overlaps = set(), []
    first = Worker(dsn)
    await until(lambda: len(first.shares.slots) == 4)
    second = Worker(dsn)
    await until(lambda: (len(first.shares.slots), len(second.shares.slots)) == (2, 2))
    third = Worker(dsn)
    await until(lambda: len(first.shares.slots | second.shares.slots | third.shares.slots) == 4)
    await first.end()
    await until(lambda: len(second.shares.slots) + len(third.shares.slots) == 4)
    await third.end()
    await until(lambda: len(second.shares.slots) == 4)
    await second.end()
    assert Worker.overlaps == []
    assert Worker.busy == set()


async def test_a_worker_that_has_all_looks_seldom_and_is_told_when_it_must(
    dsn: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one comes, work ends, the session breaks: none of it waits for the next look."""
    monkeypatch.setattr(shares, "ALONE_S", 3600)
    Worker.busy, Worker.overlaps = set(), []
    first = Worker(dsn)
    await until(lambda: len(first.shares.slots) == PIECES)
    second = Worker(dsn)
    await until(lambda: (len(first.shares.slots), len(second.shares.slots)) == (2, 2))
    await second.end()
    await until(lambda: len(first.shares.slots) == PIECES)
    await first.end()
    assert Worker.busy == set()


async def test_a_worker_whose_session_breaks_gives_everything_up_and_comes_back(dsn: str, pool: Pool) -> None:
    """Its locks are gone with the session, so its work ends before it takes any anew."""
    Worker.busy, Worker.overlaps = set(), []
    worker = Worker(dsn)
    await until(lambda: len(worker.shares.slots) == 4)
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fleetgate worker test'"
    )
    await until(lambda: len(worker.shares.slots) < 4)
    await until(lambda: len(worker.shares.slots) == 4)
    await worker.end()
    assert Worker.overlaps == []


async def test_a_slot_is_let_go_only_after_the_step_that_was_under_way(dsn: str, pool: Pool) -> None:
    """Until then its lock is held, so that nobody else begins."""
    Worker.busy, Worker.overlaps = set(), []
    ending, ended = asyncio.Event(), asyncio.Event()

    class Slow(Worker):
        async def step(self) -> None:
            ending.set()
            await ended.wait()

    first = Slow(dsn)
    await until(lambda: len(first.shares.slots) == PIECES)
    second = Worker(dsn)
    async with asyncio.timeout(20):
        await ending.wait()
    [slot] = first.busy - first.shares.slots
    assert not await pool.fetchval("SELECT pg_try_advisory_lock_shared($1, $2)", LOCKS, slot)
    ended.set()
    await until(lambda: len(second.shares.slots) == PIECES // 2)
    await first.end()
    await second.end()
    assert Worker.overlaps == []
