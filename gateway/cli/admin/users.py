"""`fleetgate admin users`: people who sign in, and the links by which they come."""

import argparse
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

from gateway.cli.admin.parsing import LISTED_MAX, Things, label, thing, verb
from gateway.cli.servers import find
from gateway.people.links import INVITATIONS, WAYS_IN
from gateway.permissions import PROJECT_ROLES, Role
from gateway.refusals import Conflict, DoesNotFit, NotFound
from gateway.stores.accounts import members
from gateway.stores.people import accounts, links
from gateway.stores.tenants import organizations, projects
from schemas.postgres import Connection

ACCEPTED = "This person accepted the role already: `fleetgate admin users link` prints another way in"


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "users", "people who sign in")
    invite = verb(verbs, "invite", "a link by which someone comes, once within seven days", _invite)
    invite.add_argument("email", type=label)
    invite.add_argument("--role", choices=get_args(Role), required=True)
    invite.add_argument("--organization", type=UUID, metavar="ID", help="default: the only one there is")
    invite.add_argument("--project", type=UUID, metavar="ID", help="where a project role is for")
    verb(verbs, "link", "a link that signs someone in who was here before", _link).add_argument("email", type=label)
    verb(verbs, "list", "who is a member of an organization", _list, "--organization")


async def _invite(connection: Connection, arguments: argparse.Namespace) -> Any:
    organization_id, project_id = await _where(connection, arguments)
    try:
        async with connection.transaction():
            member = await members.add(connection, organization_id, project_id, arguments.role, email=arguments.email)
    except Conflict:
        member = await members.of_address(connection, organization_id, project_id, arguments.role, arguments.email)
    if member.person_id is not None:
        raise Conflict(ACCEPTED)
    token = await links.invite(connection, member.membership_id, datetime.now(UTC))
    url = f"{find().url}{INVITATIONS}/{token}"
    return {"email": member.email, "role": member.roles[0], "organization": organization_id, "link": url}


async def _where(connection: Connection, arguments: argparse.Namespace) -> tuple[UUID, UUID | None]:
    """Organization and project of a new member. Raises NotFound, DoesNotFit."""
    if (arguments.project is not None) != (arguments.role in PROJECT_ROLES):
        raise DoesNotFit(f"--project is for the roles {', '.join(PROJECT_ROLES)}, and needed there")
    if arguments.project is not None:
        organization_id = await projects.organization_of(connection, arguments.project)
        if organization_id is None or arguments.organization not in (None, organization_id):
            raise NotFound(projects.UNKNOWN)
        return organization_id, arguments.project
    if arguments.organization is not None:
        return (await organizations.read(connection, arguments.organization)).id, None
    found = await organizations.listed(connection)
    if len(found) != 1:
        raise DoesNotFit("--organization is needed: `fleetgate admin organizations list` shows all")
    return found[0].id, None


async def _link(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await accounts.by_email(connection, arguments.email)
    if found is None:
        raise NotFound(accounts.UNKNOWN)
    token = await links.way_in(connection, found.id, datetime.now(UTC))
    return {"email": found.email, "link": f"{find().url}{WAYS_IN}/{token}"}


async def _list(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    found = await accounts.listed(connection, arguments.organization, LISTED_MAX)
    return [{"email": one.email, "name": one.name, "created_at": one.created_at} for one in found]
