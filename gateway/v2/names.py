"""Names of things in the /v2 API, such as `projects/<id>/devices/<id>`, and filters by label."""

from uuid import UUID

from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.devices import project_view
from gateway.stores.devices.project_view import ProjectDevice
from schemas import ids
from schemas.ids import uuid_of

DEVICE_UNKNOWN = "Device not found"


def id_of(kind: str, name: str) -> UUID | None:
    """The id of `<kind>/<id>`, or of an id alone; None for anything else."""
    return uuid_of(name.removeprefix(f"{kind}/"))


def device_of(name: str) -> tuple[UUID, UUID] | None:
    """Project and device of `projects/<id>/devices/<id>`; None for anything else."""
    place, _, device = name.rpartition("/devices/")
    project_id, device_id = id_of("projects", place), ids.device_of_name(device)
    return None if project_id is None or device_id is None else (project_id, device_id)


async def device_in(
    services: Services, name: str, project_id: UUID | None = None, *, emulated: bool = False
) -> ProjectDevice:
    """The device of this name, in any project or in this one. Raises NotFound."""
    device_id = ids.device_of_name(name)
    found = device_id and await project_view.read(services.postgres, device_id, emulated=emulated)
    if not found or project_id not in (None, found.project_id):
        raise NotFound(DEVICE_UNKNOWN)
    return found


def label_filter(text: str) -> tuple[str, str | None]:
    """`key=value`, or `key` (also `key=`) for any value."""
    key, _, value = text.partition("=")
    return key, value or None
