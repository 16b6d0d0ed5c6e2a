"""Labels of devices: what their owner sorts them by. A device's name and description are labels too, kept in columns.

Whoever changes any of them tells of it in the same transaction, with a `labelsChanged` event.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from schemas import outbox
from schemas.life_cycle import LabelsChanged
from schemas.postgres import Connection

LABELS_MAX = 100
"""Labels of one device, besides name and description."""

Labels = Mapping[str, str]


class Labelled(Struct):
    """A device whose labels are about to change; locked for the transaction that does it."""

    id: UUID
    labels: dict[str, str]


def shown(name: str, description: str, labels: Labels) -> dict[str, str]:
    """All labels of a device; an empty name or description is none."""
    named = {"name": name, "description": description}
    return {**labels, **{key: value for key, value in named.items() if value}}


async def hold(connection: Connection, project_id: UUID, device_ids: Collection[UUID]) -> dict[UUID, Labelled]:
    """Lock those of these devices that are in the project."""
    rows = await connection.fetch(
        """SELECT id, name, description, labels FROM devices
            WHERE id = ANY($1::uuid[]) AND project_id = $2 AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE""",
        list(device_ids),
        project_id,
    )
    return {row["id"]: Labelled(row["id"], shown(row["name"], row["description"], row["labels"])) for row in rows}


async def store(connection: Connection, device: Labelled, labels: Labels, moment: datetime) -> bool:
    """Give a device that is held these labels; True when its name, which it is told of, is another."""
    if labels == device.labels:
        return False
    renamed = labels.get("name", "") != device.labels.get("name", "")
    await put(connection, device.id, labels, renamed=renamed)
    await tell(connection, device.id, device.labels, labels, moment)
    return renamed


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


async def tell_name(connection: Connection, device_id: UUID, was: str, now: str, moment: datetime) -> None:
    """Tell that a device has another name."""
    await tell(connection, device_id, shown(was, "", {}), shown(now, "", {}), moment)


async def tell(
    connection: Connection,
    device_id: UUID,
    was: Labels,
    now: Labels,
    moment: datetime,
) -> None:
    """Tell what is different between the labels that a device had and has; nothing where nothing is."""
    if was == now:
        return
    changed = LabelsChanged(
        added={key: value for key, value in now.items() if key not in was},
        modified={key: value for key, value in now.items() if was.get(key, value) != value},
        removed=[key for key in was if key not in now],
    )
    await outbox.append(connection, [outbox.event(device_id, changed, moment)])
