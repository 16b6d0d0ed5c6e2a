"""`python -m gateway`: one edge process, from its settings."""

import gc

gc.disable()  # until `main` runs: nothing that is imported is garbage, and looking for it is an eighth of the start

import argparse
import os
import socket
import sys

from gateway.edge import run
from gateway.listening import bind
from schemas import logs
from schemas.environment import listing, load
from schemas.settings import EdgeSettings, SettingsError


def main() -> int:
    """Serve until SIGTERM; 2 when a setting is wrong, 1 when the port is taken or one of its loops died."""
    gc.enable()
    gc.freeze()
    parser = argparse.ArgumentParser(
        prog="fleetgate edge",
        description="One edge process: serves devices and owners, from its settings, until SIGTERM.",
        epilog=listing(EdgeSettings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # a listening socket that the supervisor passes on
    arguments = parser.parse_args()
    try:
        settings = load(EdgeSettings, os.environ)
    except SettingsError as error:
        print(f"fleetgate edge: {error}", file=sys.stderr)
        return 2
    logs.configure("edge", settings.log_level)
    try:
        listener = bind(settings.bind) if arguments.fd is None else socket.socket(fileno=arguments.fd)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        print(f"fleetgate edge: cannot listen on {settings.bind} (FLEETGATE_BIND): {reason}", file=sys.stderr)
        return 1
    try:
        return run(settings, listener)
    except SettingsError as error:
        print(f"fleetgate edge: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
