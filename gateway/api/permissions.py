"""Who may do what in the `/v2` API: four roles, four permissions, and the names that clients know them by."""

from enum import Enum
from typing import Literal

Role = Literal["project.user", "project.developer", "project.admin", "organization.admin"]


class Permission(Enum):
    """What a call needs."""

    READ = "read anything of the project"
    DEVELOP = "create, change and delete data connectors, labels, commands, emulated devices"
    ADMINISTER = "members, service accounts, transfer of devices, the project itself"
    ORGANIZE = "create projects, manage the organisation"


GRANTED: dict[str, frozenset[Permission]] = {
    "project.user": frozenset({Permission.READ}),
    "project.developer": frozenset({Permission.READ, Permission.DEVELOP}),
    "project.admin": frozenset({Permission.READ, Permission.DEVELOP, Permission.ADMINISTER}),
    "organization.admin": frozenset(Permission),
}

NAMES: dict[Permission, tuple[str, ...]] = {
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

ROLES: dict[str, tuple[str, str]] = {
    "project.user": ("Project user", "Reads everything in a project."),
    "project.developer": ("Project developer", "Reads everything; changes data connectors, labels and devices."),
    "project.admin": ("Project administrator", "Changes everything in a project, its members and accounts too."),
    "organization.admin": ("Organization administrator", "Changes everything in all projects of an organisation."),
}


def names(permissions: frozenset[Permission]) -> list[str]:
    """Permissions by the names that clients know."""
    return [name for permission in Permission if permission in permissions for name in NAMES[permission]]
