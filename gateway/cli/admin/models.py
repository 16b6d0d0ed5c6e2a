"""`fleetgate admin models`, their `commands`, and `hardware-keys`."""

import argparse
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

import msgspec

from gateway.cli.admin.parsing import Things, between, label, name, thing, verb
from gateway.stores import models
from gateway.stores.accounts import credentials
from gateway.stores.change import Change
from gateway.stores.commands import definitions
from gateway.stores.commands.definitions import FIELD_TYPES, CommandField
from gateway.stores.devices import deletion
from gateway.stores.tenants import organizations
from schemas.bounds import COMMAND_TIMEOUT_S, OFFLINE_THRESHOLD_S, RATE_LIMIT, STATE_BYTES, STATE_KEYS
from schemas.license_signatures import Algorithm
from schemas.postgres import Connection

PURGED_MAX = 10_000
"""In one run, which is one transaction."""


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "models", "device models and their commands")
    create = verb(verbs, "create", "a new device model", _create_model, "--organization")
    create.add_argument("vendor", type=name)
    create.add_argument("name", type=name)
    create.add_argument(
        "--authentication", choices=get_args(models.Authentication), default="mac_sn", help="how it is claimed"
    )
    create.add_argument(
        "--offline-threshold-s",
        type=between(OFFLINE_THRESHOLD_S.least, OFFLINE_THRESHOLD_S.most),
        default=OFFLINE_THRESHOLD_S.default,
        metavar="SECONDS",
    )
    create.add_argument(
        "--rate-limit",
        type=between(RATE_LIMIT.least, RATE_LIMIT.most),
        default=RATE_LIMIT.default,
        metavar="CALLS",
        help="in 30 s",
    )
    create.add_argument("--public", action="store_true", help="every organization may claim its devices")
    create.add_argument("--state-keys-max", type=between(STATE_KEYS.least, STATE_KEYS.most), metavar="KEYS")
    create.add_argument("--state-bytes-max", type=between(STATE_BYTES.least, STATE_BYTES.most), metavar="BYTES")
    create.add_argument("--license-algorithm", choices=get_args(Algorithm), default="rsa", help="what signs licenses")
    verb(verbs, "list", "the models of an organization", _list_models, "--organization")
    publish = verb(verbs, "publish", "let every organization claim a model's devices", _publish)
    publish.add_argument("id", type=UUID)
    publish.add_argument("--withdraw", action="store_true", help="no longer: only the vendor's own and its customers")

    verbs = thing(verbs, "commands", "the commands that a model's devices understand")
    define = verb(verbs, "add", "define a command", _add_command, "--model")
    define.add_argument("name", type=name)
    define.add_argument("--friendly-name", type=label, default="")
    define.add_argument("--description", type=label, default="")
    define.add_argument(
        "--timeout-s",
        type=between(COMMAND_TIMEOUT_S.least, COMMAND_TIMEOUT_S.most),
        default=COMMAND_TIMEOUT_S.default,
        metavar="SECONDS",
    )
    define.add_argument(
        "--field", dest="fields", type=_field, action="append", default=[], metavar="NAME:TYPE[:required]",
        help=f"a parameter, may be repeated; TYPE is one of {', '.join(FIELD_TYPES)}",
    )  # fmt: skip
    verb(verbs, "list", "the commands of a model", _list_commands, "--model")

    verbs = thing(things, "hardware-keys", "what devices of a model register with")
    create = verb(verbs, "create", "a new key, shown once", _create_hardware_key, "--model")
    create.add_argument("--name", type=label, default="")
    verb(verbs, "list", "the keys of a model with their use", _list_hardware_keys, "--model")
    verb(verbs, "revoke", "end a key", _revoke_hardware_key).add_argument("id", type=UUID)
    purge = verb(verbs, "purge", "delete what registered with a revoked key and nobody claimed", _purge_hardware_key)
    purge.add_argument("id", type=UUID)
    verb(verbs, "rotate", "a new key in place of one that ends", _rotate_hardware_key).add_argument("id", type=UUID)


async def _create_model(connection: Connection, arguments: argparse.Namespace) -> Any:
    made = await models.create(
        connection,
        arguments.organization,
        vendor=arguments.vendor,
        name=arguments.name,
        authentication=arguments.authentication,
        offline_threshold_s=arguments.offline_threshold_s,
        rate_limit=arguments.rate_limit,
        state_keys_max=arguments.state_keys_max,
        state_bytes_max=arguments.state_bytes_max,
        license_algorithm=arguments.license_algorithm,
    )
    return await models.publish(connection, made.id, public=True) if arguments.public else made


async def _publish(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await models.publish(connection, arguments.id, public=not arguments.withdraw)


async def _list_models(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    return await models.listed(connection, arguments.organization)


async def _add_command(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await definitions.add(
        connection,
        arguments.model,
        name=arguments.name,
        friendly_name=arguments.friendly_name,
        description=arguments.description,
        timeout_s=arguments.timeout_s,
        fields=arguments.fields,
    )


async def _list_commands(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await definitions.listed(connection, arguments.model)


async def _create_hardware_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    minted = await credentials.mint_and_store(connection, "hardware", owner_id=arguments.model, name=arguments.name)
    return {"id": minted.id, "name": arguments.name, "key": minted.text}


async def _list_hardware_keys(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await credentials.hardware_keys(connection, arguments.model)


async def _revoke_hardware_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    model_id = await credentials.model_of_hardware_key(connection, arguments.id)
    await credentials.revoke_hardware_key(connection, model_id, arguments.id)
    return {"revoked": arguments.id}


async def _purge_hardware_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    await credentials.model_of_hardware_key(connection, arguments.id)
    # The devices' replies are rewritten by a worker.
    changed = Change(connection, datetime.now(UTC))
    found = await deletion.registered_with(connection, arguments.id, PURGED_MAX + 1)
    deleted = await deletion.delete(changed, found[:PURGED_MAX])
    return {"deleted": deleted, "more": len(found) > PURGED_MAX}


async def _rotate_hardware_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    made = await credentials.rotate_hardware_key(connection, arguments.id)
    return {"id": made.id, "name": made.name, "key": made.key, "revoked": made.revoked}


def _field(text: str) -> CommandField:
    given_name, _, rest = text.partition(":")
    kind, _, required = rest.partition(":")
    try:
        given = {"name": name(given_name), "type": kind, "required": {"": False, "required": True}[required]}
        return msgspec.convert(given, CommandField)
    except (KeyError, msgspec.ValidationError):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:TYPE or NAME:TYPE:required") from None
