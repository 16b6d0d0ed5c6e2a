"""Where an invitation leads: /invitations/<member>.

People cannot sign in yet; the page says so, and what can be done meanwhile. Of the invitation it tells no more than the
organization's name.
"""

import logging
from html import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.texts import is_text
from gateway.connect.pages import page_of
from gateway.services import Services
from gateway.stores.accounts import members
from schemas import logs
from schemas.postgres import PostgresAway

log = logging.getLogger(__name__)

PATH = "/invitations"


def url(services: Services, member_id: str) -> str:
    """The address of an invitation."""
    return f"{services.url}{PATH}/{member_id}"


async def show(request: Request) -> Response:
    """The page of an invitation."""
    services: Services = request.state.services
    member_id = request.path_params["member_id"]
    try:
        organization = await members.inviting(services.postgres, member_id) if is_text(member_id) else None
    except PostgresAway as error:
        logs.event(log, logging.WARNING, "postgres_unavailable", path=PATH, cause=str(error))
        return page_of("That did not work", "The database is away. Try again in a minute.", 503)
    if organization is None:
        return page_of(
            "This invitation has ended", "Ask whoever sent it whether you are still meant to be a member.", 404
        )
    return page_of(
        f"You are invited to {escape(organization)}",
        "<p>Your invitation is kept. People cannot sign in here yet; once they can, this page leads on.</p>"
        "<p>Until then a program can look for you: ask whoever invited you for the key of a service account. "
        "<a href='/docs'>How it is used</a></p>",
        200,
    )


ROUTES = (Route(f"{PATH}/{{member_id}}", show, methods=["GET"]),)
