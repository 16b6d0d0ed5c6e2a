"""Where the portal begins: at what the person's roles show first."""

from starlette.responses import Response

from gateway.api.principals import Principal
from gateway.portal import navigation, visitor
from gateway.portal.page import page
from gateway.portal.rendering import redirect
from gateway.services import Services


@page("GET", "/")
async def home(services: Services, person: Principal) -> Response:
    """Lead on to the overview, or what else comes first."""
    return redirect(services, navigation.home(await visitor.of(services, person, "")))


PAGES = (home,)
