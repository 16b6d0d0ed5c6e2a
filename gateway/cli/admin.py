"""`fleetgate admin`: tenants, models and keys from the command line, for whoever runs the gateway.

It works on the database directly, so it needs no key: it is how the first key comes into being. Without settings that
is the database of `fleetgate up`. It prints tables for people and, with `--json`, the same for programs. What is
refused is one sentence on stderr and exit code 1; wrong usage is exit code 2.
"""

import argparse
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from gateway.cli.servers import ServersError, connect, find
from gateway.refusals import DoesNotFit, NotFound, Refusal
from gateway.stores import models
from gateway.stores.accounts import credentials, sealed_secrets, service_accounts
from gateway.stores.commands import definitions
from gateway.stores.commands.definitions import DEFAULT_TIMEOUT_S, CommandField
from gateway.stores.connectors import cloud_connectors
from gateway.stores.models import DEFAULT_OFFLINE_THRESHOLD_S
from gateway.stores.tenants import organizations, projects
from gateway.v2.members import ORGANIZATION_ROLES, PROJECT_ROLES
from gateway.v2.service_accounts import email_of
from schemas import postgres
from schemas.postgres import Connection
from schemas.replies import DEFAULT_RATE_LIMIT
from schemas.secrets import SecretError, derived_secret
from schemas.settings import SettingsError

NAME_CHARACTERS_MAX = 255
LISTED_MAX = 1_000
FIELD_TYPES = ("string", "integer", "number", "boolean")
REFUSED, WRONG_USAGE = 1, 2

Action = Callable[[Connection, argparse.Namespace], Awaitable[Any]]
"""What a subcommand does; it returns the rows, or the one thing, to print."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `admin` and all below it to the program's subcommands."""
    admin = subparsers.add_parser("admin", help="tenants, models, keys, accounts, connectors: create, list, revoke")
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

    verbs = _thing(things, "service-accounts", "who calls the /v2 API")
    create = _verb(verbs, "create", "a new account with a role and a key, shown once", _create_account, "--project")
    create.add_argument("name", type=_label)
    create.add_argument("--role", choices=(*PROJECT_ROLES, *ORGANIZATION_ROLES), default=PROJECT_ROLES[0])
    create.add_argument("--basic-auth", action="store_true", help="its key may be used without a token")
    _verb(verbs, "list", "the accounts of a project", _list_accounts, "--project")
    _verb(verbs, "rotate", "a new key in place of all that an account has", _rotate_account).add_argument("id")
    _verb(verbs, "delete", "end an account and its keys", _delete_account).add_argument("id")

    verbs = _thing(things, "secrets", "what is encrypted at rest: vendors' credentials, secrets of webhooks")
    _verb(verbs, "rotate", "encrypt all anew with FLEETGATE_SECRETS_KEY", _rotate_secrets)

    verbs = _thing(things, "connectors", "cloud connectors: lists of devices that are imported")
    _verb(verbs, "list", "the connectors of an organization", _list_cloud_connectors, "--organization")
    for name, text, action in (
        ("show", "one connector with its counts", _show_connector),
        ("runs", "its last runs", _list_runs),
        ("sync", "run it now", _sync_connector),
        ("confirm", "apply the list that is held", _confirm_connector),
        ("disable", "stop it", _disable_connector),
        ("enable", "go on", _enable_connector),
    ):
        _verb(verbs, name, text, action).add_argument("id")
    delete = _verb(verbs, "delete", "delete it and all its devices, which cannot be undone", _delete_connector)
    delete.add_argument("id")
    delete.add_argument("--name", required=True, help="its name, as proof that it is meant")
    verbs.add_parser("check", help="read a list by a manifest and show the first devices", add_help=False)


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


