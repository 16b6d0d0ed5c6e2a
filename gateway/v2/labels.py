"""Labels of devices, of many at once or one by one.

The keys `name` and `description` are what a device is called and described as.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_tokens import PageQuery
from gateway.api.scopes import ProjectScope
from gateway.api.validation import NAME_CHARACTERS_MAX, Label, Name
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import labels as device_labels
from gateway.stores.devices.labels import LABELS_MAX, LabelledDevice
from gateway.stores.devices.project_view import ProjectDevice
from gateway.v2 import update_masks
from gateway.v2.names import DEVICE_UNKNOWN, device_in, device_of
from gateway.v2.update_masks import UpdateQuery
from schemas import rendering

DEVICES_MAX = 1_000
LABELS = "/v2/projects/{project}/devices/{device}/labels"
LABEL_UNKNOWN = "The device has no such label"
DEVICE_ERRORS = {404: "Device not found."}
LABEL_ERRORS = {404: "Device not found, or it has no such label."}

NAMED = frozenset({"name", "description"})
"""Labels that are what a device is called and described as."""

DeviceNames = Annotated[list[str], Meta(min_length=1, max_length=DEVICES_MAX)]
Labels = Annotated[dict[Name, Label], Meta(max_length=LABELS_MAX)]


class LabelSets(Struct, rename="camel", kw_only=True):
    """Which labels come and go."""

    add_labels: Labels | None = None
    remove_labels: Annotated[list[Name], Meta(max_length=LABELS_MAX)] | None = None

    def check(self) -> None:
        """Raises DoesNotFit when they say nothing, or contradict each other."""
        if not self.add_labels and not self.remove_labels:
            raise DoesNotFit("One of addLabels and removeLabels is required")
        if both := set(self.add_labels or ()) & set(self.remove_labels or ()):
            raise DoesNotFit(f"Label {min(both)} cannot be added and removed at once")

    def applied(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Labels after the update."""
        return {key: value for key, value in labels.items() if key not in (self.remove_labels or ())} | (
            self.add_labels or {}
        )


class LabelUpdate(LabelSets, rename="camel", kw_only=True):
    """Which devices get and lose which labels."""

    devices: DeviceNames


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


def as_stored(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that a device has where it is given these: an empty name or description is none."""
    return {key: value for key, value in labels.items() if value or key not in NAMED}


def too_many(labels: Collection[str]) -> str | None:
    """What is wrong with so many labels."""
    return f"A device has at most {LABELS_MAX} labels" if len(set(labels) - NAMED) > LABELS_MAX else None


@endpoint("POST", "/v2/projects/{project}/devices:batchUpdate", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP)
async def update_labels(services: Services, project: ProjectScope, body: LabelUpdate) -> LabelErrors:
    """Add, change and remove labels; devices that it cannot be done for are named, all others are changed."""
    body.check()
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
            labels = as_stored(body.applied(device.labels))
            if wrong := too_many(labels):
                errors.append(invalid(name, wrong))
            else:
                await device_labels.store(changed, device, labels)
    return LabelErrors(errors)


def _of(locked: dict[UUID, LabelledDevice], place: tuple[UUID, UUID] | None, project_id: UUID) -> LabelledDevice | None:
    return None if place is None or place[0] != project_id else locked.get(place[1])


class DeviceLabel(Struct):
    """One label of a device."""

    name: str
    key: str
    value: str


class DeviceLabels(Struct, rename="camel"):
    """Part of a list."""

    labels: list[DeviceLabel]
    next_page_token: str


class LabelValue(Struct):
    """What a label says."""

    value: Label


class NewLabel(Struct):
    """A label to give."""

    key: Name
    value: Label


@endpoint("GET", LABELS, caller=SERVICE_ACCOUNT, permission=Permission.READ, errors=DEVICE_ERRORS)
async def list_labels(services: Services, project: ProjectScope, device: str, query: PageQuery) -> DeviceLabels:
    """List the labels of a device."""
    found = await device_in(services, device, project.id)
    listed = [_label(found, key, found.labels[key]) for key in sorted(found.labels)]
    return DeviceLabels(*page_tokens.part(listed, query, lambda label: label.key))


@endpoint("POST", LABELS, caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors=DEVICE_ERRORS)
async def add_label(services: Services, project: ProjectScope, device: str, body: NewLabel) -> DeviceLabel:
    """Give a device a label; one that it has with this key is changed."""
    return await _set(services, project, device, body.key, body.value)


@endpoint("GET", LABELS + "/{label:path}", caller=SERVICE_ACCOUNT, permission=Permission.READ, errors=LABEL_ERRORS)
async def read_label(services: Services, project: ProjectScope, device: str, label: str) -> DeviceLabel:
    """Read one label of a device."""
    found = await device_in(services, device, project.id)
    if label not in found.labels:
        raise NotFound(LABEL_UNKNOWN)
    return _label(found, label, found.labels[label])


@endpoint("PATCH", LABELS + "/{label:path}", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors=LABEL_ERRORS)
async def change_label(
    services: Services, project: ProjectScope, device: str, label: str, query: UpdateQuery, body: LabelValue
) -> DeviceLabel:
    """Change one label of a device, or give it."""
    update_masks.chosen(query.update_mask, ("value",), ("value",))
    return await _set(services, project, device, label, body.value)


@endpoint(
    "DELETE", LABELS + "/{label:path}", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors=LABEL_ERRORS
)
async def remove_label(services: Services, project: ProjectScope, device: str, label: str) -> dict[str, Any]:
    """Take a label from a device."""
    found = await device_in(services, device, project.id)
    async with change(services) as changed:
        locked = (await device_labels.lock(changed.connection, project.id, [found.id])).get(found.id)
        if locked is None or label not in locked.labels:
            raise NotFound(LABEL_UNKNOWN)
        left = {other: value for other, value in locked.labels.items() if other != label}
        await device_labels.store(changed, locked, left)
    return {}


async def _set(services: Services, project: ProjectScope, device: str, key: str, value: str) -> DeviceLabel:
    """Give a device a label. Raises NotFound, DoesNotFit."""
    if not 1 <= len(key) <= NAME_CHARACTERS_MAX:
        raise DoesNotFit(f"A label's key has 1 to {NAME_CHARACTERS_MAX} characters")
    found = await device_in(services, device, project.id)
    async with change(services) as changed:
        locked = (await device_labels.lock(changed.connection, project.id, [found.id])).get(found.id)
        if locked is None:
            raise NotFound(DEVICE_UNKNOWN)
        labels = as_stored({**locked.labels, key: value})
        if wrong := too_many(labels):
            raise DoesNotFit(wrong)
        await device_labels.store(changed, locked, labels)
    return _label(found, key, value)


def _label(device: ProjectDevice, key: str, value: str) -> DeviceLabel:
    return DeviceLabel(f"{rendering.device_path(device.project_id, device.id)}/labels/{key}", key, value)


ENDPOINTS: tuple[Endpoint, ...] = (update_labels, list_labels, add_label, read_label, change_label, remove_label)
