"""The cloud connectors of an organization, and making one: by provider, with a link to send to whoever has the vendor's
credentials.
"""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.api.scopes import FleetScope, OrganizationScope
from gateway.api.validation import Name, Text
from gateway.organization import cloud_connectors, cloud_providers, spaces
from gateway.organization.cloud_connectors import ConnectorsQuery, NewConnector
from gateway.organization.cloud_providers import Provider
from gateway.permissions import Permission
from gateway.portal import spaces_offered
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services

PATH = "/cloud-connectors"


class NewQuery(Struct, kw_only=True):
    """Which provider, and which spaces are offered: those with this in their path."""

    provider: str = ""
    spaces: Annotated[str, Meta(max_length=200)] = ""


class NewCloudConnector(Struct):
    """A connector to make; its project is that of the space."""

    provider: Name
    space_id: UUID
    name: Name | None = None
    settings: dict[Name, Text] = {}
    follow_spaces: bool = False


@page("GET", PATH, permission=Permission.READ)
async def show_all(services: Services, fleet: FleetScope, query: ConnectorsQuery) -> View:
    """The list."""
    listed = await cloud_connectors.list_connectors(services, fleet, query)
    titles = {one.id: one.title for one in await cloud_providers.list_providers(services, fleet.organization)}
    return View("cloud_connectors.html", {"page": listed, "titles": titles})


@page("GET", PATH + "/new", permission=Permission.DEVELOP)
async def show_new(services: Services, fleet: FleetScope, query: NewQuery, form: Form) -> View:
    """The providers; of the one that is chosen the form."""
    known = await cloud_providers.list_providers(services, fleet.organization)
    wanted = query.provider or form.of("create").value("provider")
    chosen = next((one for one in known if one.id == wanted and one.error is None), None)
    offered, there_are_more = await spaces_offered.found(services, fleet, query.spaces)
    return View(
        "cloud_connector_new.html",
        {
            "providers": known,
            "provider": chosen,
            "offered": offered,
            "there_are_more": there_are_more or bool(query.spaces),
            "part": query.spaces,
            "form": form,
        },
    )


@page("POST", PATH, permission=Permission.DEVELOP, shown_by=show_new)
async def create(services: Services, fleet: FleetScope, body: NewCloudConnector) -> View | Response:
    """Make it, and show the link and the passcode, which nobody can read again."""
    organization = await fleet.at(services, body.space_id)
    space = await spaces.read_space(services, organization, body.space_id)
    wanted = NewConnector(
        provider=body.provider,
        project_id=space.project_id,
        space_id=body.space_id,
        name=body.name,
        settings=body.settings,
        follow_spaces=body.follow_spaces,
    )
    made = await cloud_connectors.create_connector(services, organization, wanted)
    return View("cloud_connector_link.html", {"connector": made.connector, "link": made.authentication, "is_new": True})


async def provider_of(services: Services, organization: OrganizationScope, provider: str) -> Provider | None:
    """What is known of a provider; None where its manifest is gone."""
    known = await cloud_providers.list_providers(services, organization)
    return next((one for one in known if one.id == provider), None)


PAGES = (show_all, show_new, create)
