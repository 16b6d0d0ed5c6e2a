"""`fleetgate admin license-keys` and `licenses`: what signs a vendor's licences, and what became of them."""

import argparse
from typing import Any, get_args

from gateway.cli.admin.parsing import LISTED_MAX, Things, thing, verb
from gateway.cli.servers import find
from gateway.stores.licenses import signing_keys, vendor_side
from gateway.stores.tenants import organizations
from schemas.license_signatures import Algorithm
from schemas.licenses import Word
from schemas.postgres import Connection
from schemas.secrets import LICENSE_KEYS


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "license-keys", "what signs a vendor's licenses; public halves are for its firmware")
    verb(verbs, "list", "the keys of an organization, newest first", _list_keys, "--organization")
    rotate = verb(verbs, "rotate", "a new key; licenses that are signed stay as they are", _rotate, "--organization")
    rotate.add_argument("--algorithm", choices=get_args(Algorithm), default="rsa")

    verbs = thing(things, "licenses", "what vendors let devices do")
    listed = verb(verbs, "list", "the licenses of a vendor's models, oldest first", _list_licenses, "--organization")
    listed.add_argument("--state", choices=get_args(Word))


async def _list_keys(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    return await signing_keys.listed(connection, arguments.organization, 0, LISTED_MAX)


async def _rotate(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    vault = find().vault(LICENSE_KEYS)
    return await signing_keys.rotate(connection, vault, arguments.organization, arguments.algorithm)


async def _list_licenses(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    found = await vendor_side.page(
        connection,
        arguments.organization,
        state=arguments.state,
        model_id=None,
        device_id=None,
        after=None,
        offset=0,
        limit=LISTED_MAX,
    )
    return [
        {"id": one.id, "name": one.name, "state": one.state, "action": one.action}
        | {"device_id": one.device_id, "expires_at": one.expires_at}
        for one in found
    ]
