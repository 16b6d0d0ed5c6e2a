"""Events as they are stored: one JSON object a line, or server-sent events where the client accepts those.

    {"result":{"event":{…}}}            an event, or a ping where the client asked for them
    {"error":{"code":…,"message":…}}    the last that is said before the stream ends

A ping has no data, and many a client takes whatever comes for an event: so it is said only to who asked. Where nobody
did, server-sent events keep their connection alive by comments, which no client shows; lines have nothing of the kind,
and are silent.

A stream begins now and replays nothing. It ends with an error when its client reads too slowly, when the account may no
longer read the project (looked at every ping interval), and when the gateway shuts down. Those after which a client
does best to connect again have code 503.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT, check_again
from gateway.api.dialects import V2_STREAM
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.scopes import ProjectScope
from gateway.api.validation import Label
from gateway.event_tail import BUFFER_EVENTS_MAX, Watch, Watcher, WatchFilter
from gateway.ingest.connection import ABORT, ENDLESS
from gateway.permissions import Permission
from gateway.refusals import Refusal, Unavailable, away
from gateway.services import Services
from gateway.v2.devices import words_of
from gateway.v2.names import label_filter
from schemas import ids
from schemas.events import EventType, rfc3339
from schemas.postgres import PostgresAway
from schemas.sentences import matching

KEEP_ALIVE_S = 10.0
"""Between two comments of a stream that has nothing to say; proxies end what is silent for a minute or less."""
COMMENT = b":\n\n"
SEND_TIMEOUT_S = 30.0
"""A client that takes nothing for so long is gone."""
RECHECK_S_MAX = 30.0
TOO_SLOW = Unavailable(f"Read too slowly: more than {BUFFER_EVENTS_MAX} events were waiting. Connect again")
SHUTTING_DOWN = Unavailable("The gateway shuts down. Connect again")

PingInterval = Annotated[
    str,
    matching(
        r"^(?:[1-9]|[1-9][0-9]|[1-9][0-9]{2})(?:\.[0-9]{1,3})?s\Z", "must be from 1 to below 1000 seconds, such as 10s"
    ),
]


class StreamQuery(Struct, kw_only=True):
    """Which events. With `ping_interval`, such as `10s`, a ping is an event too, when none came for so long."""

    event_types: list[EventType] = []
    device_ids: list[str] = []
    device_types: list[Label] = []
    product_numbers: list[Label] = []
    label_filters: list[Label] = []
    query: Label = ""
    ping_interval: PingInterval | None = None


class StreamedEvent(Struct, rename="camel"):
    """An event as history has it; or a `ping`, of which the project is the target and that has no data."""

    event_id: str
    target_name: str
    event_type: str
    data: dict[str, Any] | None
    timestamp: datetime


class Told(Struct):
    """What happened."""

    event: StreamedEvent


class Said(Struct):
    """One line of a stream, or the data of one server-sent event; the last may be an error instead."""

    result: Told


def _filter(query: StreamQuery) -> WatchFilter:
    known = [ids.device_of_name(name.rpartition("/")[2]) for name in query.device_ids]
    return WatchFilter(
        event_types=frozenset(query.event_types),
        device_ids=frozenset(i for i in known if i is not None) if query.device_ids else None,
        device_types=frozenset(query.device_types),
        product_numbers=frozenset(query.product_numbers),
        labels=[label_filter(text) for text in query.label_filters],
        words=words_of(query.query),
    )


class EventStream(Response):
    """The response that goes on. `recheck` raises the Refusal that ends it."""

    def __init__(
        self,
        services: Services,
        watch: Watch,
        ping_s: float | None,
        recheck: Callable[[], Awaitable[None]],
        *,
        server_sent: bool,
    ) -> None:
        kind = "text/event-stream" if server_sent else "application/x-ndjson"
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no", "content-type": f"{kind}; charset=utf-8"}
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._services = services
        self._watch = watch
        self._silent_s = KEEP_ALIVE_S if ping_s is None else ping_s
        self._pings = ping_s is not None
        self._comments = server_sent
        self._recheck = recheck
        self._frame = b"data: %b\n\n" if server_sent else b"%b\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._services.events.begin(self._watch)
        except Refusal as refusal:
            await V2_STREAM.refused(refusal)(scope, receive, send)
            return
        except PostgresAway:
            await V2_STREAM.refused(away("Postgres"))(scope, receive, send)
            return
        said = _Sender(send, scope)
        scope["extensions"][ENDLESS] = True
        watchers = [
            asyncio.create_task(self._until_gone(receive), name="stream client"),
            asyncio.create_task(self._until_closing(), name="stream shutdown"),
        ]
        try:
            head = scope["method"] == "HEAD"
            await said({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if not head:
                await self._follow(said, *watchers)
            await said({"type": "http.response.body", "body": b"", "more_body": False})
        except _GoneError:
            pass
        finally:
            self._services.events.end(self._watch)
            for task in watchers:
                task.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)

    async def _follow(self, said: "_Sender", gone: asyncio.Task[None], closing: asyncio.Task[None]) -> None:
        """Tell what happens until the stream must end."""
        watch, clock = self._watch, asyncio.get_running_loop().time
        recheck_s = min(self._silent_s, RECHECK_S_MAX)
        silent_until, next_check = clock() + self._silent_s, clock() + recheck_s
        while not gone.done():
            try:
                async with asyncio.timeout_at(min(silent_until, next_check)):
                    await watch.news.wait()
            except TimeoutError:
                pass
            watch.news.clear()
            ending: Refusal | None = None
            if watch.overflowed:
                ending = TOO_SLOW
            elif closing.done():
                ending = SHUTTING_DOWN
            elif clock() >= next_check:
                ending, next_check = await self._refusal(), clock() + recheck_s
            if ending is not None:
                await said.body(self._frame % V2_STREAM.line(ending))
                return
            lines = b"".join(map(self._event, watch.take()))
            if lines or clock() >= silent_until:
                silent_until = clock() + self._silent_s
                lines = lines or self._sign_of_life()
            if lines:
                await said.body(lines)

    async def _refusal(self) -> Refusal | None:
        """Why the account may not go on reading; None while it may, and while that cannot be looked up."""
        try:
            await self._recheck()
        except Refusal as refusal:
            return refusal
        except PostgresAway:
            pass
        return None

    def _event(self, json: bytes) -> bytes:
        return self._frame % (b'{"result":{"event":%b}}' % json)

    def _sign_of_life(self) -> bytes:
        """What is said where there is nothing to say."""
        if not self._pings:
            return COMMENT if self._comments else b""
        ping = {
            "eventId": ids.new_xid(),
            "targetName": f"projects/{self._watch.project_id}",
            "eventType": "ping",
            "data": None,
            "timestamp": rfc3339(self._services.clock()),
        }
        return self._event(msgspec.json.encode(ping))

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._watch.news.set()

    async def _until_closing(self) -> None:
        await self._services.closing.wait()
        self._watch.news.set()


class _GoneError(Exception):
    """The client took nothing for too long, and its connection was ended."""


class _Sender:
    """Sends parts of a response, each within a set time."""

    def __init__(self, send: Send, scope: Scope, timeout_s: float = SEND_TIMEOUT_S) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._abort: Callable[[], None] = scope["extensions"][ABORT]

    async def __call__(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(message)
        except TimeoutError:
            self._abort()
            raise _GoneError from None

    async def body(self, data: bytes) -> None:
        await self({"type": "http.response.body", "body": data, "more_body": True})


@endpoint(
    "GET",
    "/v2/projects/{project}/devices:stream",
    caller=SERVICE_ACCOUNT,
    permission=Permission.READ,
    stream=True,
    described_answer=Said,
)
async def stream_events(services: Services, request: Request, project: ProjectScope, query: StreamQuery) -> Response:
    """Follow the events of a project as they are stored; nothing is replayed."""

    async def recheck() -> None:
        await check_again(services, request, project, Permission.READ)

    return EventStream(
        services,
        Watch(project.id, Watcher(project.organization_id, project.principal.id), _filter(query)),
        None if query.ping_interval is None else float(query.ping_interval.removesuffix("s")),
        recheck,
        server_sent="text/event-stream" in request.headers.get("accept", ""),
    )


ENDPOINTS: tuple[Endpoint, ...] = (stream_events,)
