"""`fleetgate doctor`: looks at Redis and Postgres as they are set up, and says in words what a 2xx means under that.

Without settings of its own it looks at the servers that `fleetgate up` runs. Exit code 0 when all is as it should be, 1
when something makes the gateway's promises weaker, or does not work at all.
"""

import argparse

from gateway.cli.servers import find
from gateway.operations import findings


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="check Redis and Postgres, and say what a 2xx means",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Look at everything and print it."""
    found = find()
    bad = 0
    for look in (
        findings.of_redis(found.redis_url, found.redis_ca),
        findings.of_postgres(found.postgres_dsn, found),
        findings.addresses(),
        findings.readable_manifests(),
    ):
        async for finding in look:
            print(f"{'ok  ' if finding.good else 'FIX '} {finding.text}")
            bad += not finding.good
    print(f"{bad} to fix" if bad else "All is well.")
    return 1 if bad else 0
