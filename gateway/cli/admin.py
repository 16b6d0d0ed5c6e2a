"""`fleetgate admin`: tenants, models and keys from the command line, for whoever runs the gateway.

It works on the database directly, so it needs no key: it is how the first key comes into being. Without settings that
is the database of `fleetgate up`. It prints tables for people and, with `--json`, the same for programs. What is
refused is one sentence on stderr and exit code 1; wrong usage is exit code 2.
"""

import argparse
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec

from gateway.cli.servers import ServersError, connect, find
from gateway.errors import Refusal
from gateway.stores import command_definitions, credentials, models, organizations, projects
from gateway.stores.command_definitions import DEFAULT_TIMEOUT_S, CommandField
from gateway.stores.models import DEFAULT_OFFLINE_THRESHOLD_S
from schemas import postgres
from schemas.postgres import Connection
from schemas.replies import DEFAULT_RATE_LIMIT
from schemas.settings import SettingsError

NAME_CHARACTERS_MAX = 255
FIELD_TYPES = ("string", "integer", "number", "boolean")
REFUSED, WRONG_USAGE = 1, 2

Action = Callable[[Connection, argparse.Namespace], Awaitable[Any]]
"""What a subcommand does; it returns the rows, or the one thing, to print."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `admin` and all below it to the program's subcommands."""
    admin = subparsers.add_parser("admin", help="create, list, revoke: organizations, projects, models, keys")
    admin.set_defaults(run=run)
    things = admin.add_subparsers(title="things", metavar="THING", required=True)

    verbs = _thing(things, "organizations", "the tenants")
    create = _verb(verbs, "create", "a new organization", _create_organization)
    create.add_argument("name", type=_name)
    create.add_argument(
        "--short-code", type=_name, help="2 to 8 letters and digits that open its Cloud IDs (default: random)"
    )
    _verb(verbs, "list", "all organizations", _list_organizations)

    verbs = _thing(things, "projects", "what spaces and devices are grouped in")
    create = _verb(verbs, "create", "a new project", _create_project, "--organization")
    create.add_argument("name", type=_name)
    _verb(verbs, "list", "the projects of an organization", _list_projects, "--organization")

    verbs = _thing(things, "models", "device models and their commands")
    create = _verb(verbs, "create", "a new device model", _create_model, "--organization")
    create.add_argument("vendor", type=_name)
    create.add_argument("name", type=_name)
    create.add_argument("--authentication", choices=("mac_sn", "cloud_id"), default="mac_sn", help="how it is claimed")
    create.add_argument(
        "--offline-threshold-s", type=_between(10, 2_592_000), default=DEFAULT_OFFLINE_THRESHOLD_S, metavar="SECONDS"
    )
    create.add_argument(
        "--rate-limit", type=_between(1, 1_000_000), default=DEFAULT_RATE_LIMIT, metavar="CALLS", help="in 30 s"
    )
    _verb(verbs, "list", "the models of an organization", _list_models, "--organization")

    verbs = _thing(verbs, "commands", "the commands that a model's devices understand")
    add = _verb(verbs, "add", "define a command", _add_command, "--model")
    add.add_argument("name", type=_name)
    add.add_argument("--friendly-name", type=_label, default="")
    add.add_argument("--description", type=_label, default="")
    add.add_argument("--timeout-s", type=_between(1, 2_592_000), default=DEFAULT_TIMEOUT_S, metavar="SECONDS")
    add.add_argument(
        "--field", dest="fields", type=_field, action="append", default=[], metavar="NAME:TYPE[:required]",
        help=f"a parameter, may be repeated; TYPE is one of {', '.join(FIELD_TYPES)}",
    )  # fmt: skip
    _verb(verbs, "list", "the commands of a model", _list_commands, "--model")

    verbs = _thing(things, "hardware-keys", "what devices of a model register with")
    create = _verb(verbs, "create", "a new key, shown once", _create_hardware_key, "--model")
    create.add_argument("--name", type=_label, default="")
    _verb(verbs, "list", "the keys of a model with their use", _list_hardware_keys, "--model")
    _verb(verbs, "revoke", "end a key", _revoke_hardware_key).add_argument("id", type=UUID)
    _verb(verbs, "rotate", "a new key in place of one that ends", _rotate_hardware_key).add_argument("id", type=UUID)

    verbs = _thing(things, "api-keys", "what owners and vendors call the API with")
    create = _verb(verbs, "create", "a new key, shown once", _create_api_key, "--organization")
    create.add_argument("--kind", choices=("organization", "partner"), default="organization")
    create.add_argument("--name", type=_name, required=True)
    _verb(verbs, "list", "the keys of an organization", _list_api_keys, "--organization")
    _verb(verbs, "revoke", "end a key", _revoke_api_key).add_argument("id", type=UUID)
    _verb(verbs, "rotate", "a new key in place of one that ends", _rotate_api_key).add_argument("id", type=UUID)


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
        finally:
            await connection.close()
    except (Refusal, SettingsError, ServersError) as error:
        return _complain(str(error), REFUSED)
    except postgres.AWAY as error:
        return _complain(f"Postgres is not available: {error}", REFUSED)
    _print(result, as_json=arguments.json)
    return 0


