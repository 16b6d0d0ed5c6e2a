"""What devices last said, read beside their rows: states lie by shard, apart from the control tables."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from schemas.postgres import Executor


class DeviceState(Struct, kw_only=True, frozen=True):
    """The merge of all messages of a device; all empty for a device that never called."""

    status: str | None = None
    telemetries: dict[str, Any] = {}
    state_at: datetime | None = None
    last_seen_at: datetime | None = None
    offline: bool = False

    def is_offline(self) -> bool:
        """Whether it was silent for too long, or said that it goes offline."""
        return self.offline or self.status == "offline"


NEVER_SEEN = DeviceState()


async def read(connection: Executor, devices: Iterable[tuple[int, UUID]]) -> dict[UUID, DeviceState]:
    """The states of devices, each given with its shard; those that never called are left out."""
    wanted = set(devices)
    if not wanted:
        return {}
    rows = await connection.fetch(
        """SELECT s.device_id, s.status, s.telemetries, s.state_at, s.last_seen_at, s.offline
             FROM unnest($1::smallint[], $2::uuid[]) AS wanted (shard, device_id)
             JOIN device_state s ON s.shard = wanted.shard AND s.device_id = wanted.device_id
            WHERE s.shard = ANY($3::smallint[])""",
        [shard for shard, _ in wanted],
        [device_id for _, device_id in wanted],
        list({shard for shard, _ in wanted}),
    )
    return {
        row["device_id"]: DeviceState(
            status=row["status"],
            telemetries=row["telemetries"],
            state_at=row["state_at"],
            last_seen_at=row["last_seen_at"],
            offline=row["offline"],
        )
        for row in rows
    }
