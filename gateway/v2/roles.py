"""The four roles."""

from msgspec import Struct

from gateway.api.accounts import AccountCaller
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.permissions import GRANTED, ROLES, names
from gateway.refusals import NotFound
from gateway.services import Services


class Role(Struct, rename="camel"):
    """A role, with the permissions that it gives."""

    name: str
    display_name: str
    description: str
    permissions: list[str]


class Roles(Struct, rename="camel"):
    """All roles."""

    roles: list[Role]
    next_page_token: str


def _shown(role: str) -> Role:
    title, description = ROLES[role]
    return Role(f"roles/{role}", title, description, names(GRANTED[role]))


@endpoint("GET", "/v2/roles")
async def list_roles(services: Services, account: AccountCaller) -> Roles:
    """List the roles."""
    return Roles([_shown(role) for role in ROLES], "")


@endpoint("GET", "/v2/roles/{role}", errors={404: "There is no such role."})
async def read_role(services: Services, account: AccountCaller, role: str) -> Role:
    """Read one role."""
    if role not in ROLES:
        raise NotFound("Role not found")
    return _shown(role)


ENDPOINTS: tuple[Endpoint, ...] = (list_roles, read_role)
