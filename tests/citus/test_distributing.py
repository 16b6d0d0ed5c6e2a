"""`fleetgate migrate --distribute` on a cluster: what it refuses, what it moves, and that it goes on when killed."""

from collections import Counter
from typing import Any

import pytest

from schemas import distribution, ids, placement
from schemas.distribution import HELD, TABLES, distribute
from schemas.postgres import Connection
from schemas.settings import SettingsError
from tests.citus.cluster import Cluster, migrated
from tests.conftest import SHARDS

DEVICES = [ids.new_id() for _ in range(20)]


async def fill(connection: Connection) -> None:
    """A row of each table and shard, and some events."""
    for shard in range(SHARDS):
        await connection.execute("UPDATE shards SET next_seq = $2 WHERE shard = $1", shard, 7 + shard)
        await connection.execute("INSERT INTO ingest_ledger (shard, outcome, count) VALUES ($1, 'stored', 5)", shard)
    for device_id in DEVICES:
        shard = ids.shard_of(str(device_id).encode(), SHARDS)
        await connection.execute(
            """INSERT INTO events (shard, seq, stored_at, type, device_id, ts, data)
               VALUES ($1, (SELECT count(*) FROM events) + 1, now(), 'telemetry', $2, now(), '{}')""",
            shard,
            device_id,
        )


async def stored(connection: Connection) -> list[Any]:
    """What `fill` stored, as it is read."""
    shards = list(range(SHARDS))
    return [
        await connection.fetchval(
            "SELECT array_agg(next_seq ORDER BY shard) FROM shards WHERE shard = ANY($1::smallint[])", shards
        ),
        await connection.fetchval(
            "SELECT sum(count)::int FROM ingest_ledger WHERE shard = ANY($1::smallint[])", shards
        ),
        await connection.fetchval(
            "SELECT array_agg(device_id ORDER BY device_id) FROM events WHERE shard = ANY($1::smallint[])", shards
        ),
    ]


STORED = [[7 + shard for shard in range(SHARDS)], 5 * SHARDS, sorted(DEVICES)]


async def test_without_nodes_nothing_is_distributed(cluster: Cluster, name: str) -> None:
    """A sentence says what to do."""
    connection = await migrated(await cluster.make(name, known=False))
    with pytest.raises(SettingsError, match="no nodes are known"):
        await distribute(connection)
    assert not (await placement.find(connection)).distributed
    await connection.close()


async def test_nodes_that_prepare_no_transactions_are_refused(
    cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written on both sides would not be one transaction."""
    connection = await migrated(await cluster.make(name))
    none = "SELECT 'host:5432' AS name, true AS success, '0' AS result WHERE $1 <> ''"
    monkeypatch.setattr(distribution, "_ON_NODES", none)
    with pytest.raises(SettingsError, match="max_prepared_transactions is 0 on host:5432"):
        await distribute(connection)
    assert not (await placement.find(connection)).distributed
    await connection.close()


async def test_migrating_alone_distributes_nothing(cluster: Cluster, name: str) -> None:
    """That the extension and the nodes are there is no reason to move anything."""
    connection = await migrated(await cluster.make(name))
    assert not (await placement.find(connection)).distributed
    assert await connection.fetchval("SELECT count(*) FROM pg_dist_partition") == 0
    await connection.close()


async def test_each_shard_has_one_to_itself_evenly_over_the_nodes(cluster: Cluster, name: str) -> None:
    """What was stored is there as before, and no more on the coordinator; a second run does nothing."""
    connection = await migrated(await cluster.make(name))
    await fill(connection)
    assert await distribute(connection)
    assert await stored(connection) == STORED
    placed = await placement.find(connection)
    assert Counter(placed.of(shard) for shard in range(SHARDS)) == dict.fromkeys(
        cluster.nodes, SHARDS // len(cluster.nodes)
    )
    held = await connection.fetch(
        """SELECT get_shard_id_for_distribution_column('shards', n::smallint) AS held
             FROM generate_series(0, $1 - 1) n""",
        SHARDS,
    )
    assert len({row["held"] for row in held}) == SHARDS
    assert set(TABLES) <= {
        row["name"] for row in await connection.fetch("SELECT logicalrelid::text AS name FROM pg_dist_partition")
    }
    assert await connection.fetchval("SELECT count(DISTINCT colocationid) FROM pg_dist_partition") == 1
    assert [await connection.fetchval(f"SELECT {HELD}", table) for table in TABLES] == [0] * len(TABLES)
    assert await distribute(connection) == []
    await connection.close()


@pytest.mark.parametrize("steps", range(1, 13))
async def test_a_run_that_was_killed_is_run_again(
    cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Wherever it was killed, the next one goes on from there, and nothing is lost or there twice."""
    connection = await migrated(await cluster.make(name))
    await fill(connection)
    left = steps

    def dying(step: Any) -> Any:
        async def run(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt
            return await step(*arguments)

        return run

    with monkeypatch.context() as patched:
        for step in ("_distribute", "_split", "_delete_local"):
            patched.setattr(distribution, step, dying(getattr(distribution, step)))
        with pytest.raises(KeyboardInterrupt):
            await distribute(connection)
    await distribute(connection)
    assert await stored(connection) == STORED
    assert await distribute(connection) == []
    await connection.close()
