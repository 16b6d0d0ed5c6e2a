"""The console script `fleetgate`."""

import argparse
import asyncio
import os
import sys

from gateway.cli import admin, agent, doctor, fleet, migrate, receiver, up
from gateway.cli.embedded import EmbeddedError
from gateway.cli.up import UpError
from schemas.settings import SettingsError


def main() -> int:
    """Run one command; 2 for wrong usage or settings, 1 when the world is in the way."""
    parser = argparse.ArgumentParser(prog="fleetgate", description="A device gateway.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up.add_parser(commands)
    for name, module, text in (("edge", "gateway", "one edge process"), ("worker", "workers", "one worker process")):
        child = commands.add_parser(name, help=text, description=f"Run {text}, set up by FLEETGATE_* variables.")
        child.set_defaults(module=module)
    for command in (migrate, doctor, admin, agent, fleet, receiver):
        command.add_parser(commands)
    arguments = parser.parse_args()
    try:
        if arguments.command in ("edge", "worker"):
            os.execv(sys.executable, [sys.executable, "-m", arguments.module])  # noqa: S606
        code: int = asyncio.run(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except SettingsError as error:
        print(f"fleetgate {arguments.command}: {error}", file=sys.stderr)
        return 2
    except (UpError, EmbeddedError, OSError) as error:
        print(f"fleetgate {arguments.command}: {error}", file=sys.stderr)
    except ExceptionGroup as group:
        if group.split(UpError)[1] is not None:
            raise
        for cause in group.exceptions:
            print(f"fleetgate {arguments.command}: {cause}", file=sys.stderr)
    else:
        return code
    return 1


if __name__ == "__main__":
    sys.exit(main())
