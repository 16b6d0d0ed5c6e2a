"""Keeps how each device is seen beside its labels and firmware, so that fleets are listed and counted by index.

    standings_due ──▶ what are these devices now? ──▶ device_standings ──▶ gone from standings_due, in one transaction

Standings are worked out from the truth whenever something left a device in `standings_due` (see
`schemas.device_status`), and all again at a slow pace: what an older worker, or a hand in the database, changed without
a word comes right within hours. One worker at a time does it, held by a lock of the transaction, so an older truth
never overwrites a newer one; a worker that dies leaves everything due.

The children of a device are looked at with it, since they are seen as disconnected while it is offline. What is due of
very many (a connector, all devices) is done step by step, and notes how far it came.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from schemas.device_status import (
    NEVER_SEEN,
    STATUS_COLUMNS,
    STATUS_JOINS,
    Signs,
    effective_status,
    make_due,
    read_signs,
    with_parents,
)
from schemas.placement import ONE_POSTGRES, Placement
from schemas.postgres import Connection, Pool
from workers.turns import Turns

SHARE = 0.1
"""Of the time, where much is due (measured, with 100,000 devices that come up within seconds: without it Postgres did
twice the work for each message, and the p99 of telemetry was 280 ms instead of 60)."""
TURN_S = 2.0
"""Work is left after the share of so long, to be taken up again: whoever shuts down waits for no more."""
DEVICES_MAX = 1_000
REPAIR_S = 10.0
"""Between two steps of the repair: 100 devices a second."""
SEEN_LAG = timedelta(hours=1)
"""`seen_at` moves on when it is older by this: not with every message."""
LOCK = 0x7374616E
NEVER = datetime.min.replace(tzinfo=UTC)
"""asyncpg reads and writes this time as -infinity."""
FIRST = UUID(int=0)

DUE = "EXISTS (SELECT FROM standings_due)"
_LOOK = f"""
    SELECT d.id, d.shard, d.organization_id, d.project_id, d.space_id, {STATUS_COLUMNS}
      FROM devices d {STATUS_JOINS}
     WHERE d.id = ANY($1::uuid[]) AND d.organization_id IS NOT NULL AND d.deleted_at IS NULL
"""
_KEEP = """
    INSERT INTO device_standings AS s (device_id, organization_id, project_id, space_id, status, seen_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[])
    ON CONFLICT (device_id) DO UPDATE SET
           organization_id = excluded.organization_id, project_id = excluded.project_id,
           space_id = excluded.space_id, status = excluded.status, seen_at = excluded.seen_at
     WHERE (s.organization_id, s.project_id, s.space_id, s.status)
           IS DISTINCT FROM (excluded.organization_id, excluded.project_id, excluded.space_id, excluded.status)
        OR excluded.seen_at NOT BETWEEN s.seen_at AND s.seen_at + $7::interval
"""
_MANY = "SELECT id, connector_id, after_id FROM standings_due WHERE device_id IS NULL ORDER BY id LIMIT 1"
_OF_CONNECTOR = """
    SELECT DISTINCT device_id AS id FROM cloud_devices
     WHERE connector_id = $1 AND device_id > $2 ORDER BY device_id LIMIT $3
"""
_OF_ALL = "SELECT id FROM devices WHERE id > $1 ORDER BY id LIMIT $2"
_LABELS = """
    INSERT INTO device_labels (device_id, organization_id, key, value)
    SELECT d.id, d.organization_id, l.key, l.value FROM devices d CROSS JOIN LATERAL json_each_text(d.labels) l
     WHERE d.id = ANY($1::uuid[]) AND d.organization_id IS NOT NULL AND d.deleted_at IS NULL AND l.value IS NOT NULL
    ON CONFLICT DO NOTHING
