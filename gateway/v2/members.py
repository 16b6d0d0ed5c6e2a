"""Members of projects and organizations: service accounts with a role, and people who were invited by email."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_tokens import PageQuery
from gateway.api.scopes import OrganizationScope, ProjectScope
from gateway.people.links import url as invitation_url
from gateway.permissions import ORGANIZATION_ROLES, PROJECT_ROLES, Permission, names
from gateway.refusals import Conflict, DoesNotFit
from gateway.services import Services
from gateway.stores.accounts import members as stored
from gateway.stores.accounts.service_accounts import DOMAIN, email_of
from gateway.stores.people import links
from gateway.v2 import update_masks
from gateway.v2.update_masks import UpdateQuery
from schemas.events import rfc3339
from schemas.postgres import Connection
from schemas.sentences import matching

RoleNames = Annotated[list[str], Meta(min_length=1, max_length=1)]
Email = Annotated[
    str,
    matching(
        stored.ADDRESS,
        stored.NO_ADDRESS,
        min_length=stored.ADDRESS_CHARACTERS[0],
        max_length=stored.ADDRESS_CHARACTERS[1],
    ),
]
MemberId = Annotated[str, Meta(max_length=page_tokens.ID_CHARACTERS_MAX)]


class Member(Struct, rename="camel"):
    """One member. A person's invitation is PENDING until it is accepted."""

    name: str
    display_name: str
    roles: list[str]
    status: str
    email: str
    account_type: str
    create_time: str


class Members(Struct, rename="camel"):
    """Part of a list."""

    members: list[Member]
    next_page_token: str


class Invitation(Struct):
    """Whom to make a member, and its one role as `roles/<role>`."""

    roles: RoleNames
    email: Email


class RoleChange(Struct):
    """The member's one role from now on. Clients send the whole member; its address is what it was."""

    roles: RoleNames
    email: str | None = None


class MembersQuery(PageQuery, kw_only=True):
    """Which part of the list; or only this member."""

    member_id: MemberId = ""


class Permissions(Struct, rename="camel"):
    """What the caller may do here."""

    permissions: list[str]
    next_page_token: str


class InviteUrl(Struct, rename="camel"):
    """Where a person accepts an invitation: once, within seven days. Each reading makes a link of its own."""

    invite_url: str


def shown(place: str, member: stored.Member) -> Member:
    """A member as clients see it, of a place such as `projects/<id>`."""
    is_account = member.service_account_id is not None
    email = member.email or ""
    if member.service_account_id is not None and member.account_project_id is not None:
        email = email_of(member.service_account_id, member.account_project_id)
    return Member(
        name=f"{place}/members/{member.id}",
        display_name=member.display_name,
        roles=[f"roles/{role}" for role in member.roles],
        status="ACCEPTED" if is_account or member.person_id is not None else "PENDING",
        email=email,
        account_type="SERVICE_ACCOUNT" if is_account else "USER",
        create_time=rfc3339(member.created_at),
    )


def role_of(roles: list[str], known: Sequence[str]) -> str:
    """The one role that is given, which must be among those known. Raises DoesNotFit."""
    role = roles[0].removeprefix("roles/")
    if role not in known:
        raise DoesNotFit(f"Roles must be one of {', '.join(known)}")
    return role


async def _page(
    services: Services, place: str, organization_id: UUID, project_id: UUID | None, query: MembersQuery
) -> Members:
    after = page_tokens.last_id(query, page_tokens.XID)
    found = await stored.listed(
        services.postgres, organization_id, project_id, query.member_id, after, query.page_size + 1
    )
    page, token = page_tokens.cut(found, query.page_size, lambda member: member.id)
    return Members([shown(place, member) for member in page], token)


async def add(
    connection: Connection, place: str, organization_id: UUID, project_id: UUID | None, role: str, email: str
) -> Member:
    """Give the service account of this address, or a person, a role. Raises NotFound, Conflict."""
    local, _, domain = email.partition("@")
    is_account = domain.endswith(f".{DOMAIN}")
    added = await stored.add(
        connection,
        organization_id,
        project_id,
        role,
        service_account_id=local if is_account else None,
        email=None if is_account else email,
    )
    return shown(place, added)


async def _invite_url(services: Services, organization_id: UUID, project_id: UUID | None, member_id: str) -> InviteUrl:
    async with services.postgres.acquire() as connection, connection.transaction():
        found = await stored.read(connection, organization_id, project_id, member_id)
        if found.email is None:
            raise DoesNotFit("A service account needs no invitation")
        if found.person_id is not None:
            raise Conflict("The invitation was accepted already")
        token = await links.invite(connection, found.membership_id, services.clock())
    return InviteUrl(invitation_url(services, token))


PROJECT = "/v2/projects/{project}"
ORGANIZATION = "/v2/organizations/{organization}"
TAKEN = {409: "It is a member already."}
NOT_INVITED = {400: "The member is a service account.", 409: "The invitation was accepted already."}


