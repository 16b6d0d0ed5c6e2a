"""How a device is seen by people: worked out here and nowhere else, for lists by a worker, for one device by an edge.

The first match wins:

    disconnected   imported, and its connector does not work or no longer lists it
    never_seen     no call of the device was ever stored
    disconnected   its parent is offline, so nothing is known of the device itself
    error          it says so, or an incident of priority 1 to 3 (critical, high, moderate) is open
    warning        an incident of priority 4 or 5 (low, planning) is open
    offline        it was silent beyond its model's threshold, or said that it goes offline
    ok

The incident that the offline sweep opens by itself (issue "offline") counts for none of these: being offline has a
status of its own.

Lists find and count devices by what is kept of it in `device_standings`. Whoever changes what it follows from leaves
the device in `standings_due`, in the same transaction: triggers of the control tables, `make_due` for what devices say.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from schemas import shard_slices
from schemas.postgres import Connection, Executor

PRIORITY_OF_ERRORS = 3
"""Open incidents up to this priority are errors, others warnings."""

EffectiveStatus = Literal["never_seen", "disconnected", "error", "warning", "offline", "ok"]
StatusCause = Literal["silence", "connector", "parent", "device", "incident"]
"""What an effective status other than `ok` comes from: nothing is heard of the device, its cloud connector or its
parent is down, it says so itself, or its gravest open incident.
"""

STATUS_COLUMNS = "d.parent_id, parent.shard AS parent_shard, open_incidents.gravest, imported.silent"
STATUS_JOINS = """
      LEFT JOIN devices parent ON parent.id = d.parent_id
      LEFT JOIN LATERAL (
          SELECT min(priority) AS gravest FROM incidents i
           WHERE i.device_id = d.id AND i.closed_at IS NULL AND (i.issue <> 'offline' OR i.kind <> 'rule')
      ) open_incidents ON true
      LEFT JOIN LATERAL (
          SELECT c.excluded IS NOT NULL OR cc.status <> 'Active' AS silent
            FROM cloud_devices c JOIN cloud_connectors cc ON cc.id = c.connector_id
           WHERE c.device_id = d.id LIMIT 1) imported ON true
"""
"""What `effective_status` needs of the tables beside `devices d`."""


class Seen(Protocol):
    """What is known of a device by what it said."""

    @property
    def status(self) -> str | None:
        """What it told last."""

    @property
    def last_seen_at(self) -> datetime | None:
        """When it last called; None if it never did."""

    @property
    def offline(self) -> bool:
        """Whether it was silent for too long."""


class Signs(NamedTuple):
    """As much of a device's state as tells how it is."""

    status: str | None = None
    last_seen_at: datetime | None = None
    offline: bool = False


NEVER_SEEN = Signs()


def is_offline(seen: Seen) -> bool:
    """Whether it was silent for too long, or said that it goes offline."""
    return seen.offline or seen.status == "offline"


def effective_status(row: Any, seen: Seen, parent: Seen) -> EffectiveStatus:
    """How a device is seen, by its row (with `STATUS_COLUMNS`) and what it and its parent said last."""
    return judged(row, seen, parent)[0]


def judged(row: Any, seen: Seen, parent: Seen) -> tuple[EffectiveStatus, StatusCause | None]:
    """Likewise, with what that comes from."""
    gravest = row["gravest"]
    if row["silent"]:
        return "disconnected", "connector"
    if seen.last_seen_at is None:
        return "never_seen", "silence"
    if is_offline(parent):
        return "disconnected", "parent"
    if gravest is not None and gravest <= PRIORITY_OF_ERRORS:
        return "error", "incident"
    if seen.status == "error":
        return "error", "device"
    if gravest is not None:
        return "warning", "incident"
    return ("offline", "silence") if is_offline(seen) else ("ok", None)


def with_parents(rows: Iterable[Any]) -> set[tuple[int, UUID]]:
    """The devices of these rows and their parents, each with its shard: whose states decide."""
    wanted = set()
    for row in rows:
        wanted.add((row["shard"], row["id"]))
        if row["parent_id"] is not None:
            wanted.add((row["parent_shard"], row["parent_id"]))
    return wanted


async def read_signs(connection: Executor, devices: Collection[tuple[int, UUID]]) -> dict[UUID, Signs]:
    """The signs of devices, each given with its shard; those that never called are left out."""
    if not devices:
        return {}
    rows = await connection.fetch(
        f"""SELECT s.device_id, s.status, s.last_seen_at, s.offline
              FROM {shard_slices.JOINED} JOIN device_state s ON {shard_slices.on("s")}
             WHERE s.shard = ANY($1::smallint[])""",
        *shard_slices.slices(devices),
    )
    return {row["device_id"]: Signs(row["status"], row["last_seen_at"], row["offline"]) for row in rows}


async def make_due(connection: Connection, device_ids: Collection[Any]) -> None:
    """Leave devices that may be seen otherwise now to whoever keeps standings."""
    await connection.execute("INSERT INTO standings_due (device_id) SELECT unnest($1::uuid[])", list(device_ids))
