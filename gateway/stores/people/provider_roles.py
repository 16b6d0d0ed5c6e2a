"""Roles that the identity provider gives: at each sign-in a person has those that its groups say, and no others of it.

A role that was given here (by an invitation, or by who administers members) is not the provider's: it stays as it is.
One place has one role of a reach, so beside one of ours the provider's is not given.
"""

from collections.abc import Iterable
from typing import Any, get_args
from uuid import UUID

from msgspec import Struct

from gateway.permissions import ROLES, Role, RoleIn
from gateway.stores.people.accounts import Person
from schemas import ids
from schemas.postgres import Connection

_LEAST_FIRST = get_args(Role)
_Place = tuple[UUID, UUID | None, bool]


class Change(Struct, frozen=True):
    """A role that was given, changed or taken away."""

    organization_id: UUID
    project_id: UUID | None
    before: Role | None
    after: Role | None


async def placed(connection: Connection, role: Role, place_id: UUID) -> RoleIn | None:
    """A role in the project or organization of this id, as its reach has it; None where there is none of it."""
    if ROLES[role].reach == "project":
        owner = await connection.fetchval("SELECT organization_id FROM projects WHERE id = $1", place_id)
        return None if owner is None else (owner, place_id, role)
    known = await connection.fetchval("SELECT id FROM organizations WHERE id = $1", place_id)
    return None if known is None else (known, None, role)


async def settle(connection: Connection, person: Person, roles: Iterable[RoleIn]) -> list[Change]:
    """Let a person have these roles of the provider's, where several are for one place the greatest, and no others.

    An invitation to such a place is accepted by that.
    """
    wanted: dict[_Place, Role] = {}
    for organization_id, project_id, role in sorted(roles, key=lambda one: _LEAST_FIRST.index(one[2])):
        wanted[organization_id, project_id, _as_vendor(role)] = role
    # Two sign-ins of one person take turns.
    await connection.execute("SELECT FROM people WHERE id = $1 FOR UPDATE", person.id)
    rows = await connection.fetch(
        """SELECT id, organization_id, project_id, role, person_id, from_provider FROM memberships
            WHERE person_id = $1 OR (person_id IS NULL AND lower(email) = lower($2)) FOR UPDATE""",
        person.id,
        person.email,
    )
    changes = []
    for row in rows:
        place = (row["organization_id"], row["project_id"], _as_vendor(row["role"]))
        if row["from_provider"] or (row["person_id"] is None and place in wanted):
            changes += await _change(connection, person, row, wanted.pop(place, None))
        elif row["person_id"] is not None:
            wanted.pop(place, None)
    for (organization_id, project_id, _), role in wanted.items():
        await connection.execute(
            """INSERT INTO memberships (id, organization_id, project_id, role, email, person_id, from_provider)
               VALUES ($1, $2, $3, $4, $5, $6, true)""",
            ids.new_xid(),
            organization_id,
            project_id,
            role,
            person.email,
            person.id,
        )
        changes.append(Change(organization_id, project_id, None, role))
    return changes


async def _change(connection: Connection, person: Person, row: Any, role: Role | None) -> list[Change]:
    before = row["role"] if row["person_id"] is not None else None
    if role is None:
        await connection.execute("DELETE FROM memberships WHERE id = $1", row["id"])
    elif role != before:
        await connection.execute(
            "UPDATE memberships SET role = $2, person_id = $3, from_provider = true WHERE id = $1",
            row["id"],
            role,
            person.id,
        )
    return [Change(row["organization_id"], row["project_id"], before, role)] if role != before else []


def _as_vendor(role: str) -> bool:
    return role.startswith("partner.")
