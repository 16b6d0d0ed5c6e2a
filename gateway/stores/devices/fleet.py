"""Devices of an organization as a fleet: found by what is known of them, and counted by how they are.

How a device is seen is worked out from several tables, and what it said last lies by shard: no index knows it. So a
list that is narrowed by it looks at a bounded number of devices a page, and counts are made by going through all, step
by step; whoever shows them keeps them for a while (see `gateway.organization.fleet`).
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from gateway.giving_way import let_others_go_first
from gateway.stores.devices import owner_view, states
from gateway.stores.devices.owner_view import EffectiveStatus
from schemas.ids import uuid_of
from schemas.postgres import Executor

EXAMINED_MAX = 2_000
"""Devices that one page of a narrowed list looks at."""
STEP = 1_000
FOUND_MAX = 1_000
"""Devices that a search finds by each of name, serial number, MAC and Cloud ID."""


class Filters(NamedTuple):
    """Which devices; None does not narrow them."""

    project_ids: Sequence[UUID] | None = None
    space_id: UUID | None = None
    search: str | None = None
    """What the name or serial number begins with, in any case; or a whole MAC, Cloud ID or id."""
    model_id: UUID | None = None
    connector_id: str | None = None
    status: EffectiveStatus | None = None
    label: tuple[str, str | None] | None = None
    firmware_version: str | None = None
    seen_since: datetime | None = None
    seen_before: datetime | None = None


LOOKED_AT = ("status", "label", "firmware_version", "seen_since", "seen_before")
"""What no index knows of a device."""


class Found(NamedTuple):
    """Devices that were found; where `up_to` is given there may be more behind that one."""

    ids: list[UUID]
    up_to: UUID | None


class _Device(NamedTuple):
    id: UUID
    project_id: UUID
    space_id: UUID
    status: EffectiveStatus
    last_seen_at: datetime | None
    fits: bool


_BEGINS = (
    "(SELECT id FROM devices WHERE organization_id = $1 AND lower({column}) LIKE {{begins}} AND deleted_at IS NULL"
    f" LIMIT {FOUND_MAX})"
)
_SEARCH = f"""d.id = ANY (ARRAY(
    {_BEGINS.format(column="name")} UNION ALL {_BEGINS.format(column="sn")}
    UNION ALL SELECT id FROM devices WHERE mac = lower({{text}}) AND deleted_at IS NULL
    UNION ALL SELECT id FROM devices WHERE cloud_id = ANY({{whole}}::text[]) AND deleted_at IS NULL
    UNION ALL SELECT {{device_id}}::uuid))"""


async def find(
    connection: Executor, organization_id: UUID, filters: Filters, *, after: UUID | None, offset: int, limit: int
) -> Found:
    """The organization's devices that fit, oldest registration first, from behind `after` on."""
    found: list[UUID] = []
    if all(getattr(filters, name) is None for name in LOOKED_AT):
        return Found(await _ids(connection, organization_id, filters, after, offset, limit), None)
    examined = 0
    while True:
        await let_others_go_first()
        devices = await _step(connection, organization_id, filters, after, STEP)
        examined += len(devices)
        found += [device.id for device in devices if device.fits and _is_wanted(device, filters)]
        after = devices[-1].id if devices else after
        at_end = len(devices) < STEP
        if at_end or len(found) >= offset + limit or examined >= EXAMINED_MAX:
            cut = found[offset : offset + limit]
            return Found(cut, None if at_end or len(cut) == limit else after)


async def _ids(
    connection: Executor, organization_id: UUID, filters: Filters, after: UUID | None, offset: int, limit: int
) -> list[UUID]:
    arguments = _Arguments([organization_id])
    found, _ = _conditions(filters, after, arguments)
    rows = await connection.fetch(
        f"""SELECT d.id FROM devices d WHERE {found} ORDER BY d.id
            OFFSET {arguments.place(offset)} LIMIT {arguments.place(limit)}""",
        *arguments,
    )
    return [row["id"] for row in rows]


