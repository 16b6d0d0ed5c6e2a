"""The owner's devices: list, read, name, move, delete."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Part, Window
from gateway.api.scopes import OrganizationScope, Scope, demand
from gateway.api.validation import CONFIG_BYTES_MAX, Label, check_depth
from gateway.organization.histories import Moment, moment_of
from gateway.permissions import Permission
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import children, config, deletion, fleet, labels, locking, moving, owner_view
from gateway.stores.devices.fleet import Found, Tally
from gateway.stores.devices.fleet_filters import Filters
from gateway.stores.devices.owner_view import OwnedDevice
from gateway.stores.tenants import projects, spaces
from schemas import replies
from schemas.device_status import EffectiveStatus
from schemas.postgres import Executor
from schemas.replies import ResponseMap

T = TypeVar("T")
NARROWED = ("status", "label", "firmware_version", "model_id", "connector_id")
SEARCHED = ("search", "space_id", "seen_since", "seen_before")
"""Filters by which very many devices, or spaces, may be looked at."""


class DevicesQuery(PageQuery, kw_only=True):
    """Which devices: those of a project, or of a space with all spaces below it, that are so.

    `search` is what a name or serial number begins with, in any case, or a whole MAC, Cloud ID or id. `label` is a key,
    or `key=value`. `seen_before` means those that were never seen, too.
    """

    space_id: UUID | None = None
    project_id: UUID | None = None
    search: Label | None = None
    status: EffectiveStatus | None = None
    model_id: UUID | None = None
    label: Label | None = None
    firmware_version: Label | None = None
    seen_since: Moment | None = None
    seen_before: Moment | None = None
    connector_id: Label | None = None

    def is_long(self) -> bool:
        """So is a page that is narrowed by several filters, or by a text, a space or a time."""
        narrowed = sum(getattr(self, name) is not None for name in NARROWED)
        return super().is_long() or narrowed > 1 or any(getattr(self, name) is not None for name in SEARCHED)

    def filters(self, project_ids: Sequence[UUID] | None) -> Filters:
        """As the store takes them, in these projects or in all. Raises DoesNotFit for times that are none."""
        key, separator, value = (self.label or "").partition("=")
        return Filters(
            project_ids=project_ids if self.project_id is None else (self.project_id,),
            space_id=self.space_id,
            search=self.search or None,
            model_id=self.model_id,
            connector_id=self.connector_id,
            status=self.status,
            label=(key, value if separator else None) if key else None,
            firmware_version=self.firmware_version or None,
            seen_since=None if self.seen_since is None else moment_of("Seen since", self.seen_since),
            seen_before=None if self.seen_before is None else moment_of("Seen before", self.seen_before),
        )


class DeviceChange(Struct):
    """What the owner calls and notes of a device, and its whole config; members that are absent stay."""

    name: Label | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET
    configuration: dict[str, Any] | UnsetType = UNSET


class DeviceMove(Struct):
    """Where a device goes."""

    space_id: UUID


@endpoint(
    "GET",
    "/core/v1/organization/devices",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "The space or project is not the organization's."},
)
async def list_devices(services: Services, organization: OrganizationScope, query: DevicesQuery) -> Page[OwnedDevice]:
    """List the organization's devices, oldest registration first."""
    return await device_page(services, organization, query, None)


async def device_page(
    services: Services, scope: Scope, query: DevicesQuery, project_ids: Sequence[UUID] | None
) -> Page[OwnedDevice]:
    """A page of the organization's devices, in these projects or in all."""

    def place(device: OwnedDevice) -> UUID:
        return device.id

    return await page_by_ids(services, scope, query, project_ids, owner_view.by_ids, place)


async def page_by_ids(
    services: Services,
    scope: Scope,
    query: DevicesQuery,
    project_ids: Sequence[UUID] | None,
    by_ids: Callable[[Executor, UUID, Sequence[UUID]], Awaitable[list[T]]],
    id_of: Callable[[T], UUID],
) -> Page[T]:
    """A page of what `by_ids` reads of the devices that fit."""
    owner = scope.id
    filters = await _filters(services, owner, query, project_ids)

    async def read(window: Window) -> Part[T]:
        after = None if window.after is None else UUID(str(window.after[0]))
        found = await fleet.find(
            services.postgres, owner, filters, after=after, offset=window.offset, limit=window.limit
        )
        rows = await by_ids(services.postgres, owner, found.ids)
        return Part(rows, None if found.up_to is None else [str(found.up_to)])

    told = ("organization devices", by_ids.__module__, owner, *filters)
    return await paging.read_part(
        services, told, query.page, query.per_page, read, boundary=lambda one: [str(id_of(one))]
    )


