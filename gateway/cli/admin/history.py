"""`fleetgate admin history`: erases what devices said, on request."""

import argparse
from typing import Any
from uuid import UUID

from gateway.cli.admin.parsing import LISTED_MAX, Things, thing, verb
from schemas.archive import erasures
from schemas.postgres import Connection


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "history", "the event log: what is erased of it on request")
    erase = verb(verbs, "erase", "erase what was stored of a device or a project up to now; a worker does it", _erase)
    which = erase.add_mutually_exclusive_group(required=True)
    which.add_argument("--device", type=UUID, metavar="ID")
    which.add_argument("--project", type=UUID, metavar="ID")
    verb(verbs, "list", "what was asked for, and what is done", _list)


async def _erase(connection: Connection, arguments: argparse.Namespace) -> Any:
    asked = await erasures.request(connection, device_id=arguments.device, project_id=arguments.project)
    return {"id": asked, "device_id": arguments.device, "project_id": arguments.project}


async def _list(connection: Connection, _: argparse.Namespace) -> Any:
    return [dict(row) for row in await erasures.listed(connection, LISTED_MAX)]
