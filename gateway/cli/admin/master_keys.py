"""`fleetgate admin master-keys`: what access keys and secrets are derived from, generation by generation."""

import argparse
from typing import Any

from gateway.cli.admin.parsing import Things, thing, verb
from gateway.cli.servers import find
from gateway.stores.accounts import master_keys
from schemas.postgres import Connection


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "master-keys", "what devices' keys and accounts' secrets are derived from")
    verb(verbs, "list", "the generations, and how many keys are of each", _list)
    verb(verbs, "rotate", "derive new keys from the next key of FLEETGATE_MASTER_KEYS_MORE", _rotate)
    retire = verb(verbs, "retire", "end a generation of which nothing is in use any more", _retire)
    retire.add_argument("generation", type=int)
    retire.add_argument("--end-them", action="store_true", help="end the keys that are still of it, too")


async def _list(connection: Connection, _: argparse.Namespace) -> Any:
    return await master_keys.listed(connection)


async def _rotate(connection: Connection, _: argparse.Namespace) -> Any:
    return await master_keys.begin(connection, find().master_keys)


async def _retire(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await master_keys.retire(connection, arguments.generation, end_them=arguments.end_them)
