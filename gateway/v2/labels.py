"""Labels of many devices at once. The keys `name` and `description` are what a device is called and described as."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.scopes import ProjectScope
from gateway.api.validation import Label, Name
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import labels as device_labels
from gateway.stores.devices.labels import LABELS_MAX, LabelledDevice
from gateway.v2.names import DEVICE_UNKNOWN, device_of

DEVICES_MAX = 1_000

DeviceNames = Annotated[list[str], Meta(min_length=1, max_length=DEVICES_MAX)]
Labels = Annotated[dict[Name, Label], Meta(max_length=LABELS_MAX)]


class LabelUpdate(Struct, rename="camel", kw_only=True):
    """Which devices get and lose which labels."""

    devices: DeviceNames
    add_labels: Labels | None = None
    remove_labels: Annotated[list[Name], Meta(max_length=LABELS_MAX)] | None = None


class Status(Struct):
    """Why something was not done: NOT_FOUND or INVALID_ARGUMENT, and a sentence."""

    code: str
    message: str


class DeviceError(Struct):
    """A device for which it was not done."""

    device: str
    status: Status


class LabelErrors(Struct, rename="camel"):
    """The devices whose labels stay as they were."""

    batch_errors: list[DeviceError]


def not_found(name: str) -> DeviceError:
    """A device that is not where its name says."""
    return DeviceError(name, Status("NOT_FOUND", DEVICE_UNKNOWN))


def invalid(name: str, message: str) -> DeviceError:
    """A device of which something impossible was asked."""
    return DeviceError(name, Status("INVALID_ARGUMENT", message))


def updated(labels: dict[str, str], body: LabelUpdate) -> dict[str, str]:
    """A device's labels after the update."""
    after = {key: value for key, value in labels.items() if key not in (body.remove_labels or ())}
    after |= body.add_labels or {}
    return {key: value for key, value in after.items() if value or key not in ("name", "description")}


@endpoint("POST", "/v2/projects/{project}/devices:batchUpdate", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP)
async def update_labels(services: Services, project: ProjectScope, body: LabelUpdate) -> LabelErrors:
    """Add, change and remove labels; devices that it cannot be done for are named, all others are changed."""
    if not body.add_labels and not body.remove_labels:
        raise DoesNotFit("One of addLabels and removeLabels is required")
    if both := set(body.add_labels or ()) & set(body.remove_labels or ()):
        raise DoesNotFit(f"Label {min(both)} cannot be added and removed at once")
    names = {name: device_of(name) for name in body.devices}
    wanted = [place[1] for place in names.values() if place is not None and place[0] == project.id]
    errors: list[DeviceError] = []
    async with change(services) as changed:
        locked = await device_labels.lock(changed.connection, project.id, wanted)
        for name, place in names.items():
            device = _of(locked, place, project.id)
            if device is None:
                errors.append(not_found(name))
                continue
            labels = updated(device.labels, body)
            if len(labels.keys() - {"name", "description"}) > LABELS_MAX:
                errors.append(invalid(name, f"A device has at most {LABELS_MAX} labels"))
            else:
                await device_labels.store(changed, device, labels)
    return LabelErrors(errors)


def _of(locked: dict[UUID, LabelledDevice], place: tuple[UUID, UUID] | None, project_id: UUID) -> LabelledDevice | None:
    return None if place is None or place[0] != project_id else locked.get(place[1])


ENDPOINTS: tuple[Endpoint, ...] = (update_labels,)
