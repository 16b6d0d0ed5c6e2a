"""What is wrong with the devices of the partner's models, whoever owns them."""

from uuid import UUID

from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page
from gateway.api.scopes import VendorScope
from gateway.organization.incidents import IncidentsQuery, incident_page
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.incidents import incidents
from gateway.stores.incidents.incidents import Incident


@endpoint("GET", "/core/v1/partner/incidents", caller=PARTNER_KEY, permission=Permission.READ)
async def list_incidents(services: Services, partner: VendorScope, query: IncidentsQuery) -> Page[Incident]:
    """List incidents of the devices of the partner's models, newest first."""
    return await incident_page(services, partner, "vendor_id", query)


@endpoint(
    "GET",
    "/core/v1/partner/incidents/{incident_id}",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "Incident not found."},
)
async def read_incident(services: Services, partner: VendorScope, incident_id: UUID) -> Incident:
    """Read one incident."""
    return await incidents.read(services.postgres, "vendor_id", partner.id, incident_id)


ENDPOINTS = (list_incidents, read_incident)
