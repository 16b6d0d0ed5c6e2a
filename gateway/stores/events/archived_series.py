"""What a device reported on moved days, from files, as `series` draws it: only times and numbers are read."""

import functools
from collections.abc import Sequence
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from gateway.giving_way import let_others_go_first
from gateway.stores.events import archived
from gateway.stores.events.buckets import Bucket
from gateway.stores.events.tiers import MovedFiles, Wanted
from schemas.archive.files import Files
from schemas.times import EPOCH

_COLUMNS = ("ts", "seq", "device_id", "type", "numbers")
_MICROSECOND = timedelta(microseconds=1)


async def buckets(files: Files, moved: MovedFiles, wanted: Wanted, keys: Sequence[str], points: int) -> list[Bucket]:
    """The buckets of each file's groups."""
    made: list[Bucket] = []
    async for one in moved:
        file = await files.open(one.name, one.size)
        for group in archived.groups_of(file, wanted):
            if archived.may_hold(file, group, wanted):
                await let_others_go_first()
                made += await files.group(
                    file, group, _COLUMNS, functools.partial(_buckets, one.shard, wanted, keys, points)
                )
    return made


def _buckets(shard: int, wanted: Wanted, keys: Sequence[str], points: int, table: pa.Table) -> list[Bucket]:
    some = table.take(archived.fitting(table, shard, wanted))
    begin, length = (wanted.since - EPOCH) // _MICROSECOND, (wanted.until - wanted.since) // _MICROSECOND
    behind = pc.subtract(some["ts"].cast(pa.int64()), begin)
    numbers = pc.divide(pc.multiply(behind, points), length)
    made = []
    for key in keys:
        values = pc.map_lookup(some["numbers"], key, "last")
        told = pa.table({"number": numbers, "at": behind, "value": values}).filter(pc.is_valid(values))
        grouped = told.group_by("number").aggregate(
            [("value", "count"), ("at", "sum"), ("value", "min"), ("value", "sum"), ("value", "max")]
        )
        columns = ("number", "value_count", "at_sum", "value_min", "value_sum", "value_max")
        rows = zip(*(grouped[name].to_pylist() for name in columns), strict=True)
        made += [Bucket(key, *row) for row in rows]
    return made
