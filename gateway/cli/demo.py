"""The demo tenant: made once, its keys kept in `demo.json`."""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.cli.device_client import write_secret
from gateway.stores import command_definitions, credentials, models, organizations, projects, spaces
from gateway.stores.command_definitions import CommandField
from schemas import postgres
from schemas.postgres import Connection
from schemas.settings import PREFIX, SettingsError, UpSettings, load

RATE_LIMIT = 6_000
OFFLINE_THRESHOLD_S = 60


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


async def prepare(dsn: str, path: Path, base_url: str) -> None:
    """Write `path` (mode 600) for this base URL; the tenant is made when the file does not tell of one yet."""
    if path.exists():
        demo = Demo.read(path)
    else:
        connection = await postgres.connect(dsn, "demo")
        try:
            async with connection.transaction():
                demo = await _create(connection)
        finally:
            await connection.close()
    demo.base_url = base_url
    write_secret(path, demo)


async def _create(connection: Connection) -> Demo:
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
    return Demo(
        base_url="",
        hardware_key=hardware.text,
        model_id=str(model.id),
        organization_id=str(organization.id),
        organization_key=owner.text,
        partner_key=partner.text,
        project_id=str(project.id),
        space_id=str(space.id),
    )
