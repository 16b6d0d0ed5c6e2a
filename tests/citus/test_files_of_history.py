"""Closed days of a distributed log become files, and are read across the border, whatever node is away meanwhile."""

import asyncio
import threading
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

import closed_days
import pytest
from closed_days import archiver, day_before, listed
from owners import Owner

from schemas import placement
from schemas.archive import erasures
from schemas.placement import Placement
from schemas.postgres import PostgresAway
from tests.citus.cluster import Cluster
from tests.conftest import SHARDS
from workers.janitor import Janitor

MESSAGES = 30
"""Of each device."""


@pytest.fixture
async def day(acme: Owner, placed: Placement) -> datetime:
    """A day that is over, of devices on every node."""
    day = day_before(3)
    await closed_days.make_day(acme.pool, day)
    nodes = set[str]()
    for number in range(8):
        device_id = await acme.device()
        shard = (await acme.row(device_id))["shard"]
        nodes.add(placed.of(shard))
        await closed_days.fill(acme.pool, day, shard, device_id, acme.project_id, MESSAGES, 1 + 100 * number)
    assert len(nodes) == len(placed.names())
    return day


@pytest.fixture
async def placed(acme: Owner) -> Placement:
    """Where the shards lie."""
    return await placement.find(acme.pool)


async def history(acme: Owner) -> list[str]:
    """The events of the day, as its owner reads them, and a chart."""
    within = {"since": day_before(4).isoformat(), "until": day_before(2).isoformat()}
    found: list[str] = []
    page = 1
    while page is not None:
        answer = await acme.call("GET", "/devices/histories", page=page, per_page=100, **within)
        found += [one["event_id"] for one in answer["items"]]
        page = answer["next_page"]
    return found


def janitor(acme: Owner) -> Janitor:
    """With two hot days."""
    return Janitor(acme.pool, 31, hot_days=2, shards=SHARDS)


async def test_a_day_of_all_nodes_becomes_files_and_is_read_as_before(
    edge: Any, acme: Owner, dsn: str, day: datetime, cluster: Cluster, name: str
) -> None:
    """Its partition is dropped on every node, and an erasure finds what lies in files."""
    before = await history(acme)
    assert len(before) == 8 * MESSAGES
    assert await archiver(acme.pool, dsn, edge.services.blobs).tidy() == SHARDS
    assert await history(acme) == before
    assert await janitor(acme).tidy() == [f"events_{day:%Y%m%d}"]
    assert await history(acme) == before
    for node in cluster.nodes:
        assert (
            await cluster.value(node, f"SELECT count(*) FROM pg_class WHERE relname ~ 'events_{day:%Y%m%d}'", name) == 0
        )


@pytest.mark.parametrize("step", ["archive copied", "archive written", "archive kept"])
async def test_a_node_that_is_away_at_any_step_delays_the_day_and_nothing_else(
    edge: Any, acme: Owner, dsn: str, day: datetime, cluster: Cluster, name: str, placed: Placement, step: str
) -> None:
    """What was written goes on to count or is cleared away; when the node is back the day is in files once."""
    before, away = await history(acme), cluster.nodes[0]

    def take_away(reached: str) -> None:
        if reached == step:
            _elsewhere(cluster.take_away(away, name))

    with pytest.raises(PostgresAway):
        await archiver(acme.pool, dsn, edge.services.blobs, checkpoint=take_away).tidy()
    assert await janitor(acme).tidy() == []
    await cluster.bring_back(away, name)
    await archiver(acme.pool, dsn, edge.services.blobs).tidy()
    assert await janitor(acme).tidy() == [f"events_{day:%Y%m%d}"]
    assert await history(acme) == before
    assert len(await listed(acme.pool)) == len(set(await listed(acme.pool)))


async def test_a_day_whose_node_is_away_is_dropped_nowhere_and_later_everywhere(
    edge: Any, acme: Owner, dsn: str, day: datetime, cluster: Cluster, name: str
) -> None:
    """It stays in Postgres for all readers until all of it can be dropped at once."""
    before = await history(acme)
    await archiver(acme.pool, dsn, edge.services.blobs).tidy()
    await cluster.take_away(cluster.nodes[0], name)
    with pytest.raises(PostgresAway):
        await janitor(acme).tidy()
    await cluster.bring_back(cluster.nodes[0], name)
    assert await history(acme) == before
    assert await janitor(acme).tidy() == [f"events_{day:%Y%m%d}"]
    assert await history(acme) == before


@pytest.mark.parametrize("moved", [False, True])
async def test_what_is_to_be_erased_is_gone_from_nodes_and_files(
    edge: Any, acme: Owner, dsn: str, day: datetime, moved: bool
) -> None:
    """A device's events, whichever tier they lie in."""
    device_id = await acme.pool.fetchval("SELECT id FROM devices WHERE organization_id IS NOT NULL LIMIT 1")
    await archiver(acme.pool, dsn, edge.services.blobs).tidy()
    if moved:
        await janitor(acme).tidy()
    async with acme.pool.acquire() as connection:
        await erasures.request(connection, device_id=device_id, project_id=None)
    await archiver(acme.pool, dsn, edge.services.blobs).tidy()
    assert await janitor(acme).tidy() == ([] if moved else [f"events_{day:%Y%m%d}"])
    assert len(await history(acme)) == 7 * MESSAGES


def _elsewhere(work: Coroutine[Any, Any, None]) -> None:
    """Do it while this thread waits."""
    doing = threading.Thread(target=asyncio.run, args=(work,))
    doing.start()
    doing.join()
