"""The demo tenant: made once, its keys kept in `demo.json`."""

import os
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.cli.device_client import write_secret
from gateway.stores import (
    accounts,
    command_definitions,
    credentials,
    data_connectors,
    models,
    organizations,
    projects,
    spaces,
)
from gateway.stores.command_definitions import CommandField
from gateway.v2.service_accounts import email_of
from schemas import postgres
from schemas.postgres import Connection
from schemas.secrets import CONNECTOR_SECRETS, Vault, derived_secret
from schemas.settings import PREFIX, SettingsError, UpSettings, load

RATE_LIMIT = 6_000
OFFLINE_THRESHOLD_S = 60


class DemoAccount(Struct):
    """A service account of the demo, an administrator of its organisation."""

    key_id: str
    secret: str
    email: str


class Demo(Struct):
    """What `demo.json` holds: where the gateway is, and credentials of each kind."""

    base_url: str
    hardware_key: str
    model_id: str
    organization_id: str
    organization_key: str
    partner_key: str
    project_id: str
    space_id: str
    service_account: DemoAccount
    data_connector_id: str
    signature_secret: str
    v2_url: str = ""
    emulator_url: str = ""
    token_url: str = ""

    @classmethod
    def read(cls, path: Path) -> "Demo":
        """Raises SettingsError when nobody made a demo there."""
        if not path.exists():
            raise SettingsError(f"there is no {path}: start `fleetgate up --demo` first, or say which gateway is meant")
        return msgspec.json.decode(path.read_bytes(), type=cls)


def default_path() -> Path:
    """Where `fleetgate up --demo` keeps it."""
    given = {name: value for name, value in os.environ.items() if name == f"{PREFIX}HOME"}
    return Path(load(UpSettings, given).home) / "demo.json"


async def prepare(dsn: str, master_key: str, path: Path, base_url: str, receiver_url: str) -> None:
    """Write `path` (mode 600) for this base URL; the tenant is made when the file does not tell of one yet.

    Its data connector sends to `receiver_url` from now on.

    Beside it lies `credentials.json` for clients of the /v2 API that read their credentials from a file.
    """
    connection = await postgres.connect(dsn, "demo")
    try:
        async with connection.transaction():
            demo = Demo.read(path) if path.exists() else await _create(connection, master_key, receiver_url)
            await data_connectors.redirect(connection, demo.data_connector_id, receiver_url)
    finally:
        await connection.close()
    demo.base_url = base_url
    demo.v2_url, demo.emulator_url = f"{base_url}/v2", f"{base_url}/emulator/v2"
    demo.token_url = f"{base_url}/oauth2/token"
    write_secret(path, demo)
    account = demo.service_account
    credentials = {"keyId": account.key_id, "secret": account.secret, "email": account.email}
    credentials |= {"algorithm": "HS256", "tokenEndpoint": demo.token_url}
    write_secret(path.with_name("credentials.json"), {"serviceAccount": credentials})


async def _create(connection: Connection, master_key: str, receiver_url: str) -> Demo:
    organization = await organizations.create(connection, "Demo")
    project = await projects.create(connection, organization.id, "Demo fleet")
    space = await spaces.find_or_create(connection, organization.id, project.id, ["Headquarters"])
    model = await models.create(
        connection,
        organization.id,
        vendor="Demo",
        name="Demo device",
        rate_limit=RATE_LIMIT,
        offline_threshold_s=OFFLINE_THRESHOLD_S,
    )
    name = CommandField(name="name", type="string", required=True)
    for command, title, fields in (("reboot", "Reboot", []), ("ping", "Ping", []), ("set_name", "Set name", [name])):
        await command_definitions.add(connection, model.id, name=command, friendly_name=title, fields=fields)
    hardware = await credentials.mint_and_store(connection, "hardware", owner_id=model.id, name="demo")
    owner = await credentials.mint_and_store(connection, "organization", owner_id=organization.id, name="demo")
    partner = await credentials.mint_and_store(connection, "partner", owner_id=organization.id, name="demo")
    account = await accounts.create(connection, project.id, "demo", basic_auth_enabled=True)
    await accounts.add_member(connection, organization.id, None, "organization.admin", service_account_id=account.id)
    key_id, _ = await accounts.create_key(connection, account.id)
    connector = data_connectors.new(project.id)
    secret = secrets.token_hex(16)
    connector.display_name, connector.url = "Demo receiver", receiver_url
    connector.secret = Vault(master_key, CONNECTOR_SECRETS).seal(secret.encode(), connector.id)
    await data_connectors.create(connection, connector)
    return Demo(
        base_url="",
        data_connector_id=connector.id,
        signature_secret=secret,
        hardware_key=hardware.text,
        model_id=str(model.id),
        organization_id=str(organization.id),
        organization_key=owner.text,
        partner_key=partner.text,
        project_id=str(project.id),
        space_id=str(space.id),
        service_account=DemoAccount(key_id, derived_secret(master_key, key_id), email_of(account.id, project.id)),
    )
