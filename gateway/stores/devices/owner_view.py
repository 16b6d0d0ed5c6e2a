"""Devices as people see them: the owner of a claimed device, and the vendor of its model."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
from msgspec import UNSET, Struct, UnsetType

from gateway.refusals import NotFound
from gateway.stores.devices import device_view, states
from gateway.stores.devices.locking import UNKNOWN
from gateway.stores.devices.states import DeviceState
from schemas.device_status import (
    STATUS_COLUMNS,
    STATUS_JOINS,
    EffectiveStatus,
    StatusCause,
    is_offline,
    judged,
    with_parents,
)
from schemas.postgres import Executor

UNREACHED = ("never_seen", "disconnected", "offline")
"""Where nothing is heard of a device: its `status` is offline. With an error or a warning it is one or the other."""

_DEVICE = f"""
    SELECT d.id, d.shard, d.name, d.sn, d.mac, d.cloud_id, d.sub_model, d.details, d.firmware_version,
           d.project_id, d.registered_at, d.claimed_at, d.config_version, d.applied_config_version, d.info_version,
           d.space_data_version, d.open_commands, d.state_full_at, d.firmware_told, d.asked_back_at,
           d.asked_back_address, d.asked_back_firmware, d.return_confirmed_until, r.sn AS new_sn, r.mac AS new_mac,
           r.cloud_id AS new_cloud_id, r.requested_at, d.incidents_suspended, m.id AS model_id, m.vendor,
           m.name AS model_name, m.offline_threshold_s, s.id AS space_id, s.full_path, {STATUS_COLUMNS}
      FROM devices d
      JOIN device_models m ON m.id = d.model_id
      LEFT JOIN spaces s ON s.id = d.space_id
      LEFT JOIN device_replacements r ON r.device_id = d.id AND r.organization_id = d.organization_id
      {STATUS_JOINS}
     WHERE d.deleted_at IS NULL
"""

SUBTREE = """
    WITH RECURSIVE below AS (
        SELECT id FROM spaces WHERE id = {top} UNION ALL SELECT s.id FROM spaces s JOIN below ON s.parent_id = below.id)
    SELECT id FROM below
"""
"""The spaces at and below `top`."""


class DeviceModel(Struct):
    """The model of a device."""

    id: UUID
    vendor: str
    name: str


class Firmware(Struct):
    """The firmware that a device last reported: its version, and how the device told it where it told it otherwise."""

    version: str
    told: str | UnsetType = UNSET


class Return(Struct):
    """That a unit with the device's serial number and MAC or Cloud ID asked to come back: it tried to register.

    Within 24 hours its owner may confirm that; `confirmed_until` is then until when its next try succeeds.
    """

    at: datetime
    address: str
    firmware_version: str
    confirmed_until: datetime | UnsetType = UNSET


class Replacement(Struct):
    """The unit that takes the device's place as soon as it registers."""

    sn: str
    mac: str | None
    cloud_id: str | None
    requested_at: datetime


class DeviceSpace(Struct):
    """Where a claimed device is."""

    id: UUID
    full_path: str


class OwnedDevice(Struct, kw_only=True):
    """One device. `state` is the merge of its telemetry, with the `status` in it that the device told last.

    `status` is how it is seen from here, `effective_status_cause` why it is not ok, `offline_threshold_s` how long it
    may be silent before it counts as offline, `claimed_at` since when it has an owner. `state_full_at` is since when
    values of its messages find no room in the state, `state_away` that what it said cannot be read for the moment (in
    lists, where one of several servers is away), `asked_to_come_back` that a unit with its serial number tried to
    register, `replacement` which unit is to take its place; all are absent otherwise.
    """

    id: UUID
    name: str
    sn: str | None
    mac: str | None
    cloud_id: str | None
    status: Literal["online", "offline"]
    effective_status: EffectiveStatus
    effective_status_cause: StatusCause | None
    offline_threshold_s: int
    last_seen_at: datetime | None
    details: dict[str, Any]
    state: dict[str, Any]
    state_at: datetime | None
    state_full_at: datetime | UnsetType = UNSET
    state_away: bool | UnsetType = UNSET
    model: DeviceModel
    sub_model: str | None
    firmware: Firmware
    space: DeviceSpace | None
    project_id: UUID | None
    parent_id: UUID | None
    registered_at: datetime
    claimed_at: datetime | None
    asked_to_come_back: Return | UnsetType = UNSET
    replacement: Replacement | UnsetType = UNSET
    config_version: int
    applied_config_version: int
    info_version: int
    space_data_version: int
    open_commands: int
    incidents_suspended: bool