async def count(
    connection: Executor, organization_id: UUID, after: UUID | None
) -> tuple[Counter[tuple[UUID, EffectiveStatus]], Counter[UUID], UUID | None]:
    """The next devices behind `after`, counted by project and how they are, and by space; and where to go on."""
    devices = await _step(connection, organization_id, Filters(), after, STEP)
    by_status = Counter((device.project_id, device.status) for device in devices)
    by_space = Counter(device.space_id for device in devices)
    return by_status, by_space, devices[-1].id if len(devices) == STEP else None


def _is_wanted(device: _Device, filters: Filters) -> bool:
    if filters.status is not None and device.status != filters.status:
        return False
    if filters.seen_since is not None and (device.last_seen_at is None or device.last_seen_at < filters.seen_since):
        return False
    return filters.seen_before is None or device.last_seen_at is None or device.last_seen_at < filters.seen_before


async def _step(
    connection: Executor, organization_id: UUID, filters: Filters, after: UUID | None, limit: int
) -> list[_Device]:
    """So many devices by their ids, with how they are; `fits` tells whether their rows are as wanted."""
    arguments = _Arguments([organization_id])
    found, fits = _conditions(filters, after, arguments)
    rows = await connection.fetch(
        f"""SELECT d.id, d.shard, d.project_id, d.space_id, d.parent_id, {owner_view.STATUS_COLUMNS}, {fits} AS fits
              FROM (SELECT * FROM devices d WHERE {found} ORDER BY d.id LIMIT {arguments.place(limit)}) d
              {owner_view.STATUS_JOINS} ORDER BY d.id""",
        *arguments,
    )
    return await _with_status(connection, rows)


def _conditions(filters: Filters, after: UUID | None, arguments: "_Arguments") -> tuple[str, str]:
    """What devices are found by, and what they are looked at for."""
    place = arguments.place
    found, fits = ["d.organization_id = $1", "d.deleted_at IS NULL"], ["true"]
    if after is not None:
        found.append(f"d.id > {place(after)}")
    if filters.project_ids is not None:
        found.append(f"d.project_id = ANY({place(list(filters.project_ids))}::uuid[])")
    if filters.space_id is not None:
        found.append(f"d.space_id IN ({owner_view.SUBTREE.format(top=place(filters.space_id))})")
    if filters.model_id is not None:
        found.append(f"d.model_id = {place(filters.model_id)}")
    if filters.connector_id is not None:
        imported = f"SELECT device_id FROM cloud_devices WHERE connector_id = {place(filters.connector_id)}"
        found.append(f"d.id IN ({imported})")
    if filters.search is not None:
        text = filters.search.strip()
        begins, whole, device_id = (
            place(f"{_literal(text.lower())}%"),
            place([text, text.upper()]),
            place(uuid_of(text)),
        )
        found.append(_SEARCH.format(begins=begins, text=place(text), whole=whole, device_id=device_id))
    if filters.label is not None:
        key, value = filters.label
        label = f"(d.labels ->> {place(key)})"
        fits.append(f"{label} IS NOT NULL" if value is None else f"coalesce({label} = {place(value)}, false)")
    if filters.firmware_version is not None:
        fits.append(f"d.firmware_version = {place(filters.firmware_version)}")
    return " AND ".join(found), " AND ".join(fits)


class _Arguments(list[Any]):
    """Arguments of a statement as it is put together."""

    def place(self, value: Any) -> str:
        self.append(value)
        return f"${len(self)}"


async def _with_status(connection: Executor, rows: Sequence[asyncpg.Record]) -> list[_Device]:
    wanted = [(row["shard"], row["id"]) for row in rows]
    wanted += [(row["parent_shard"], row["parent_id"]) for row in rows if row["parent_id"] is not None]
    seen = await states.read_signs(connection, wanted)
    devices = []
    for row in rows:
        state = seen.get(row["id"], states.NEVER_SEEN)
        status = owner_view.effective_status(row, state, seen.get(row["parent_id"], states.NEVER_SEEN))
        place = (row["id"], row["project_id"], row["space_id"])
        devices.append(_Device(*place, status, state.last_seen_at, row["fits"]))
    return devices


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
