"""Who may do what: permissions, the roles that grant them, and the names that clients know them by.

A permission is what a call needs in its scope (see `gateway.api.scopes`), a role is what a caller was given somewhere.
All APIs use these and no other.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Literal, get_args
from uuid import UUID

from msgspec import Struct


class Permission(Enum):
    """What a call needs."""

    BELONG = "know of the organization: any role in it or in one of its projects will do"
    READ = "read anything of the project"
    DEVELOP = (
        "create, change and delete connectors, labels, commands, devices' settings, spaces, models, emulated devices"
    )
    ADMINISTER = "members, service accounts, hardware keys, claiming and transfer of devices, the project itself"
    ORGANIZE = "create projects, manage the organization and its API keys"


Reach = Literal["project", "organization", "vendor"]
"""Where a role may be given: in a project (in an organization it holds in all its projects), in an organization as a
whole, or in an organization as vendor of device models."""

Role = Literal[
    "project.user", "project.developer", "project.admin", "organization.admin", "partner.user", "partner.admin"
]
RoleIn = tuple[UUID, UUID | None, Role]
"""A role that was given in an organization, or in one project of it."""
KeyKind = Literal["organization", "partner"]
"""What an API key is for: the devices that an organization owns, or those of the models that it makes."""


class RoleDefinition(Struct, frozen=True):
    """A role: its name and description for people, where it may be given, what it grants there."""

    title: str
    description: str
    reach: Reach
    permissions: frozenset[Permission]


_READ = frozenset({Permission.BELONG, Permission.READ})
_DEVELOP = _READ | {Permission.DEVELOP}
_ADMINISTER = _DEVELOP | {Permission.ADMINISTER}
_ALL = frozenset(Permission)

ROLES: dict[Role, RoleDefinition] = {
    "project.user": RoleDefinition("Project user", "Reads everything in a project.", "project", _READ),
    "project.developer": RoleDefinition(
        "Project developer", "Reads everything; changes data connectors, labels and devices.", "project", _DEVELOP
    ),
    "project.admin": RoleDefinition(
        "Project administrator",
        "Changes everything in a project, its members and accounts too.",
        "project",
        _ADMINISTER,
    ),
    "organization.admin": RoleDefinition(
        "Organization administrator", "Changes everything in all projects of an organization.", "organization", _ALL
    ),
    "partner.user": RoleDefinition("Partner user", "Reads the devices of the models it makes.", "vendor", _READ),
    "partner.admin": RoleDefinition(
        "Partner administrator", "Changes the models it makes; reads and deletes their devices.", "vendor", _ALL
    ),
}

PROJECT_ROLES = tuple(role for role in get_args(Role) if ROLES[role].reach == "project")
ORGANIZATION_ROLES = tuple(role for role in get_args(Role) if ROLES[role].reach == "organization")
MEMBER_ROLES = (*PROJECT_ROLES, *ORGANIZATION_ROLES)
"""Roles that members have; those of a project, given in an organization, hold in all its projects."""
VENDOR_ROLES = tuple(role for role in get_args(Role) if ROLES[role].reach == "vendor")
"""Roles of people of a vendor, and of its keys; in an organization as a whole."""
KEY_ROLES: dict[str, tuple[Role, ...]] = {"organization": MEMBER_ROLES, "partner": VENDOR_ROLES}
"""Roles that an API key of a kind may have."""


def least_role(permission: Permission, roles: Sequence[Role]) -> Role:
    """The least of these roles that grants a permission."""
    return next(role for role in roles if permission in ROLES[role].permissions)


NAMES: dict[Permission, tuple[str, ...]] = {
    Permission.BELONG: (),
    Permission.READ: (
        "project.read",
        "device.read",
        "dataconnector.read",
        "serviceaccount.read",
        "serviceaccount.key.read",
        "membership.read",
    ),
    Permission.DEVELOP: (
        "device.update",
        "dataconnector.create",
        "dataconnector.update",
        "dataconnector.delete",
        "emulator.create",
        "emulator.delete",
        "emulator.publish",
    ),
    Permission.ADMINISTER: (
        "project.update",
        "project.delete",
        "device.transfer",
        "membership.create",
        "membership.update",
        "membership.delete",
        "serviceaccount.create",
        "serviceaccount.update",
        "serviceaccount.delete",
        "serviceaccount.key.create",
        "serviceaccount.key.delete",
    ),
    Permission.ORGANIZE: ("organization.read", "organization.update", "project.create"),
}
"""What clients of `/v2` call what a permission allows them there."""


def names(permissions: frozenset[Permission]) -> list[str]:
    """Permissions by the names that clients know."""
    return [name for permission in Permission if permission in permissions for name in NAMES[permission]]
