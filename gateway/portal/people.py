"""People: who is a member of the organization or of a project, and as what; invitations.

/people?where=organization        administrators of the organization
/people?where=<project>           members of a project
"""

from typing import Annotated

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.api.scopes import NOT_PERMITTED, FleetScope, OrganizationScope, ProjectScope
from gateway.people import mail
from gateway.permissions import ORGANIZATION_ROLES, PROJECT_ROLES, ROLES, Permission, Role
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.refusals import NotPermitted
from gateway.services import Services
from gateway.stores.tenants import projects
from gateway.v2 import members
from gateway.v2.members import Email, Invitation, MembersQuery, RoleChange
from gateway.v2.update_masks import UpdateQuery
from schemas.ids import uuid_of

PATH = "/people"
ORGANIZATION = "organization"
MEMBER = PATH + "/{where}/{member}"


class Query(Struct):
    """Whose members, and which part of the list."""

    where: str = ""
    page_token: Annotated[str, Meta(max_length=255)] = ""


class NewMember(Struct):
    """Whom to invite, as what."""

    email: Email
    role: Role


class NewRole(Struct):
    """As what from now on."""

    role: Role


async def places(services: Services, fleet: FleetScope) -> dict[str, str]:
    """Where the person administers members: the organization and its projects, or some of these; by name."""
    found = {
        str(project.id): project.name
        for project in await projects.listed(services.postgres, fleet.id)
        if fleet.project_ids is None or project.id in fleet.project_ids
    }
    whole = Permission.ORGANIZE in fleet.principal.permissions(fleet.id, None)
    return ({ORGANIZATION: "All of the organization"} if whole else {}) | found


def organization_of(fleet: FleetScope) -> OrganizationScope:
    """The organization, for whoever administers it as a whole. Raises NotPermitted."""
    return OrganizationScope.of(fleet.principal, fleet.id, Permission.ORGANIZE)


async def project_of(services: Services, fleet: FleetScope, where: str) -> ProjectScope:
    """A project of the organization that is looked at. Raises NotFound, NotPermitted."""
    found = await ProjectScope.of(services, fleet.principal, uuid_of(where), Permission.ADMINISTER)
    if found.organization_id != fleet.id:
        raise NotPermitted(NOT_PERMITTED.format("project.admin"))
    return found


@page("GET", PATH, permission=Permission.ADMINISTER)
async def show_people(services: Services, fleet: FleetScope, query: Query, form: Form) -> View:
    """The members of the organization, or of a project."""
    known = await places(services, fleet)
    where = query.where or form.value("where") or next(iter(known), "")
    asked = MembersQuery(page_token=query.page_token)
    if where == ORGANIZATION:
        found = await members.list_organization_members(services, organization_of(fleet), asked)
    else:
        found = await members.list_project_members(services, await project_of(services, fleet, where), asked)
    return View(
        "people.html",
        {
            "places": known,
            "where": where,
            "members": [(one.name.rpartition("/")[2], one) for one in found.members],
            "next_page_token": found.next_page_token,
            "roles": [(role, ROLES[role].title) for role in roles_at(where)],
            "titles": {f"roles/{role}": ROLES[role].title for role in ROLES},
            "form": form,
        },
    )


def roles_at(where: str) -> tuple[Role, ...]:
    """The roles that may be given there."""
    return ORGANIZATION_ROLES if where == ORGANIZATION else PROJECT_ROLES


@page("POST", PATH + "/{where}", permission=Permission.ADMINISTER)
async def invite(services: Services, fleet: FleetScope, where: str, body: NewMember) -> View:
    """Invite someone, and show the link to send."""
    given = Invitation([f"roles/{body.role}"], body.email)
    if where == ORGANIZATION:
        made = await members.add_organization_member(services, organization_of(fleet), given)
    else:
        made = await members.add_project_member(services, await project_of(services, fleet, where), given)
    return await _invitation(services, fleet, where, made)


@page("POST", MEMBER + "/link", permission=Permission.ADMINISTER)
async def link(services: Services, fleet: FleetScope, where: str, member: str) -> View:
    """Another link for someone who was invited."""
    if where == ORGANIZATION:
        found = await members.read_organization_member(services, organization_of(fleet), member)
    else:
        found = await members.read_project_member(services, await project_of(services, fleet, where), member)
    return await _invitation(services, fleet, where, found)


async def _invitation(services: Services, fleet: FleetScope, where: str, member: members.Member) -> View:
    member_id = member.name.rpartition("/")[2]
    shown = sending = None
    if member.status == "PENDING":
        if where == ORGANIZATION:
            shown = await members.organization_invite_url(services, organization_of(fleet), member_id)
        else:
            project = await project_of(services, fleet, where)
            shown = await members.project_invite_url(services, project, member_id)
        sending = await mail.send_invitation(services, fleet.id, member.email, shown.invite_url)
    link_shown = None if shown is None else shown.invite_url
    values = {"member": member, "link": link_shown, "sending": sending, "back": f"{PATH}?where={where}"}
    return View("invited.html", values)


@page("POST", MEMBER + "/role", permission=Permission.ADMINISTER)
async def change_role(services: Services, fleet: FleetScope, where: str, member: str, body: NewRole) -> Response:
    """Another role in a project."""
    project = await project_of(services, fleet, where)
    change = RoleChange([f"roles/{body.role}"])
    await members.change_project_member(services, project, member, UpdateQuery(), change)
    return redirect(services, PATH, where=where, said=f"The role is {ROLES[body.role].title.lower()} now")


@page("POST", MEMBER + "/remove", permission=Permission.ADMINISTER)
async def remove(services: Services, fleet: FleetScope, where: str, member: str) -> Response:
    """Take a role away."""
    if where == ORGANIZATION:
        await members.remove_organization_member(services, organization_of(fleet), member)
    else:
        await members.remove_project_member(services, await project_of(services, fleet, where), member)
    return redirect(services, PATH, where=where, said="The member is removed")


PAGES = (show_people, invite, link, change_role, remove)
