"""What devices last said, read beside their rows: states lie by shard, apart from the control tables."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from schemas.postgres import Executor


class DeviceState(Struct, kw_only=True, frozen=True):
    """The merge of all messages of a device; all empty for a device that never called."""

    status: str | None = None
    telemetries: dict[str, Any] = {}
    state_at: datetime | None = None
    last_seen_at: datetime | None = None
    offline: bool = False


class Room(NamedTuple):
    """What a device's state holds, and the limits of its model; None where the installation's hold."""

    telemetries: dict[str, Any]
    keys_max: int | None
    bytes_max: int | None


NEVER_SEEN = DeviceState()


async def read(connection: Executor, devices: Iterable[tuple[int, UUID]]) -> dict[UUID, DeviceState]:
    """The states of devices, each given with its shard; those that never called are left out."""
    wanted = set(devices)
    if not wanted:
        return {}
    rows = await connection.fetch(
        """SELECT s.device_id, s.status, s.telemetries, s.state_at, s.last_seen_at, s.offline, s.settled,
                  CASE WHEN s.settled IS NOT NULL THEN s.times END AS times
             FROM unnest($1::smallint[], $2::uuid[]) AS wanted (shard, device_id)
            CROSS JOIN LATERAL (SELECT * FROM device_state
                                 WHERE shard = ANY($3::smallint[]) AND shard = wanted.shard
                                   AND device_id = wanted.device_id OFFSET 0) s""",
        [shard for shard, _ in wanted],
        [device_id for _, device_id in wanted],
        list({shard for shard, _ in wanted}),
    )
    return {
        row["device_id"]: DeviceState(
            status=row["status"],
            telemetries=_telemetries(row),
            state_at=row["state_at"],
            last_seen_at=row["last_seen_at"],
            offline=row["offline"],
        )
        for row in rows
    }


def _telemetries(row: Any) -> dict[str, Any]:
    """All values of a state: what is settled, but what was removed or changed since, and the recent ones."""
    recent: dict[str, Any] = row["telemetries"]
    if row["settled"] is None:
        return recent
    return {key: value for key, value in row["settled"].items() if key not in row["times"]} | recent


async def room(connection: Executor, shard: int, device_id: str) -> Room | None:
    """The state of one device beside its limits; None when it is deleted or unknown."""
    limits = await connection.fetchrow(
        """SELECT d.id, m.state_keys_max, m.state_bytes_max FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.id = $1 AND d.deleted_at IS NULL""",
        device_id,
    )
    if limits is None:
        return None
    seen = (await read(connection, [(shard, limits["id"])])).get(limits["id"], NEVER_SEEN)
    return Room(seen.telemetries, limits["state_keys_max"], limits["state_bytes_max"])


def size(telemetries: dict[str, Any]) -> int:
    """Bytes of the values of a state, as its limit counts them."""
    return len(msgspec.json.encode(telemetries))
