"""The simulator: a device that lives in the reader's browser, and calls as devices do."""

from starlette.requests import Request

from gateway.api.callers.readers import READER
from gateway.portal.docs import view
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services


@page("GET", "/docs/simulator", caller=READER)
async def simulator(services: Services, request: Request) -> View:
    """The device's controls; all it does is done by its script."""
    return view(request, "docs_simulator.html")


PAGES = (simulator,)