@endpoint("GET", PROJECT + "/members", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_project_members(services: Services, project: ProjectScope, query: MembersQuery) -> Members:
    """List the members of a project."""
    return await _page(services, f"projects/{project.id}", project.organization_id, project.id, query)


@endpoint("POST", PROJECT + "/members", caller=SERVICE_ACCOUNT, permission=Permission.ADMINISTER, errors=TAKEN)
async def add_project_member(services: Services, project: ProjectScope, body: Invitation) -> Member:
    """Give a service account (by its email) or a person a role in a project."""
    role = role_of(body.roles, PROJECT_ROLES)
    async with services.postgres.acquire() as connection:
        return await add(connection, f"projects/{project.id}", project.organization_id, project.id, role, body.email)


@endpoint(
    "GET",
    PROJECT + "/members/{member}:getInviteUrl",
    caller=SERVICE_ACCOUNT,
    permission=Permission.ADMINISTER,
    errors=NOT_INVITED,
)
async def project_invite_url(services: Services, project: ProjectScope, member: str) -> InviteUrl:
    """Read where a person accepts an invitation to a project."""
    return await _invite_url(services, project.organization_id, project.id, member)


@endpoint("GET", PROJECT + "/members/{member}", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def read_project_member(services: Services, project: ProjectScope, member: str) -> Member:
    """Read one member of a project."""
    found = await stored.read(services.postgres, project.organization_id, project.id, member)
    return shown(f"projects/{project.id}", found)


@endpoint("PATCH", PROJECT + "/members/{member}", caller=SERVICE_ACCOUNT, permission=Permission.ADMINISTER)
async def change_project_member(
    services: Services, project: ProjectScope, member: str, query: UpdateQuery, body: RoleChange
) -> Member:
    """Give a member of a project another role."""
    update_masks.chosen(query.update_mask, ("roles",), ("roles",))
    role = role_of(body.roles, PROJECT_ROLES)
    async with services.postgres.acquire() as connection, connection.transaction():
        changed = await stored.change_role(connection, project.organization_id, project.id, member, role)
        after = shown(f"projects/{project.id}", changed)
        if body.email not in (None, after.email):
            raise DoesNotFit("Email: a member's address stays what it is")
    return after


@endpoint("DELETE", PROJECT + "/members/{member}", caller=SERVICE_ACCOUNT, permission=Permission.ADMINISTER)
async def remove_project_member(services: Services, project: ProjectScope, member: str) -> dict[str, Any]:
    """Take a member's role in a project away."""
    async with services.postgres.acquire() as connection:
        await stored.remove(connection, project.organization_id, project.id, member)
    return {}


@endpoint("GET", PROJECT + "/permissions", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def project_permissions(services: Services, project: ProjectScope, query: PageQuery) -> Permissions:
    """List what the caller may do in a project."""
    return Permissions(*page_tokens.part(names(project.permissions), query, str))


@endpoint("GET", ORGANIZATION + "/members", caller=SERVICE_ACCOUNT, permission=Permission.ORGANIZE)
async def list_organization_members(
    services: Services, organization: OrganizationScope, query: MembersQuery
) -> Members:
    """List the administrators of an organization."""
    return await _page(services, f"organizations/{organization.id}", organization.id, None, query)


@endpoint("POST", ORGANIZATION + "/members", caller=SERVICE_ACCOUNT, permission=Permission.ORGANIZE, errors=TAKEN)
async def add_organization_member(services: Services, organization: OrganizationScope, body: Invitation) -> Member:
    """Make a service account or a person an administrator of an organization."""
    role = role_of(body.roles, ORGANIZATION_ROLES)
    async with services.postgres.acquire() as connection:
        return await add(connection, f"organizations/{organization.id}", organization.id, None, role, body.email)


@endpoint(
    "GET",
    ORGANIZATION + "/members/{member}:getInviteUrl",
    caller=SERVICE_ACCOUNT,
    permission=Permission.ORGANIZE,
    errors=NOT_INVITED,
)
async def organization_invite_url(services: Services, organization: OrganizationScope, member: str) -> InviteUrl:
    """Read where a person accepts an invitation to an organization."""
    return await _invite_url(services, organization.id, None, member)


@endpoint("GET", ORGANIZATION + "/members/{member}", caller=SERVICE_ACCOUNT, permission=Permission.ORGANIZE)
async def read_organization_member(services: Services, organization: OrganizationScope, member: str) -> Member:
    """Read one administrator of an organization."""
    found = await stored.read(services.postgres, organization.id, None, member)
    return shown(f"organizations/{organization.id}", found)


@endpoint("DELETE", ORGANIZATION + "/members/{member}", caller=SERVICE_ACCOUNT, permission=Permission.ORGANIZE)
async def remove_organization_member(
    services: Services, organization: OrganizationScope, member: str
) -> dict[str, Any]:
    """Take an administrator's role away."""
    async with services.postgres.acquire() as connection:
        await stored.remove(connection, organization.id, None, member)
    return {}


@endpoint("GET", ORGANIZATION + "/permissions", caller=SERVICE_ACCOUNT, permission=Permission.BELONG)
async def organization_permissions(
    services: Services, organization: OrganizationScope, query: PageQuery
) -> Permissions:
    """List what the caller may do in an organization."""
    return Permissions(*page_tokens.part(names(organization.permissions), query, str))


ENDPOINTS: tuple[Endpoint, ...] = (
    list_project_members,
    add_project_member,
    project_invite_url,
    read_project_member,
    change_project_member,
    remove_project_member,
    project_permissions,
    list_organization_members,
    add_organization_member,
    organization_invite_url,
    read_organization_member,
    remove_organization_member,
    organization_permissions,
)
