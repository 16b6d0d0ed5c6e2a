"""How much files may take of an edge: places, turns, and the time that telemetry leaves them."""

import asyncio
import itertools

import pytest
from prometheus_client import CollectorRegistry

from gateway import transfers
from gateway.refusals import Unavailable
from gateway.transfers import (
    AWAY_S,
    BESIDE_TELEMETRY,
    OF_ONE_MAX,
    ROUND_S,
    TELEMETRY_S,
    TURNS_AT_ONCE,
    TURNS_S,
    Downloads,
)
from schemas.ids import new_id
from schemas.metrics import Metrics


class Edge:
    """An edge whose clock is moved, and which notes how long somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int = 10) -> None:
        self.now = 1000.0
        self.trips = 0
        self.waited_s = 0.0
        self.downloads = Downloads(most, Metrics(CollectorRegistry()), lambda: self.trips, lambda: self.now)

        async def sleep(seconds: float) -> None:
            self.waited_s += seconds
            self.now += seconds

        monkeypatch.setattr(transfers.asyncio, "sleep", sleep)


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Edge:
    return Edge(monkeypatch)


def test_places_are_for_all_and_of_one(edge: Edge) -> None:
    """Who has too many, or comes when there are too many, comes back later; an end counts once."""
    one = new_id()
    ends = [edge.downloads.begin(one) for _ in range(OF_ONE_MAX)]
    with pytest.raises(Unavailable, match="of yours"):
        edge.downloads.begin(one)
    others = [edge.downloads.begin(new_id()) for _ in range(10 - OF_ONE_MAX)]
    with pytest.raises(Unavailable, match="Too many transfers are"):
        edge.downloads.begin(new_id())
    for _ in range(2):
        ends[0]()
    edge.downloads.begin(one)
    with pytest.raises(Unavailable):
        edge.downloads.begin(new_id())
    assert (edge.downloads.under_way, len(others)) == (10, 10 - OF_ONE_MAX)


async def test_a_device_that_asks_a_million_times_waits_its_turn(edge: Edge) -> None:
    """Many at once are free, after them so many a second; nobody else waits for it."""
    eager, other = new_id(), new_id()
    for _ in range(TURNS_AT_ONCE):
        await edge.downloads.turn(eager)
    assert edge.waited_s == 0
    for _ in range(10 * TURNS_S):
        await edge.downloads.turn(eager)
    assert edge.waited_s == pytest.approx(10, abs=0.1)
    await edge.downloads.turn(other)
    assert edge.waited_s == pytest.approx(10, abs=0.1)
    edge.now += TURNS_AT_ONCE / TURNS_S + AWAY_S
    await edge.downloads.turn(eager)
    assert edge.waited_s == pytest.approx(10, abs=0.1)


async def test_downloads_take_a_small_share_of_the_time_while_telemetry_comes(edge: Edge) -> None:
    """What sending costs is measured; without telemetry nobody waits."""
    for _ in range(100):
        await edge.downloads.yield_to_telemetry(1_000_000, 0.001)
    assert edge.waited_s == 0
    for _ in range(100):
        edge.trips += 1
        await edge.downloads.yield_to_telemetry(1_000_000, 0.001)
    assert edge.waited_s == pytest.approx(100 * 0.001 / BESIDE_TELEMETRY, rel=0.01)
    edge.now += TELEMETRY_S
    waited_s = edge.waited_s
    await edge.downloads.yield_to_telemetry(1_000_000, 0.001)
    assert edge.waited_s == waited_s


async def test_downloads_that_never_wait_for_their_clients_leave_the_loop_to_others() -> None:
    """One after the other, each in a round of its own: whoever comes meanwhile waits for none but the first."""
    moments = itertools.count(1)
    downloads = Downloads(10, Metrics(CollectorRegistry()), lambda: 0, lambda: next(moments) * 2 * ROUND_S)
    rounds = 0
    went_on_in: list[int] = []

    async def others() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    async def download() -> None:
        for _ in range(10):
            await downloads.yield_to_telemetry(1_000_000, 0.001)
            went_on_in.append(rounds)

    busy = asyncio.create_task(others())
    await asyncio.gather(download(), download(), download())
    busy.cancel()
    assert len(set(went_on_in)) == len(went_on_in) == 30


async def test_what_others_did_meanwhile_is_not_taken_for_the_cost_of_a_download(edge: Edge) -> None:
    """A measurement holds whatever the loop did; the least of the last ones counts, and old ones fade."""
    await edge.downloads.yield_to_telemetry(1_000_000, 0.001)
    edge.trips += 1
    await edge.downloads.yield_to_telemetry(1_000_000, 5.0)
    assert edge.waited_s == pytest.approx(0.001 / BESIDE_TELEMETRY, rel=0.1)
    for _ in range(200):
        edge.trips += 1
        await edge.downloads.yield_to_telemetry(1_000_000, 0.004)
    edge.waited_s = 0
    edge.trips += 1
    await edge.downloads.yield_to_telemetry(1_000_000, 0.004)
    assert edge.waited_s == pytest.approx(0.004 / BESIDE_TELEMETRY, rel=0.1)


def test_a_device_is_noted_as_seen_now_and_then(edge: Edge) -> None:
    """Not with each of a million ranges."""
    one = new_id()
    seen = []
    for _ in range(100):
        seen.append(edge.downloads.was_away(one))
        edge.now += 1
    assert seen.count(True) == 100 / AWAY_S
