"""The console script `fleetgate`."""

import gc

gc.disable()  # until `main` runs: nothing that is imported is garbage, and looking for it is an eighth of the start

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Iterator

from gateway.cli.local.embedded import EmbeddedError
from gateway.cli.local.supervision import UpError
from gateway.operations.postgres_server import ServersError
from schemas.settings import SettingsError

PROCESSES = {"edge": ("gateway", "one edge process"), "worker": ("workers", "one worker process")}
"""Commands that become another program: its module, and what it is."""
COMMANDS = {
    "up": "gateway.cli.local.up",
    **dict.fromkeys(PROCESSES, ""),
    "migrate": "gateway.cli.migrate",
    "doctor": "gateway.cli.doctor",
    "admin": "gateway.cli.admin.command",
    "agent": "gateway.cli.simulated.agent",
    "fleet": "gateway.cli.simulated.fleet",
    "receiver": "gateway.cli.simulated.receiver",
    "vendor": "gateway.cli.simulated.vendor",
}
"""The others' modules. That of the command that is wanted is imported; all only for who asks what there is."""
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
    for name in COMMANDS.keys() & sys.argv[1:2] or COMMANDS:
        if name in PROCESSES:
            commands.add_parser(name, help=PROCESSES[name][1])
        else:
            importlib.import_module(COMMANDS[name]).add_parser(commands)
    gc.enable()
    gc.freeze()
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
