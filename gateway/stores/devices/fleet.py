"""Devices of an organization as a fleet: found by what is known of them, and counted by how they are.

Where some filter fits few devices these are looked at and nothing else, so the answer is whole. Where all fit many,
devices are walked through in the order of their ids, and a page looks at a bounded number, however few fit (see
`gateway.stores.devices.fleet_filters`).

How a device is seen, and when, is kept a moment behind (see `schemas.device_status`): what is found by it is compared
with the truth before it is shown.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from gateway.giving_way import let_others_go_first
from gateway.stores.devices import fleet_filters
from gateway.stores.devices.fleet_filters import Filters, Way
from schemas import device_status
from schemas.device_status import NEVER_SEEN, EffectiveStatus, effective_status
from schemas.placement import read_reachable
from schemas.postgres import Executor

WALKED_MAX = 10_000
"""Devices that one page walks by, where all filters fit many."""
EXAMINED_MAX = 5_000
"""Devices that one page compares with the truth."""
STEP = 1_000
"""At once: a page begins with as many as it shows, and takes more where few of them fit."""
FIRST = UUID(int=0)


class Found(NamedTuple):
    """Devices that were found; where `up_to` is given there may be more behind that one."""

    ids: list[UUID]
    up_to: UUID | None


class Tally(NamedTuple):
    """How many devices fit, as they are kept: so many, or at least so many; None where only a walk would tell."""

    number: int | None
    is_whole: bool


async def find(
    connection: Executor, organization_id: UUID, filters: Filters, *, after: UUID | None, offset: int, limit: int
) -> Found:
    """The organization's devices that fit, oldest registration first, from behind `after` on."""
    place = after or FIRST
    way = await fleet_filters.choose(connection, organization_id, filters, place)
    found: list[UUID] = []
    wanted, examined = offset + limit, 0
    while True:
        size = max(wanted - len(found), min(2 * examined, STEP) if way.is_vague else 0)
        fit, up_to, looked_at = await _step(connection, way, filters, place, size)
        found += fit
        examined += looked_at
        cut = found[offset:wanted]
        if len(cut) == limit:
            return Found(cut, cut[-1])
        if up_to is None or examined >= EXAMINED_MAX:
            return Found(cut, up_to)
        place = up_to
        await let_others_go_first()


async def tally(connection: Executor, organization_id: UUID, filters: Filters) -> Tally:
    """How many of the organization's devices fit."""
    way = await fleet_filters.choose(connection, organization_id, filters, FIRST)
    if way.walks:
        return Tally(fleet_filters.FEW if way.is_alone and not way.is_vague else None, is_whole=False)
    statement, arguments = way.bound(
        f"""SELECT count(*) FROM ({way.ids(fleet_filters.FEW)}) w
             CROSS JOIN LATERAL (SELECT FROM devices d WHERE d.id = w.id AND {way.fits} OFFSET 0) d""",
        FIRST,
    )
    return Tally(await connection.fetchval(statement, *arguments), is_whole=True)


async def count(
    connection: Executor, organization_id: UUID
) -> tuple[Counter[tuple[UUID, EffectiveStatus]], Counter[UUID]] | None:
    """The devices by project and how they are, and by space; None while that is worked out for the first time."""
    if not await fleet_filters.is_kept(connection):
        return None
    rows = await connection.fetch(
        """SELECT project_id, space_id, status, count(*) AS devices FROM device_standings
            WHERE organization_id = $1 GROUP BY project_id, space_id, status""",
        organization_id,
    )
    by_status: Counter[tuple[UUID, EffectiveStatus]] = Counter()
    by_space: Counter[UUID] = Counter()
    for project_id, space_id, status, devices in rows:
        by_status[project_id, status] += devices
        by_space[space_id] += devices
    return by_status, by_space


async def _step(
    connection: Executor, way: Way, filters: Filters, after: UUID, size: int
) -> tuple[list[UUID], UUID | None, int]:
    """Those that fit of the next so many devices on the way, the last one where there may be more behind it, and how
    many were looked at; a walk that found fewer took as long as a page may."""
    walked = _walked(way, size)
    ids = way.ids(walked)
    columns, joins = ", NULL AS parent_id, NULL AS parent_shard", ""
    if filters.status is not None:
        columns, joins = f", {device_status.STATUS_COLUMNS}", device_status.STATUS_JOINS
    statement, arguments = way.bound(
        f"""SELECT d.id, d.shard{columns}
              FROM (SELECT d.* FROM ({ids}) w
                     CROSS JOIN LATERAL (SELECT * FROM devices d WHERE d.id = w.id AND {way.fits} OFFSET 0) d
                     ORDER BY w.id LIMIT {size}) d {joins} ORDER BY d.id""",
        after,
    )
    rows = await connection.fetch(statement, *arguments)
    fit = await _true(connection, rows, filters)
    if len(rows) == size:
        return fit, rows[-1]["id"], size
    if not way.walks:
        return fit, None, size
    statement, arguments = way.bound(f"SELECT id FROM ({ids}) w ORDER BY id OFFSET {walked - 1}", after)
    return fit, await connection.fetchval(statement, *arguments), EXAMINED_MAX


def _walked(way: Way, size: int) -> int:
    """How many devices are walked by to find so many; along many keys fewer of each."""
    return max(size, WALKED_MAX // way.source.parts) if way.walks else fleet_filters.FEW


async def _true(connection: Executor, rows: Sequence[asyncpg.Record], filters: Filters) -> list[UUID]:
    """Those of these devices that fit by what is true now, or were kept as such where their node is away."""
    if not filters.look_closer():
        return [row["id"] for row in rows]
    wanted = device_status.with_parents(rows)
    found = await read_reachable(
        connection,
        {shard for shard, _ in wanted},
        lambda shards: device_status.read_signs(connection, [one for one in wanted if one[0] in shards]),
    )
    seen = {device_id: signs for of_node in found.results for device_id, signs in of_node.items()}
    fit = []
    for row in rows:
        if not {row["shard"], row["parent_shard"]} <= found.shards | {None}:
            fit.append(row["id"])
            continue
        signs = seen.get(row["id"], NEVER_SEEN)
        status = filters.status and effective_status(row, signs, seen.get(row["parent_id"], NEVER_SEEN))
        if status == filters.status and filters.saw(signs.last_seen_at):
            fit.append(row["id"])
    return fit
