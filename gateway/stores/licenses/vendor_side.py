"""A vendor's licences: made and signed, given to devices of its models, changed, and taken back.

Which step follows which is decided in `schemas.licenses`. The device of a licence is locked before it, since whether
something is pending is told with the device's next answer.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import UNSET, Struct, UnsetType

from gateway.refusals import Conflict, DoesNotFit, NotFound
from gateway.stores import models
from gateway.stores.change import Change
from gateway.stores.devices.locking import UNKNOWN as DEVICE_UNKNOWN
from gateway.stores.licenses import signing_keys
from gateway.stores.licenses.device_side import OF_DEVICE_MAX
from schemas import ids
from schemas.license_signatures import Algorithm
from schemas.licenses import Action, IllegalStepError, LicenseState, Step, Word, after
from schemas.life_cycle import LicenseUpdated
from schemas.postgres import Executor
from schemas.secrets import Vault

UNKNOWN = "License not found"
OTHER_MODEL = "Device id is a device of another model than the license"
IN_THE_PAST = "Expires at must be in the future"
LATEST = datetime(3000, 1, 1, tzinfo=UTC)
TOO_LATE = "Expires at must be before the year 3000"
TOO_MANY = f"A device has at most {OF_DEVICE_MAX} licenses"
MOVED = "The license is being changed by somebody else, try again"
ATTEMPTS_MAX = 3
DATA_BYTES_MAX = 16 * 1024
TOO_LONG = f"Data must be at most {DATA_BYTES_MAX} bytes"

_LICENSE = """l.id, l.model_id, l.device_id, l.name, l.data, l.signature, l.key_id, k.algorithm, l.state, l.error,
              l.expires_at, l.created_at, l.updated_at"""
_FROM = "FROM licenses l JOIN device_models m ON m.id = l.model_id JOIN license_keys k ON k.id = l.key_id"
_IN_PLACE = (LicenseState.AVAILABLE, LicenseState.PENDING_ADD, LicenseState.ERROR_ADD, LicenseState.ERROR_UPDATE)
"""Here what is signed may be changed without a step: the device has nothing of it yet, or could not apply it."""
_DELETABLE = (LicenseState.AVAILABLE, LicenseState.REMOVED)


class License(Struct, kw_only=True):
    """A licence as its vendor sees it. `action` is what its device is to do, or failed to do with `error`; `signature`
    is that of the key `key_id` over the bytes of `data`, in base64.
    """

    id: UUID
    model_id: UUID
    device_id: UUID | None
    name: str
    data: str
    signature: str
    key_id: str
    algorithm: Algorithm
    state: Word
    action: Action | None
    error: str | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Edit(Struct, frozen=True, kw_only=True):
    """What changes of a licence; what is unset stays."""

    name: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET


async def create(
    change: Change, vault: Vault, vendor_id: UUID, *, model_id: UUID, name: str, data: str, expires_at: datetime | None
) -> License:
    """A new licence for some device of a model, signed. Raises NotFound, DoesNotFit."""
    _check(change, data, expires_at)
    algorithm = await models.license_algorithm(change.connection, vendor_id, model_id)
    signer = await signing_keys.signer(change.connection, vault, vendor_id, algorithm)
    license_id = ids.new_id()
    try:
        await change.connection.execute(
            """INSERT INTO licenses (id, model_id, name, data, signature, key_id, expires_at, created_at, updated_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)""",
            license_id,
            model_id,
            name,
            data,
            signer.key.sign(data),
            signer.id,
            expires_at,
            change.moment,
        )
    except asyncpg.ForeignKeyViolationError:
        raise NotFound(models.UNKNOWN) from None
    return await read(change.connection, vendor_id, license_id)


async def page(
    connection: Executor,
    vendor_id: UUID,
    *,
    state: Word | None,
    model_id: UUID | None,
    device_id: UUID | None,
    after: UUID | None,
    offset: int,
    limit: int,
) -> list[License]:
    """The licences of a vendor's models, oldest first."""
    arguments: list[Any] = [vendor_id, offset, limit]
    conditions = list(narrowed(arguments, state=state, model_id=model_id, device_id=device_id, after=after))
    if device_id is not None:
        found = "SELECT l.id FROM licenses l JOIN device_models m ON m.id = l.model_id WHERE m.organization_id = $1"
        found += "".join(f" AND {condition}" for condition in conditions)
    else:
        # Model by model, so that no filter has to look at licences that it does not show.
        where = " AND ".join(["l.model_id = m.id", *conditions])
        found = f"""SELECT of_model.id FROM device_models m
                     CROSS JOIN LATERAL (
                         SELECT l.id FROM licenses l WHERE {where}
                          ORDER BY l.id LIMIT $2::bigint + $3::bigint) of_model
                     WHERE m.organization_id = $1"""
    rows = await connection.fetch(
        f"""WITH found AS MATERIALIZED ({found} ORDER BY 1 OFFSET $2 LIMIT $3)
            SELECT {_LICENSE} FROM found JOIN licenses l USING (id) JOIN license_keys k ON k.id = l.key_id
             ORDER BY l.id""",
        *arguments,
    )
    return [_license(row) for row in rows]


