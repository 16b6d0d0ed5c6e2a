"""The newest events of moved days that fit, found in files: by their keys first, then what is shown of them.

    files, latest event first ──▶ groups that may hold some ──▶ keys (time, device, type) ──▶ the newest that fit
                                                                                      data of these alone ◀──┘

Files are in the order of device and time, so a device's page reads a group or two of each day. Of a project all of a
day's keys are looked at, whatever the page shows. A page that has looked at `GROUPS_MAX` ends where the next file
begins to be of earlier events: as a rule, with the day.
"""

import functools
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from gateway.giving_way import let_others_go_first
from gateway.stores.events.tiers import MovedFiles, Position, Wanted
from schemas.archive.files import Archived, Files
from schemas.times import EPOCH

GROUPS_MAX = 500
SHARD_MAX, SEQ_MAX = 2**15 - 1, 2**63 - 1
_KEYS = ("ts", "seq", "device_id", "type")
_SHOWN = ("seq", "device_id", "type", "ts", "stored_at", "data")
_MICROSECOND = timedelta(microseconds=1)


class Found(NamedTuple):
    """The newest that fit, in order. Where `ends` is given they are all down to there, and there may be more behind."""

    rows: list["Row"]
    ends: Position | None


class Row(NamedTuple):
    """An event that was found, by its place in the order of lists and in a file."""

    ts_us: int
    shard: int
    seq: int
    device_id: str
    file: Archived
    group: int
    place: int

    @property
    def position(self) -> Position:
        """In the order of a list."""
        return EPOCH + self.ts_us * _MICROSECOND, self.shard, self.seq


async def find(
    files: Files, moved: MovedFiles, wanted: Wanted, before: Position | None, down_to: Position | None, count: int
) -> Found:
    """The newest `count` events behind `before` that fit; what lies behind `down_to` need not be among them."""
    best: list[Row] = []
    looked = 0
    async for one in moved:
        if len(best) == count and _us(one.last_at) < best[-1].ts_us:
            break
        if down_to is not None and one.last_at < down_to[0]:
            break
        ends = (one.last_at, SHARD_MAX, SEQ_MAX)
        if looked >= GROUPS_MAX and (before is None or ends < before):
            return Found([row for row in best if row.position > ends], ends)
        file = await files.open(one.name, one.size)
        for group in groups_of(file, wanted):
            least_us = best[-1].ts_us if len(best) == count else None
            if not may_hold(file, group, wanted, before, down_to, least_us):
                continue
            await let_others_go_first()
            looked += 1
            keys = _KEYS if wanted.status is None else (*_KEYS, "status")
            found = await files.group(file, group, keys, functools.partial(_keys, one.shard, wanted, before, count))
            found = await _meeting(found, wanted)
            rows = [Row(ts_us, one.shard, seq, device_id, file, group, place) for ts_us, seq, device_id, place in found]
            best = sorted([*best, *rows], key=_place, reverse=True)[:count]
    return Found(best, best[-1].position if len(best) == count else None)


async def shown(files: Files, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What is shown of these events, as the rows that Postgres gives, in their order."""
    made: dict[tuple[int, int], dict[str, Any]] = {}
    by_group = sorted(rows, key=lambda row: (row.file.name, row.group, row.place))
    for _, of_group in groupby(by_group, key=lambda row: (row.file.name, row.group)):
        some = list(of_group)
        await let_others_go_first()
        places = [row.place for row in some]
        table = await files.group(some[0].file, some[0].group, _SHOWN, functools.partial(_taken, places))
        times = table["ts"].cast(pa.int64()).to_pylist()
        stored = table["stored_at"].cast(pa.int64()).to_pylist()
        columns = (table[name].to_pylist() for name in ("device_id", "type", "data"))
        for row, ts_us, stored_us, device_id, kind, data in zip(some, times, stored, *columns, strict=True):
            made[row.shard, row.seq] = {
                "shard": row.shard,
                "seq": row.seq,
                "stored_at": EPOCH + stored_us * _MICROSECOND,
                "type": kind,
                "device_id": UUID(device_id),
                "ts": EPOCH + ts_us * _MICROSECOND,
                "data": data,
            }
    return [made[row.shard, row.seq] for row in rows]


def _taken(places: list[int], table: pa.Table) -> pa.Table:
    return table.take(places)


def groups_of(file: Archived, wanted: Wanted) -> Sequence[int]:
    """The groups that may hold events of the devices that are wanted."""
    if wanted.device_ids is None:
        return range(file.groups)
    return file.groups_with("device_id", sorted(map(str, wanted.device_ids)))


def may_hold(
    file: Archived,
    group: int,
    wanted: Wanted,
    before: Position | None = None,
    down_to: Position | None = None,
    least_us: int | None = None,
) -> bool:
    """Whether a group may hold an event that fits, by its least and greatest time."""
    least, greatest = file.bounds(group, "ts")
    since = max(filter(None, (wanted.since, down_to and down_to[0])))
    until = wanted.until if before is None else min(wanted.until, before[0] + _MICROSECOND)
    return greatest >= since and least < until and (least_us is None or _us(greatest) >= least_us)


def fitting(table: pa.Table, shard: int, wanted: Wanted, before: Position | None = None) -> pa.Array:
    """The places in the group of the rows that fit."""
    times, seqs = table["ts"].cast(pa.int64()), table["seq"]
    fits = pc.and_(pc.greater_equal(times, _us(wanted.since)), pc.less(times, _us(wanted.until)))
    if before is not None:
        at = _us(before[0])
        earlier = pc.less(times, at)
        if shard < before[1]:
            earlier = pc.less_equal(times, at)
        elif shard == before[1]:
            earlier = pc.or_(earlier, pc.and_(pc.equal(times, at), pc.less(seqs, before[2])))
        fits = pc.and_(fits, earlier)
    if wanted.device_ids is not None:
        fits = pc.and_(fits, pc.is_in(table["device_id"], pa.array(map(str, wanted.device_ids), pa.string())))
    if wanted.types is not None:
        fits = pc.and_(fits, pc.is_in(table["type"], pa.array(wanted.types, pa.string())))
    if wanted.status is not None:
        fits = pc.and_(fits, pc.fill_null(pc.equal(table["status"], wanted.status), False))
    return pc.indices_nonzero(fits)


def _keys(
    shard: int, wanted: Wanted, before: Position | None, count: int, table: pa.Table
) -> list[tuple[int, int, str, int]]:
    """Time, sequence number, device and place in the group of the newest rows that fit."""
    places = fitting(table, shard, wanted, before)
    some = table.take(places)
    if len(some) > count and wanted.meeting is None:
        newest = pc.select_k_unstable(some, count, [("ts", "descending"), ("seq", "descending")])
        places, some = places.take(newest), some.take(newest)
    columns = (some["ts"].cast(pa.int64()), some["seq"], some["device_id"], places)
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


async def _meeting(found: list[tuple[int, int, str, int]], wanted: Wanted) -> list[tuple[int, int, str, int]]:
    if wanted.meeting is None or not found:
        return found
    meeting = {str(one) for one in await wanted.meeting([UUID(one) for one in {row[2] for row in found}])}
    return [row for row in found if row[2] in meeting]


def _place(row: Row) -> tuple[int, int, int]:
    return row.ts_us, row.shard, row.seq


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND
