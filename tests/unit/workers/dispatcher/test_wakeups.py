"""No connector is forgotten: outages of any length under load, timers that fire early, a process that is full."""

import asyncio
import random

import pytest
from simulation import Simulated, acknowledges, simulate

from workers.dispatcher.pace import PROBE_CAP_S

ROUNDS = 5
RATE_PER_S = 10
LATENCY_S = 0.5
DRAINED_S = PROBE_CAP_S + 200
"""After the return: a minute until it is found, ten minutes' backlog at a rising rate, and retries."""


@pytest.mark.parametrize("seed", range(6))
def test_outages_at_random_under_load_are_each_drained_in_time(seed: int) -> None:
    """Refused, reset or hanging, for a second to ten minutes, with the load going on: all arrive soon after each."""
    chance = random.Random(seed)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        away = ""

        async def serve(_: bytes) -> int:
            if away == "refuses":
                raise ConnectionRefusedError
            if away == "hangs":
                await asyncio.sleep(3600)
            if away == "proxy":
                return 502
            await asyncio.sleep(LATENCY_S)
            return 200

        made = Simulated(serve, seed)

        async def load(seconds: float) -> None:
            until = loop.time() + seconds
            while loop.time() < until:
                made.happen()
                await asyncio.sleep(1 / RATE_PER_S)

        for _ in range(ROUNDS):
            await load(chance.uniform(1, 20))
            away = chance.choice(["refuses", "hangs", "proxy"])
            await load(10 ** chance.uniform(0, 2.78))
            away = ""
            back_at = loop.time()
            await made.drained()
            assert loop.time() - back_at < DRAINED_S
        assert set(made.taken) == set(made.arrived)

    simulate(scenario)


@pytest.mark.parametrize("owed", [1, 3, 8, 20])
@pytest.mark.parametrize("away", [None, 503])
def test_a_receiver_that_is_owed_little_is_found_as_soon(owed: int, away: int | None) -> None:
    """An event that it did not look at for an hour does not wait for its own longest pause."""

    async def scenario() -> None:
        back = False

        async def serve(_: bytes) -> int:
            if back:
                return 200
            if away is None:
                raise ConnectionRefusedError
            return away

        made = Simulated(serve, seed=owed)
        made.happen(owed)
        await asyncio.sleep(3600)
        back = True
        await asyncio.wait_for(made.drained(), 2 * PROBE_CAP_S)

    simulate(scenario)


def test_an_event_that_breaks_its_receiver_waits_longer_and_longer() -> None:
    """500 may be of the event itself: it is tried ever more seldom, though the receiver is taken for dead."""

    async def scenario() -> None:
        async def serve(_: bytes) -> int:
            return 500

        made = Simulated(serve)
        made.happen(1)
        await asyncio.sleep(12 * 3600)
        assert made.arrived.total() < 12 * 3600 / PROBE_CAP_S / 2

    simulate(scenario)


def test_a_pause_that_ends_with_nothing_new_is_noticed() -> None:
    """More is owed than memory holds, nothing else happens, and the timer fires before the pause is over."""

    async def scenario() -> None:
        back = False

        async def serve(_: bytes) -> int:
            if not back:
                raise ConnectionResetError
            return 200

        made = Simulated(serve)
        made.happen(1000)
        while made.connector.pace.probes < 5:
            await asyncio.sleep(1)
        back = True
        await asyncio.wait_for(made.drained(), 2 * PROBE_CAP_S)

    simulate(scenario)


def test_whoever_waits_in_line_is_let_in_though_those_before_him_want_nothing_any_more() -> None:
    """A full process: the first in line is paused when its turn comes, the next one begins."""

    async def scenario() -> None:
        made = Simulated(deliveries_max=1)
        others = [Simulated(acknowledges, connector_id=str(n)) for n in range(30)]
        for other in others:
            other.lanes = made.lanes
        made.lanes.in_flight = 1
        for other in others:
            other.happen(3)
        for other in others[:-1]:
            other.connector.close()
        made.lanes.in_flight = 0
        made.lanes._admit()
        assert others[-1].connector.lanes == 1
        assert made.lanes.in_flight == 1

    simulate(scenario)


def test_lanes_that_the_governor_held_back_begin_when_it_allows_more() -> None:
    """Though the one that it left is taken by a request that hangs, and nothing else happens."""

    async def scenario() -> None:
        async def hangs_once(_: bytes) -> int:
            if len(made.arrived) == 1:
                await asyncio.sleep(3600)
            return 200

        made = Simulated(hangs_once)
        governor = made.lanes._governor
        governor.lanes = governor.backlog_lanes = 1
        made.happen(20)
        await asyncio.sleep(1)
        assert len(made.arrived) == 1
        governor.lanes = 4
        made.lanes.raised()
        await asyncio.sleep(1)
        assert len(made.taken) == 19

    simulate(scenario)
