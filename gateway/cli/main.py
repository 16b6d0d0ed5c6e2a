"""The console script `fleetgate`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator

from gateway.cli import doctor, migrate
from gateway.cli.admin import command as admin
from gateway.cli.local import up
from gateway.cli.local.embedded import EmbeddedError
from gateway.cli.local.up import UpError
from gateway.cli.simulated import agent, fleet, receiver, vendor
from gateway.operations.postgres_server import ServersError
from schemas.settings import SettingsError

PROCESSES = {"edge": ("gateway", "one edge process"), "worker": ("workers", "one worker process")}
"""Commands that become another program: its module, and what it is."""
CHECK = ["admin", "connectors", "check"]
"""What it does is the importer's."""
USER_ERRORS = (SettingsError, UpError, EmbeddedError, ServersError, OSError)
"""Reported as one sentence, since a person can do something about it; anything else is a bug, with its traceback."""


def main() -> int:
    """Run one command; 2 for wrong usage or settings, 1 when the world is in the way."""
    if sys.argv[1:2] and (process := PROCESSES.get(sys.argv[1])):
        os.execv(sys.executable, [sys.executable, "-m", process[0], *sys.argv[2:]])  # noqa: S606
    if sys.argv[1:4] == CHECK:
        os.execv(sys.executable, [sys.executable, "-m", "workers.importer.check", *sys.argv[4:]])  # noqa: S606
    parser = argparse.ArgumentParser(prog="fleetgate", description="A device gateway.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up.add_parser(commands)
    for name, (_, text) in PROCESSES.items():
        commands.add_parser(name, help=text)
    for command in (migrate, doctor, admin, agent, fleet, receiver, vendor):
        command.add_parser(commands)
    arguments = parser.parse_args()
    try:
        code: int = asyncio.run(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except (*USER_ERRORS, ExceptionGroup) as error:
        causes = list(_causes(error))
        if not all(isinstance(cause, USER_ERRORS) for cause in causes):
            raise
        for cause in causes:
            print(f"fleetgate {arguments.command}: {cause}", file=sys.stderr)
        return 2 if isinstance(causes[0], SettingsError) else 1
    return code


def _causes(error: Exception) -> Iterator[Exception]:
    """The errors of a group and of the groups in it, or the one error."""
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error


if __name__ == "__main__":
    sys.exit(main())
