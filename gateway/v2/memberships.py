"""Members of several projects at once: list them over all projects of an organization, make and end many."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.principals import Principal
from gateway.api.scopes import ProjectScope
from gateway.permissions import PROJECT_ROLES, Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.accounts import members as stored
from gateway.v2.any_project import ANY_PROJECT, readable
from gateway.v2.members import TAKEN, Email, Member, MemberId, Members, RoleNames, add, role_of, shown
from gateway.v2.names import id_of

RESOURCE = "members"
MEMBERS_MAX = 1_000
REFUSED = {403: "The caller does not administer one of the projects.", 404: "There is no such project or account."}

MemberPosition = tuple[UUID, str]


class MembershipsQuery(Struct, kw_only=True):
    """Of which organization (`organizations/<id>`); and only this member."""

    organization: str = ""
    member_id: MemberId = ""
    page_size: Annotated[int, Meta(ge=1, le=page_tokens.PAGE_SIZE_MAX)] = page_tokens.PAGE_SIZE_MAX
    page_token: Annotated[str, Meta(max_length=page_tokens.TOKEN_CHARACTERS_MAX)] = ""


class NewMember(Struct):
    """Whom to make a member of which project (`projects/<id>`; where the path names one, that)."""

    roles: RoleNames
    email: Email
    project: str = ""


class NewMembers(Struct):
    """All of them are made, or none."""

    members: Annotated[list[NewMember], Meta(min_length=1, max_length=MEMBERS_MAX)]


class MadeMembers(Struct):
    """What was made, in the order of the request."""

    members: list[Member]


class MemberNames(Struct):
    """Which members, as `projects/<id>/members/<id>`. All of them are ended, or none."""

    names: Annotated[list[str], Meta(min_length=1, max_length=MEMBERS_MAX)]


@endpoint("GET", "/v2/projects/-/members", caller=SERVICE_ACCOUNT)
async def list_members_of_all_projects(services: Services, account: Principal, query: MembershipsQuery) -> Members:
    """List the members of all projects of an organization that the caller may read."""
    project_ids = await readable(services, account, query.organization)
    scope = (query.organization, query.member_id)
    after = page_tokens.unseal(scope, query.page_token, MemberPosition)
    found = await stored.listed_in(services.postgres, project_ids, query.member_id, after, query.page_size + 1)
    page = found[: query.page_size]
    token = page_tokens.seal(scope, [page[-1].project_id, page[-1].id]) if len(found) > len(page) else ""
    return Members([shown(f"projects/{member.project_id}", member) for member in page], token)


@endpoint("POST", "/v2/projects/{project}/members:batchCreate", caller=SERVICE_ACCOUNT, errors={**TAKEN, **REFUSED})
async def create_members(services: Services, account: Principal, project: str, body: NewMembers) -> MadeMembers:
    """Make many members at once, of one project or, with `-` for it, of several."""
    scopes = await _scopes(services, account, project, [member.project for member in body.members])
    made = []
    async with services.postgres.acquire() as connection, connection.transaction():
        for member, scope in zip(body.members, scopes, strict=True):
            role = role_of(member.roles, PROJECT_ROLES)
            made.append(
                await add(connection, f"projects/{scope.id}", scope.organization_id, scope.id, role, member.email)
            )
    return MadeMembers(made)


@endpoint("POST", "/v2/projects/{project}/members:batchDelete", caller=SERVICE_ACCOUNT, errors=REFUSED)
async def delete_members(services: Services, account: Principal, project: str, body: MemberNames) -> dict[str, Any]:
    """Take many members' roles away at once, in one project or, with `-` for it, in several."""
    names = [name.rpartition("/members/") for name in dict.fromkeys(body.names)]
    scopes = await _scopes(services, account, project, [place for place, _, _ in names])
    async with services.postgres.acquire() as connection, connection.transaction():
        for (_, _, member_id), scope in zip(names, scopes, strict=True):
            await stored.remove(connection, scope.organization_id, scope.id, member_id)
    return {}


async def _scopes(services: Services, account: Principal, project: str, places: list[str]) -> list[ProjectScope]:
    """Where members are made or ended, each by the project that it names, or else the path's. Raises Refusal."""
    of_path = None if project == ANY_PROJECT else id_of("projects", project)
    scopes: dict[UUID | None, ProjectScope] = {}
    found = []
    for place in places:
        project_id = id_of("projects", place) if place else of_path
        if not place and of_path is None:
            raise DoesNotFit("Project is required for each member where the project of the path is -")
        if project != ANY_PROJECT and project_id != of_path:
            raise DoesNotFit(f"Project: {place} is not the one of the path")
        if project_id not in scopes:
            scopes[project_id] = await ProjectScope.of(services, account, project_id, Permission.ADMINISTER)
        found.append(scopes[project_id])
    return found


ENDPOINTS: tuple[Endpoint, ...] = (list_members_of_all_projects, create_members, delete_members)