async def fitting(
    services: Services,
    scope: Scope,
    query: DevicesQuery,
    project_ids: Sequence[UUID] | None,
    after: UUID | None,
    limit: int,
) -> Found:
    """The next devices of a list behind one of them, in these projects or in all."""
    filters = await _filters(services, scope.id, query, project_ids)
    return await fleet.find(services.postgres, scope.id, filters, after=after, offset=0, limit=limit)


async def tally(services: Services, scope: Scope, query: DevicesQuery, project_ids: Sequence[UUID] | None) -> Tally:
    """How many devices a list has, in these projects or in all."""
    return await fleet.tally(services.postgres, scope.id, await _filters(services, scope.id, query, project_ids))


async def _filters(services: Services, owner: UUID, query: DevicesQuery, project_ids: Sequence[UUID] | None) -> Filters:
    """What is asked for. Raises NotFound for a space or project that is not among these."""
    if query.project_id is not None:
        await projects.read(services.postgres, owner, query.project_id)
    if query.space_id is not None:
        space = await spaces.read(services.postgres, owner, query.space_id)
        if project_ids is not None and space.project_id not in project_ids:
            raise NotFound(spaces.UNKNOWN)
    if query.project_id is not None and project_ids is not None and query.project_id not in project_ids:
        raise NotFound(projects.UNKNOWN)
    return query.filters(project_ids)


@endpoint(
    "GET",
    "/core/v1/organization/devices/{device_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def read_device(services: Services, organization: OrganizationScope, device_id: UUID) -> OwnedDevice:
    """Read one device."""
    return await owner_view.read(services.postgres, organization.id, device_id)


@endpoint(
    "PATCH",
    "/core/v1/organization/devices/{device_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
    body_bytes_max=CONFIG_BYTES_MAX,
)
async def change_device(
    services: Services, organization: OrganizationScope, device_id: UUID, body: DeviceChange
) -> OwnedDevice:
    """Change a device's name, details and config; the device is told when something is different."""
    check_depth("Details", body.details)
    check_depth("Configuration", body.configuration)
    async with change(services) as changed:
        device = await locking.lock(changed.connection, organization.id, device_id)
        await labels.rename(
            changed,
            device,
            name=device.name if body.name is UNSET else body.name,
            details=device.details if body.details is UNSET else body.details,
        )
        if body.configuration is not UNSET:
            await config.put_of_owner(changed, device, body.configuration, None)
    return await owner_view.read(services.postgres, organization.id, device_id)


@endpoint(
    "DELETE",
    "/core/v1/organization/devices/{device_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
)
async def delete_device(services: Services, organization: OrganizationScope, device_id: UUID) -> Success:
    """Delete a device; its keys end, and it has to register again to come back."""
    async with change(services) as changed:
        await locking.lock_with_all_below(changed.connection, organization.id, device_id)
        await deletion.delete(changed, [device_id])
    return Success()


@endpoint(
    "POST",
    "/core/v1/organization/devices/{device_id}/move",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
)
async def move_device(
    services: Services, organization: OrganizationScope, device_id: UUID, body: DeviceMove
) -> OwnedDevice:
    """Put a device into another space; devices below it that share its space move along."""
    owner = organization.id
    async with change(services) as changed:
        moved = await moving.move(changed, owner, device_id, body.space_id)
        if moved.from_project_id != moved.to_project_id:
            demand(organization.permissions, Permission.ADMINISTER)
    return await owner_view.read(services.postgres, owner, device_id)


CHILDREN_SHOWN = 100


async def read_reply(services: Services, organization: OrganizationScope, device_id: UUID) -> ResponseMap:
    """What a device is told with each answer, from the next one on. Raises NotFound."""
    await locking.check_owned(services.postgres, organization.id, device_id)
    found = await replies.read(services.postgres, device_id)
    if found is None:
        raise NotFound(locking.UNKNOWN)
    return found


async def children_of(services: Services, organization: OrganizationScope, device_id: UUID) -> list[OwnedDevice]:
    """The devices directly below one, oldest registration first; no more than a page shows."""
    child_ids = await children.ids(services.postgres, device_id)
    return await owner_view.by_ids(services.postgres, organization.id, child_ids[:CHILDREN_SHOWN])


ENDPOINTS = (list_devices, read_device, change_device, delete_device, move_device)
