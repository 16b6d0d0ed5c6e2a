"""One cloud connector: its state in words, what it imported, its runs, a list that is held; and all that people do."""

import contextlib
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gateway.api.scopes import FleetScope, OrganizationScope
from gateway.api.validation import Name, Text
from gateway.organization import cloud_connectors, connector_runs, spaces
from gateway.organization.cloud_connectors import ConnectorChange, Deletion, SeenList
from gateway.organization.connector_runs import ImportedQuery, RunsQuery
from gateway.permissions import Permission
from gateway.portal.cloud_connectors import PATH, provider_of
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.connectors.runs import Run

ONE = PATH + "/{connector_id}"
LAST_RUNS = 5


class Restored(Struct):
    """Which device."""

    vendor_id: str


class Confirmed(Struct):
    """What was typed to show that it is meant."""

    confirmed: str = ""


class SettingsForm(Struct):
    """What the form of settings has."""

    name: Name
    settings: dict[Name, Text] = {}
    follow_spaces: bool = False


@page("GET", ONE, permission=Permission.READ)
async def show(services: Services, fleet: FleetScope, connector_id: str, form: Form) -> View:
    """How it is, what needs a person, and what was done last."""
    organization = await fleet.over_cloud(services, connector_id)
    values = await _about(services, organization, connector_id)
    held = values["connector"].held
    held_run: Run | None = None
    if held is not None and held.run_id is not None:
        with contextlib.suppress(NotFound):  # it is older than the last hundred runs
            held_run = await connector_runs.read_run(services, organization, connector_id, str(held.run_id))
    last = await connector_runs.list_runs(
        services, organization, connector_id, RunsQuery(kind="inventory", per_page=LAST_RUNS)
    )
    space = await spaces.read_space(services, organization, values["connector"].space_id)
    values |= {"form": form, "held": held, "held_run": held_run, "runs": last.items, "space": space.full_path}
    return View("cloud_connector.html", values)


@page("GET", ONE + "/devices", permission=Permission.READ)
async def show_devices(services: Services, fleet: FleetScope, connector_id: str, query: ImportedQuery) -> View:
    """What it imported."""
    organization = await fleet.over_cloud(services, connector_id)
    values = await _about(services, organization, connector_id)
    values["page"] = await connector_runs.list_imported(services, organization, connector_id, query)
    return View("cloud_connector_devices.html", {**values, "state": query.state})


@page("GET", ONE + "/runs", permission=Permission.READ)
async def show_runs(services: Services, fleet: FleetScope, connector_id: str, query: RunsQuery) -> View:
    """How the last hundred went."""
    organization = await fleet.over_cloud(services, connector_id)
    values = await _about(services, organization, connector_id)
    values["page"] = await connector_runs.list_runs(services, organization, connector_id, query)
    return View("cloud_connector_runs.html", {**values, "kind": query.kind})


@page("GET", ONE + "/runs/{run}", permission=Permission.READ)
async def show_run(services: Services, fleet: FleetScope, connector_id: str, run: str) -> View:
    """One run: what it changed or would have, and what it skipped and why."""
    organization = await fleet.over_cloud(services, connector_id)
    values = await _about(services, organization, connector_id)
    values["run"] = await connector_runs.read_run(services, organization, connector_id, run)
    return View("cloud_connector_run.html", values)


@page("GET", ONE + "/settings", permission=Permission.READ)
async def show_settings(services: Services, fleet: FleetScope, connector_id: str, form: Form) -> View:
    """Its name, its settings, its credentials, its end."""
    organization = await fleet.over_cloud(services, connector_id)
    values = await _about(services, organization, connector_id)
    return View("cloud_connector_settings.html", {**values, "form": form})


@page("POST", ONE + "/settings", permission=Permission.DEVELOP, shown_by=show_settings)
async def change(services: Services, fleet: FleetScope, connector_id: str, body: SettingsForm) -> Response:
    """Rename it, or change its settings."""
    organization = await fleet.over_cloud(services, connector_id)
    wanted = ConnectorChange(name=body.name, settings=body.settings, follow_spaces=body.follow_spaces)
    changed = await cloud_connectors.update_connector(services, organization, connector_id, wanted)
    ended = changed.status == "Unauthenticated"
    said = "Saved. The credentials were for another place: make a new link" if ended else "Saved"
    return redirect(services, PATH, connector_id, "settings", said=said)


@page("POST", ONE + "/enable", permission=Permission.DEVELOP, shown_by=show)
async def enable(services: Services, fleet: FleetScope, connector_id: str) -> Response:
    """Go on."""
    organization = await fleet.over_cloud(services, connector_id)
    await cloud_connectors.enable_connector(services, organization, connector_id)
    return redirect(services, PATH, connector_id, said="It goes on with the same credentials, at once")


