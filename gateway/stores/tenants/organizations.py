"""Organizations: the tenants. Every project, model and key belongs to one.

An organization that makes devices is known by its short code, the first part of the Cloud IDs of its models; one that
was given none gets a random one, so that it can begin to make devices later.
"""

import secrets
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from schemas import ids
from schemas.postgres import Connection, Executor

UNKNOWN = "Organization not found"
SHORT_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
SHORT_CODE_CHARACTERS = 6
SHORT_CODE_TAKEN = "Short code has already been taken, or is the beginning of another one, or begins with one"

_SHORT_CODES_LOCK = 0x66675343
"""Advisory lock of whoever chooses a short code: two at once could otherwise take codes that begin alike."""


class Organization(Struct):
    """One tenant."""

    id: UUID
    name: str
    short_code: str
    created_at: datetime


async def create(connection: Connection, name: str, short_code: str | None = None) -> Organization:
    """A new organization. Raises DoesNotFit when the short code is malformed, taken, or begins like another's.

    A Cloud ID is told apart by the code that it begins with, so no code begins with another one.
    """
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _SHORT_CODES_LOCK)
            code = _random_code() if short_code is None else short_code
            while await _begins_like_another(connection, code):
                if short_code is not None:
                    raise DoesNotFit(SHORT_CODE_TAKEN)
                code = _random_code()
            row = await connection.fetchrow(
                """INSERT INTO organizations (id, name, short_code) VALUES ($1, $2, $3)
                   RETURNING id, name, short_code, created_at""",
                ids.new_id(),
                name,
                code,
            )
    except asyncpg.CheckViolationError:
        raise DoesNotFit("Name must have 1 to 255 characters, a short code 2 to 8 letters and digits") from None
    assert row is not None
    return Organization(**row)


async def note_maker(connection: Connection, organization_id: UUID, vendor_id: UUID) -> int:
    """Note which vendor made an organization; returns how many it made, this one included."""
    # Of two at once one waits, so that both are counted.
    await connection.execute("SELECT FROM organizations WHERE id = $1 FOR NO KEY UPDATE", vendor_id)
    await connection.execute("UPDATE organizations SET made_by = $2 WHERE id = $1", organization_id, vendor_id)
    made: int = await connection.fetchval("SELECT count(*) FROM organizations WHERE made_by = $1", vendor_id)
    return made


def _random_code() -> str:
    return "".join(secrets.choice(SHORT_CODE_ALPHABET) for _ in range(SHORT_CODE_CHARACTERS))


async def _begins_like_another(connection: Connection, code: str) -> bool:
    """Whether a code is the beginning of another organization's, or the other way round, in any case."""
    found: bool = await connection.fetchval(
        """SELECT EXISTS (SELECT FROM organizations WHERE starts_with(lower(short_code), lower($1))
                              OR starts_with(lower($1), lower(short_code)))""",
        code,
    )
    return found


async def listed(connection: Executor) -> list[Organization]:
    """All organizations, oldest first."""
    rows = await connection.fetch("SELECT id, name, short_code, created_at FROM organizations ORDER BY created_at, id")
    return [Organization(**{**row, "short_code": row["short_code"] or ""}) for row in rows]


async def names(connection: Executor, organization_ids: Collection[UUID]) -> dict[UUID, str]:
    """The names of these organizations, in their order."""
    rows = await connection.fetch(
        "SELECT id, name FROM organizations WHERE id = ANY($1::uuid[]) ORDER BY name, id", list(organization_ids)
    )
    return {row["id"]: row["name"] for row in rows}


async def read(connection: Executor, organization_id: UUID) -> Organization:
    """Raises NotFound."""
    row = await connection.fetchrow(
        "SELECT id, name, coalesce(short_code, '') AS short_code, created_at FROM organizations WHERE id = $1",
        organization_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return Organization(**row)


class Counts(Struct):
    """How much an organization has: devices that it owns, models that it makes."""

    projects: int
    spaces: int
    devices: int
    models: int


async def counts(connection: Executor, organization_id: UUID) -> Counts:
    """Count what an organization has."""
    row = await connection.fetchrow(
        """SELECT (SELECT count(*) FROM projects WHERE organization_id = $1) AS projects,
                  (SELECT count(*) FROM spaces s JOIN projects p ON p.id = s.project_id
                    WHERE p.organization_id = $1) AS spaces,
                  (SELECT count(*) FROM devices WHERE organization_id = $1 AND deleted_at IS NULL) AS devices,
                  (SELECT count(*) FROM device_models WHERE organization_id = $1 AND NOT emulated) AS models""",
        organization_id,
    )
    assert row is not None
    return Counts(**row)


class VendorCounts(Struct):
    """How much an organization makes: models, and devices of them, whoever owns those."""

    models: int
    devices: int


async def vendor_counts(connection: Executor, organization_id: UUID) -> VendorCounts:
    """Count what an organization makes."""
    row = await connection.fetchrow(
        """SELECT count(DISTINCT m.id) AS models, count(d.id) AS devices
             FROM device_models m LEFT JOIN devices d ON d.model_id = m.id AND d.deleted_at IS NULL
            WHERE m.organization_id = $1 AND NOT m.emulated""",
        organization_id,
    )
    assert row is not None
    return VendorCounts(**row)
