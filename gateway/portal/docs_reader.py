"""What the reader of the developer centre has: ids of its own, to stand in samples where examples have others."""

from gateway.api.paging import PageQuery
from gateway.api.principals import Principal
from gateway.api.scopes import FleetScope
from gateway.organization import devices, models, projects, spaces
from gateway.organization.devices import DevicesQuery
from gateway.organization.models import ModelsQuery
from gateway.organization.spaces import SpacesQuery
from gateway.permissions import Permission
from gateway.refusals import Refusal
from gateway.services import Services


async def ids_of(services: Services, reader: Principal) -> dict[str, str]:
    """One id of each kind, as paths call them; of a reader who sees only some projects no more than one of these."""
    if reader.organization_id is None:
        return {}
    found = {"organization": str(reader.organization_id)}
    try:
        fleet = FleetScope.of(reader, reader.organization_id, Permission.READ)
    except Refusal:
        return found
    if fleet.project_ids is not None:
        return found | {name: str(fleet.project_ids[0]) for name in ("project", "project_id")}
    whole = fleet.whole()
    lists = {
        "project_id": await projects.list_projects(services, whole, PageQuery(per_page=1)),
        "space_id": await spaces.list_spaces(services, whole, SpacesQuery(per_page=1)),
        "model_id": await models.list_models(services, whole, ModelsQuery(per_page=1)),
        "device_id": await devices.list_devices(services, whole, DevicesQuery(per_page=1)),
    }
    found |= {name: str(page.items[0].id) for name, page in lists.items() if page.items}  # type: ignore[attr-defined]
    aliases = {"project": "project_id", "device": "device_id"}
    return found | {name: found[alias] for name, alias in aliases.items() if alias in found}
