"""What devices last said, read beside their rows: states lie by shard, apart from the control tables."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from schemas import shard_slices
from schemas.placement import read_reachable
from schemas.postgres import Executor


class DeviceState(Struct, kw_only=True, frozen=True):
    """The merge of all messages of a device; all empty for a device that never called."""

    status: str | None = None
    telemetries: dict[str, Any] = {}
    state_at: datetime | None = None
    last_seen_at: datetime | None = None
    offline: bool = False
    away: bool = False
    """It could not be read: the node that holds it does not answer at the moment."""


class Room(NamedTuple):
    """What a device's state holds, and the limits of its model; None where the installation's hold."""

    telemetries: dict[str, Any]
    keys_max: int | None
    bytes_max: int | None


NEVER_SEEN = DeviceState()
AWAY = DeviceState(away=True)


async def reachable(executor: Executor, devices: Iterable[tuple[int, UUID]]) -> dict[UUID, DeviceState]:
    """The states of devices of a list, each given with its shard; `AWAY` for those whose node is away.

    So a list is shown where one of several nodes does not answer.
    """
    wanted = set(devices)
    found = await read_reachable(
        executor,
        {shard for shard, _ in wanted},
        lambda shards: read(executor, [one for one in wanted if one[0] in shards]),
    )
    seen = {device_id: AWAY for shard, device_id in wanted if shard not in found.shards}
    for of_node in found.results:
        seen |= of_node
    return seen


async def read(connection: Executor, devices: Iterable[tuple[int, UUID]]) -> dict[UUID, DeviceState]:
    """The states of devices, each given with its shard; those that never called are left out."""
    wanted = set(devices)
    if not wanted:
        return {}
    rows = await connection.fetch(
        f"""SELECT s.device_id, s.status, s.telemetries, s.state_at, s.last_seen_at, s.offline, s.settled,
                  CASE WHEN s.settled IS NOT NULL THEN s.times END AS times
             FROM {shard_slices.JOINED} JOIN device_state s ON {shard_slices.on("s")}
            WHERE s.shard = ANY($1::smallint[])""",
        *shard_slices.slices(wanted),
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
