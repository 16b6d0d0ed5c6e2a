"""Puts one edge together: services, routes, and the tasks that run beside them."""

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from email.utils import formatdate
from importlib.metadata import version
from typing import Any, TypedDict

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from gateway.api import dialects, openapi
from gateway.api.addresses import unnamed_proxy
from gateway.api.endpoint import Endpoint
from gateway.background import Background
from gateway.developers import downloads
from gateway.developers.centre import Centre
from gateway.device import children, config, device, direct_integration, events, registration, space, telemetry
from gateway.device import commands as device_commands
from gateway.device import dumps as device_dumps
from gateway.device import files as device_files
from gateway.device import incidents as device_incidents
from gateway.device import licenses as device_licenses
from gateway.event_tail import EventTail, StreamLimits
from gateway.identity.provider import IdentityProvider
from gateway.ingest.beats import Beats
from gateway.ingest.call_limit import CallLimit
from gateway.ingest.hot_state import HotState
from gateway.ingest.ingest import Ingest
from gateway.ingest.nodes import Nodes
from gateway.ingest.pressure import Pressure
from gateway.ingest.slow_readers import SlowReaders
from gateway.ingest.state_room import StateRoom
from gateway.live_states import LiveStates
from gateway.operations import health
from gateway.operations import metrics as scrape
from gateway.organization import (
    api_keys,
    audit,
    claims,
    cloud_connectors,
    cloud_providers,
    command_definitions,
    commands,
    configs,
    connector_runs,
    device_keys,
    devices,
    dumps,
    files,
    fleet,
    hardware_keys,
    histories,
    incident_rules,
    incidents,
    info,
    licenses,
    models,
    notes,
    partners,
    projects,
    replacements,
    rollouts,
    series,
    spaces,
    tickets,
    users,
)
from gateway.partner import devices as partner_devices
from gateway.partner import histories as partner_histories
from gateway.partner import info as partner_info
from gateway.partner import license_keys
from gateway.partner import organizations as partner_organizations
from gateway.passwords import Passwords
from gateway.portal import static, unserved
from gateway.portal.pages import PAGES
from gateway.services import Services
from gateway.stores.events.tiers import Tiers
from gateway.tenant_shares import TenantShares
from gateway.transfers import Downloads, Transfers
from gateway.v2 import claims as project_claims
from gateway.v2 import (
    data_connectors,
    deliveries,
    delivery_health,
    emulator,
    history,
    labels,
    members,
    memberships,
    organizations,
    roles,
    service_accounts,
    stream,
    tokens,
    transfers,
    well_known,
)
from gateway.v2 import devices as project_devices
from gateway.v2 import projects as visible_projects
from schemas import blobs, logs, placement, postgres, redis
from schemas.egress import EgressPolicy, GuardedResolver
from schemas.manifests import catalog
from schemas.master_keys import MasterKeys
from schemas.metrics import Metrics
from schemas.settings import EdgeSettings, SettingsError

log = logging.getLogger(__name__)


