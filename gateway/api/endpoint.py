"""Endpoints: one typed function for each call of the API.

    @endpoint("POST", "/v1/devices/{device_id}/config", errors={422: "The version is not newer."})
    async def put_config(gateway: Gateway, device: DeviceCaller, body: Config) -> ConfigStored:
        "Store the device's whole config."

What a function takes says what it needs; nothing else declares it:

* `gateway`: the services. `request`: the bare request, for the rare call that needs it.
* a parameter of type DeviceCaller, OrganizationCaller or PartnerCaller: the caller must prove to be one (else 401).
  For a device the path holds its id as `{device_id}`.
* a parameter of type AccountCaller: a service account; of type ProjectScope or OrganizationScope: the project or
  organisation of the path, in which that account has the endpoint's `permission` (else 404 or 403).
* `body`: decoded from JSON into its type (400 when malformed, 422 when it does not fit); `bytes` is the raw body.
* `query`: a struct decoded from the query string (422 when it does not fit).
* any other parameter: the member of the path with that name, a UUID (404 when it is none) or a string (which may
  hold slashes where the path says `{name:path}`).

The returned value is the answer's JSON. The same types make the OpenAPI document.

Calls below `/v2` speak as their existing clients expect: refusals have `code` and `help`, what does not fit is 400, and
parameters come in snake_case or camelCase, repeated for lists.
"""

import inspect
import logging
import re
import time
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api import accounts, callers, dialects
from gateway.api.accounts import AccountCaller, OrganizationScope, ProjectScope
from gateway.api.permissions import Permission
from gateway.refusals import DoesNotFit, Malformed, NotFound, Refusal, TooLarge, away
from gateway.services import Services
from gateway.stores.devices.identity import DeviceCaller
from schemas import logs
from schemas.postgres import PostgresAway
from schemas.redis import RedisAway

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 1024 * 1024
SLOW_S = 2.0
"""A request that takes longer is logged."""
ACCOUNTS = (AccountCaller, ProjectScope, OrganizationScope)
_UPPER = re.compile("[A-Z]")
CALLERS: dict[Any, str] = {
    DeviceCaller: "device",
    callers.OrganizationCaller: "organization",
    callers.PartnerCaller: "partner",
}


class Success(msgspec.Struct):
    """The answer of a call that is made only for its effect."""

    success: bool = True


class Endpoint:
    """One call of the API: its address, its function, and what the function's signature says about it."""

    def __init__(
        self,
        method: str,
        path: str,
        function: Callable[..., Awaitable[Any]],
        *,
        status: int,
        errors: Mapping[int, str],
        body_bytes_max: int,
        mixed_status: int | None,
        reads: Any,
        reads_as: str,
        proves: Any,
        permission: Permission | None,
        stream: bool,
        answers: Any,
    ) -> None:
        self.method = method
        self.path = path.replace(":path}", "}")
        self._pattern = path
        self.function = function
        self.status = status
        self.errors = dict(errors)
        self.body_bytes_max = body_bytes_max
        self.mixed_status = mixed_status
        hints = typing.get_type_hints(function, include_extras=True)
        told = hints.pop("return")
        self.answer: Any = told if answers is None else answers
        self.stream = stream
        self.body: Any = hints.pop("body", None)
        self.query: Any = hints.pop("query", None)
        self.caller: tuple[str, type] | None = next(((n, t) for n, t in hints.items() if t in CALLERS), None)
        self.described_body = self.body if reads is None else reads
        self.reads_as = reads_as
        self.described_caller = proves if self.caller is None else self.caller[1]
        self.dialect = dialects.V2_STREAM if stream else dialects.of_path(path)
        self.permission = permission
        self.account = {n: t for n, t in hints.items() if t in ACCOUNTS}
        if self.account:
            self.described_caller = AccountCaller
        assert (permission is not None) == any(t is not AccountCaller for t in self.account.values()), path
        self.in_path = {n: t for n, t in hints.items() if f"{{{n}}}" in self.path and n not in self.account}
        self.needs_request = "request" in hints
        self._decoder = None if self.body in (None, bytes) else msgspec.json.Decoder(self.body)
        self._encoder = msgspec.json.Encoder()
        known = {*self.in_path, *self.account, "services", "request", self.caller[0] if self.caller else "services"}
        assert set(hints) <= known, f"{path}: {set(hints) - known} are in no place of the request"

    def __repr__(self) -> str:
        return f"<Endpoint {self.method} {self.path}>"

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    def route(self) -> Route:
        """The Starlette route that serves this endpoint."""

        async def serve(request: Request) -> Response:
            began = time.perf_counter()
            status = 500
            try:
                response = await self._answer_or_refusal(request)
                status = response.status_code
            finally:
                took_s = time.perf_counter() - began
                metrics = request.state.services.metrics
                metrics.requests.labels(self.method, self.path, status).inc()
                metrics.request_seconds.labels(self.path).observe(took_s)
                if took_s > SLOW_S:
                    told = {"method": self.method, "route": self.path, "status": status, "seconds": round(took_s, 3)}
                    logs.event(log, logging.WARNING, "request_slow", **told)
            return response

        return Route(self._pattern, serve, methods=[self.method], name=f"{self.method} {self.path}")

    async def _answer_or_refusal(self, request: Request) -> Response:
        try:
            return await self._serve(request.state.services, request)
        except Refusal as told:
            refusal = told
        except RedisAway as error:
            logs.event(log, logging.WARNING, "redis_unavailable", path=self.path, cause=str(error))
            refusal = away("Redis")
        except PostgresAway as error:
            logs.event(log, logging.WARNING, "postgres_unavailable", path=self.path, cause=str(error))
            refusal = away("Postgres")
        return self.dialect.refused(refusal)

    async def _serve(self, services: Services, request: Request) -> Response:
        given: dict[str, Any] = {"services": services}
        if self.needs_request:
            given["request"] = request
        if self.caller is not None:
            name, kind = self.caller
            if kind is DeviceCaller:
                given[name] = await callers.device(services, request, request.path_params["device_id"])
            else:
                given[name] = kind(await callers.tenant(services, request, CALLERS[kind]))
        if self.account:
            given |= await self._account(services, request)
        for name, kind in self.in_path.items():
            given[name] = _path_member(request.path_params[name], kind)
        if self.query is not None:
            given["query"] = _query(request, self.query, v2=self.dialect.is_v2)
        if self.body is not None:
            data = await read_body(request, self.body_bytes_max)
            given["body"] = data if self._decoder is None else _decode(self._decoder, data)
        answer = await self.function(**given)
        if isinstance(answer, Response):
            return answer
        return Response(self._encoder.encode(answer), self.status, media_type="application/json")

    async def _account(self, services: Services, request: Request) -> dict[str, Any]:
        """The account, and the scope in which it has the permission."""
        caller = await accounts.authenticate(services, request)
        given: dict[str, Any] = {}
        for name, kind in self.account.items():
            if kind is AccountCaller:
                given[name] = caller
                continue
            assert self.permission is not None
            place = request.path_params[name]
            if kind is ProjectScope:
                given[name] = await accounts.project_scope(services, caller, place, self.permission)
            else:
                given[name] = accounts.organization_scope(caller, place, self.permission)
        return given