def narrowed(
    arguments: list[Any], *, state: Word | None, model_id: UUID | None, device_id: UUID | None, after: UUID | None
) -> Iterator[str]:
    """The conditions of a list of licences, `l`, whose arguments are appended."""
    for condition, value in (
        ("l.word = ${}", state),
        ("l.model_id = ${}", model_id),
        ("l.device_id = ${}", device_id),
        ("l.id > ${}", after),
    ):
        if value is not None:
            arguments.append(value)
            yield condition.format(len(arguments))


async def read(connection: Executor, vendor_id: UUID, license_id: UUID) -> License:
    """Raises NotFound for an unknown licence and for another vendor's alike."""
    row = await connection.fetchrow(
        f"SELECT {_LICENSE} {_FROM} WHERE l.id = $1 AND m.organization_id = $2", license_id, vendor_id
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return _license(row)


async def assign(change: Change, vendor_id: UUID, license_id: UUID, device_id: UUID) -> License:
    """Give a licence to a device of its model. Raises NotFound, DoesNotFit."""
    device = await change.connection.fetchrow(
        """SELECT d.id, d.model_id FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.id = $1 AND m.organization_id = $2 AND d.deleted_at IS NULL FOR NO KEY UPDATE OF d""",
        device_id,
        vendor_id,
    )
    row = await _lock(change, vendor_id, license_id)
    if device is None:
        raise NotFound(DEVICE_UNKNOWN)
    was = LicenseState(row["state"])
    state = _after(was, Step.ASSIGN)
    if was is state:
        if row["device_id"] != device_id:
            raise DoesNotFit(str(IllegalStepError(Step.ASSIGN.word, was)))
        return await read(change.connection, vendor_id, license_id)
    if device["model_id"] != row["model_id"]:
        raise DoesNotFit(OTHER_MODEL)
    if row["expires_at"] is not None and row["expires_at"] <= change.moment:
        raise DoesNotFit(IN_THE_PAST)
    held = await change.connection.fetchval(
        "SELECT count(*) FROM licenses WHERE device_id = $1 AND state <> 'removed'", device_id
    )
    if held >= OF_DEVICE_MAX:
        raise DoesNotFit(TOO_MANY)
    await change.connection.execute(
        "UPDATE licenses SET device_id = $2, state = $3, offer = 'new', error = NULL, updated_at = $4 WHERE id = $1",
        license_id,
        device_id,
        state,
        change.moment,
    )
    return await _stepped(change, license_id)


async def step(change: Change, vendor_id: UUID, license_id: UUID, taken: Step) -> License:
    """Revoke or retry a licence. Raises NotFound, DoesNotFit."""
    row = await _lock_with_device(change, vendor_id, license_id)
    was = LicenseState(row["state"])
    state = _after(was, taken)
    if state is was:
        return await read(change.connection, vendor_id, license_id)
    await change.connection.execute(
        "UPDATE licenses SET state = $2, offer = 'new', error = NULL, updated_at = $3 WHERE id = $1",
        license_id,
        state,
        change.moment,
    )
    return await _stepped(change, license_id)


async def edit(
    change: Change, vault: Vault, vendor_id: UUID, license_id: UUID, wanted: Edit, *, in_use: bool
) -> License:
    """Change a licence and sign it anew, which its device is told. Raises NotFound, DoesNotFit.

    With `in_use` that is a step of its own; without, a licence that its device has not applied is changed in place.
    """
    row = await _lock_with_device(change, vendor_id, license_id)
    was = LicenseState(row["state"])
    name, data, expires_at = (
        row[member] if (given := getattr(wanted, member)) is UNSET else given
        for member in ("name", "data", "expires_at")
    )
    signs = (data, expires_at) != (row["data"], row["expires_at"])
    state = _after(was, Step.CHANGE) if in_use or (signs and was not in _IN_PLACE) else was
    _check(change, data, expires_at if expires_at != row["expires_at"] else None)
    signature, key_id = row["signature"], row["key_id"]
    if signs:
        algorithm = await models.license_algorithm(change.connection, vendor_id, row["model_id"])
        signer = await signing_keys.signer(change.connection, vault, vendor_id, algorithm)
        signature, key_id = signer.key.sign(data), signer.id
    if state is not was:
        offer = "new"
    elif signs and row["offer"] in ("fetched", "verified"):
        offer = "outdated"
    else:
        offer = row["offer"]
    await change.connection.execute(
        """UPDATE licenses SET name = $2, data = $3, expires_at = $4, signature = $5, key_id = $6, state = $7,
                  offer = $8, updated_at = CASE WHEN $9 THEN $10 ELSE updated_at END
            WHERE id = $1""",
        license_id,
        name,
        data,
        expires_at,
        signature,
        key_id,
        state,
        offer,
        signs or state is not was,
        change.moment,
    )
    if state is was:
        return await read(change.connection, vendor_id, license_id)
    return await _stepped(change, license_id)


async def delete(change: Change, vendor_id: UUID, license_id: UUID) -> None:
    """Delete a licence that no device has. Raises NotFound, DoesNotFit."""
    row = await _lock_with_device(change, vendor_id, license_id)
    state = LicenseState(row["state"])
    if state not in _DELETABLE:
        raise DoesNotFit(str(IllegalStepError("deleted", state)))
    await change.connection.execute("DELETE FROM licenses WHERE id = $1", license_id)


def _after(state: LicenseState, taken: Step) -> LicenseState:
    try:
        return after(state, taken)
    except IllegalStepError as illegal:
        raise DoesNotFit(str(illegal)) from None


def _check(change: Change, data: str, expires_at: datetime | None) -> None:
    if len(data.encode()) > DATA_BYTES_MAX:
        raise DoesNotFit(TOO_LONG)
    if expires_at is not None and expires_at <= change.moment:
        raise DoesNotFit(IN_THE_PAST)
    if expires_at is not None and expires_at >= LATEST:
        raise DoesNotFit(TOO_LATE)


async def _lock(change: Change, vendor_id: UUID, license_id: UUID) -> Any:
    row = await change.connection.fetchrow(
        """SELECT l.id, l.model_id, l.device_id, l.name, l.data, l.signature, l.key_id, l.state, l.offer, l.expires_at
             FROM licenses l JOIN device_models m ON m.id = l.model_id
            WHERE l.id = $1 AND m.organization_id = $2 FOR NO KEY UPDATE OF l""",
        license_id,
        vendor_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return row


async def _lock_with_device(change: Change, vendor_id: UUID, license_id: UUID) -> Any:
    """A licence, locked after the device that has it."""
    for _ in range(ATTEMPTS_MAX):
        device_id = (await read(change.connection, vendor_id, license_id)).device_id
        if device_id is not None:
            await change.connection.execute("SELECT FROM devices WHERE id = $1 FOR NO KEY UPDATE", device_id)
        row = await _lock(change, vendor_id, license_id)
        if row["device_id"] == device_id:
            return row
    raise Conflict(MOVED)


async def _stepped(change: Change, license_id: UUID) -> License:
    """The licence, after a step that its device and its project are told of."""
    row = await change.connection.fetchrow(f"SELECT {_LICENSE} {_FROM} WHERE l.id = $1", license_id)
    assert row is not None
    change.record(row["device_id"], LicenseUpdated.of_row(row))
    change.touched(row["device_id"])
    return _license(row)


def _license(row: Any) -> License:
    state = LicenseState(row["state"])
    return License(**{**row, "state": state.word, "action": state.action})
