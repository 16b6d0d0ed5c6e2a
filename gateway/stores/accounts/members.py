"""Members of projects and organizations: service accounts with a role, and people who were invited by email.

A member has one id in all projects of an organization: that of the account, or one made of a person's address. Roles as
vendor are given in the organization as a whole, beside those as owner (`as_vendor`).
"""

import re
from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.permissions import VENDOR_ROLES
from gateway.refusals import Conflict, DoesNotFit, NotFound
from gateway.stores.accounts.service_accounts import ACCOUNT_UNKNOWN
from schemas import ids
from schemas.postgres import Connection, Executor

UNKNOWN = "Member not found"
ADDRESS = r"^[^@\s]+@[^@\s]+$"
ADDRESS_CHARACTERS = (3, 255)
NO_ADDRESS = "must be an address such as name@example.com"

_MEMBER = """
    SELECT m.member_id, m.project_id, m.role, m.service_account_id, m.email,
           coalesce(a.display_name, p.name, '') AS display_name, a.project_id AS account_project_id,
           m.id AS membership_id, m.person_id, m.created_at
      FROM memberships m LEFT JOIN service_accounts a ON a.id = m.service_account_id
      LEFT JOIN people p ON p.id = m.person_id
"""
_HERE = "m.organization_id = $1 AND m.project_id IS NOT DISTINCT FROM $2 AND (m.role LIKE 'partner.%') = $3"


class Member(Struct):
    """A role of a service account, or of a person who was invited by email."""

    id: str
    project_id: UUID | None
    roles: list[str]
    service_account_id: str | None
    email: str | None
    display_name: str
    account_project_id: UUID | None
    membership_id: str
    person_id: UUID | None
    """Who accepted the invitation; None while nobody has."""
    created_at: datetime


class RoleGiven(Struct):
    """A role, in a project or in the organization as a whole."""

    role: str
    project_id: UUID | None


class Person(Struct):
    """Somebody who signs in, or may by an invitation that is not `accepted` yet; `name` is empty until then."""

    email: str
    name: str
    roles: list[RoleGiven]
    accepted: bool
    invited_at: datetime


def check_address(email: str) -> None:
    """Raises DoesNotFit for what is no address."""
    least, most = ADDRESS_CHARACTERS
    if not re.fullmatch(ADDRESS, email) or not least <= len(email) <= most:
        raise DoesNotFit(f"Email {NO_ADDRESS}")


def _member(row: Any) -> Member:
    return Member(
        id=row["member_id"],
        project_id=row["project_id"],
        roles=[row["role"]],
        service_account_id=row["service_account_id"],
        email=row["email"],
        display_name=row["display_name"],
        account_project_id=row["account_project_id"],
        membership_id=row["membership_id"],
        person_id=row["person_id"],
        created_at=row["created_at"],
    )


async def listed(
    connection: Executor,
    organization_id: UUID,
    project_id: UUID | None,
    member_id: str,
    after: str,
    limit: int,
    *,
    as_vendor: bool = False,
) -> list[Member]:
    """The members of a project, or with None of the organization itself, behind `after`; or only this one."""
    rows = await connection.fetch(
        f"""{_MEMBER} WHERE {_HERE} AND ($4 = '' OR m.member_id = $4) AND m.member_id > $5
            ORDER BY m.member_id LIMIT $6""",
        organization_id,
        project_id,
        as_vendor,
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


async def people(
    connection: Executor, organization_id: UUID, *, as_vendor: bool, role: str | None, after: str, limit: int
) -> list[Person]:
    """The people who have a role of the organization, or were invited to one, by address, behind `after`."""
    rows = await connection.fetch(
        """SELECT m.email, max(p.name) AS name, bool_or(m.person_id IS NOT NULL) AS accepted,
                  min(m.created_at) AS invited_at,
                  array_agg(m.role || ' ' || coalesce(m.project_id::text, '') ORDER BY m.role, m.project_id) AS roles
             FROM memberships m LEFT JOIN people p ON p.id = m.person_id
            WHERE m.organization_id = $1 AND m.email > $3 AND (m.role LIKE 'partner.%') = $2
            GROUP BY m.email HAVING $4::text IS NULL OR bool_or(m.role = $4) ORDER BY m.email LIMIT $5""",
        organization_id,
        as_vendor,
        after,
        role,
        limit,
    )
    return [_person(row) for row in rows]


def _person(row: Any) -> Person:
    given = [text.partition(" ") for text in row["roles"]]
    roles = [RoleGiven(role, UUID(project_id) if project_id else None) for role, _, project_id in given]
    return Person(row["email"], row["name"] or "", roles, row["accepted"], row["invited_at"])


async def read(
    connection: Executor,
    organization_id: UUID,
    project_id: UUID | None,
    member_id: str,
    *,
    as_vendor: bool = False,
) -> Member:
    """Raises NotFound."""
    row = await connection.fetchrow(
        f"{_MEMBER} WHERE {_HERE} AND m.member_id = $4",
        organization_id,
        project_id,
        as_vendor,
        member_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return _member(row)


async def of_address(
    connection: Executor, organization_id: UUID, project_id: UUID | None, role: str, email: str
) -> Member:
    """The member of this address who has a role of the same reach there. Raises NotFound."""
    row = await connection.fetchrow(
        f"{_MEMBER} WHERE {_HERE} AND m.email = $4", organization_id, project_id, role in VENDOR_ROLES, email
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

    A person who accepted another role in the organization has this one at once; others are invited. Raises NotFound
    when there is no such account, Conflict when it is a member already, DoesNotFit for what is no address.
    """
    if email is not None:
        check_address(email)
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
                """INSERT INTO memberships (id, organization_id, project_id, role, service_account_id, email, person_id)
                   VALUES ($1, $2, $3, $4, $5, $6,
                           (SELECT person_id FROM memberships
                             WHERE organization_id = $2 AND email = $6 AND person_id IS NOT NULL LIMIT 1))
                   RETURNING member_id""",
                ids.new_xid(),
                organization_id,
                project_id,
                role,
                service_account_id,
                email,
            )
    except asyncpg.UniqueViolationError:
        raise Conflict("This is a member already") from None
    return await read(connection, organization_id, project_id, member_id, as_vendor=role in VENDOR_ROLES)


async def accept(connection: Executor, membership_id: str, person_id: UUID) -> None:
    """Whoever has the invited address is a member from now on."""
    await connection.execute(
        "UPDATE memberships SET person_id = $2 WHERE id = $1 AND person_id IS NULL", membership_id, person_id
    )


async def change_role(
    connection: Connection,
    organization_id: UUID,
    project_id: UUID | None,
    member_id: str,
    role: str,
) -> Member:
    """Another role of the same reach. Raises NotFound."""
    as_vendor = role in VENDOR_ROLES
    await connection.execute(
        f"UPDATE memberships m SET role = $5 WHERE {_HERE} AND m.member_id = $4",
        organization_id,
        project_id,
        as_vendor,
        member_id,
        role,
    )
    return await read(connection, organization_id, project_id, member_id, as_vendor=as_vendor)


async def remove(
    connection: Connection,
    organization_id: UUID,
    project_id: UUID | None,
    member_id: str,
    *,
    as_vendor: bool = False,
) -> None:
    """Raises NotFound."""
    removed = await connection.fetchval(
        f"DELETE FROM memberships m WHERE {_HERE} AND m.member_id = $4 RETURNING m.id",
        organization_id,
        project_id,
        as_vendor,
        member_id,
    )
    if removed is None:
        raise NotFound(UNKNOWN)
