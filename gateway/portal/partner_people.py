"""People with a role as vendor: who they are, invitations, other roles."""

from typing import Literal

from msgspec import Struct
from starlette.responses import Response

from gateway.api.page_tokens import PageQuery
from gateway.api.scopes import MakerScope
from gateway.people import partner_members
from gateway.permissions import ROLES, VENDOR_ROLES, Permission
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services
from gateway.v2.members import Email

PATH = "/partner/people"
MEMBER = PATH + "/{member}"
PartnerRole = Literal["partner.user", "partner.admin"]


class NewMember(Struct):
    """Whom to invite, as what."""

    email: Email
    role: PartnerRole


class NewRole(Struct):
    """As what from now on."""

    role: PartnerRole


@page("GET", PATH, permission=Permission.ORGANIZE)
async def show_people(services: Services, maker: MakerScope, query: PageQuery, form: Form) -> View:
    """Those who have a role as vendor."""
    found, token = await partner_members.listed(services, maker, query)
    roles = [(role, ROLES[role].title) for role in VENDOR_ROLES]
    values = {"members": found, "next_page_token": token, "roles": roles, "form": form}
    return View("partner_people.html", values)


@page("POST", PATH, permission=Permission.ORGANIZE, shown_by=show_people)
async def invite(services: Services, maker: MakerScope, body: NewMember) -> View:
    """Invite someone, and show the link to send."""
    member = await partner_members.invite(services, maker, body.email, body.role)
    if member.person_id is None:
        return _shown(await partner_members.link(services, maker, member.id))
    return View("invited.html", {"member": member, "link": None, "sending": None, "back": PATH})


@page("POST", MEMBER + "/link", permission=Permission.ORGANIZE, shown_by=show_people)
async def link(services: Services, maker: MakerScope, member: str) -> View:
    """Another link for someone who was invited."""
    return _shown(await partner_members.link(services, maker, member))


def _shown(invited: partner_members.Invited) -> View:
    return View("invited.html", invited._asdict() | {"back": PATH})


@page("POST", MEMBER + "/role", permission=Permission.ORGANIZE, shown_by=show_people)
async def change_role(services: Services, maker: MakerScope, member: str, body: NewRole) -> Response:
    """Another role."""
    await partner_members.change_role(services, maker, member, body.role)
    return redirect(services, PATH, said=f"The role is {ROLES[body.role].title.lower()} now")


@page("POST", MEMBER + "/remove", permission=Permission.ORGANIZE)
async def remove(services: Services, maker: MakerScope, member: str) -> Response:
    """Take a role away."""
    await partner_members.remove(services, maker, member)
    return redirect(services, PATH, said="The member is removed")


PAGES = (show_people, invite, link, change_role, remove)