"""


class Standings:
    """Keeps standings. Several may run: one works, the others find nothing to do."""

    def __init__(self, pool: Pool, placement: Placement = ONE_POSTGRES, share: float = 1.0) -> None:
        self._pool = pool
        self._placement = placement
        self._turns = Turns(share, TURN_S)
        self._repaired = FIRST

    async def settle(self) -> None:
        """Work on what is due, for a turn."""
        with self._turns.turn() as goes_on:
            while goes_on() and await self.step():
                pass

    async def step(self) -> bool:
        """Do the oldest that is due; False when there is nothing, or another worker does it."""
        async with self._pool.acquire() as connection:
            if not await connection.fetchval(f"SELECT {DUE}"):
                return False
            async with connection.transaction():
                if not await _held(connection):
                    return False
                await _some(connection, self._placement)
                await _many(connection, self._placement)
        return not self._placement.away()

    async def repair(self) -> None:
        """Look at the next devices, whether anything is due of them or not; after the last comes the first."""
        async with self._pool.acquire() as connection, connection.transaction():
            if not await _held(connection):
                return
            rows = await connection.fetch(_OF_ALL, self._repaired, DEVICES_MAX)
            await _refresh(connection, self._placement, [row["id"] for row in rows])
        self._repaired = rows[-1]["id"] if len(rows) == DEVICES_MAX else FIRST


async def _held(connection: Connection) -> bool:
    held: bool = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK)
    return held


async def _some(connection: Connection, placement: Placement) -> None:
    """The oldest devices that are due by themselves, and their children."""
    rows = await connection.fetch(
        """DELETE FROM standings_due WHERE id IN (
               SELECT id FROM standings_due WHERE device_id IS NOT NULL ORDER BY id LIMIT $1)
           RETURNING device_id""",
        DEVICES_MAX,
    )
    if not rows:
        return
    device_ids = {row["device_id"] for row in rows}
    children = await connection.fetch("SELECT id FROM devices WHERE parent_id = ANY($1::uuid[])", list(device_ids))
    await _refresh(connection, placement, sorted(device_ids | {row["id"] for row in children}))


async def _many(connection: Connection, placement: Placement) -> None:
    """The next devices of the oldest that stands for many. Those that follow their parents come with these."""
    due = await connection.fetchrow(_MANY)
    if due is None:
        return
    after = due["after_id"] or FIRST
    if due["connector_id"] is None:
        rows = await connection.fetch(_OF_ALL, after, DEVICES_MAX)
        await _add_labels(connection, [row["id"] for row in rows])
    else:
        rows = await connection.fetch(_OF_CONNECTOR, due["connector_id"], after, DEVICES_MAX)
    await _refresh(connection, placement, [row["id"] for row in rows])
    if len(rows) == DEVICES_MAX:
        await connection.execute("UPDATE standings_due SET after_id = $2 WHERE id = $1", due["id"], rows[-1]["id"])
    else:
        await connection.execute("DELETE FROM standings_due WHERE id = $1", due["id"])


async def _add_labels(connection: Connection, device_ids: Collection[UUID]) -> None:
    """The labels that devices had before triggers kept them; locked, so that none is changed meanwhile."""
    await connection.execute(
        "SELECT FROM devices WHERE id = ANY($1::uuid[]) AND labels::text <> '{}' ORDER BY id FOR SHARE", device_ids
    )
    await connection.execute(_LABELS, device_ids)


async def _refresh(connection: Connection, placement: Placement, device_ids: Sequence[UUID]) -> None:
    """Work out anew how these devices are seen; what is unowned or deleted has no standing."""
    for first in range(0, len(device_ids), DEVICES_MAX):
        part = device_ids[first : first + DEVICES_MAX]
        rows = await connection.fetch(_LOOK, part)
        await _keep(connection, placement, rows)
        if gone := set(part) - {row["id"] for row in rows}:
            await connection.execute("DELETE FROM device_standings WHERE device_id = ANY($1::uuid[])", list(gone))


async def _keep(connection: Connection, placement: Placement, rows: Sequence[Any]) -> None:
    """Keep how these devices are seen; those whose node is away stay due."""
    wanted = with_parents(rows)

    async def read(shards: list[int]) -> dict[UUID, Signs]:
        return await read_signs(connection, [one for one in wanted if one[0] in shards])

    async def read_apart(shards: list[int]) -> dict[UUID, Signs]:
        async with connection.transaction():  # a savepoint: what fails does not end the transaction
            return await read(shards)

    found = await placement.read({shard for shard, _ in wanted}, read_apart if placement.distributed else read)
    seen = {device_id: signs for of_node in found.results for device_id, signs in of_node.items()}
    kept, away = [], []
    for row in rows:
        if not {row["shard"], row["parent_shard"]} <= found.shards | {None}:
            away.append(row["id"])
            continue
        signs = seen.get(row["id"], NEVER_SEEN)
        status = effective_status(row, signs, seen.get(row["parent_id"], NEVER_SEEN))
        place = row["id"], row["organization_id"], row["project_id"], row["space_id"]
        kept.append((*place, status, signs.last_seen_at or NEVER))
    if away:
        await make_due(connection, away)
    if kept:
        await connection.execute(_KEEP, *map(list, zip(*kept, strict=True)), SEEN_LAG)
