"""Edges and workers that die, hang, or are told to go, under load."""

import asyncio
import signal

import psutil
import pytest

from tests.faults.stack import RECOVERY_S, Load, Stack, assert_stored_once, assert_told_of_command, send_command


async def test_an_edge_killed_under_load_loses_nothing_it_acknowledged(stack: Stack) -> None:
    """What it had not answered may be stored or not; what it had answered is."""
    edge = await stack.edge()
    await stack.worker()
    await stack.until_answers("/readyz")
    command_id = await send_command(stack, stack.devices[0])
    async with Load(stack) as load:
        await load.until(300)
        await edge.kill()
        await stack.edge()
        await load.until(300)
    await assert_stored_once(stack, load)
    await assert_told_of_command(stack, stack.devices[0], command_id)


@pytest.mark.parametrize("step", ["before_copy", "before_commit", "before_trim"])
async def test_a_flusher_killed_at_any_step_stores_each_message_once(stack: Stack, step: str) -> None:
    """Its successor reads from the offset that was committed with the rows."""
    await stack.edge()
    first = await stack.worker()
    await stack.until_answers("/readyz")
    await first.kill()
    dying = await stack.worker("--die-at", step)
    async with Load(stack) as load:
        assert await dying.ended() == -signal.SIGKILL
        await stack.worker()
        await load.until(200)
    await assert_stored_once(stack, load)


async def test_a_frozen_worker_that_wakes_up_stores_nothing_twice(stack: Stack) -> None:
    """Its session is gone and another has its shards; what it was about to commit is refused by the offset."""
    await stack.edge()
    frozen = await stack.worker()
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(200)
        frozen.signal(signal.SIGSTOP)
        await stack.query(
            """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name LIKE 'fleetgate worker%'"""
        )
        await stack.worker()
        await load.until(200)
        frozen.signal(signal.SIGCONT)
        await load.until(200)
    await assert_stored_once(stack, load)
    assert frozen.child.returncode is None


async def test_two_workers_share_the_shards_and_one_takes_over(stack: Stack) -> None:
    """Killed in the middle of its work, it leaves it to the other."""
    await stack.edge()
    first = await stack.worker()
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(200)
        await stack.worker()
        await load.until(300)
        await first.kill()
        await load.until(200)
    await assert_stored_once(stack, load)


async def test_a_worker_told_to_go_finishes_its_batch(stack: Stack) -> None:
    """It ends with 0 in the middle of the load, and the next goes on; SIGHUP ends nobody."""
    edge = await stack.edge()
    worker = await stack.worker()
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(200)
        for process in (edge, worker):
            process.signal(signal.SIGHUP)
        await load.until(200)
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
        await stack.worker()
        await load.until(200)
    await assert_stored_once(stack, load)


async def test_an_edge_told_to_go_answers_what_it_has_taken(stack: Stack) -> None:
    """It ends with 0; every message that it stored was acknowledged, or its connection was still being read."""
    edge = await stack.edge()
    await stack.worker()
    await stack.until_answers("/readyz")
    async with Load(stack) as load:
        await load.until(300)
        edge.signal(signal.SIGTERM)
        assert await edge.ended() == 0
        await stack.edge()
        await load.until(100)
    await assert_stored_once(stack, load)


async def test_the_importer_is_a_process_of_its_own_that_comes_again_and_ends_with_its_worker(stack: Stack) -> None:
    """What a vendor sends can end it, and nothing else; and it does not outlive a worker that is killed."""
    worker = await stack.worker(FLEETGATE_WORKER_ROLES="flusher,dispatcher,importer,upkeep")
    parent = psutil.Process(worker.child.pid)

    async def importer() -> psutil.Process:
        async with asyncio.timeout(RECOVERY_S):
            while not (found := parent.children()):
                await asyncio.sleep(0.02)
        return found[0]

    first = await importer()
    first.kill()
    while first.is_running() and first.status() != psutil.STATUS_ZOMBIE:
        await asyncio.sleep(0.02)
    await worker.logged("role_ended")
    second = await importer()
    assert second.pid != first.pid
    await worker.kill()
    async with asyncio.timeout(RECOVERY_S):
        while second.is_running():
            await asyncio.sleep(0.02)