# Fixed words of a path come before places for ids (`claim` before `{device_id}`).
_MOUNTED: tuple[Endpoint, ...] = (
    *registration.ENDPOINTS,
    *telemetry.ENDPOINTS,
    *children.ENDPOINTS,
    *device_commands.ENDPOINTS,
    *device_licenses.ENDPOINTS,
    *config.ENDPOINTS,
    *device.ENDPOINTS,
    *space.ENDPOINTS,
    *events.ENDPOINTS,
    *device_incidents.ENDPOINTS,
    *device_files.ENDPOINTS,
    *device_dumps.ENDPOINTS,
    *direct_integration.ENDPOINTS,
    *info.ENDPOINTS,
    *claims.ENDPOINTS,
    *cloud_providers.ENDPOINTS,
    *cloud_connectors.ENDPOINTS,
    *connector_runs.ENDPOINTS,
    *histories.ENDPOINTS,
    *notes.ENDPOINTS,
    *fleet.ENDPOINTS,
    *devices.ENDPOINTS,
    *series.ENDPOINTS,
    *device_keys.ENDPOINTS,
    *replacements.ENDPOINTS,
    *commands.ENDPOINTS,
    *configs.ENDPOINTS,
    *licenses.ENDPOINTS,
    *incidents.ENDPOINTS,
    *incident_rules.ENDPOINTS,
    *tickets.ENDPOINTS,
    *spaces.ENDPOINTS,
    *models.ENDPOINTS,
    *rollouts.ENDPOINTS,
    *command_definitions.ENDPOINTS,
    *hardware_keys.ENDPOINTS,
    *files.ENDPOINTS,
    *dumps.ENDPOINTS,
    *partners.ENDPOINTS,
    *projects.ENDPOINTS,
    *api_keys.ENDPOINTS,
    *audit.ENDPOINTS,
    *users.ENDPOINTS,
    *partner_info.ENDPOINTS,
    *partner_histories.ENDPOINTS,
    *partner_devices.ENDPOINTS,
    *license_keys.ENDPOINTS,
    *partner_organizations.ENDPOINTS,
    *tokens.ENDPOINTS,
    *roles.ENDPOINTS,
    *organizations.ENDPOINTS,
    *visible_projects.ENDPOINTS,
    *memberships.ENDPOINTS,
    *members.ENDPOINTS,
    *service_accounts.ENDPOINTS,
    *project_devices.ENDPOINTS,
    *labels.ENDPOINTS,
    *project_claims.ENDPOINTS,
    *transfers.ENDPOINTS,
    *history.ENDPOINTS,
    *stream.ENDPOINTS,
    *emulator.ENDPOINTS,
    *delivery_health.ENDPOINTS,
    *deliveries.ENDPOINTS,
    *data_connectors.ENDPOINTS,
    *well_known.ENDPOINTS,
)
ENDPOINTS = tuple(face for endpoint in _MOUNTED for face in endpoint.faces)


class State(TypedDict):
    """The lifespan state, as requests and the HTTP protocol see it."""

    services: Services
    hot: HotState


def make_app(settings: EdgeSettings, metrics: Metrics, background: Background) -> Starlette:
    """The ASGI application of one edge. Connecting happens in its lifespan, and its loops run in `background`."""
    described, document = _documents()
    _link_readers()
    routes: list[BaseRoute] = [
        Route("/livez", health.livez),
        Route("/readyz", health.readyz),
        Route("/metrics", scrape.metrics),
        Route("/openapi.json", _fixed(document, "application/json")),
        *downloads.routes(described),
        *_routes(),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        try:
            async with _services(settings, metrics, background) as state:
                yield state
        except SettingsError as error:
            background.cause = error
            raise

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: _unrouted, Exception: _failed},  # type: ignore[dict-item]
    )
    app.state.centre = Centre(described)
    app.router.redirect_slashes = False  # an address has one spelling
    return app


def _link_readers() -> None:
    """Let what changes a thing know what reads it."""
    readers = {endpoint.path: endpoint for endpoint in ENDPOINTS if endpoint.method == "GET"}
    for endpoint in ENDPOINTS:
        if endpoint.path in readers:
            endpoint.read_by(readers[endpoint.path])


@functools.cache
def _routes() -> tuple[BaseRoute, ...]:
    """Those that hold nothing of an edge, made once a process: to compile their paths takes longer than to connect."""
    return (
        *(endpoint.route() for endpoint in ENDPOINTS),
        *static.ROUTES,
        *(page.route() for page in PAGES),
    )


@functools.cache
def _documents() -> tuple[dict[str, Any], bytes]:
    """The OpenAPI document, and as it is sent."""
    api = openapi.document(ENDPOINTS, version("fleetgate"))
    return api, msgspec.json.encode(api)


