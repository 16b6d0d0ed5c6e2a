"""What an open page is told as it happens: one server-sent stream for a page.

    event: beat     every few seconds: the gateway is there, and this page is as it is
    event: state    the device's newest values, at most once a second

A page whose stream is silent, or over, says since when it is stale; it asks again by itself (`assets/live.js`). A
stream ends with the edge, and when the person may not see the device any more, which is looked at once a minute.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.api.callers.people import PERSON
from gateway.api.scopes import FleetScope
from gateway.ingest.connection import ENDLESS
from gateway.live_states import StateWatch
from gateway.permissions import Permission
from gateway.portal.page import page
from gateway.portal.rendering import HEADERS
from gateway.refusals import Refusal, Unavailable, retry_after_s
from gateway.services import Services
from gateway.stores.devices import device_view
from gateway.stores.devices.states import DeviceState
from schemas.device_status import is_offline
from schemas.postgres import PostgresAway

BEAT_S = 5.0
RECHECK_BEATS = 12
RETRY = b"retry: 2000\n\n"
BEAT = b"event: beat\ndata:\n\n"


@page("GET", "/live", permission=Permission.READ)
async def follow_gateway(services: Services, request: Request, fleet: FleetScope) -> Response:
    """That the gateway is there."""
    return _stream(services, request, fleet, None)


@page("GET", "/devices/{device_id}/live", permission=Permission.READ)
async def follow_device(services: Services, request: Request, fleet: FleetScope, device_id: UUID) -> Response:
    """A device's newest values."""
    await fleet.over(services, device_id)
    return _stream(services, request, fleet, device_id)


def _stream(services: Services, request: Request, fleet: FleetScope, device_id: UUID | None) -> Response:
    async def recheck() -> None:
        principal = await PERSON.prove(services, request)
        again = FleetScope.of(principal, fleet.id, Permission.READ)
        if device_id is not None:
            await again.over(services, device_id)

    watch = StateWatch(fleet.principal.id, device_id)
    if services.closing.is_set():
        raise Unavailable("This edge is shutting down", retry_after_s=retry_after_s())
    services.live.check_room(watch.person)
    request.scope["extensions"][ENDLESS] = True
    headers = {**HEADERS, "x-accel-buffering": "no"}
    return StreamingResponse(_told(services, watch, recheck), media_type="text/event-stream", headers=headers)


async def _told(services: Services, watch: StateWatch, recheck: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
    closing = asyncio.ensure_future(services.closing.wait())
    services.live.begin(watch)
    try:
        yield RETRY + BEAT
        beats = 0
        while not closing.done():
            news = asyncio.ensure_future(watch.news.wait())
            try:
                await asyncio.wait((news, closing), timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if watch.news.is_set():
                watch.news.clear()
                if watch.state is not None:
                    yield b"event: state\ndata: %b\n\n" % _shown(watch.state)
                continue
            beats += 1
            if beats % RECHECK_BEATS == 0:
                try:
                    await recheck()
                except (Refusal, PostgresAway) as error:
                    if isinstance(error, Refusal):
                        return
            yield BEAT
    finally:
        closing.cancel()
        services.live.end(watch)


def _shown(state: DeviceState) -> bytes:
    """The state as scripts of pages take it."""
    return msgspec.json.encode(
        {
            "values": device_view.flat(state.telemetries),
            "status": state.status,
            "state_at": state.state_at,
            "last_seen_at": state.last_seen_at,
            "offline": is_offline(state),
        }
    )


PAGES = (follow_gateway, follow_device)
