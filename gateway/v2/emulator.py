"""The emulator: devices without hardware, and events published for them. Its base is `/emulator/v2`.

An event that is published takes the way of all others: into history, streams, what the device reported, and to every
data connector.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_tokens import PageQuery
from gateway.api.scopes import ProjectScope
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import deletion, emulation, locking, project_view
from gateway.stores.devices import labels as device_labels
from gateway.stores.devices.project_view import Filters, Order
from gateway.v2.devices import Devices, DevicesQuery, V2Device, read_page, shown
from gateway.v2.labels import Labels, as_stored, too_many
from gateway.v2.names import DEVICE_UNKNOWN, device_in
from schemas import ids, typed_events
from schemas.events import EventType
from schemas.typed_events import DEVICE_TYPES, EventError

BODY_BYTES_MAX = 128 * 1024
DEVICES = "/emulator/v2/projects/{project}/devices"
OneEvent = Annotated[dict[str, Any], Meta(examples=[{"temperature": {"value": 4.5}}])]
UNKNOWN = {404: "There is no such emulated device in the project."}

TypeName = Annotated[str, Meta(description=", ".join(DEVICE_TYPES))]


class NewDevice(Struct, kw_only=True):
    """An emulated device: its type, and its labels, `name` and `description` among them."""

    type: TypeName
    labels: Labels = {}
    name: Literal[""] = ""
    """Clients send the whole device; what it is called is for the gateway to say."""


class EmulatedDeviceChange(Struct, kw_only=True):
    """The labels from now on, all of them; the type stays what it is."""

    type: TypeName | None = None
    labels: Labels = {}


@endpoint("GET", DEVICES, caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_emulated_devices(services: Services, project: ProjectScope, query: PageQuery) -> Devices:
    """List the emulated devices of a project."""
    page = DevicesQuery(page_size=query.page_size, page_token=query.page_token)
    return await read_page(services, [project.id], page, Filters(emulated=True), Order())


@endpoint(
    "POST",
    DEVICES,
    caller=SERVICE_ACCOUNT,
    permission=Permission.DEVELOP,
    errors={409: "The project has too many emulated devices."},
)
async def create_emulated_device(services: Services, project: ProjectScope, body: NewDevice) -> V2Device:
    """Create an emulated device."""
    if body.type not in DEVICE_TYPES:
        raise DoesNotFit(f"Type must be one of {', '.join(DEVICE_TYPES)}")
    async with change(services) as changed:
        device_id = await emulation.create(
            changed,
            project.organization_id,
            project.id,
            body.type,
            as_stored(body.labels),
            services.shards,
        )
    return shown(await device_in(services, ids.device_name(device_id), project.id, emulated=True), {})


@endpoint("GET", DEVICES + "/{device}", caller=SERVICE_ACCOUNT, permission=Permission.READ, errors=UNKNOWN)
async def read_emulated_device(services: Services, project: ProjectScope, device: str) -> V2Device:
    """Read one emulated device."""
    return await _read(services, project, device)


@endpoint("PUT", DEVICES + "/{device}", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors=UNKNOWN)
async def replace_emulated_device(
    services: Services, project: ProjectScope, device: str, body: EmulatedDeviceChange
) -> V2Device:
    """Give an emulated device other labels, and no others than these."""
    found = await device_in(services, device, project.id, emulated=True)
    if body.type not in (None, found.device_type):
        raise DoesNotFit(f"Type: a device stays what it is, {found.device_type}")
    async with change(services) as changed:
        locked = (await device_labels.lock(changed.connection, project.id, [found.id])).get(found.id)
        if locked is None:
            raise NotFound(DEVICE_UNKNOWN)
        if wrong := too_many(body.labels):
            raise DoesNotFit(wrong)
        await device_labels.store(changed, locked, as_stored(body.labels))
    return await _read(services, project, device)


@endpoint("DELETE", DEVICES + "/{device}", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors=UNKNOWN)
async def delete_emulated_device(services: Services, project: ProjectScope, device: str) -> dict[str, Any]:
    """Delete an emulated device; its history stays."""
    found = await device_in(services, device, project.id, emulated=True)
    async with change(services) as changed:
        locked = await locking.lock_with_all_below(changed.connection, project.organization_id, found.id)
        if locked.project_id != project.id:
            raise NotFound(DEVICE_UNKNOWN)
        await deletion.delete(changed, [found.id])
    return {}


@endpoint(
    "POST",
    DEVICES + "/{device}:publish",
    audited=False,
    caller=SERVICE_ACCOUNT,
    permission=Permission.DEVELOP,
    errors=UNKNOWN,
    body_bytes_max=BODY_BYTES_MAX,
)
async def publish_event(services: Services, project: ProjectScope, device: str, body: OneEvent) -> dict[str, Any]:
    """Publish one event for an emulated device, as `{"<eventType>": {…}}`; the type must fit the device."""
    event_type, data = _only(body)
    device_id = ids.device_of_name(device)
    if device_id is None:
        raise NotFound(DEVICE_UNKNOWN)
    async with change(services) as changed:
        emulated = await emulation.lock(changed.connection, project.id, device_id)
        if emulated is None:
            raise NotFound(DEVICE_UNKNOWN)
        if not typed_events.fits(emulated.device_type, event_type):
            raise DoesNotFit(f"A device of type {emulated.device_type} emits no {event_type} events")
        try:
            made = typed_events.read(event_type, data, changed.moment)
        except EventError as error:
            raise DoesNotFit(str(error)) from None
        emulation.publish(changed, emulated, event_type, made)
    return {}


async def _read(services: Services, project: ProjectScope, device: str) -> V2Device:
    found = await device_in(services, device, project.id, emulated=True)
    return shown(found, (await project_view.reported(services.postgres, services.shards, [found.id]))[found.id])


def _only(body: dict[str, Any]) -> tuple[EventType, dict[str, Any]]:
    """The one event of a body. Raises DoesNotFit."""
    if len(body) != 1:
        raise DoesNotFit("Body must have one member, named as the event's type")
    [(name, data)] = body.items()
    if name not in typed_events.TYPES:
        raise DoesNotFit(f"Member {name[:64]} is no type of event that can be published")
    if not isinstance(data, dict):
        raise DoesNotFit(f"{name} must be an object")
    return EventType(name), data


ENDPOINTS: tuple[Endpoint, ...] = (
    list_emulated_devices,
    create_emulated_device,
    publish_event,
    read_emulated_device,
    replace_emulated_device,
    delete_emulated_device,
)
