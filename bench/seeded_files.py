"""Files of history as an archiver writes them, made without a Postgres that held their events first.

A hundred million events are a minute's work of a disk and some of a core, where they would be 46 GB of rows. Each file
is written by the archiver's own writer and listed as its own; messages are those of one device, told by all.
"""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pyarrow as pa

from bench.results import Report
from bench.rig import SHARDS
from schemas.archive import layout, listing
from schemas.archive.listing import Written
from schemas.ids import shard_of
from schemas.postgres import Pool
from workers import partitions

OF_DAY = 1_440
_DEVICES_OF_GROUP = layout.ROWS_OF_GROUP // OF_DAY
_DEVICES_OF_FILE = layout.GROUPS_OF_FILE * _DEVICES_OF_GROUP


async def seed(
    pool: Pool, folder: Path, project_id: UUID, devices: Sequence[UUID], days: Sequence[date], report: Report
) -> None:
    """A message a minute of these devices, on these days."""
    of_shards = [sorted(one for one in devices if shard_of(str(one).encode(), SHARDS) == n) for n in range(SHARDS)]
    for number, day in enumerate(days):
        for shard, of_shard in enumerate(of_shards):
            for begin in range(0, len(of_shard), _DEVICES_OF_FILE):
                some = of_shard[begin : begin + _DEVICES_OF_FILE]
                name = layout.name_of(project_id, day, shard, secrets.token_hex(8))
                announced = await listing.announce(pool, day, shard, project_id, name)
                written = await asyncio.to_thread(_write, folder / name, some, shard, day, announced)
                async with pool.acquire() as connection:
                    await listing.put_down(connection, day, shard, [written])
        report.progress(f"archive: files of {number + 1} of {len(days)} days, {len(devices) * OF_DAY:,} events each")
    await pool.execute("ANALYZE archive_files")


def _write(path: Path, devices: Sequence[UUID], shard: int, day: date, announced: int) -> Written:
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = partitions.begin_of(day)
    told = _of_a_device(shard, begin)
    writer = layout.writer(str(path))
    waiting: list[pa.Table] = []
    for device_id in devices:
        waiting.append(told.set_column(0, layout.SCHEMA.field(0), pa.repeat(str(device_id), OF_DAY)))
        if len(waiting) == _DEVICES_OF_GROUP or device_id == devices[-1]:
            writer.write_table(pa.concat_tables(waiting), row_group_size=layout.ROWS_OF_GROUP)
            waiting = []
    writer.close()
    last = begin + timedelta(minutes=OF_DAY - 1)
    size = path.stat().st_size
    return Written(announced, len(devices) * OF_DAY, size, begin, last, 1, OF_DAY, None, devices[0], devices[-1])


def _of_a_device(shard: int, begin: datetime) -> pa.Table:
    """What a device tells in a day, with all columns of a file."""
    first_us = int(begin.timestamp()) * 1_000_000
    rows = [
        {
            "device_id": "",
            "ts": first_us + n * 60_000_000,
            "seq": 1 + n,
            "shard": shard,
            "type": "telemetry",
            "stored_at": first_us + n * 60_000_000 + 40_000,
            "labels": None,
            "data": f'{{"telemetry":{{"updateTime":"{begin + timedelta(minutes=n):%Y-%m-%dT%H:%M:%S}.000000Z",'
            f'"status":"online","telemetries":{{"n":{n},"cpu":{n * 7919 % 10_000 / 100},"mem":{40 + n % 9},"disk":81,'
            f'"up":true,"fw":"1.2.3"}}}}}}',
        }
        for n in range(OF_DAY)
    ]
    kinds = {name: layout.SCHEMA.field(name).type for name in layout.STORED}
    kinds |= {"ts": pa.int64(), "stored_at": pa.int64()}
    return layout.completed(pa.Table.from_pylist(rows, pa.schema(list(kinds.items()))))
