"""Partners of an organization: vendors whose devices it buys, and may therefore claim.

Only the organization itself says who its partners are: a vendor that could would offer its devices to everybody.
"""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from schemas.postgres import Executor

UNKNOWN = "Partner not found"
CODE_UNKNOWN = "Short code: there is no such vendor"

_PARTNER = """
    SELECT o.id, o.name, o.short_code, p.created_at AS added_at
      FROM organization_partners p JOIN organizations o ON o.id = p.partner_id
     WHERE p.organization_id = $1
"""


class TrustedVendor(Struct):
    """A vendor that an organization trusts."""

    id: UUID
    name: str
    short_code: str
    added_at: datetime


async def add(connection: Executor, organization_id: UUID, short_code: str) -> TrustedVendor:
    """Trust the vendor of this short code; a second time changes nothing. Raises DoesNotFit when there is none."""
    partner_id = await connection.fetchval(
        "SELECT id FROM organizations WHERE lower(short_code) = lower($1) AND id <> $2", short_code, organization_id
    )
    if partner_id is None:
        raise DoesNotFit(CODE_UNKNOWN)
    await connection.execute(
        "INSERT INTO organization_partners (organization_id, partner_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        organization_id,
        partner_id,
    )
    row = await connection.fetchrow(f"{_PARTNER} AND p.partner_id = $2", organization_id, partner_id)
    if row is None:
        raise DoesNotFit(CODE_UNKNOWN)
    return TrustedVendor(**row)


async def listed(
    connection: Executor, organization_id: UUID, offset: int = 0, limit: int | None = None
) -> list[TrustedVendor]:
    """The organization's partners by name."""
    order = "ORDER BY o.name, o.id OFFSET $2 LIMIT $3"
    rows = await connection.fetch(f"{_PARTNER} {order}", organization_id, offset, limit)
    return [TrustedVendor(**row) for row in rows]


async def remove(connection: Executor, organization_id: UUID, partner_id: UUID) -> None:
    """Trust a vendor no longer; its devices that were claimed stay. Raises NotFound."""
    removed = await connection.fetchval(
        "DELETE FROM organization_partners WHERE organization_id = $1 AND partner_id = $2 RETURNING true",
        organization_id,
        partner_id,
    )
    if removed is None:
        raise NotFound(UNKNOWN)
