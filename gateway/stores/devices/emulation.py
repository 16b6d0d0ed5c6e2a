"""Emulated devices: without hardware, otherwise like any other. Each is of its organization's emulated model of its
type.

They are made in a project, and so are claimed from the start; they have no access key that anybody knows, and tell what
somebody publishes for them.
"""

from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import Conflict
from gateway.stores.change import Change
from gateway.stores.devices import labels as device_labels
from gateway.stores.devices import registration
from gateway.stores.devices.labels import Labels
from gateway.stores.devices.registration import Model, NewDevice, Ownership
from gateway.stores.tenants import spaces
from schemas import ids
from schemas.events import EventType
from schemas.outbox import Event
from schemas.postgres import Connection
from schemas.typed_events import Made

DEVICES_MAX = 1_000
TOO_MANY = f"A project has at most {DEVICES_MAX} emulated devices"
MODEL_NAME_TAKEN = "The organization has a model of its own called {name}: rename it first"
VENDOR = "fleetgate"
FIRMWARE_VERSION = "0.0.0"


class EmulatedDevice(Struct):
    """An emulated device that is about to tell something; it stays what it is until the transaction ends."""

    id: UUID
    device_type: str


async def create(
    change: Change,
    organization_id: UUID,
    project_id: UUID,
    device_type: str,
    labels: Labels,
    shards: int,
) -> UUID:
    """A new emulated device. Raises Conflict when the project has too many."""
    connection = change.connection
    space_id = await spaces.unsorted(connection, organization_id, project_id)
    await spaces.keep(connection, organization_id, space_id)
    model = await _model(connection, organization_id, device_type)
    count = await connection.fetchval(
        """SELECT count(*) FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.project_id = $1 AND m.emulated AND d.deleted_at IS NULL""",
        project_id,
    )
    if count >= DEVICES_MAX:
        raise Conflict(TOO_MANY)
    device_id = ids.new_emulated_id()
    shard = ids.shard_of(str(device_id).encode(), shards)
    new = NewDevice(
        id=device_id,
        shard=shard,
        model=model,
        parent_id=None,
        sn=ids.device_name(device_id),
        mac=None,
        cloud_id=None,
        name="",
        sub_model=None,
        firmware_version=FIRMWARE_VERSION,
        details={},
    )
    await registration.insert(change, new, Ownership(organization_id, project_id, space_id))
    await device_labels.put(connection, device_id, labels)
    return device_id


async def _model(connection: Connection, organization_id: UUID, device_type: str) -> Model:
    """The model of an organization's emulated devices of a type; made when it is first needed."""
    name = f"Emulated {device_type}"
    try:
        async with connection.transaction():
            await connection.execute(
                """INSERT INTO device_models (id, organization_id, vendor, name, authentication, device_type, emulated)
                   VALUES ($1, $2, $3, $4, 'cloud_id', $5, true)
                   ON CONFLICT (organization_id, device_type) WHERE emulated DO NOTHING""",
                ids.new_id(),
                organization_id,
                VENDOR,
                name,
                device_type,
            )
    except asyncpg.UniqueViolationError:
        raise Conflict(MODEL_NAME_TAKEN.format(name=name)) from None
    row = await connection.fetchrow(
        """SELECT m.id, m.organization_id AS vendor_id, m.authentication, o.short_code, m.rate_limit
             FROM device_models m JOIN organizations o ON o.id = m.organization_id
            WHERE m.organization_id = $1 AND m.device_type = $2 AND m.emulated""",
        organization_id,
        device_type,
    )
    assert row is not None
    return Model(**row)


async def lock(connection: Connection, project_id: UUID, device_id: UUID) -> EmulatedDevice | None:
    """An emulated device of a project that is neither moved nor deleted until the transaction ends; None for others."""
    row = await connection.fetchrow(
        """SELECT d.id, m.device_type
             FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.id = $1 AND d.project_id = $2 AND d.deleted_at IS NULL AND m.emulated FOR SHARE OF d""",
        device_id,
        project_id,
    )
    return None if row is None else EmulatedDevice(**row)


def publish(change: Change, device: EmulatedDevice, event_type: EventType, made: Made) -> None:
    """Let a device that is locked tell something."""
    change.record_all([Event(device.id, event_type, made.ts, made.data)])
