"""Device models that the organization makes: what their devices are, how long they may be silent, what they hold."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.api.scopes import MakerScope
from gateway.organization import models
from gateway.organization.models import ModelChange, ModelsQuery, NewModel
from gateway.permissions import Permission
from gateway.portal.forms import DoesNotFitFields, Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services

PATH = "/models"
ONE = PATH + "/{model_id}"
NOT_THE_NAME = "This is not the name: nothing was deleted"


class Confirmation(Struct):
    """The name of what is to be deleted, typed."""

    confirmed: Annotated[str, Meta(max_length=255)]

    def check(self, name: str) -> None:
        """Raises DoesNotFitFields for another name."""
        if self.confirmed != name:
            raise DoesNotFitFields({"confirmed": NOT_THE_NAME})


@page("GET", PATH, permission=Permission.READ)
async def show_models(services: Services, organization: MakerScope, query: ModelsQuery, form: Form) -> View:
    """The organization's own models."""
    found = await models.list_models(services, organization, query)
    return View("models.html", {"models": found, "asked": query, "form": form})


@page("POST", PATH, permission=Permission.DEVELOP, shown_by=show_models)
async def create_model(services: Services, organization: MakerScope, body: NewModel) -> Response:
    """Make a model."""
    made = await models.create_model(services, organization, body)
    return redirect(services, PATH, made.id, said="The model is made: now its commands and a hardware key")


@page("GET", ONE, permission=Permission.READ)
async def show_model(services: Services, organization: MakerScope, model_id: UUID, form: Form) -> View:
    """One model: its limits, and what its telemetry means."""
    model = await models.read_model(services, organization, model_id)
    return View("model.html", {"model": model, "form": form})


@page("POST", ONE, permission=Permission.DEVELOP, shown_by=show_model)
async def change_model(services: Services, organization: MakerScope, model_id: UUID, body: ModelChange) -> Response:
    """Change what was typed; an empty field leaves what is."""
    await models.change_model(services, organization, model_id, body)
    return redirect(services, PATH, model_id, said="The model is changed")


@page("POST", ONE + "/mapping", permission=Permission.DEVELOP, shown_by=show_model)
async def change_mapping(services: Services, organization: MakerScope, model_id: UUID, body: ModelChange) -> Response:
    """Map telemetry keys to events."""
    await models.change_model(services, organization, model_id, body)
    return redirect(services, PATH, model_id, said="The mapping counts for the next messages")


@page("POST", ONE + "/delete", permission=Permission.DEVELOP, shown_by=show_model)
async def delete_model(services: Services, organization: MakerScope, model_id: UUID, body: Confirmation) -> Response:
    """Delete a model that no device was registered with."""
    body.check((await models.read_model(services, organization, model_id)).name)
    await models.delete_model(services, organization, model_id)
    return redirect(services, PATH, said="The model is deleted")


PAGES = (show_models, create_model, show_model, change_model, change_mapping, delete_model)
