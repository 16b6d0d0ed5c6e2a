"""Incidents, as the device opens, sees and closes them."""

from uuid import UUID

import msgspec
from msgspec import Struct

from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, Success, endpoint
from gateway.api.page_bytes import fitting
from gateway.api.validation import Label, Name, Text, check_priority
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.incidents import reporting
from gateway.stores.incidents.incidents import UNKNOWN
from gateway.stores.incidents.reporting import OpenIncident
from schemas import incidents
from schemas.ids import uuid_of
from schemas.incidents import Opening

LISTED_MAX = 1_000
_encode = msgspec.json.Encoder().encode
INCIDENTS = "/v1/devices/{device_id}/incidents"


class IncidentReport(Struct):
    """What is wrong. `priority` goes from 1 (critical) to 5 (planning).

    One incident is open for each `issue`, which is the title where none is given: reported again, it stays as it is.
    """

    title: Name
    description: Text | None = None
    priority: int | None = None
    issue: Label | None = None


class IncidentId(Struct):
    """Which incident it is; null while incidents of the device are suspended, or its space is in maintenance."""

    incident_id: UUID | None


@endpoint("POST", INCIDENTS, caller=DEVICE, errors={429: "It calls too often, or has too many open incidents."})
async def open_incident(services: Services, device: DeviceCaller, body: IncidentReport) -> IncidentId:
    """Open an incident of the device."""
    priority = incidents.PRIORITY if body.priority is None else body.priority
    check_priority(priority)
    opening = Opening(device.id, "device", body.issue or body.title, body.title, body.description or "", priority)
    async with change(services) as changed:
        return IncidentId(await reporting.open_one(changed, opening))


@endpoint("GET", INCIDENTS, caller=DEVICE)
async def list_incidents(services: Services, device: DeviceCaller) -> list[OpenIncident]:
    """List the device's open incidents, whoever opened them, oldest first; of very many the oldest."""
    found = await reporting.open_ones(services.postgres, device.id, LISTED_MAX)
    return found[: fitting(len(_encode(one)) for one in found)]


@endpoint("DELETE", f"{INCIDENTS}/{{incident_id}}", caller=DEVICE, errors={404: f"{UNKNOWN}."})
async def close_incident(services: Services, device: DeviceCaller, incident_id: str) -> Success:
    """Close an incident that the device or a person opened; what a rule opened the rule closes."""
    found = uuid_of(incident_id)
    if found is None:
        raise NotFound(UNKNOWN)
    async with change(services) as changed:
        await reporting.close_one(changed, device.id, found)
    return Success()


@endpoint("DELETE", INCIDENTS, caller=DEVICE)
async def close_incidents(services: Services, device: DeviceCaller) -> Success:
    """Close all incidents that the device opened, as after a reboot."""
    async with change(services) as changed:
        await incidents.close_all(changed.connection, [device.id], changed.moment, ["device"])
    return Success()


ENDPOINTS: tuple[Endpoint, ...] = (open_incident, list_incidents, close_incident, close_incidents)
