"""Where a call acts, once it is known that the caller may: a project, an organization, an organization as vendor.

An endpoint takes a scope as a parameter and names the permission that it needs there. Who has no role at all there
learns nothing, not even that it exists (NotFound); who has one that is not enough is told so (NotPermitted).
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from msgspec import Struct
from starlette.requests import Request

from gateway.api.principals import Principal
from gateway.permissions import KEY_ROLES, MEMBER_ROLES, Permission, Role, least_role
from gateway.refusals import NotFound, NotPermitted
from gateway.services import Services
from gateway.stores.connectors import cloud_connectors
from gateway.stores.devices import locking, owner_view
from gateway.stores.incidents import incidents, rules, tickets
from gateway.stores.tenants import organizations, projects, spaces
from gateway.stores.whose import Whose
from schemas.ids import uuid_of

NOT_FOUND = "Not found"
NOT_PERMITTED = "The caller's role does not permit this: it takes {}"


class Scope(Struct, frozen=True):
    """Where a call acts; what endpoints take as parameter."""

    id: UUID
    principal: Principal

    @property
    def tenant(self) -> UUID:
        """The organization that a call counts against where organizations share something."""
        return self.id

    @classmethod
    async def enter(
        cls, services: Services, request: Request, name: str, principal: Principal, permission: Permission
    ) -> Any:
        """The scope that a request means by the parameter `name`, if the caller has the permission there."""
        raise NotImplementedError


class ProjectScope(Scope, frozen=True):
    """The project that the path names."""

    organization_id: UUID

    @property
    def tenant(self) -> UUID:
        """The organization of the project."""
        return self.organization_id

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the caller may do here."""
        return self.principal.permissions(self.organization_id, self.id)

    @classmethod
    async def enter(
        cls, services: Services, request: Request, name: str, principal: Principal, permission: Permission
    ) -> "ProjectScope":
        return await cls.of(services, principal, uuid_of(request.path_params[name]), permission)

    @classmethod
    async def of(
        cls, services: Services, principal: Principal, project_id: UUID | None, permission: Permission
    ) -> "ProjectScope":
        """Raises NotFound for a project where the caller has no role at all, NotPermitted where that is not enough."""
        organization_id = project_id and await projects.organization_of(services.postgres, project_id)
        if project_id is None or organization_id is None:
            raise NotFound(projects.UNKNOWN)
        demand(principal.permissions(organization_id, project_id), permission, projects.UNKNOWN)
        return cls(project_id, principal, organization_id)


class SideScope(Scope, frozen=True):
    """An organization as owner of devices or as vendor of models: what a call takes that stands for both (see `Door`).

    Of the owner's devices it may be those of some projects, for calls that ask for no more.
    """

    as_vendor: ClassVar[bool] = False

    @property
    def whose(self) -> Whose:
        """The side, for stores."""
        return Whose(self.id, self.as_vendor)

    @property
    def project_ids(self) -> tuple[UUID, ...] | None:
        """The projects of the owner's that it is about; None for all."""
        return None

    @property
    def organization(self) -> "WholeScope":
        """The whole of it, to read what it has for devices of all its projects: firmware and its rollouts.

        Whatever else is read by it must be narrowed to the projects.
        """
        raise NotImplementedError

    async def projects(self, services: Services) -> Sequence[UUID]:
        """The owner's projects that the devices are in."""
        if self.project_ids is not None:
            return self.project_ids
        return await projects.ids_of(services.postgres, self.id)

    def within(self, project_id: UUID | None, unknown: str) -> "WholeScope":
        """The whole of it, for calls about what is in this project. Raises NotFound for one that is not seen."""
        return self.organization

    def whole(self) -> "WholeScope":
        """Likewise for calls about all of it. Raises NotPermitted for whoever sees only projects of it."""
        return self.organization

    async def over(self, services: Services, device_id: UUID) -> "WholeScope":
        """Likewise for calls about this device. Raises NotFound for one of another project of the owner's."""
        return self.organization

    async def at(self, services: Services, space_id: UUID) -> "WholeScope":
        """Likewise for calls about a space."""
        return self.organization

    async def over_incident(self, services: Services, incident_id: UUID) -> "WholeScope":
        """Likewise for calls about an incident: those of the devices."""
        return self.organization

    async def over_ticket(self, services: Services, ticket_id: UUID) -> "WholeScope":
        """Likewise for calls about a ticket: those about the devices."""
        return self.organization

    async def over_rule(self, services: Services, rule_id: UUID) -> "WholeScope":
        """Likewise for calls that change an incident rule: those for one of the projects, or a space in it.

        Raises NotPermitted for one that is for a model, and so for devices of all projects.
        """
        return self.organization


class WholeScope(SideScope, frozen=True):
    """All of an organization's devices, or all of its models': what a call takes that changes what is for all."""

    @property
    def organization(self) -> "WholeScope":
        """Itself."""
        return self


