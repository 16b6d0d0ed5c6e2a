"""The roles that members of projects and organizations have."""

from msgspec import Struct

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_tokens import PageQuery
from gateway.api.principals import Principal
from gateway.permissions import MEMBER_ROLES, ROLES, names
from gateway.permissions import Role as RoleName
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


def _shown(role: RoleName) -> Role:
    known = ROLES[role]
    return Role(f"roles/{role}", known.title, known.description, names(known.permissions))


@endpoint("GET", "/v2/roles", caller=SERVICE_ACCOUNT)
async def list_roles(services: Services, account: Principal, query: PageQuery) -> Roles:
    """List the roles."""
    return Roles(*page_tokens.part([_shown(role) for role in MEMBER_ROLES], query, lambda role: role.name))


@endpoint("GET", "/v2/roles/{role}", caller=SERVICE_ACCOUNT, errors={404: "There is no such role."})
async def read_role(services: Services, account: Principal, role: str) -> Role:
    """Read one role."""
    for known in MEMBER_ROLES:
        if role == known:
            return _shown(known)
    raise NotFound("Role not found")


ENDPOINTS: tuple[Endpoint, ...] = (list_roles, read_role)
