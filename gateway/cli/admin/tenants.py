"""`fleetgate admin organizations` and `projects`."""

import argparse
from typing import Any

from gateway.cli.admin.parsing import Things, name, thing, verb
from gateway.stores.tenants import organizations, projects
from schemas.postgres import Connection


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "organizations", "the tenants")
    create = verb(verbs, "create", "a new organization", _create_organization)
    create.add_argument("name", type=name)
    create.add_argument(
        "--short-code", type=name, help="2 to 8 letters and digits that open its Cloud IDs (default: random)"
    )
    verb(verbs, "list", "all organizations", _list_organizations)

    verbs = thing(things, "projects", "what spaces and devices are grouped in")
    create = verb(verbs, "create", "a new project", _create_project, "--organization")
    create.add_argument("name", type=name)
    verb(verbs, "list", "the projects of an organization", _list_projects, "--organization")


async def _create_organization(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await organizations.create(connection, arguments.name, arguments.short_code)


async def _list_organizations(connection: Connection, _: argparse.Namespace) -> Any:
    return await organizations.listed(connection)


async def _create_project(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await projects.create(connection, arguments.organization, arguments.name)


async def _list_projects(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    return await projects.listed(connection, arguments.organization)
