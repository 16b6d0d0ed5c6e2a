"""`fleetgate admin`: tenants, models and keys from the command line, for whoever runs the gateway.

It works on the database directly, so it needs no key: it is how the first key comes into being. Without settings that
is the database of `fleetgate up`. It prints tables for people and, with `--json`, the same for programs. What is
refused is one sentence on stderr and exit code 1; wrong usage is exit code 2.
"""

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from uuid import UUID

from gateway.api import audit as masking
from gateway.cli.admin import (
    access,
    connectors,
    files,
    history,
    incidents,
    licenses,
    master_keys,
    models,
    tenants,
    users,
)
from gateway.cli.admin.printing import show
from gateway.cli.servers import find
from gateway.operations.postgres_server import ServersError, connect
from gateway.refusals import Refusal
from gateway.stores import audit
from schemas import postgres
from schemas.postgres import Connection
from schemas.settings import SettingsError

REFUSED, WRONG_USAGE = 1, 2
READING = ("list", "show")
"""How actions begin that change nothing."""
_NOT_GIVEN = {"action", "run", "json", "command"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `admin` and all below it to the program's subcommands."""
    admin = subparsers.add_parser("admin", help="tenants, models, keys, accounts, connectors: create, list, revoke")
    admin.set_defaults(run=run)
    things = admin.add_subparsers(title="things", metavar="THING", required=True)
    for resource in (tenants, users, models, files, access, master_keys, connectors, incidents, licenses, history):
        resource.add(things)


async def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say; returns the exit code."""
    try:
        servers = find()
    except SettingsError as error:
        return _complain(str(error), WRONG_USAGE)
    try:
        connection = await connect(servers.postgres_dsn, "admin")
        try:
            await postgres.installation(connection)
            async with connection.transaction():
                result = await arguments.action(connection, arguments)
                await _note(connection, arguments)
        finally:
            await connection.close()
    except (Refusal, SettingsError, ServersError) as error:
        return _complain(str(error), REFUSED)
    except postgres.PostgresAway as error:
        return _complain(f"Postgres is not available: {error}", REFUSED)
    show(result, as_json=arguments.json)
    return 0


async def _note(connection: Connection, arguments: argparse.Namespace) -> None:
    """Write a change down in the audit log, in its transaction."""
    action = arguments.action.__name__.lstrip("_")
    if action.startswith(READING):
        return
    given = {
        name: str(value) for name, value in vars(arguments).items() if name not in _NOT_GIVEN and value is not None
    }
    organization_id = getattr(arguments, "organization", None)
    await audit.note(
        connection,
        at=datetime.now(UTC),
        organization_id=organization_id if isinstance(organization_id, UUID) else None,
        actor=f"command:{os.environ.get('USER') or os.geteuid()}",
        action=action,
        target="fleetgate admin",
        address=platform.node(),
        given=masking.masked(given),
    )


def _complain(text: str, code: int) -> int:
    print(f"fleetgate admin: {text}", file=sys.stderr)
    return code
