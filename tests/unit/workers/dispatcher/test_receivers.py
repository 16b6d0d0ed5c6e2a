"""Receivers of many kinds, in simulated time: what each gets, how soon, and how often twice."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from simulation import Simulated, simulate

Serve = Callable[[bytes], Awaitable[int]]


def pool(workers: int, seconds: float, *, spread: float = 0.0) -> Serve:
    """So many requests at a time, each for about so long; the others wait in line, those given up as well."""
    free = asyncio.Semaphore(workers)
    chance = random.Random(2)

    async def serve(_: bytes) -> int:
        async with free:
            await asyncio.sleep(seconds * (1 + spread * (2 * chance.random() - 1)))
        return 200

    return serve


@pytest.mark.parametrize(
    ("workers", "seconds", "spread"),
    [
        (1, 0.02, 0),
        (1, 0.4, 0),
        (1, 0.4, 0.5),
        (1, 1, 0),
        (1, 2, 0.3),
        (1, 3, 0),
        (1, 4.5, 0),
        (4, 1, 0.5),
        (10, 0.5, 0),
    ],
)
def test_a_backlog_drains_at_the_receivers_capacity_and_hardly_anything_comes_twice(
    workers: int, seconds: float, spread: float
) -> None:
    """A receiver that takes few at a time, whatever it takes for one: goodput within 10 %, duplicates under 1 %."""

    async def scenario() -> None:
        made = Simulated(pool(workers, seconds, spread=spread))
        loop = asyncio.get_running_loop()
        count = 400
        made.happen(count)
        await made.drained()
        assert count * seconds / workers / loop.time() > 0.9
        assert sum(made.arrived.values()) - count <= 0.01 * count

    simulate(scenario)


def test_a_receiver_that_takes_many_at_a_time_is_sent_many_though_each_takes_long() -> None:
    """Latency alone is no line: thirty-two lanes soon, at two seconds each."""

    async def scenario() -> None:
        made = Simulated(pool(1000, 2, spread=0.6))
        made.happen(2000)
        await made.drained()
        assert asyncio.get_running_loop().time() < 1.5 * 2000 * 2 / 32
        assert set(made.arrived.values()) == {1}

    simulate(scenario)


def test_a_receiver_that_becomes_slower_and_faster_again_is_followed() -> None:
    """From twenty a second to two, and back; load at 80 % of what it can take."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        busy = asyncio.Semaphore(1)
        taking_s = 0.05

        async def serve(_: bytes) -> int:
            async with busy:
                await asyncio.sleep(taking_s)
            return 200

        made = Simulated(serve)
        for taking_s in (0.05, 0.5, 0.05):
            until = loop.time() + 300
            while loop.time() < until:
                made.happen()
                await asyncio.sleep(taking_s / 0.8)
            await asyncio.wait_for(made.drained(), 30)
        assert sum(made.arrived.values()) <= 1.01 * len(made.arrived)

    simulate(scenario)


async def _hangs() -> int:
    await asyncio.sleep(3600)
    return 200


async def _resets() -> int:
    raise ConnectionResetError


POISON: dict[str, Callable[[], Awaitable[int]]] = {
    **{str(status): (lambda status=status: asyncio.sleep(0.02, status)) for status in (400, 404, 410, 422)},
    "slow 400": lambda: asyncio.sleep(1.0, 400),
    **{str(status): (lambda status=status: asyncio.sleep(0.02, status)) for status in (429, 500, 501, 503)},
    "resets": _resets,
    "hangs": _hangs,
}
AFTER_S = {"slow 400": 5.0, "resets": 10.0, "429": 10.0, "500": 10.0, "501": 10.0, "503": 10.0, "hangs": 60.0}


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("again", [False, True])
def test_events_that_are_never_taken_hold_no_others_up(poison: str, again: bool) -> None:
    """Forty of one device fail whatever is done; those of another, one in two seconds, arrive soon all the same."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        async def serve(request: bytes) -> int:
            return await (POISON[poison]() if b'"poison"' in request else asyncio.sleep(0.02, 200))

        made = Simulated(serve)
        made.happen(40, "poison")
        happened_at: dict[str, float] = {}
        for n in range(60):
            [good] = made.happen(1, "good")
            happened_at[good.event_id] = loop.time()
            if again and n % 10 == 9:
                made.happen(10, "poison")
            await asyncio.sleep(2)
        late_s = [made.ended_at.get(event_id, loop.time()) - at for event_id, at in happened_at.items()]
        assert max(late_s) < AFTER_S.get(poison, 2.5)

    simulate(scenario)


def test_an_endpoint_that_rejects_everything_is_sent_each_event_once_and_few_retries() -> None:
    """Its retries get a part of the lanes, and each waits longer than the last."""

    async def scenario() -> None:
        made = Simulated(lambda _: asyncio.sleep(0.02, 422))
        made.happen(200)
        await asyncio.sleep(600)
        assert len(made.arrived) == 200
        assert sum(made.arrived.values()) < 200 * 12

    simulate(scenario)
