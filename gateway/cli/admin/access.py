"""`fleetgate admin api-keys`, `service-accounts` and `secrets`: who may call, and what is encrypted at rest."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from gateway.cli.admin.parsing import LISTED_MAX, Things, between, label, name, thing, verb
from gateway.cli.servers import find
from gateway.permissions import KEY_ROLES, MEMBER_ROLES, ORGANIZATION_ROLES
from gateway.refusals import DoesNotFit, NotFound
from gateway.stores.accounts import credentials, members, sealed_secrets, service_accounts
from gateway.stores.accounts.credentials import LIFE_MAX
from gateway.stores.accounts.service_accounts import email_of
from gateway.stores.tenants import organizations, projects
from schemas import postgres
from schemas.master_keys import MasterKeys
from schemas.postgres import Connection
from schemas.secrets import SecretError

NEWEST_LACKING = "FLEETGATE_MASTER_KEYS_MORE lacks the newest master key"


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "api-keys", "what owners and vendors call the API with")
    create = verb(verbs, "create", "a new key, shown once", _create_api_key, "--organization")
    create.add_argument("--kind", choices=tuple(KEY_ROLES), default="organization")
    roles = [role for of_kind in KEY_ROLES.values() for role in of_kind]
    create.add_argument("--role", choices=roles, help="what the key may do; default: all that its kind may")
    create.add_argument("--name", type=name, required=True)
    create.add_argument(
        "--days", type=between(1, LIFE_MAX.days - 1), metavar="N", help="how long the key is good; default: for good"
    )
    verb(verbs, "list", "the keys of an organization", _list_api_keys, "--organization")
    verb(verbs, "revoke", "end a key", _revoke_api_key).add_argument("id", type=UUID)
    verb(verbs, "rotate", "a new key in place of one that ends", _rotate_api_key).add_argument("id", type=UUID)

    verbs = thing(things, "service-accounts", "who calls the /v2 API")
    create = verb(verbs, "create", "a new account with a role and a key, shown once", _create_account, "--project")
    create.add_argument("name", type=label)
    create.add_argument("--role", choices=MEMBER_ROLES, default=MEMBER_ROLES[0])
    create.add_argument("--basic-auth", action="store_true", help="its key may be used without a token")
    verb(verbs, "list", "the accounts of a project", _list_accounts, "--project")
    verb(verbs, "rotate", "a new key in place of all that an account has", _rotate_account).add_argument("id")
    verb(verbs, "delete", "end an account and its keys", _delete_account).add_argument("id")

    verbs = thing(things, "secrets", "what is encrypted at rest: vendors' credentials, secrets of webhooks")
    verb(verbs, "rotate", "encrypt all anew with FLEETGATE_SECRETS_KEY", _rotate_secrets)


async def _create_api_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    expires_at = None if arguments.days is None else datetime.now(UTC) + timedelta(days=arguments.days)
    minted = await credentials.mint_and_store(
        connection,
        arguments.kind,
        owner_id=arguments.organization,
        name=arguments.name,
        role=arguments.role,
        expires_at=expires_at,
    )
    made = await credentials.read_api_key(connection, arguments.organization, minted.id)
    shown = {name: getattr(made, name) for name in ("id", "kind", "role", "name", "expires_at")}
    return shown | {"key": minted.text}


async def _list_api_keys(connection: Connection, arguments: argparse.Namespace) -> Any:
    await organizations.read(connection, arguments.organization)
    return await credentials.api_keys(connection, arguments.organization)


async def _revoke_api_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    organization_id = await credentials.organization_of_api_key(connection, arguments.id)
    await credentials.revoke_api_key(connection, organization_id, arguments.id)
    return {"revoked": arguments.id}


async def _rotate_api_key(connection: Connection, arguments: argparse.Namespace) -> Any:
    return await credentials.rotate_api_key(connection, arguments.id)


async def _create_account(connection: Connection, arguments: argparse.Namespace) -> Any:
    organization_id = await projects.organization_of(connection, arguments.project)
    if organization_id is None:
        raise NotFound(projects.UNKNOWN)
    made = await service_accounts.create(
        connection, arguments.project, arguments.name, basic_auth_enabled=arguments.basic_auth
    )
    whole = arguments.role in ORGANIZATION_ROLES
    await members.add(
        connection,
        organization_id,
        None if whole else arguments.project,
        arguments.role,
        service_account_id=made.id,
    )
    return await _account_key(connection, made.id, arguments.project)


async def _account_key(connection: Connection, account_id: str, project_id: UUID) -> dict[str, Any]:
    key_id = (await service_accounts.create_key(connection, account_id)).id
    found = await postgres.installation(connection)
    master_keys = MasterKeys.fitting(found.generations, find())
    secret = master_keys.secret(await service_accounts.generation(connection, key_id), key_id)
    if secret is None:
        raise DoesNotFit(NEWEST_LACKING)
    return {"id": account_id, "email": email_of(account_id, project_id), "key_id": key_id, "key": secret}


async def _list_accounts(connection: Connection, arguments: argparse.Namespace) -> Any:
    found = await service_accounts.listed(connection, arguments.project, "", LISTED_MAX)
    return [
        {"id": one.id, "name": one.display_name, "email": email_of(one.id, arguments.project)}
        | {"keys": " ".join(key.id for key in await service_accounts.keys(connection, one.id))}
        for one in found
    ]


async def _rotate_account(connection: Connection, arguments: argparse.Namespace) -> Any:
    project_id = await _home(connection, arguments.id)
    for key in await service_accounts.keys(connection, arguments.id):
        await service_accounts.delete_key(connection, arguments.id, key.id)
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