async def _create_organization(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await organizations.create(connection, arguments.name, arguments.short_code)


async def _list_organizations(connection: Connection, _: argparse.Namespace) -> Any:
    return await organizations.listed(connection)


async def _create_project(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await projects.create(connection, arguments.organization, arguments.name)


async def _list_projects(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    return await projects.listed(connection, arguments.organization)


async def _create_model(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await models.create(
        connection,
        arguments.organization,
        vendor=arguments.vendor,
        name=arguments.name,
        authentication=arguments.authentication,
        offline_threshold_s=arguments.offline_threshold_s,
        rate_limit=arguments.rate_limit,
    )


async def _list_models(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    return await models.listed(connection, arguments.organization)


async def _add_command(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await command_definitions.add(
        connection,
        arguments.model,
        name=arguments.name,
        friendly_name=arguments.friendly_name,
        description=arguments.description,
        timeout_s=arguments.timeout_s,
        fields=arguments.fields,
    )


async def _list_commands(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await command_definitions.listed(connection, arguments.model)


async def _create_hardware_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    minted = await credentials.mint_and_store(connection, "hardware", owner_id=arguments.model, name=arguments.name)
    return {"id": minted.id, "name": arguments.name, "key": minted.text}


async def _list_hardware_keys(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await credentials.hardware_keys(connection, arguments.model)


async def _revoke_hardware_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    model_id = await credentials.model_of_hardware_key(connection, arguments.id)
    await credentials.revoke_hardware_key(connection, model_id, arguments.id)
    return {"revoked": arguments.id}


async def _rotate_hardware_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    model_id = await credentials.model_of_hardware_key(connection, arguments.id)
    name = await credentials.revoke_hardware_key(connection, model_id, arguments.id)
    minted = await credentials.mint_and_store(connection, "hardware", owner_id=model_id, name=name)
    return {"id": minted.id, "name": name, "key": minted.text, "revoked": arguments.id}


async def _create_api_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    minted = await credentials.mint_and_store(
        connection, arguments.kind, owner_id=arguments.organization, name=arguments.name
    )
    return {"id": minted.id, "kind": arguments.kind, "name": arguments.name, "key": minted.text}


async def _list_api_keys(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    return await credentials.api_keys(connection, arguments.organization)


async def _revoke_api_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    organization_id = await credentials.organization_of_api_key(connection, arguments.id)
    await credentials.revoke_api_key(connection, organization_id, arguments.id)
    return {"revoked": arguments.id}


async def _rotate_api_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    organization_id = await credentials.organization_of_api_key(connection, arguments.id)
    was = await credentials.read_api_key(connection, organization_id, arguments.id)
    await credentials.revoke_api_key(connection, organization_id, arguments.id)
    minted = await credentials.mint_and_store(connection, was.kind, owner_id=organization_id, name=was.name)
    return {"id": minted.id, "kind": was.kind, "name": was.name, "key": minted.text, "revoked": arguments.id}


def _thing(parsers: Any, name: str, text: str) -> Any:
    parser = parsers.add_parser(name, help=text, description=text)
    return parser.add_subparsers(title="actions", metavar="ACTION", required=True)


def _verb(parsers: Any, name: str, text: str, action: Action, *owners: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = parsers.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    for owner in owners:
        parser.add_argument(owner, type=UUID, required=True, metavar="ID")
    parser.set_defaults(action=action)
    return parser


def _name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(f"it must have 1 to {NAME_CHARACTERS_MAX} characters")
    return _label(text)


def _label(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("it is not valid UTF-8") from None
    if len(text) > NAME_CHARACTERS_MAX:
        raise argparse.ArgumentTypeError(f"it must have at most {NAME_CHARACTERS_MAX} characters")
    return text


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number


def _field(text: str) -> CommandField:
    name, _, rest = text.partition(":")
    kind, _, required = rest.partition(":")
    try:
        given = {"name": _name(name), "type": kind, "required": {"": False, "required": True}[required]}
        return msgspec.convert(given, CommandField)
    except (KeyError, msgspec.ValidationError):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:TYPE or NAME:TYPE:required") from None


def _complain(text: str, code: int) -> int:
    print(f"fleetgate admin: {text}", file=sys.stderr)
    return code


def _print(result: Any, *, as_json: bool) -> None:
    """Print one thing as lines of `name value`, several as a table."""
    plain = msgspec.to_builtins(result)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(plain)).decode())
    elif isinstance(plain, dict):
        width = max(map(len, plain))
        for name, value in plain.items():
            print(f"{name:{width}}  {_cell(value)}")
        if "key" in plain:
            print("The key is shown this once: keep it.", file=sys.stderr)
    elif plain:
        rows = [[*plain[0]], *([_cell(value) for value in row.values()] for row in plain)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    else:
        print("None yet.")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(f"{one['name']}:{one['type']}{':required' * one['required']}" for one in value)
    return "-" if value is None or value == "" else str(value)
