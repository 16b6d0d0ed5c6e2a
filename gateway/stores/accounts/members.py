"""Members of projects and organizations: service accounts with a role, and people who were invited by email."""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import Conflict, NotFound
from gateway.stores.accounts.service_accounts import ACCOUNT_UNKNOWN
from schemas import ids
from schemas.postgres import Connection, Executor

UNKNOWN = "Member not found"

_MEMBER = """
    SELECT m.id, m.role, m.service_account_id, m.email, coalesce(a.display_name, '') AS display_name,
           a.project_id AS account_project_id, m.created_at
      FROM memberships m LEFT JOIN service_accounts a ON a.id = m.service_account_id
"""


class Member(Struct):
    """A role of a service account, or of a person who was invited by email."""

    id: str
    roles: list[str]
    service_account_id: str | None
    email: str | None
    display_name: str
    account_project_id: UUID | None
    created_at: datetime


def _member(row: Any) -> Member:
    return Member(
        id=row["service_account_id"] or row["id"],
        roles=[row["role"]],
        service_account_id=row["service_account_id"],
        email=row["email"],
        display_name=row["display_name"],
        account_project_id=row["account_project_id"],
        created_at=row["created_at"],
    )


async def listed(
    connection: Executor, organization_id: UUID, project_id: UUID | None, after: str, limit: int
) -> list[Member]:
    """The members of a project, or with None of the organization itself, behind `after`."""
    rows = await connection.fetch(
        f"""{_MEMBER} WHERE m.organization_id = $1 AND m.project_id IS NOT DISTINCT FROM $2
              AND coalesce(m.service_account_id, m.id) > $3 ORDER BY coalesce(m.service_account_id, m.id) LIMIT $4""",
        organization_id,
        project_id,
        after,
        limit,
    )
    return [_member(row) for row in rows]


async def read(connection: Executor, organization_id: UUID, project_id: UUID | None, member_id: str) -> Member:
    """Raises NotFound."""
    row = await connection.fetchrow(
        f"""{_MEMBER} WHERE m.organization_id = $1 AND m.project_id IS NOT DISTINCT FROM $2
              AND coalesce(m.service_account_id, m.id) = $3""",
        organization_id,
        project_id,
        member_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return _member(row)


async def add(
    connection: Connection,
    organization_id: UUID,
    project_id: UUID | None,
    role: str,
    *,
    service_account_id: str | None = None,
    email: str | None = None,
) -> Member:
    """Give a service account of the same organization, or a person, a role.

    Raises NotFound when there is no such account, Conflict when it is a member already.
    """
    if service_account_id is not None and not await connection.fetchval(
        """SELECT EXISTS (SELECT FROM service_accounts a JOIN projects p ON p.id = a.project_id
                           WHERE a.id = $1 AND p.organization_id = $2)""",
        service_account_id,
        organization_id,
    ):
        raise NotFound(ACCOUNT_UNKNOWN)
    try:
        async with connection.transaction():
            member_id = await connection.fetchval(
                """INSERT INTO memberships (id, organization_id, project_id, role, service_account_id, email)
                   VALUES ($1, $2, $3, $4, $5, $6) RETURNING coalesce(service_account_id, id)""",
                ids.new_xid(),
                organization_id,
                project_id,
                role,
                service_account_id,
                email,
            )
    except asyncpg.UniqueViolationError:
        raise Conflict("This is a member already") from None
    return await read(connection, organization_id, project_id, member_id)


async def change_role(
    connection: Connection, organization_id: UUID, project_id: UUID | None, member_id: str, role: str
) -> Member:
    """Raises NotFound."""
    await connection.execute(
        """UPDATE memberships SET role = $4 WHERE organization_id = $1 AND project_id IS NOT DISTINCT FROM $2
              AND coalesce(service_account_id, id) = $3""",
        organization_id,
        project_id,
        member_id,
        role,
    )
    return await read(connection, organization_id, project_id, member_id)


async def remove(connection: Connection, organization_id: UUID, project_id: UUID | None, member_id: str) -> None:
    """Raises NotFound."""
    removed = await connection.fetchval(
        """DELETE FROM memberships WHERE organization_id = $1 AND project_id IS NOT DISTINCT FROM $2
              AND coalesce(service_account_id, id) = $3 RETURNING id""",
        organization_id,
        project_id,
        member_id,
    )
    if removed is None:
        raise NotFound(UNKNOWN)
