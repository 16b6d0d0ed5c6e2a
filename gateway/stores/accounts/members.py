"""Members of projects and organizations: service accounts with a role, and people who were invited by email.

A member has one id in all projects of an organization: that of the account, or one made of a person's address.
"""

from collections.abc import Collection
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
    SELECT m.member_id, m.project_id, m.role, m.service_account_id, m.email,
           coalesce(a.display_name, '') AS display_name, a.project_id AS account_project_id, m.created_at
      FROM memberships m LEFT JOIN service_accounts a ON a.id = m.service_account_id
"""


class Member(Struct):
    """A role of a service account, or of a person who was invited by email."""

    id: str
    project_id: UUID | None
    roles: list[str]
    service_account_id: str | None
    email: str | None
    display_name: str
    account_project_id: UUID | None
    created_at: datetime


def _member(row: Any) -> Member:
    return Member(
        id=row["member_id"],
        project_id=row["project_id"],
        roles=[row["role"]],
        service_account_id=row["service_account_id"],
        email=row["email"],
        display_name=row["display_name"],
        account_project_id=row["account_project_id"],
        created_at=row["created_at"],
    )


async def listed(
    connection: Executor, organization_id: UUID, project_id: UUID | None, member_id: str, after: str, limit: int
) -> list[Member]:
    """The members of a project, or with None of the organization itself, behind `after`; or only this one."""
    rows = await connection.fetch(
        f"""{_MEMBER} WHERE m.organization_id = $1 AND m.project_id IS NOT DISTINCT FROM $2
              AND ($3 = '' OR m.member_id = $3) AND m.member_id > $4 ORDER BY m.member_id LIMIT $5""",
        organization_id,
        project_id,
        member_id,
        after,
        limit,
    )
    return [_member(row) for row in rows]


async def listed_in(
    connection: Executor, project_ids: Collection[UUID], member_id: str, after: tuple[UUID, str] | None, limit: int
) -> list[Member]:
    """The members of these projects, by project, behind `after`; or only this one."""
    rows = await connection.fetch(
        f"""{_MEMBER} WHERE m.project_id = ANY($1::uuid[]) AND ($2 = '' OR m.member_id = $2)
              AND ($3::uuid IS NULL OR (m.project_id, m.member_id) > ($3, $4))
            ORDER BY m.project_id, m.member_id LIMIT $5""",
        list(project_ids),
        member_id,
        None if after is None else after[0],
        None if after is None else after[1],
        limit,
    )
    return [_member(row) for row in rows]


async def read(connection: Executor, organization_id: UUID, project_id: UUID | None, member_id: str) -> Member:
    """Raises NotFound."""
    row = await connection.fetchrow(
        f"""{_MEMBER} WHERE m.organization_id = $1 AND m.project_id IS NOT DISTINCT FROM $2
              AND m.member_id = $3""",
        organization_id,
        project_id,
        member_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return _member(row)


async def inviting(connection: Executor, member_id: str) -> str | None:
    """The name of the organization that invited a person; None where nobody is invited."""
    found: str | None = await connection.fetchval(
        """SELECT o.name FROM memberships m JOIN organizations o ON o.id = m.organization_id
            WHERE m.member_id = $1 AND m.email IS NOT NULL LIMIT 1""",
        member_id,
    )
    return found


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
                   VALUES ($1, $2, $3, $4, $5, $6) RETURNING member_id""",
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
              AND member_id = $3""",
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
              AND member_id = $3 RETURNING id""",
        organization_id,
        project_id,
        member_id,
    )
    if removed is None:
        raise NotFound(UNKNOWN)
