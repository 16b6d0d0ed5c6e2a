"""Flow diagrams, drawn with links to the calls that they name."""

from markupsafe import Markup
from starlette.requests import Request

from gateway.api.callers.readers import READER
from gateway.developers.flows import FLOWS, svg
from gateway.portal.docs import centre_of, view
from gateway.portal.page import page
from gateway.portal.rendering import View, prefix_of
from gateway.services import Services


@page("GET", "/docs/flows", caller=READER)
async def flows(services: Services, request: Request) -> View:
    """All diagrams."""
    known = centre_of(request).addresses
    root = f"{prefix_of(services)}/docs"
    # The drawing escapes every text of a flow itself.
    drawn = [
        (name, flow, Markup(svg(flow, lambda call: root + known[call])))  # noqa: S704
        for name, flow in FLOWS.items()
    ]
    return view(request, "docs_flows.html", drawn=drawn)


PAGES = (flows,)
