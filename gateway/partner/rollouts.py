"""Firmware rollouts of a vendor to all devices of its models, whoever owns them."""

from uuid import UUID

from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page
from gateway.api.scopes import VendorScope
from gateway.organization.rollouts import (
    NewRollout,
    RolloutDevicesQuery,
    RolloutPatch,
    RolloutsQuery,
    act,
    create,
    devices_of,
    page_of,
    reach_of,
    update,
)
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.rollouts import rollout_view
from gateway.stores.rollouts.plans import Issuer
from gateway.stores.rollouts.rollout_view import Rollout, RolloutDevice, RolloutSummary

_ROLLOUTS = "/core/v1/partner/rollouts"
_NOT_FOUND = {404: "Rollout not found."}
_ACTION = {**_NOT_FOUND, 409: "Not in the state that the rollout is in."}


@endpoint("GET", _ROLLOUTS, caller=PARTNER_KEY, permission=Permission.READ)
async def list_rollouts(services: Services, partner: VendorScope, query: RolloutsQuery) -> Page[RolloutSummary]:
    """List rollouts to the devices of the vendor's models, newest first."""
    return await page_of(services, Issuer(partner.id, True), query)


@endpoint("POST", _ROLLOUTS, caller=PARTNER_KEY, permission=Permission.ADMINISTER, status=201)
async def create_rollout(services: Services, partner: VendorScope, body: NewRollout) -> Rollout:
    """Plan a rollout of firmware; nobody is offered it before the rollout reaches them."""
    return await create(services, Issuer(partner.id, True), body, partner.principal.id)


@endpoint("GET", f"{_ROLLOUTS}/{{rollout_id}}", caller=PARTNER_KEY, permission=Permission.READ, errors=_NOT_FOUND)
async def read_rollout(services: Services, partner: VendorScope, rollout_id: UUID) -> Rollout:
    """Read a rollout, with its devices counted by wave and outcome."""
    return await rollout_view.read(services.postgres, Issuer(partner.id, True), rollout_id)


@endpoint(
    "PATCH",
    f"{_ROLLOUTS}/{{rollout_id}}",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    errors={**_NOT_FOUND, 409: "That cannot be changed any more."},
)
async def change_rollout(services: Services, partner: VendorScope, rollout_id: UUID, body: RolloutPatch) -> Rollout:
    """Change a rollout: anything in a draft, later its pace, window, limits and the waves that have not begun."""
    return await update(services, Issuer(partner.id, True), rollout_id, body)


@endpoint(
    "GET",
    f"{_ROLLOUTS}/{{rollout_id}}/devices",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors=_NOT_FOUND,
)
async def list_rollout_devices(
    services: Services, partner: VendorScope, rollout_id: UUID, query: RolloutDevicesQuery
) -> Page[RolloutDevice]:
    """List the devices of a rollout, each with its part."""
    return await devices_of(services, Issuer(partner.id, True), rollout_id, query)


@endpoint(
    "POST",
    f"{_ROLLOUTS}/{{rollout_id}}/start",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    errors=_ACTION,
)
async def start_rollout(services: Services, partner: VendorScope, rollout_id: UUID) -> Rollout:
    """Start a draft: at once, at its time, or once another person has approved it."""
    return await act(services, Issuer(partner.id, True), rollout_id, "start", partner.principal.id)


@endpoint(
    "POST",
    f"{_ROLLOUTS}/{{rollout_id}}/approve",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    errors={**_ACTION, 403: "By the one who made or started it."},
)
async def approve_rollout(services: Services, partner: VendorScope, rollout_id: UUID) -> Rollout:
    """Approve a rollout that somebody else made and started."""
    return await act(services, Issuer(partner.id, True), rollout_id, "approve", partner.principal.id)


@endpoint(
    "POST",
    f"{_ROLLOUTS}/{{rollout_id}}/pause",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    errors=_ACTION,
)
async def pause_rollout(services: Services, partner: VendorScope, rollout_id: UUID) -> Rollout:
    """Pause a rollout: who has not begun is not offered the firmware any more, who has is left alone."""
    return await act(services, Issuer(partner.id, True), rollout_id, "pause", partner.principal.id)


@endpoint(
    "POST",
    f"{_ROLLOUTS}/{{rollout_id}}/resume",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    errors=_ACTION,
)
async def resume_rollout(services: Services, partner: VendorScope, rollout_id: UUID) -> Rollout:
    """Go on with a rollout that was paused."""
    return await act(services, Issuer(partner.id, True), rollout_id, "resume", partner.principal.id)


@endpoint(
    "POST",
    f"{_ROLLOUTS}/{{rollout_id}}/abort",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    errors=_ACTION,
)
async def abort_rollout(services: Services, partner: VendorScope, rollout_id: UUID) -> Rollout:
    """End a rollout: who has not begun is not offered the firmware any more, who has is left alone."""
    return await act(services, Issuer(partner.id, True), rollout_id, "abort", partner.principal.id)


@endpoint(
    "POST",
    f"{_ROLLOUTS}/{{rollout_id}}/next_wave",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    errors=_ACTION,
)
async def begin_next_wave(services: Services, partner: VendorScope, rollout_id: UUID) -> Rollout:
    """Let the wave pass that waits for a person."""
    return await act(services, Issuer(partner.id, True), rollout_id, "next_wave", partner.principal.id)


async def reach(services: Services, partner: VendorScope, file_id: UUID) -> int:
    """How many devices a rollout of this file would be for, today; shares of waves are of these."""
    return await reach_of(services, Issuer(partner.id, True), file_id)


ENDPOINTS = (
    list_rollouts,
    create_rollout,
    read_rollout,
    change_rollout,
    list_rollout_devices,
    start_rollout,
    approve_rollout,
    pause_rollout,
    resume_rollout,
    abort_rollout,
    begin_next_wave,
)
