"""Who calls, proven; what it may do where; and how each kind of caller proves who it is.

A device is one principal (`DeviceCaller`: its rights are to be itself). All others are a `Principal` with grants, no
matter how they came in: by an API key, by the key or a token of a service account.

A new kind of caller is one module in `gateway.api.callers` with one `CallerKind`; endpoints name that as their
`caller`, and the frame and the OpenAPI document learn of it from there.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from starlette.requests import Request

from gateway.permissions import ROLES, Permission, Role, RoleIn
from gateway.services import Services


class Grant(Struct, frozen=True):
    """A role, in one project or in a whole organization."""

    organization_id: UUID
    project_id: UUID | None
    role: Role


class Principal(Struct, frozen=True):
    """Whoever calls, with its grants."""

    id: str
    """Which API key or service account it is."""
    key_id: str
    """The credential that it proved itself by."""
    organization_id: UUID | None
    """The organization that it calls for where the call names none."""
    grants: tuple[Grant, ...]
    expires_at: datetime | None = None
    """When its credential ends; nothing that it is given for longer may come of it. None: not by itself."""

    def permissions(self, organization_id: UUID, project_id: UUID | None) -> frozenset[Permission]:
        """What it may do in a project, or with None in the organization as a whole, as owner of devices."""
        granted: frozenset[Permission] = frozenset()
        for grant in self.grants:
            role = ROLES[grant.role]
            if grant.organization_id != organization_id or role.reach == "vendor":
                continue
            if grant.project_id in (None, project_id):
                granted |= role.permissions
            elif project_id is None:
                granted |= {Permission.BELONG}
        return granted

    def permissions_as_vendor(self, organization_id: UUID) -> frozenset[Permission]:
        """What it may do with the devices of the organization's models, whoever owns them."""
        granted: frozenset[Permission] = frozenset()
        for grant in self.grants:
            if grant.organization_id == organization_id and ROLES[grant.role].reach == "vendor":
                granted |= ROLES[grant.role].permissions
        return granted

    def has(self, roles: Iterable[RoleIn]) -> bool:
        """Whether it may do everything that these roles permit, wherever they were given."""
        return all(ROLES[role].permissions <= self.permissions(where, project) for where, project, role in roles)


class CallerKind(Struct, frozen=True):
    """One kind of caller: how it proves who it is, and how the OpenAPI document describes that."""

    principal: type[Any]
    """What `prove` returns; a parameter of this type is given it."""
    prove: Callable[[Services, Request], Awaitable[Any]]
    """Raises Unauthenticated, or TooMany where calls of this kind are limited."""
    schemes: Mapping[str, Mapping[str, str]]
    """Security schemes by name; one of them is enough."""
    limited: bool
    """Whether its calls are limited (429)."""
    exact: bool
    """Whether unknown parameters and members are refused (see `unknowns`)."""
