"""Event types, and how a change hands its event to the log.

The log (`events`) has one writer per shard. Everyone else appends to `event_outbox` in the transaction of the change
the event tells of; the flusher that owns the shard moves it into the log.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from schemas.postgres import Connection


class EventType(StrEnum):
    """What can happen to a device: what its sensors tell (see schemas.typed_events), and what becomes of it."""

    TOUCH = "touch"
    TEMPERATURE = "temperature"
    HUMIDITY = "humidity"
    OBJECT_PRESENT = "objectPresent"
    WATER_PRESENT = "waterPresent"
    MOTION = "motion"
    CONTACT = "contact"
    DESK_OCCUPANCY = "deskOccupancy"
    PROBE_WIRE_STATUS = "probeWireStatus"
    OBJECT_PRESENT_COUNT = "objectPresentCount"
    TOUCH_COUNT = "touchCount"
    CO2 = "co2"
    PRESSURE = "pressure"
    NETWORK_STATUS = "networkStatus"
    BATTERY_STATUS = "batteryStatus"
    CONNECTION_STATUS = "connectionStatus"
    ETHERNET_STATUS = "ethernetStatus"
    CELLULAR_STATUS = "cellularStatus"
    LABELS_CHANGED = "labelsChanged"
    TELEMETRY = "telemetry"
    DEVICE_REGISTERED = "deviceRegistered"
    DEVICE_CLAIMED = "deviceClaimed"
    DEVICE_MOVED = "deviceMoved"
    DEVICE_DELETED = "deviceDeleted"
    DEVICE_EXCLUDED = "deviceExcluded"
    DEVICE_RESTORED = "deviceRestored"
    STATUS_CHANGED = "statusChanged"
    COMMAND_UPDATED = "commandUpdated"
    CONFIG_CHANGED = "configChanged"
    INCIDENT_OPENED = "incidentOpened"
    INCIDENT_CLOSED = "incidentClosed"


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds: 2026-02-10T12:42:13.313949Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


async def append(
    connection: Connection,
    event_type: EventType,
    *,
    device_id: UUID,
    shard: int,
    project_id: UUID | None,
    moment: datetime,
    **members: Any,
) -> None:
    """Hand over one event, inside the transaction of the change. `members` join `updateTime` in its data.

    Events belong to projects: what happens to a device that nobody claimed is told to nobody.
    """
    data = {event_type: {"updateTime": rfc3339(moment), **members}}
    await append_data(
        connection,
        event_type,
        device_id=device_id,
        shard=shard,
        project_id=project_id,
        moment=moment,
        data=msgspec.json.encode(data),
    )


async def append_data(
    connection: Connection,
    event_type: EventType,
    *,
    device_id: UUID,
    shard: int,
    project_id: UUID | None,
    moment: datetime,
    data: bytes,
) -> None:
    """As `append`, for an event whose data is ready-made JSON."""
    if project_id is None:
        return
    await connection.execute(
        "INSERT INTO event_outbox (shard, type, device_id, project_id, ts, data) VALUES ($1, $2, $3, $4, $5, $6)",
        shard,
        event_type,
        device_id,
        project_id,
        moment,
        msgspec.Raw(data),
    )