async def _create_account(connection: Connection, arguments: argparse.Namespace) -> Any:
    organization_id = await service_accounts.organization_of_project(connection, arguments.project)
    if organization_id is None:
        raise NotFound(projects.UNKNOWN)
    made = await service_accounts.create(
        connection, arguments.project, arguments.name, basic_auth_enabled=arguments.basic_auth
    )
    whole = arguments.role in ORGANIZATION_ROLES
    await service_accounts.add_member(
        connection,
        organization_id,
        None if whole else arguments.project,
        arguments.role,
        service_account_id=made.id,
    )
    return await _account_key(connection, made.id, arguments.project)


async def _account_key(connection: Connection, account_id: str, project_id: UUID) -> dict[str, Any]:
    key_id, _ = await service_accounts.create_key(connection, account_id)
    secret = derived_secret(find().master_key, key_id)
    return {"id": account_id, "email": email_of(account_id, project_id), "key_id": key_id, "key": secret}


async def _list_accounts(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await service_accounts.listed(connection, arguments.project, "", LISTED_MAX)
    return [
        {"id": one.id, "name": one.display_name, "email": email_of(one.id, arguments.project)}
        | {"keys": " ".join(key_id for key_id, _ in await service_accounts.keys(connection, one.id))}
        for one in found
    ]


async def _rotate_account(connection: Connection, arguments: argparse.Namespace) -> Any:
    project_id = await _home(connection, arguments.id)
    for key_id, _ in await service_accounts.keys(connection, arguments.id):
        await service_accounts.delete_key(connection, arguments.id, key_id)
    return await _account_key(connection, arguments.id, project_id)


async def _home(connection: Connection, account_id: str) -> UUID:
    """The project of an account that there is. Raises NotFound."""
    project_id = await service_accounts.home(connection, account_id)
    await service_accounts.read(connection, project_id, account_id)
    return project_id


async def _delete_account(connection: Connection, arguments: argparse.Namespace) -> Any:
    await _home(connection, arguments.id)
    await service_accounts.delete(connection, arguments.id)
    return {"deleted": arguments.id}


async def _rotate_secrets(connection: Connection, _: argparse.Namespace) -> Any:
    try:
        return await sealed_secrets.seal_anew(connection, find())
    except SecretError as error:
        raise DoesNotFit(f"{error}: set FLEETGATE_SECRETS_KEY_PREVIOUS to that key") from None


async def _list_cloud_connectors(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    found = await cloud_connectors.page(connection, arguments.organization, after=None, offset=0, limit=LISTED_MAX)
    columns = ("id", "name", "provider", "status", "active_devices", "excluded_devices", "next_sync_at", "error")
    return [{name: getattr(one, name) for name in columns} for one in found]


async def _held_connector(connection: Connection, connector_id: str) -> cloud_connectors.CloudConnector:
    owner = await cloud_connectors.organization_of(connection, connector_id)
    return await cloud_connectors.hold(connection, owner, connector_id)


async def _show_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await _held_connector(connection, arguments.id)


async def _list_runs(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    rows = await cloud_connectors.runs(connection, found.id, after=None, offset=0, limit=LISTED_MAX)
    return [{name: getattr(row, name) for name in row.__struct_fields__ if name != "details"} for row in rows]


async def _sync_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    cloud_connectors.check_runnable(found)
    await cloud_connectors.sync(connection, found.id)
    return {"due": found.id}


async def _confirm_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    return {"excluded": await cloud_connectors.confirm(connection, found)}


async def _disable_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    await cloud_connectors.disable(connection, found.id)
    return {"disabled": found.id}


async def _enable_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await _held_connector(connection, arguments.id)
    await cloud_connectors.enable(connection, found.id)
    return {"enabled": found.id}


async def _delete_connector(connection: Connection, arguments: argparse.Namespace) -> Any:
    owner = await cloud_connectors.organization_of(connection, arguments.id)
    count = await cloud_connectors.delete(connection, owner, arguments.id, arguments.name, datetime.now(UTC))
    return {"deleted_devices": count}


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
