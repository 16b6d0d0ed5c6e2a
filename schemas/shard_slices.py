"""Rows of many devices, read by one look at the index for each shard rather than one for each device.

Joined without LATERAL: where the data plane is distributed, every node then answers for its own shards.
"""

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

Slices = tuple[list[int], list[int], list[int], list[UUID]]

JOINED = "unnest($1::smallint[], $2::integer[], $3::integer[]) AS wanted (shard, first, last)"
"""What a statement joins its table to; each row has a slice of the devices in $4."""


def on(table: str) -> str:
    """How a table, by its alias, is joined: with the rows of the slice's devices."""
    return (
        f"{table}.shard = wanted.shard AND {table}.shard = ANY($1::smallint[]) "
        f"AND {table}.device_id = ANY (($4::uuid[])[wanted.first:wanted.last])"
    )


def slices(devices: Iterable[tuple[int, UUID]]) -> Slices:
    """Devices with their shards, as the arguments $1 to $4."""
    ordered = sorted(devices)
    counts = Counter(shard for shard, _ in ordered)
    first, last, begin = [], [], 1
    for count in counts.values():
        first.append(begin)
        begin += count
        last.append(begin - 1)
    return list(counts), first, last, [device_id for _, device_id in ordered]
