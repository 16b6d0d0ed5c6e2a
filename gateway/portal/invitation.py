"""An invitation to an organization: accepted with a new account, or as who is signed in."""

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.callers import people
from gateway.people import links
from gateway.permissions import ROLES
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.portal.sign_in import HOME
from gateway.services import Services

PATH = links.INVITATIONS + "/{invitation}"


class Acceptance(Struct):
    """A new account; whoever is signed in has one."""

    name: Annotated[str, Meta(max_length=255)] = ""
    password: str = ""


@page("GET", PATH, caller=None)
async def show_invitation(services: Services, request: Request, invitation: str, form: Form) -> View:
    """Whereto, as what, and how to accept."""
    found = await links.invitation(services, invitation)
    here = await people.look(services, request)
    return View(
        "invitation.html",
        {
            "invited": found,
            "role": ROLES[found.role],
            "address": f"{links.INVITATIONS}/{invitation}",
            "signed_in": None if here is None else here.session.email,
            "mine": here is not None and here.session.person_id == found.person_id,
            "form": form,
        },
    )


@page("POST", PATH, caller=None, shown_by=show_invitation)
async def accept(services: Services, request: Request, invitation: str, body: Acceptance) -> Response:
    """Become a member."""
    await links.accept(services, request, invitation, body.name.strip(), body.password)
    return redirect(services, HOME)


PAGES = (show_invitation, accept)
