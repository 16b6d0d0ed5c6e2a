"""Organizations: the tenants. Every project, model and key belongs to one.

An organization that makes devices is known by its short code, the first part of the Cloud IDs of its models; one that
was given none gets a random one, so that it can begin to make devices later.
"""

import secrets
from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from schemas import ids
from schemas.postgres import Executor

SHORT_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
SHORT_CODE_CHARACTERS = 6


class Organization(Struct):
    """One tenant."""

    id: UUID
    name: str
    short_code: str
    created_at: datetime


async def create(connection: Executor, name: str, short_code: str | None = None) -> Organization:
    """A new organization. Raises DoesNotFit when the short code is taken or malformed."""
    code = short_code or "".join(secrets.choice(SHORT_CODE_ALPHABET) for _ in range(SHORT_CODE_CHARACTERS))
    try:
        row = await connection.fetchrow(
            """INSERT INTO organizations (id, name, short_code) VALUES ($1, $2, $3)
               RETURNING id, name, short_code, created_at""",
            ids.new_id(),
            name,
            code,
        )
    except asyncpg.UniqueViolationError:
        raise DoesNotFit("Short code has already been taken") from None
    except asyncpg.CheckViolationError:
        raise DoesNotFit("Name must have 1 to 255 characters, a short code 2 to 8 letters and digits") from None
    assert row is not None
    return Organization(**row)


async def listed(connection: Executor) -> list[Organization]:
    """All organizations, oldest first."""
    rows = await connection.fetch("SELECT id, name, short_code, created_at FROM organizations ORDER BY created_at, id")
    return [Organization(**{**row, "short_code": row["short_code"] or ""}) for row in rows]


async def read(connection: Executor, organization_id: UUID) -> Organization:
    """Raises NotFound."""
    row = await connection.fetchrow(
        "SELECT id, name, coalesce(short_code, '') AS short_code, created_at FROM organizations WHERE id = $1",
        organization_id,
    )
    if row is None:
        raise NotFound("Organization not found")
    return Organization(**row)
