"""Moving devices into another project, also of another organization: the caller administers both sides."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.scopes import ProjectScope
from gateway.permissions import Permission
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.change import change_over
from gateway.stores.devices import moving, project_view
from gateway.stores.tenants import spaces
from gateway.v2.labels import DeviceError, invalid, not_found
from gateway.v2.names import device_of
from schemas import rendering
from schemas.postgres import Connection

DEVICES_MAX = 1_000


class Transfer(Struct):
    """Which devices, as `projects/<id>/devices/<id>` of where they are."""

    devices: Annotated[list[str], Meta(min_length=1, max_length=DEVICES_MAX)]


class Transferred(Struct, rename="camel"):
    """The devices by their new names, and those that stay where they were."""

    transferred_devices: list[str]
    transfer_errors: list[DeviceError]


@endpoint(
    "POST",
    "/v2/projects/{project}/devices:transfer",
    caller=SERVICE_ACCOUNT,
    permission=Permission.ADMINISTER,
    errors={403: "The caller does not administer a project that devices come from."},
)
async def transfer_devices(services: Services, project: ProjectScope, body: Transfer) -> Transferred:
    """Move devices into this project's space `Unsorted`; devices below them that share their space come along."""
    places = {name: device_of(name) for name in body.devices}
    sources = {place[0] for place in places.values() if place is not None} - {project.id}
    visible = {source for source in sources if await _administers(services, project, source)}
    done: list[str] = []
    errors: list[DeviceError] = []
    moved: set[UUID] = set()
    async with services.postgres.acquire() as connection:
        for name, place in places.items():
            if place is not None and place[1] in moved:
                done.append(rendering.device_path(project.id, place[1]))
                continue
            if place is not None and place[0] == project.id:
                errors.append(invalid(name, "Device is in this project already"))
                continue
            came = await _move(services, connection, project, *place) if place and place[0] in visible else None
            if place is None or came is None:
                errors.append(not_found(name))
                continue
            moved.update(came)
            done.append(rendering.device_path(project.id, place[1]))
    return Transferred(done, errors)


async def _administers(services: Services, project: ProjectScope, source: UUID) -> bool:
    """Whether the caller sees that project at all. Raises NotPermitted where its role there is not enough."""
    try:
        await ProjectScope.of(services, project.principal, source, Permission.ADMINISTER)
    except NotFound:
        return False
    return True


async def _move(
    services: Services, connection: Connection, target: ProjectScope, source: UUID, device_id: UUID
) -> list[UUID] | None:
    """Move one device; returns it and what came along, None when it is not in that project."""
    owner_id = await project_view.owner_of(connection, source, device_id)
    if owner_id is None:
        return None
    try:
        async with change_over(services, connection) as changed:
            moved = await moving.move(
                changed,
                owner_id,
                device_id,
                await spaces.unsorted(connection, target.organization_id, target.id),
                to_organization_id=target.organization_id,
                from_project_id=source,
            )
        return moved.device_ids
    except NotFound:
        return None


ENDPOINTS: tuple[Endpoint, ...] = (transfer_devices,)
