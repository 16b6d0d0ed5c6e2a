"""A worker carries rollouts out in a part of its time; no device waits for its firmware, all of them send telemetry."""

import pytest
from campaigns import campaign
from owners import Owner
from prometheus_client import CollectorRegistry

from schemas.metrics import Metrics
from schemas.redis import Redis
from workers.rollouts.rollouts import Rollouts
from workers.turns import BURST_S, Turns

STEP_S = 1.0


async def test_a_worker_rests_behind_its_turns(acme: Owner, redis_client: Redis) -> None:
    """Until the turn was a share of the time, however long it took; then it goes on where it was."""
    devices = [await acme.device() for _ in range(4)]
    spring = await campaign(acme, redis_client)
    clock = [100.0]

    def spend(step: str) -> None:
        clock[0] += STEP_S if step == "rollout_step" else 0

    metrics = Metrics(CollectorRegistry())
    worker = Rollouts(acme.pool, redis_client, metrics, spring.url, 1, spend, share=0.2, clock=lambda: clock[0])
    turns = 0
    while await spring.offered() != set(devices):
        assert await worker.advance(spring.now) == 1, "a step takes longer than a turn"
        turns += 1
        for _ in range(4):
            assert await worker.advance(spring.now) == 0
            clock[0] += 0.99 * STEP_S
        clock[0] += 0.05 * STEP_S
    assert turns > len(devices)


def test_little_is_done_at_once_and_much_in_its_share_of_the_time() -> None:
    """A small fleet waits for nobody; of a large one the loop works a share of the time, however long a step takes."""
    clock = [100.0]
    turns = Turns(0.1, 1.0, lambda: clock[0])
    worked = rested = 0.0
    at_once = None
    while worked < 5:
        with turns.turn() as goes_on:
            if goes_on():
                clock[0] += 0.05
                worked += 0.05
                continue
        at_once = at_once or worked
        clock[0] += 0.01
        rested += 0.01
    assert at_once == pytest.approx(BURST_S + 0.05)
    assert worked / (worked + rested) == pytest.approx(0.1, rel=0.1)
    clock[0] += 1_000
    with turns.turn() as goes_on:
        assert goes_on()