async def by_ids(connection: Executor, organization_id: UUID, device_ids: Sequence[UUID]) -> list[OwnedDevice]:
    """Those of these devices that the organization owns, oldest registration first."""
    rows = await connection.fetch(
        f"{_DEVICE} AND d.id = ANY($2::uuid[]) AND d.organization_id = $1 ORDER BY d.id", organization_id, device_ids
    )
    return await _listed(connection, rows)


async def page_of_vendor(
    connection: Executor,
    organization_id: UUID,
    *,
    model_id: UUID | None,
    sn: str | None,
    mac: str | None,
    after: UUID | None,
    offset: int,
    limit: int,
) -> list[OwnedDevice]:
    """The devices of an organization's models, whoever owns them, oldest registration first."""
    conditions = ["d.model_id IN (SELECT id FROM device_models WHERE organization_id = $1)"]
    arguments: list[Any] = [organization_id, offset, limit]
    for column, value in (("model_id", model_id), ("sn", sn), ("mac", mac)):
        if value is not None:
            arguments.append(value)
            conditions.append(f"d.{column} = ${len(arguments)}")
    return await _page(connection, conditions, arguments, after)


async def ids_of_vendor(
    connection: Executor,
    organization_id: UUID,
    *,
    device_id: UUID | None,
    model_id: UUID | None,
    sn: str | None,
    after: UUID | None,
    limit: int,
) -> list[UUID]:
    """The devices of an organization's models that meet this, the oldest ones behind `after`."""
    of_devices = of_models = ""
    arguments: list[Any] = [organization_id, after or UUID(int=0), limit]
    for column, value in (("id", device_id), ("sn", sn), ("model_id", model_id)):
        if value is not None:
            arguments.append(value)
            if column == "model_id":
                of_models = f" AND m.id = ${len(arguments)}"
            else:
                of_devices += f" AND d.{column} = ${len(arguments)}"
    # Of each model the next ones, by its index, however many devices of others there are.
    rows = await connection.fetch(
        f"""SELECT found.id FROM device_models m CROSS JOIN LATERAL (
                   SELECT d.id FROM devices d
                    WHERE d.model_id = m.id AND d.deleted_at IS NULL AND d.id > $2{of_devices} ORDER BY d.id LIMIT $3
                   ) found
             WHERE m.organization_id = $1{of_models} ORDER BY found.id LIMIT $3""",
        *arguments,
    )
    return [row["id"] for row in rows]


async def _page(
    connection: Executor, conditions: list[str], arguments: list[Any], after: UUID | None
) -> list[OwnedDevice]:
    if after is not None:
        arguments.append(after)
        conditions.append(f"d.id > ${len(arguments)}")
    where = "".join(f" AND {condition}" for condition in conditions)
    rows = await connection.fetch(f"{_DEVICE}{where} ORDER BY d.id OFFSET $2 LIMIT $3", *arguments)
    return await _listed(connection, rows)


async def read(connection: Executor, organization_id: UUID, device_id: UUID) -> OwnedDevice:
    """A device that the organization owns. Raises NotFound, for another's and an unknown one alike."""
    row = await connection.fetchrow(f"{_DEVICE} AND d.id = $1 AND d.organization_id = $2", device_id, organization_id)
    if row is None:
        raise NotFound(UNKNOWN)
    return await _alone(connection, row)