def endpoint(
    method: str,
    path: str,
    *,
    status: int = 200,
    errors: Mapping[int, str] = {},
    body_bytes_max: int = BODY_BYTES_MAX,
    mixed_status: int | None = None,
    reads: Any = None,
    reads_as: str = "application/json",
    proves: Any = None,
    permission: Permission | None = None,
    stream: bool = False,
    answers: Any = None,
) -> Callable[[Callable[..., Awaitable[Any]]], Endpoint]:
    """Make a function an endpoint.

    `errors` describes refusals beyond those its signature implies. `mixed_status` is the status of an answer of the
    usual shape that tells of success and refusal side by side. A function that takes the bare request instead says for
    the document what body it `reads`, and as which media type, and what caller it `proves`, one that returns a bare
    response what it `answers`. `permission` is what an account needs in the scope. A `stream` tells why it ends as one
    of its lines.
    """

    def wrap(function: Callable[..., Awaitable[Any]]) -> Endpoint:
        return Endpoint(
            method,
            path,
            function,
            status=status,
            errors=errors,
            body_bytes_max=body_bytes_max,
            mixed_status=mixed_status,
            reads=reads,
            reads_as=reads_as,
            proves=proves,
            permission=permission,
            stream=stream,
            answers=answers,
        )

    return wrap


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The whole body; 413 as soon as it is known to be too large."""
    too_large = TooLarge(f"Body is larger than {bytes_max} bytes")
    if int(request.headers.get("content-length", 0)) > bytes_max:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > bytes_max:
                raise too_large
    except ClientDisconnect:
        raise Malformed("Body was cut off") from None
    return bytes(body)


def _path_member(value: str, kind: type) -> Any:
    if kind is not UUID:
        return value
    try:
        if len(value) == callers.ID_CHARACTERS:
            return UUID(value)
    except ValueError:
        pass
    raise NotFound("Not found")


def _query(request: Request, kind: type[Any], *, v2: bool) -> Any:
    given: dict[str, Any] = dict(request.query_params)
    if v2:
        given = {}
        lists = {field.name for field in msgspec.structs.fields(kind) if typing.get_origin(field.type) is list}
        for name, value in request.query_params.multi_items():
            known = _UPPER.sub(lambda found: f"_{found[0].lower()}", name)
            if known in lists:
                given.setdefault(known, []).append(value)
            else:
                given[known] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise DoesNotFit(sentence(error)) from None


def _decode(decoder: "msgspec.json.Decoder[Any]", data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        kind = Malformed if "unknown field" in str(error) else DoesNotFit
        raise kind(sentence(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed("Body is not valid JSON") from None
    except RecursionError:
        raise Malformed("Body is nested too deeply") from None


def sentence(error: msgspec.ValidationError) -> str:
    """A decoder's complaint as a sentence for the caller: which member, and what is wrong with it."""
    text, _, path = str(error).partition(" - at `$")
    missing = text.removeprefix("Object missing required field `")
    if missing != text:
        return f"{_named(path, missing.rstrip('`'))} can't be blank"
    unknown = text.removeprefix("Object contains unknown field `")
    if unknown != text:
        return f"{_named(path, unknown.rstrip('`'))} is not known here"
    place = _named(path, "")
    return f"{place}: {text.replace('`', '')}" if place else text.replace("`", "")


def _named(path: str, member: str) -> str:
    name = (path.rstrip("`").lstrip(".") + (f".{member}" if member else "")).lstrip(".")
    return name[:1].upper() + name[1:].replace("_", " ")
