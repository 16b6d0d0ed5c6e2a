"""The device's side of licences: what is pending is offered until the device told what became of it.

Which step follows which is decided in `schemas.licenses`. What a device reads is noted: were a licence changed after
the device read it, its report that it is in use would be of what there was before, so the licence stays pending and is
offered again. A licence that the device only verified comes after the others, so that it holds none of them up.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound, Unauthenticated
from gateway.stores.change import Change
from schemas.licenses import PENDING, REPORTED, Action, IllegalStepError, LicenseState, Step, after
from schemas.life_cycle import LicenseUpdated
from schemas.postgres import Connection, Executor

UNKNOWN = "Couldn't find License"
OF_DEVICE_MAX = 100
"""Licences of one device that are not removed."""


class OfferedLicense(Struct, frozen=True):
    """A licence that its device is to add, update or remove."""

    id: UUID
    device_id: UUID
    data: str
    signature: str
    action: Action
    expires_at: datetime | None


class HeldLicense(Struct, frozen=True):
    """A licence that its device told something of."""

    id: UUID
    device_id: UUID
    data: str
    signature: str
    expires_at: datetime | None


async def pending(connection: Connection, device_id: UUID, limit: int = OF_DEVICE_MAX) -> list[OfferedLicense]:
    """What waits for a device, what waits longest first."""
    rows = await _pending(connection, device_id, limit)
    if any(row["offer"] in ("new", "outdated") for row in rows):
        async with connection.transaction():
            await connection.execute(
                "SELECT FROM licenses WHERE device_id = $1 ORDER BY id FOR NO KEY UPDATE", device_id
            )
            rows = await _pending(connection, device_id, limit)
            await connection.execute(
                """UPDATE licenses SET offer = 'fetched'
                    WHERE device_id = $1 AND id = ANY($2::uuid[]) AND offer IN ('new', 'outdated')""",
                device_id,
                [row["id"] for row in rows],
            )
    return [_offered(row) for row in rows]


async def _pending(connection: Executor, device_id: UUID, limit: int) -> list[asyncpg.Record]:
    return await connection.fetch(
        """SELECT id, device_id, data, signature, state, offer, expires_at FROM licenses
            WHERE device_id = $1 AND state = ANY($2::text[])
            ORDER BY offer = 'verified', updated_at, id LIMIT $3""",
        device_id,
        PENDING,
        limit,
    )


def _offered(row: Any) -> OfferedLicense:
    action = LicenseState(row["state"]).action
    assert action is not None
    return OfferedLicense(row["id"], row["device_id"], row["data"], row["signature"], action, row["expires_at"])


async def report(change: Change, device_id: UUID, license_id: UUID, reported: str, error: str | None) -> HeldLicense:
    """Store what a device tells of a licence. Raises NotFound for one that is not its own, DoesNotFit for a step that
    may not be done.
    """
    connection = change.connection
    # The trigger that counts what is pending would lock the device, but after the licence.
    if not await connection.fetchval(
        "SELECT true FROM devices WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", device_id
    ):
        raise Unauthenticated
    row = await connection.fetchrow(
        """SELECT id, name, device_id, data, signature, state, offer, error, expires_at FROM licenses
            WHERE id = $1 AND device_id = $2 FOR NO KEY UPDATE""",
        license_id,
        device_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    was = LicenseState(row["state"])
    step = REPORTED.get(reported)
    try:
        if step is None:
            raise IllegalStepError(reported, was)
        state = after(was, step)
    except IllegalStepError as illegal:
        raise DoesNotFit(str(illegal)) from None
    if step is Step.VERIFY:
        await connection.execute(
            "UPDATE licenses SET offer = 'verified' WHERE id = $1 AND offer <> 'outdated'", license_id
        )
    elif state is not was and not (step is Step.USE and row["offer"] == "outdated"):
        written = await connection.fetchrow(
            """UPDATE licenses SET state = $2, error = $3, offer = 'new', updated_at = $4 WHERE id = $1
               RETURNING id, name, state, error, expires_at""",
            license_id,
            state,
            error if step is Step.FAIL else None,
            change.moment,
        )
        change.record(device_id, LicenseUpdated.of_row(written))
        change.touched(device_id)
    return HeldLicense(row["id"], row["device_id"], row["data"], row["signature"], row["expires_at"])
