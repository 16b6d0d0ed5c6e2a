"""The config of a device: edited as JSON under its version, beside what the device runs."""

import difflib
import json
from typing import Any
from uuid import UUID

from starlette.responses import Response

from gateway.api.scopes import FleetScope
from gateway.api.validation import CONFIG_BYTES_MAX
from gateway.organization import configs
from gateway.organization.configs import ConfigChange
from gateway.permissions import Permission
from gateway.portal.device.shared import PATH, shown
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services


@page("GET", f"{PATH}/config", permission=Permission.READ)
async def read_config(services: Services, fleet: FleetScope, device_id: UUID, form: Form) -> View:
    """The config of a device."""
    organization = await fleet.over(services, device_id)
    config = await configs.read_config(services, organization, device_id)
    applied = config.applied_config
    values = {
        "form": form,
        "config": config,
        "overtaken": form.typed and form.value("version") != str(config.version),
        "difference": None if applied is None else difference(applied, config.config),
    }
    return await shown(services, organization, device_id, "config", values)


@page(
    "POST",
    f"{PATH}/config",
    permission=Permission.DEVELOP,
    shown_by=read_config,
    body_bytes_max=4 * CONFIG_BYTES_MAX,
)
async def put_config(services: Services, fleet: FleetScope, device_id: UUID, body: ConfigChange) -> Response:
    """Set the config."""
    organization = await fleet.over(services, device_id)
    stored = await configs.put_config(services, organization, device_id, body)
    said = f"Version {stored.version} is set, and waits for the device"
    return redirect(services, "/devices", device_id, "config", said=said)


def difference(before: Any, after: Any) -> list[tuple[str, str]]:
    """What changes between two configs, line by line: each with " ", "-" or "+"."""
    old, new = (json.dumps(one, ensure_ascii=False, indent=2, sort_keys=True).splitlines() for one in (before, after))
    found = difflib.unified_diff(old, new, lineterm="")
    return [(line[0], line[1:]) for line in found if not line.startswith(("---", "+++"))]


PAGES = (read_config, put_config)
