"""`fleetgate admin incidents` and `incident-rules`."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from gateway.cli.admin.parsing import LISTED_MAX, Things, thing, verb
from gateway.stores.change import Change
from gateway.stores.incidents import incidents, rules
from gateway.stores.incidents.incidents import Filters
from gateway.stores.tenants import organizations
from gateway.stores.whose import Whose
from schemas.postgres import Connection
from schemas.times import EPOCH


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "incidents", "what is wrong with devices")
    verb(verbs, "list", "the open incidents of an organization's devices", _list_open, "--organization")
    close = verb(verbs, "close", "close one, whoever opened it", _close, "--organization")
    close.add_argument("id", type=UUID)
    verbs = thing(things, "incident-rules", "what opens incidents by telemetry")
    listed = verb(verbs, "list", "the rules of an organization", _list_rules, "--organization")
    listed.add_argument("--vendor", action="store_true", help="those for all devices of its models")


async def _list_open(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    filters = Filters(EPOCH, datetime.now(UTC) + timedelta(days=1), status="active")
    found = await incidents.page(
        connection, Whose(arguments.organization, as_vendor=False), filters, before=None, offset=0, limit=LISTED_MAX
    )
    columns = ("id", "device_id", "device_name", "kind", "priority_name", "title", "opened_at", "assignee")
    return [{name: getattr(one, name) for name in columns} for one in found]


async def _close(connection: Connection, arguments: argparse.Namespace) -> Any:
    closed = await incidents.close(Change(connection, datetime.now(UTC)), arguments.organization, arguments.id)
    return {"id": closed.id, "status": closed.status, "closed_at": closed.closed_at}


async def _list_rules(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    maker = Whose(arguments.organization, as_vendor=arguments.vendor)
    found = await rules.page(connection, maker, after=None, offset=0, limit=LISTED_MAX)
    columns = ("id", "telemetry", "comparison", "value", "duration_s", "hysteresis", "priority", "title", "enabled")
    return [{name: getattr(one, name) for name in columns} for one in found]