@contextlib.asynccontextmanager
async def _services(settings: EdgeSettings, metrics: Metrics, background: Background) -> AsyncIterator[State]:
    pool = await postgres.create_pool(settings.postgres_dsn, "edge", settings.postgres_pool)
    client = redis.connect(settings.redis_url, settings.redis_ca)
    try:
        await postgres.check_sessions(settings.postgres_dsn)
        installation = await postgres.installation(pool)
        master_keys = MasterKeys.fitting(installation.generations, settings)
        placed = await placement.find(pool)
    except BaseException:  # an edge that does not start leaves nothing open
        pool.terminate()
        await client.aclose()
        raise
    for provider, error in catalog.load(settings.manifests).broken.items():
        logs.event(log, logging.WARNING, "manifest_skipped", provider=provider, cause=error)
    tls = bool(settings.tls_certificate)
    if unnamed := unnamed_proxy(os.environ, bind=settings.bind, public_url=settings.public_url, tls=tls):
        logs.event(log, logging.WARNING, "proxy_unnamed", cause=unnamed)
    files_store = blobs.open_store(settings)
    log_in_tiers = Tiers(pool, files_store)
    resolver = GuardedResolver(EgressPolicy(settings.egress_allow, http=settings.egress_http))
    identity = IdentityProvider(settings, resolver)
    shards = installation.shards
    access_keys = master_keys.access_keys()
    call_limit = CallLimit(client, shards)
    ingest = Ingest(
        Nodes(settings.redis_url, client, shards, settings.redis_ca),
        access_keys,
        call_limit,
        StateRoom(pool, shards, settings.state_keys_max, settings.state_bytes_max),
        metrics,
        shards=shards,
        pending_max=settings.pending_messages_max,
        timeout_s=settings.redis_timeout_s,
        replicas_min=settings.redis_replicas_min,
    )
    hot = HotState(
        ingest,
        SlowReaders(timeout_s=settings.write_timeout_s, bytes_max=settings.unread_bytes_max, metrics=metrics),
        connections_max=settings.connections_max,
        request_timeout_s=settings.request_timeout_s,
        route_timeouts=settings.route_timeouts,
    )
    live = LiveStates(pool, shards)
    tail = EventTail(pool, shards, placed, StreamLimits.of(settings), metrics)
    services = Services(
        settings=settings,
        postgres=pool,
        redis=client,
        access_keys=access_keys,
        master_keys=master_keys,
        shards=shards,
        ingest=ingest,
        call_limit=call_limit,
        metrics=metrics,
        events=tail,
        live=live,
        log=log_in_tiers,
        blobs=files_store,
        uploads=Transfers("uploads", settings.uploads_max, metrics),
        dumps=Transfers("dumps", settings.uploads_max, metrics),
        downloads=Downloads(settings.downloads_max, metrics, trips=ingest.trips),
        passwords=Passwords(),
        identity=identity,
        resolver=resolver,
        shares=TenantShares(settings.postgres_pool, settings.organization_share, metrics),
        closing=hot.closing,
        clock=lambda: datetime.now(UTC),
    )
    pressure = Pressure(client, ingest, shards, settings)
    background.start("ingest", ingest.run())
    background.start("pressure", pressure.run())
    background.start("beats", Beats(client, ingest, shards).run())
    background.start("hot tick", _tick(hot))
    background.start("event tail", tail.run())
    background.start("live states", live.run())
    try:
        yield {"services": services, "hot": hot}
    finally:
        await background.stop()
        await identity.close()
        await resolver.close()
        await log_in_tiers.close()
        await files_store.close()
        await client.aclose()
        await pool.close()


def _fixed(
    body: bytes, media_type: str, policy: str = "default-src 'none'"
) -> Callable[[Request], Awaitable[Response]]:
    """An answer that never changes while the process lives."""

    async def answer(request: Request) -> Response:
        headers = {"content-security-policy": policy, "x-content-type-options": "nosniff"}
        return Response(body, media_type=media_type, headers=headers)

    return answer


async def _tick(hot: HotState) -> None:
    loop = asyncio.get_running_loop()
    while True:
        hot.tick(loop.time(), formatdate(usegmt=True).encode())
        await asyncio.sleep(1)


async def _unrouted(request: Request, error: HTTPException) -> Response:
    """The answer for a path that is not there (404), or not with this method (405)."""
    headers = {"allow": ", ".join(sorted(_methods(request)))} if error.status_code == 405 else {}
    text = "Not found" if error.status_code == 404 else error.detail
    if unserved.is_for_a_person(request):
        return await unserved.missing(request, error.status_code)
    return dialects.of_path(request.url.path).error(error.status_code, text, headers)


def _methods(request: Request) -> set[str]:
    """What may be done at a path, by all the routes that lead there."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in routes for method in route.methods}


async def _failed(request: Request, error: Exception) -> Response:
    """The answer to a call that a bug of ours ended."""
    # The route and not the path, which may hold what a link is known by.
    route = getattr(request.scope.get("route"), "path", "none")
    logs.event(log, logging.ERROR, "request_failed", route=route, cause=repr(error))
    if unserved.is_for_a_person(request):
        return await unserved.failed(request)
    return dialects.of_path(request.url.path).error(500, "Internal error")
