"""Where the portal begins: at what the person's roles show first."""

from starlette.responses import Response

from gateway.api.principals import Principal
from gateway.portal.page import page
from gateway.portal.rendering import redirect
from gateway.services import Services


@page("GET", "/")
async def home(services: Services, person: Principal) -> Response:
    """Lead on to the overview."""
    return redirect(services, "/overview")


PAGES = (home,)