class OrganizationScope(WholeScope, frozen=True):
    """The organization that the path names, or else the caller's own, as owner of devices."""

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the caller may do here."""
        return self.principal.permissions(self.id, None)

    @classmethod
    async def enter(
        cls, services: Services, request: Request, name: str, principal: Principal, permission: Permission
    ) -> "OrganizationScope":
        if name in request.path_params:
            return cls.of(principal, uuid_of(request.path_params[name]), permission)
        return cls.of(principal, _own(principal), permission)

    @classmethod
    def of(cls, principal: Principal, organization_id: UUID | None, permission: Permission) -> "OrganizationScope":
        """Raises NotFound for an organization where the caller has no role, NotPermitted where that is not enough."""
        if organization_id is None:
            raise NotFound(organizations.UNKNOWN)
        demand(principal.permissions(organization_id, None), permission, organizations.UNKNOWN)
        return cls(organization_id, principal)


class MakerScope(OrganizationScope, frozen=True):
    """The caller's own organization as maker of models: for whoever has a role in it, as owner or as vendor."""

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the caller may do here, by either."""
        return self.principal.permissions(self.id, None) | self.principal.permissions_as_vendor(self.id)

    @classmethod
    async def enter(
        cls, services: Services, request: Request, name: str, principal: Principal, permission: Permission
    ) -> "MakerScope":
        scope = cls(_own(principal), principal)
        demand(scope.permissions, permission)
        return scope


class FleetScope(SideScope, frozen=True):
    """The devices of the caller's own organization with which it may do this: all, or those of some projects.

    Whoever has a role only in projects sees no more than these, where a call is about the organization's devices.
    """

    project_ids: tuple[UUID, ...] | None

    @classmethod
    async def enter(
        cls, services: Services, request: Request, name: str, principal: Principal, permission: Permission
    ) -> "FleetScope":
        return cls.of(principal, _own(principal), permission)

    @classmethod
    def of(cls, principal: Principal, organization_id: UUID, permission: Permission) -> "FleetScope":
        """Raises NotFound where the caller has no role in the organization, NotPermitted where none is enough."""
        everywhere = principal.permissions(organization_id, None)
        if permission in everywhere:
            return cls(organization_id, principal, None)
        found = {
            grant.project_id: None
            for grant in principal.grants
            if grant.project_id is not None and permission in principal.permissions(organization_id, grant.project_id)
        }
        if not found:
            demand(everywhere, permission, organizations.UNKNOWN)
        return cls(organization_id, principal, tuple(project_id for project_id in found if project_id is not None))

    async def over(self, services: Services, device_id: UUID) -> OrganizationScope:
        """Raises NotFound for a device that is none of these."""
        return self.within(await owner_view.project_of(services.postgres, self.id, device_id), locking.UNKNOWN)

    async def at(self, services: Services, space_id: UUID) -> OrganizationScope:
        """Raises NotFound for a space that is in none of these."""
        return self.within((await spaces.read(services.postgres, self.id, space_id)).project_id, spaces.UNKNOWN)

    async def over_incident(self, services: Services, incident_id: UUID) -> OrganizationScope:
        """Raises NotFound for one of another device."""
        return self.within(await incidents.project_of(services.postgres, self.id, incident_id), incidents.UNKNOWN)

    async def over_ticket(self, services: Services, ticket_id: UUID) -> OrganizationScope:
        """Raises NotFound for one about another device."""
        return self.within(await tickets.project_of(services.postgres, self.id, ticket_id), tickets.UNKNOWN)

    async def over_rule(self, services: Services, rule_id: UUID) -> OrganizationScope:
        """Raises NotFound for one of other projects, NotPermitted for one that is for a model."""
        project_id = await rules.project_of(services.postgres, self.id, rule_id)
        return self.whole() if project_id is None else self.within(project_id, rules.UNKNOWN)

    async def over_cloud(self, services: Services, connector_id: str) -> OrganizationScope:
        """The organization, for calls about a cloud connector. Raises NotFound for one that imports elsewhere."""
        project_id = await cloud_connectors.project_of(services.postgres, self.id, connector_id)
        return self.within(project_id, cloud_connectors.UNKNOWN)

    def within(self, project_id: UUID | None, unknown: str) -> OrganizationScope:
        if self.project_ids is not None and project_id not in self.project_ids:
            raise NotFound(unknown)
        return self.organization

    def whole(self) -> OrganizationScope:
        if self.project_ids is not None:
            raise NotPermitted(NOT_PERMITTED.format("organization.admin"))
        return self.organization

    @property
    def organization(self) -> OrganizationScope:
        return OrganizationScope(self.id, self.principal)


class VendorScope(WholeScope, frozen=True):
    """The caller's own organization, as the vendor of device models."""

    as_vendor: ClassVar[bool] = True

    @classmethod
    async def enter(
        cls, services: Services, request: Request, name: str, principal: Principal, permission: Permission
    ) -> "VendorScope":
        organization_id = _own(principal)
        demand(principal.permissions_as_vendor(organization_id), permission, roles=KEY_ROLES["partner"])
        return cls(organization_id, principal)


def _own(principal: Principal) -> UUID:
    if principal.organization_id is None:
        raise NotFound(organizations.UNKNOWN)
    return principal.organization_id


def demand(
    permissions: frozenset[Permission],
    permission: Permission,
    unknown: str = NOT_FOUND,
    roles: Sequence[Role] = MEMBER_ROLES,
) -> None:
    """Raises NotFound when there are none at all, NotPermitted when this one is not among them.

    `roles` are those that may be given there, the least one first.
    """
    if not permissions:
        raise NotFound(unknown)
    if permission not in permissions:
        raise NotPermitted(NOT_PERMITTED.format(least_role(permission, roles)))