async def project_of(connection: Executor, organization_id: UUID, device_id: UUID) -> UUID:
    """The project that a device of the organization is in. Raises NotFound."""
    project_id: UUID | None = await connection.fetchval(
        "SELECT project_id FROM devices WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
        device_id,
        organization_id,
    )
    if project_id is None:
        raise NotFound(UNKNOWN)
    return project_id


async def read_of_vendor(connection: Executor, organization_id: UUID, device_id: UUID) -> OwnedDevice:
    """A device of one of the organization's models. Raises NotFound, for another's and an unknown one alike."""
    row = await connection.fetchrow(f"{_DEVICE} AND d.id = $1 AND m.organization_id = $2", device_id, organization_id)
    if row is None:
        raise NotFound(UNKNOWN)
    return await _alone(connection, row)


async def ever_owned(connection: Executor, organization_id: UUID, device_id: UUID) -> None:
    """Raises NotFound unless the device is the organization's, or was until it was deleted."""
    if not await connection.fetchval(
        "SELECT true FROM devices WHERE id = $1 AND organization_id = $2", device_id, organization_id
    ):
        raise NotFound(UNKNOWN)


async def _alone(connection: Executor, row: asyncpg.Record) -> OwnedDevice:
    """The device of this row. Raises PostgresAway where its state cannot be read."""
    seen = await states.read(connection, with_parents([row]))
    return _device(row, seen.get(row["id"], states.NEVER_SEEN), seen.get(row["parent_id"], states.NEVER_SEEN))


async def _listed(connection: Executor, rows: Sequence[asyncpg.Record]) -> list[OwnedDevice]:
    """The devices of these rows, with those of their states, and their parents', that can be read."""
    seen = await states.reachable(connection, with_parents(rows))
    return [
        _device(row, seen.get(row["id"], states.NEVER_SEEN), seen.get(row["parent_id"], states.NEVER_SEEN))
        for row in rows
    ]


def _device(row: asyncpg.Record, state: DeviceState, parent: DeviceState) -> OwnedDevice:
    full_path = row["full_path"]
    seen_as, cause = ("disconnected", None) if state.away else judged(row, state, parent)
    return OwnedDevice(
        id=row["id"],
        name=row["name"],
        sn=row["sn"],
        mac=row["mac"],
        cloud_id=row["cloud_id"],
        status="offline" if seen_as in UNREACHED or is_offline(state) else "online",
        effective_status=seen_as,
        effective_status_cause=cause,
        offline_threshold_s=row["offline_threshold_s"],
        last_seen_at=state.last_seen_at,
        details=row["details"],
        state=device_view.flat(state.telemetries) | ({} if state.status is None else {"status": state.status}),
        state_at=state.state_at,
        state_full_at=row["state_full_at"] or UNSET,
        state_away=state.away or UNSET,
        model=DeviceModel(row["model_id"], row["vendor"], row["model_name"]),
        sub_model=row["sub_model"],
        firmware=Firmware(row["firmware_version"], row["firmware_told"] or UNSET),
        space=None if full_path is None else DeviceSpace(row["space_id"], full_path),
        project_id=row["project_id"],
        parent_id=row["parent_id"],
        registered_at=row["registered_at"],
        claimed_at=row["claimed_at"],
        asked_to_come_back=UNSET if row["asked_back_at"] is None else _return(row),
        replacement=UNSET
        if row["requested_at"] is None
        else Replacement(row["new_sn"], row["new_mac"], row["new_cloud_id"], row["requested_at"]),
        config_version=row["config_version"],
        applied_config_version=row["applied_config_version"],
        info_version=row["info_version"],
        space_data_version=row["space_data_version"],
        open_commands=row["open_commands"],
        incidents_suspended=row["incidents_suspended"],
    )


def _return(row: asyncpg.Record) -> Return:
    confirmed_until = row["return_confirmed_until"] or UNSET
    return Return(row["asked_back_at"], row["asked_back_address"], row["asked_back_firmware"], confirmed_until)
