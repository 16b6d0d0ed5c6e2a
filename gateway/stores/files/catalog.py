"""Files as those see them who make them: an organization its own, a vendor those of its models.

    draft ─release─► released ─withdraw─► withdrawn        draft | withdrawn ─delete─► gone

A draft may be changed and gets its bytes once: other bytes are another file. Who releases or withdraws firmware has a
worker go through the devices of its model (`schemas.firmware`).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway import identifiers
from gateway.refusals import Conflict, DoesNotFit, NotFound
from gateway.stores import models
from gateway.stores.whose import Whose
from schemas import firmware, ids
from schemas.postgres import Connection, Executor

UNKNOWN = "File not found"
IN_ROLLOUT = "File is part of a rollout: it can be deleted once what devices did in that is not kept any more"
FIRMWARE = "firmware"
FILES_MAX = 1_000
"""Of one organization, or of one model."""

Status = Literal["draft", "released", "withdrawn"]


class Spreading(Struct):
    """How far the devices of the model were told of a release or a withdrawal; `devices` is null before it begins."""

    devices: int | None
    done: int
    finished_at: datetime | None


class File(Struct):
    """A file. `checksum` (SHA-256, in hex) and `size` are null until its bytes are there.

    Its devices are those of the model `model_id`, or without one all devices of the organization.
    """

    id: UUID
    model_id: UUID | None
    name: str
    desc: str
    file_type: str
    version: str | None
    min_version: str | None
    checksum: str | None
    size: int | None
    signature: str | None
    public_notes: str
    status: Status
    created_at: datetime
    released_at: datetime | None
    withdrawn_at: datetime | None
    spreading: Spreading | None


_FILE = """f.id, f.for_model_id AS model_id, f.name, f.description AS desc, f.file_type, f.version, f.min_version,
           f.checksum, f.size, f.signature, f.public_notes, f.status, f.created_at, f.released_at, f.withdrawn_at,
           s.file_id IS NOT NULL AS spreads, s.devices, coalesce(s.done, 0) AS done, s.finished_at"""
_FILES = f"SELECT {_FILE} FROM files f LEFT JOIN firmware_sweeps s ON s.file_id = f.id"
_COLUMNS = {"desc": "description"}
"""Columns that are called otherwise than their members."""
_OF = {
    False: "f.organization_id = $1",
    True: "f.model_id IN (SELECT id FROM device_models WHERE organization_id = $1)",
}
"""SQL that is true of the files `f` of an organization, or of the models that it makes."""


def _file(row: asyncpg.Record) -> File:
    members = dict(row)
    spreads = members.pop("spreads")
    spreading = Spreading(*(members.pop(name) for name in ("devices", "done", "finished_at")))
    return File(**members, spreading=spreading if spreads else None)


async def page(
    connection: Executor,
    whose: Whose,
    *,
    model_id: UUID | None,
    file_type: str | None,
    status: Status | None,
    before: UUID | None,
    offset: int,
    limit: int,
) -> list[File]:
    """Files, newest first."""
    rows = await connection.fetch(
        f"""{_FILES} WHERE {_OF[whose.as_vendor]} AND ($2::uuid IS NULL OR f.for_model_id = $2)
               AND ($3::text IS NULL OR f.file_type = $3) AND ($4::text IS NULL OR f.status = $4)
               AND ($5::uuid IS NULL OR f.id < $5)
             ORDER BY f.id DESC OFFSET $6 LIMIT $7""",
        whose.organization_id,
        model_id,
        file_type,
        status,
        before,
        offset,
        limit,
    )
    return [_file(row) for row in rows]


async def read(connection: Executor, whose: Whose, file_id: UUID) -> File:
    """Raises NotFound for an unknown file and for somebody else's alike."""
    row = await connection.fetchrow(
        f"{_FILES} WHERE {_OF[whose.as_vendor]} AND f.id = $2", whose.organization_id, file_id
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return _file(row)


async def owner(connection: Executor, file_id: UUID) -> Whose:
    """Whose file it is, for whoever runs the gateway. Raises NotFound."""
    row = await connection.fetchrow("SELECT organization_id, model_id FROM files WHERE id = $1", file_id)
    if row is None:
        raise NotFound(UNKNOWN)
    if row["organization_id"] is not None:
        return Whose(row["organization_id"], as_vendor=False)
    return Whose(await models.vendor_of(connection, row["model_id"]), as_vendor=True)


async def create(connection: Connection, whose: Whose, model_id: UUID | None, members: Mapping[str, Any]) -> File:
    """A new draft without bytes, in a transaction. Raises NotFound for an unknown model, DoesNotFit."""
    if model_id is not None:
        await _check_model(connection, whose, model_id)
    if members["file_type"] == FIRMWARE and model_id is None:
        raise DoesNotFit("Model id can't be blank: firmware is for the devices of one model")
    owner = {"model_id": model_id} if whose.as_vendor else {"organization_id": whose.organization_id}
    column, owner_id = next(iter(owner.items()))
    if await connection.fetchval(f"SELECT count(*) FROM files WHERE {column} = $1", owner_id) >= FILES_MAX:
        raise DoesNotFit(f"There are at most {FILES_MAX} files: delete some that were withdrawn")
    given = _columns(_checked(dict(members))) | owner | {"id": ids.new_id(), "for_model_id": model_id}
    marks = ", ".join(f"${n}" for n in range(1, len(given) + 1))
    try:
        await connection.execute(f"INSERT INTO files ({', '.join(given)}) VALUES ({marks})", *given.values())
    except asyncpg.CheckViolationError as error:
        raise _unfit(error) from None
    return await read(connection, whose, given["id"])


async def lock(connection: Connection, whose: Whose, file_id: UUID) -> File:
    """Lock a file until the transaction ends. Raises NotFound."""
    await connection.execute(
        f"SELECT FROM files f WHERE {_OF[whose.as_vendor]} AND f.id = $2 FOR NO KEY UPDATE",
        whose.organization_id,
        file_id,
    )
    return await read(connection, whose, file_id)


async def change(connection: Connection, whose: Whose, file: File, members: Mapping[str, Any]) -> File:
    """Change members of a locked draft. Raises Conflict when it is none any more, DoesNotFit."""
    if file.status != "draft":
        raise Conflict(f"File is {file.status}: only a draft can be changed")
    given = _columns(_checked({"file_type": file.file_type, "version": file.version} | dict(members)))
    if given["file_type"] == FIRMWARE and file.model_id is None:
        raise DoesNotFit("Model id can't be blank: firmware is for the devices of one model")
    assignments = ", ".join(f"{column} = ${n}" for n, column in enumerate(given, 2))
    try:
        await connection.execute(f"UPDATE files SET {assignments} WHERE id = $1", file.id, *given.values())
    except asyncpg.CheckViolationError as error:
        raise _unfit(error) from None
    return await read(connection, whose, file.id)


async def release(connection: Connection, whose: Whose, file: File, moment: datetime) -> File:
    """Release a locked draft; a released file stays as it is. Raises Conflict, or DoesNotFit for a version twice."""
    if file.status == "released":
        return file
    if file.status != "draft":
        raise Conflict("File is withdrawn: what was withdrawn is not released again, make it a new file")
    if file.checksum is None:
        raise Conflict("File has no content yet: upload it before it is released")
    if file.file_type == FIRMWARE:
        await firmware.lock_model(connection, file.model_id)
    try:
        await connection.execute(
            "UPDATE files SET status = 'released', released_at = $2 WHERE id = $1", file.id, moment
        )
    except asyncpg.UniqueViolationError:
        raise DoesNotFit("Version has already been released for this model") from None
    return await _spread(connection, whose, file)


async def withdraw(connection: Connection, whose: Whose, file: File, moment: datetime) -> File:
    """Withdraw a locked file that is released: nobody is offered it from now on. Raises Conflict for a draft."""
    if file.status == "withdrawn":
        return file
    if file.status != "released":
        raise Conflict("File is a draft: there is nothing to withdraw")
    if file.file_type == FIRMWARE:
        await firmware.lock_model(connection, file.model_id)
    await connection.execute("UPDATE files SET status = 'withdrawn', withdrawn_at = $2 WHERE id = $1", file.id, moment)
    return await _spread(connection, whose, file)


async def delete(connection: Connection, file: File) -> None:
    """Delete a locked file that nobody is offered. Its bytes go when nothing refers to them any more.

    Its rollouts go with it, once they are over and what their devices did is not kept any more. Raises Conflict.
    """
    if file.status == "released":
        raise Conflict("File is released: withdraw it before it is deleted")
    if await connection.fetchval(
        """SELECT EXISTS (SELECT FROM rollouts r WHERE r.file_id = $1
                             AND (r.settled_at IS NULL
                                  OR EXISTS (SELECT FROM rollout_devices p WHERE p.rollout_id = r.id)))""",
        file.id,
    ):
        raise Conflict(IN_ROLLOUT)
    await connection.execute("DELETE FROM files WHERE id = $1", file.id)


async def _spread(connection: Connection, whose: Whose, file: File) -> File:
    if file.file_type == FIRMWARE:
        await firmware.begin_sweep(connection, file.id, file.model_id)
    return await read(connection, whose, file.id)


async def _check_model(connection: Connection, whose: Whose, model_id: UUID) -> None:
    """Raises NotFound unless the model is the vendor's, or one of which the organization has a device."""
    if whose.as_vendor or not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM devices WHERE organization_id = $1 AND model_id = $2 AND deleted_at IS NULL)",
        whose.organization_id,
        model_id,
    ):
        await models.read(connection, whose.organization_id, model_id)


def _checked(members: dict[str, Any]) -> dict[str, Any]:
    """Members with their versions normalised where they order firmware. Raises DoesNotFit."""
    if members["file_type"] == FIRMWARE:
        members["version"] = identifiers.firmware_version(members["version"], "Version").version
    if members.get("min_version") is not None:
        members["min_version"] = identifiers.firmware_version(members["min_version"], "Min version").version
    return members


def _columns(members: dict[str, Any]) -> dict[str, Any]:
    return {_COLUMNS.get(name, name): value for name, value in members.items()}


def _unfit(error: asyncpg.CheckViolationError) -> DoesNotFit:
    if error.constraint_name == "files_min_version_check":
        return DoesNotFit("Min version must be below the version")
    raise error
