"""Moving devices into another project, also of another organisation: the caller administers both sides."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.scopes import ProjectScope
from gateway.permissions import Permission
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.devices import owner_changes, project_view
from gateway.stores.replies import publish
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
    moved: list[UUID] = []
    async with services.postgres.acquire() as connection:
        for name, place in places.items():
            if place is not None and place[1] in moved:
                done.append(rendering.device_path(project.id, place[1]))
                continue
            if place is not None and place[0] == project.id:
                errors.append(invalid(name, "Device is in this project already"))
                continue
            async with connection.transaction():
                came = await _move(services, connection, project, *place) if place and place[0] in visible else None
            if place is None or came is None:
                errors.append(not_found(name))
                continue
            moved += came
            done.append(rendering.device_path(project.id, place[1]))
        await publish(services, connection, moved)
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
    """Move one device, in a transaction; returns it and what came along, None when it is not in that project."""
    owner = await project_view.owner_of(connection, source, device_id)
    if owner is None:
        return None
    # The space is locked before the device, as by whoever changes a space and tells the devices in it.
    space = await spaces.find_or_create(connection, target.organization_id, target.id, [spaces.UNSORTED])
    await owner_changes.space_project(connection, target.organization_id, space.id)
    try:
        held = await owner_changes.hold(connection, owner, device_id)
    except NotFound:
        return None
    if held.project_id != source:
        return None
    return await owner_changes.move(
        connection,
        held,
        owner,
        target.id,
        space.id,
        services.clock(),
        to_organization_id=target.organization_id,
    )


ENDPOINTS: tuple[Endpoint, ...] = (transfer_devices,)
