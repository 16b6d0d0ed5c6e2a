"""The demo tenant: made once, its keys kept in `demo.json`."""

import json
import os
from pathlib import Path
from typing import Any

from gateway.stores import command_definitions, credentials, models, organizations, projects, spaces
from gateway.stores.command_definitions import CommandField
from schemas import postgres
from schemas.postgres import Connection

RATE_LIMIT = 6_000
OFFLINE_THRESHOLD_S = 60


async def prepare(dsn: str, path: Path, base_url: str) -> dict[str, Any]:
    """Write `path` (mode 600) for this base URL; the tenant is made when the file does not tell of one yet."""
    demo: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if not demo:
        connection = await postgres.connect(dsn, "demo")
        try:
            async with connection.transaction():
                demo = await _create(connection)
        finally:
            await connection.close()
    demo["base_url"] = base_url
    draft = path.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(demo, indent=2) + "\n")
    os.replace(draft, path)
    return demo


async def _create(connection: Connection) -> dict[str, Any]:
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
    return {
        "hardware_key": hardware.text,
        "model_id": str(model.id),
        "organization_id": str(organization.id),
        "organization_key": owner.text,
        "partner_key": partner.text,
        "project_id": str(project.id),
        "space_id": str(space.id),
    }
