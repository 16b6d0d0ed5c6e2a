"""Labels and names of devices: what their owner sorts them by. Name and description are labels too, kept in columns.

Whoever changes any of them records a `labelsChanged` event.
"""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway.stores.change import Change
from gateway.stores.devices.locking import LockedDevice
from schemas.life_cycle import LabelsChanged
from schemas.postgres import Connection

LABELS_MAX = 100
"""Labels of one device, besides name and description."""

Labels = Mapping[str, str]


class LabelledDevice(Struct):
    """A device whose labels are about to change; locked for the transaction that does it."""

    id: UUID
    labels: dict[str, str]


def merged(name: str, description: str, labels: Labels) -> dict[str, str]:
    """All labels of a device; an empty name or description is none."""
    named = {"name": name, "description": description}
    return {**labels, **{key: value for key, value in named.items() if value}}


async def lock(connection: Connection, project_id: UUID, device_ids: Collection[UUID]) -> dict[UUID, LabelledDevice]:
    """Lock those of these devices that are in the project."""
    rows = await connection.fetch(
        """SELECT id, name, description, labels FROM devices
            WHERE id = ANY($1::uuid[]) AND project_id = $2 AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE""",
        list(device_ids),
        project_id,
    )
    devices = [LabelledDevice(row["id"], merged(row["name"], row["description"], row["labels"])) for row in rows]
    return {device.id: device for device in devices}


async def store(change: Change, device: LabelledDevice, labels: Labels) -> None:
    """Give a device that is locked these labels; it is told of a new name."""
    if labels == device.labels:
        return
    renamed = labels.get("name", "") != device.labels.get("name", "")
    await put(change.connection, device.id, labels, renamed=renamed)
    record(change, device.id, device.labels, labels)
    if renamed:
        change.touched(device.id)


async def put(connection: Connection, device_id: UUID, labels: Labels, *, renamed: bool = False) -> None:
    """Give a device these labels without telling of it, as when it is made."""
    await connection.execute(
        """UPDATE devices SET name = $2, description = $3, labels = $4, info_version = info_version + $5
            WHERE id = $1""",
        device_id,
        labels.get("name", ""),
        labels.get("description", ""),
        {key: value for key, value in labels.items() if key not in ("name", "description")},
        int(renamed),
    )


async def rename(change: Change, device: LockedDevice, *, name: str, details: dict[str, Any]) -> None:
    """Store what the owner calls and notes of a device, which is told when something is different."""
    # Compared as JSON: to Python 1, 1.0 and true are equal.
    if name == device.name and msgspec.json.encode(details) == msgspec.json.encode(device.details):
        return
    await change.connection.execute(
        "UPDATE devices SET name = $2, details = $3, info_version = info_version + 1 WHERE id = $1",
        device.id,
        name,
        details,
    )
    record_name(change, device.id, device.name, name)
    change.touched(device.id)


def record_name(change: Change, device_id: UUID, was: str, now: str) -> None:
    """Record that a device has another name."""
    record(change, device_id, merged(was, "", {}), merged(now, "", {}))


def record(change: Change, device_id: UUID, was: Labels, now: Labels) -> None:
    """Record what is different between the labels that a device had and has; nothing where nothing is."""
    if was != now:
        change.record(device_id, LabelsChanged.between(was, now))