@page("POST", ONE + "/disable", permission=Permission.DEVELOP, shown_by=show)
async def disable(services: Services, fleet: FleetScope, connector_id: str) -> Response:
    """Stop it."""
    organization = await fleet.over_cloud(services, connector_id)
    await cloud_connectors.disable_connector(services, organization, connector_id)
    return redirect(services, PATH, connector_id, said="It is stopped; its devices stay, and show disconnected")


@page("POST", ONE + "/sync", permission=Permission.DEVELOP, shown_by=show)
async def sync(services: Services, fleet: FleetScope, connector_id: str) -> Response:
    """Run at once."""
    organization = await fleet.over_cloud(services, connector_id)
    await cloud_connectors.sync_now(services, organization, connector_id)
    return redirect(services, PATH, connector_id, "runs", said="A run begins as soon as a worker is free")


@page("POST", ONE + "/preview", permission=Permission.DEVELOP, shown_by=show)
async def preview(services: Services, fleet: FleetScope, connector_id: str) -> Response:
    """See what a run would change."""
    organization = await fleet.over_cloud(services, connector_id)
    run = await connector_runs.begin_preview(services, organization, connector_id)
    return redirect(services, PATH, connector_id, "runs", run.id)


@page("POST", ONE + "/confirm", permission=Permission.DEVELOP, shown_by=show)
async def confirm(services: Services, fleet: FleetScope, connector_id: str, body: SeenList) -> Response:
    """Let the list that was seen be applied."""
    organization = await fleet.over_cloud(services, connector_id)
    await cloud_connectors.confirm(services, organization, connector_id, body)
    return redirect(services, PATH, connector_id, said="The list is applied by the next run, which begins now")


@page("POST", ONE + "/reject", permission=Permission.DEVELOP, shown_by=show)
async def reject(services: Services, fleet: FleetScope, connector_id: str, body: SeenList) -> Response:
    """Keep the devices that the list that was seen would take away."""
    organization = await fleet.over_cloud(services, connector_id)
    await cloud_connectors.reject(services, organization, connector_id, body)
    return redirect(services, PATH, connector_id, said="The devices stay, however often such a list comes")


@page("POST", ONE + "/link", permission=Permission.DEVELOP)
async def make_link(services: Services, fleet: FleetScope, connector_id: str) -> View:
    """A new link and passcode, which nobody can read again."""
    organization = await fleet.over_cloud(services, connector_id)
    link = await cloud_connectors.regenerate_link(services, organization, connector_id)
    connector = await cloud_connectors.read_connector(services, organization, connector_id)
    return View("cloud_connector_link.html", {"connector": connector, "link": link, "is_new": False})


@page("POST", ONE + "/consent", permission=Permission.DEVELOP, shown_by=show_settings)
async def renew_consent(services: Services, fleet: FleetScope, connector_id: str) -> View:
    """A link for passing the vendor's consent again."""
    organization = await fleet.over_cloud(services, connector_id)
    link = await cloud_connectors.reauthenticate(services, organization, connector_id)
    connector = await cloud_connectors.read_connector(services, organization, connector_id)
    return View("cloud_connector_link.html", {"connector": connector, "link": link, "is_new": False})


@page("POST", ONE + "/restore", permission=Permission.DEVELOP)
async def restore(services: Services, fleet: FleetScope, connector_id: str, body: Restored) -> Response:
    """Let a device that somebody deleted here be imported again."""
    organization = await fleet.over_cloud(services, connector_id)
    await connector_runs.restore_device(services, organization, connector_id, body.vendor_id)
    said = "It is imported again by the next run, as a new device"
    return redirect(services, PATH, connector_id, "devices", said=said, state="excluded")


@page("POST", ONE + "/delete", permission=Permission.DEVELOP, shown_by=show_settings)
async def delete(services: Services, fleet: FleetScope, connector_id: str, body: Confirmed) -> Response:
    """Delete it with all its devices, if that is meant."""
    organization = await fleet.over_cloud(services, connector_id)
    deleted = await cloud_connectors.delete_connector(
        services, organization, connector_id, Deletion(name=body.confirmed)
    )
    said = f"{body.confirmed} is deleted, and {deleted.deleted_devices} devices with it"
    return redirect(services, PATH, said=said)


async def _about(services: Services, organization: OrganizationScope, connector_id: str) -> dict[str, Any]:
    """What every page of a connector shows."""
    found = await cloud_connectors.read_connector(services, organization, connector_id)
    return {
        "connector": found,
        "provider": await provider_of(services, organization, found.provider),
        "may_change": Permission.DEVELOP in organization.principal.permissions(organization.id, found.project_id),
    }


PAGES = (
    show,
    show_devices,
    show_runs,
    show_run,
    show_settings,
    change,
    enable,
    disable,
    sync,
    preview,
    confirm,
    reject,
    make_link,
    renew_consent,
    restore,
    delete,
)
