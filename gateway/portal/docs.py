"""The developer centre's first page, and the frame that all its pages share."""

from typing import Any

from starlette.requests import Request

from gateway.api.callers.readers import READER
from gateway.developers.centre import Centre
from gateway.portal.navigation import Destination, Group
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services

AREAS = {"device": "Devices: /v1", "organization": "Owners: /core", "partner": "Vendors: /core", "v2": "Projects: /v2"}
BEGINNING = (
    ("Developer centre", "/docs"),
    ("Quickstart", "/docs/quickstart"),
    ("Flows", "/docs/flows"),
    ("Guides", "/docs/guides"),
    ("Simulator", "/docs/simulator"),
    ("Reference", "/docs/reference"),
)


def centre_of(request: Request) -> Centre:
    """What the centre shows."""
    found: Centre = request.app.state.centre
    return found


def view(request: Request, template: str, **values: Any) -> View:
    """A page of the centre, with its own navigation; whoever is signed in is led back to the fleet."""
    centre = centre_of(request)
    groups = [Group("Build", tuple(Destination(title, path, "", "") for title, path in BEGINNING))]
    for area, title in AREAS.items():
        topics = (topic for topic in centre.topics.values() if topic.area == area)
        leads = (Destination(topic.title.capitalize(), f"/docs/reference/{topic.slug}", "", "") for topic in topics)
        groups.append(Group(title, tuple(leads)))
    back = Group("Fleet", (Destination("Back to the portal", "/overview", "", ""),))
    if hasattr(request.state, "signed_in"):
        groups.insert(0, back)
    return View(template, {"navigation": groups, **values})


@page("GET", "/docs", caller=READER)
async def docs(services: Services, request: Request) -> View:
    """What there is to begin with."""
    return view(request, "docs.html", calls=sum(len(topic.lines) for topic in centre_of(request).topics.values()))


PAGES = (docs,)
