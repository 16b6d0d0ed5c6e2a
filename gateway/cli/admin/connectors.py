"""`fleetgate admin connectors`: cloud connectors, the lists of devices that are imported."""

import argparse
from datetime import UTC, datetime
from typing import Any

from gateway.cli.admin.parsing import LISTED_MAX, Things, thing, verb
from gateway.stores.change import Change
from gateway.stores.connectors import cloud_connectors
from gateway.stores.connectors import runs as connector_runs
from gateway.stores.tenants import organizations
from schemas.postgres import Connection


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "connectors", "cloud connectors: lists of devices that are imported")
    verb(verbs, "list", "the connectors of an organization", _list_cloud_connectors, "--organization")
    for name, text, action in (
        ("show", "one connector with its counts", _show_connector),
        ("runs", "its last runs", _list_runs),
        ("sync", "run it now", _sync_connector),
        ("confirm", "apply the list that is held", _confirm_connector),
        ("reject", "keep the devices that the held list would take away", _reject_list),
        ("disable", "stop it", _disable_connector),
        ("enable", "go on", _enable_connector),
    ):
        verb(verbs, name, text, action).add_argument("id")
    delete = verb(verbs, "delete", "delete it and all its devices, which cannot be undone", _delete_connector)
    delete.add_argument("id")
    delete.add_argument("--name", required=True, help="its name, as proof that it is meant")
    verbs.add_parser("check", help="read a list by a manifest and show the first devices", add_help=False)


async def _list_cloud_connectors(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    found = await cloud_connectors.page(connection, arguments.organization, after=None, offset=0, limit=LISTED_MAX)
    columns = ("id", "name", "provider", "status", "active_devices", "excluded_devices", "next_sync_at", "error")
    return [{name: getattr(one, name) for name in columns} for one in found]


async def _held_connector(connection: Connection, connector_id: str) -> cloud_connectors.CloudConnector:
    owner = await cloud_connectors.organization_of(connection, connector_id)
    return await cloud_connectors.lock(connection, owner, connector_id)


async def _show_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await _held_connector(connection, arguments.id)


async def _list_runs(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    rows = await connector_runs.page(connection, found.id, None, after=None, offset=0, limit=LISTED_MAX)
    return [{name: getattr(row, name) for name in row.__struct_fields__ if name != "details"} for row in rows]


async def _sync_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    cloud_connectors.check_runnable(found)
    await cloud_connectors.sync(connection, found.id)
    return {"due": found.id}


async def _confirm_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    return {"excluded": await cloud_connectors.confirm(connection, found, None)}


async def _reject_list(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    return {"kept": await cloud_connectors.reject(connection, found, None)}


async def _disable_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    await cloud_connectors.disable(connection, found.id)
    return {"disabled": found.id}


async def _enable_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    await cloud_connectors.enable(connection, found.id)
    return {"enabled": found.id}


async def _delete_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    owner = await cloud_connectors.organization_of(connection, arguments.id)
    change = Change(connection, datetime.now(UTC))  # replies are left to a worker: there is no Redis here
    count = await cloud_connectors.delete(change, owner, arguments.id, arguments.name)
    await change.append_events()
    return {"deleted_devices": count}
