"""Endpoints: one typed function for each call of the API.

    @endpoint("POST", "/v1/devices/{device_id}/config", caller=DEVICE, errors={422: "The version is not newer."})
    async def put_config(services: Services, device: DeviceCaller, body: Config) -> ConfigStored:
        "Store the device's whole config."

What a function takes says what it needs:

* `services`: the services. `request`: the bare request, for the rare call that needs it.
* a parameter of the type that the endpoint's `caller` is (a device, a principal): whoever calls, proven (else 401).
* a parameter whose type is a scope (project, organization, vendor): where the caller has the endpoint's `permission`
  (else 404 or 403). The path names it as the parameter is called, or it is the caller's own.
* `body`: decoded from JSON into its type (400 when malformed, 422 when it does not fit); `bytes` is the raw body,
  `Streamed` the raw body as it comes, of a call that holds no place of its organization: it may take hours. A POST of
  which nothing is required may have none.
* `query`: a struct decoded from the query string (422 when it does not fit).
* any other parameter: the member of the path with that name, a UUID (404 when it is none) or a string (which may
  hold slashes where the path says `{name:path}`).

The returned value is the answer's JSON. The same types make the OpenAPI document.

Callers that are `exact` are refused parameters and members that the call does not know (400).

Calls below `/v2` speak as their existing clients expect: refusals have `code` and `help`, what does not fit is 400, and
parameters come in snake_case or camelCase, repeated for lists. A PATCH or PUT there may send back the whole thing as it
was read: members that cannot be changed are known, and stay as they are.

What owners and vendors both do stands at two doors (see `gateway.api.doors`): one endpoint for each, its `faces`.
"""

import inspect
import logging
import re
import time
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, Self, TypeVar
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api import audit, bodies, dialects
from gateway.api.bodies import Streamed
from gateway.api.doors import Door
from gateway.api.principals import CallerKind, Principal
from gateway.api.scopes import NOT_FOUND, Scope
from gateway.api.texts import check_query, is_text
from gateway.api.unknowns import Members, check_no_body, check_parameters
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound, Refusal, away, full
from gateway.services import Services
from schemas import logs
from schemas.blobs.store import BlobsAway, BlobsFull
from schemas.ids import uuid_of
from schemas.postgres import PostgresAway
from schemas.redis import RedisAway
from schemas.sentences import choices_of, patterns_of, sentence

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 1024 * 1024
SLOW_S = 2.0
"""A request that takes longer is logged."""
_UPPER = re.compile("[A-Z]")
Given = ParamSpec("Given")
Answer = TypeVar("Answer")
Face = TypeVar("Face", bound="Endpoint")


class Success(msgspec.Struct):
    """The answer of a call that is made only for its effect."""

    success: bool = True


class Changed:
    """What a request changes, for the audit log: what it does first, where it does several things."""

    def __init__(self) -> None:
        self.before: Any = None
        self.after: Any = None

    def tell(self, before: Any, after: Any) -> None:
        """Note a change."""
        if self.before is None and self.after is None:
            self.before, self.after = before, after


_changed: ContextVar[Changed | None] = ContextVar("changed", default=None)
"""Of the page that is served: it changes things by endpoints, which tell it what."""


class Endpoint:
    """One call of the API: its address, its function, and what the function's signature says about it."""

    answers_are_data = True
    """Whether what the function returns is what is there now, for the audit log."""
    provided: frozenset[str] = frozenset()
    """Parameters that another kind of endpoint gives its functions (see `read_body`)."""

    def __init__(
        self,
        method: str,
        path: str,
        function: Callable[..., Awaitable[Any]],
        *,
        status: int,
        errors: Mapping[int, str],
        body_bytes_max: int,
        partial_status: int | None,
        described_body: Any,
        body_media_type: str,
        caller: CallerKind | None,
        described_caller: CallerKind | None,
        permission: Permission | None,
        stream: bool,
        described_answer: Any,
        audited: bool = True,
        door: Door | None = None,
    ) -> None:
        self.method = method
        self.path = path.replace(":path}", "}")
        self._pattern = path
        self.function = function
        self.status = status
        self.errors = dict(errors)
        self.body_bytes_max = body_bytes_max
        self.partial_status = partial_status
        hints = typing.get_type_hints(function, include_extras=True)
        if door is not None:
            hints = door.types(hints)
        self.door = door
        self.others: tuple[Any, ...] = ()
        """The same function's endpoints at other doors."""
        returned = hints.pop("return")
        self.answer: Any = returned if described_answer is None else described_answer
        self.stream = stream
        self.dialect = dialects.V2_STREAM if stream else dialects.of_path(path)
        self.body: Any = hints.pop("body", None)
        self.query: Any = hints.pop("query", None)
        self.described_body = self.body if described_body is None else described_body
        self.body_media_type = body_media_type
        self.caller = caller
        self.described_caller = caller or described_caller
        self.permission = permission
        self.scopes: dict[str, type[Scope]] = {n: t for n, t in hints.items() if _is_scope(t)}
        assert (permission is not None) == bool(self.scopes), f"{path}: a permission is one in a scope"
        assert caller is not None or not self.scopes, f"{path}: nobody enters the scope"
        self._principals = [n for n, t in hints.items() if caller is not None and t is caller.principal]
        self.in_path = {n: t for n, t in hints.items() if f"{{{n}}}" in self.path and n not in self.scopes}
        self._needs_request = "request" in hints
        by_principal = caller is not None and issubclass(caller.principal, Principal)
        self._signature = inspect.signature(function)
        self.audited = audited and by_principal and method not in ("GET", "HEAD")
        """Whether it changes something, for the audit log."""
        self.reader: Endpoint | None = None
        """What reads the thing that this changes, so that the audit log can tell it before and after."""
        self.takes_bytes = self.body in (bytes, Streamed)
        self._decoder = None if self.body is None or self.takes_bytes else msgspec.json.Decoder(self.body)
        self._encoder = msgspec.json.Encoder()
        self.exact = caller is not None and caller.exact
        self._members = self._exact_members() if self.exact and self._decoder is not None else None
        self.body_optional = self.exact and method == "POST" and _asks_for_nothing(self.body)
        self._parameters = {} if self.query is None else _parameters(self.query)
        self._may_be_long = hasattr(self.query, "is_long")
        self.patterns = {
            pattern: text
            for kind in (self.body, self.query)
            if kind not in (None, bytes, Streamed)
            for pattern, text in (patterns_of(kind) | choices_of(kind)).items()
        }
        known = {*self.in_path, *self.scopes, *self._principals, *self.provided, "services", "request"}
        assert set(hints) <= known, f"{path}: {set(hints) - known} are in no place of the request"

    @property
    def faces(self) -> tuple[Self, ...]:
        """All endpoints of the function."""
        return (self, *self.others)

    def at(self, door: Door | None) -> Self:
        """The same function's endpoint at a door."""
        return self if door is None else next(one for one in self.faces if one.door and one.door.area == door.area)

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
                    call = {"method": self.method, "route": self.path, "status": status}
                    logs.event(log, logging.WARNING, "request_slow", **call, seconds=round(took_s, 3))
            return response

        return Route(self._pattern, serve, methods=[self.method], name=f"{self.method} {self.path}")

    async def _answer_or_refusal(self, request: Request) -> Response:
        given: dict[str, Any] = {}
        try:
            return await self._serve(request.state.services, request, given)
        except Refusal as raised:
            refusal = raised
        except RedisAway as error:
            logs.event(log, logging.WARNING, "redis_unavailable", path=self.path, cause=str(error))
            refusal = away("Redis")
        except PostgresAway as error:
            logs.event(log, logging.WARNING, "postgres_unavailable", path=self.path, cause=str(error))
            refusal = away("Postgres")
        except BlobsAway as error:
            logs.event(log, logging.WARNING, "file_store_away", path=self.path, cause=str(error))
            refusal = full("The file store") if isinstance(error, BlobsFull) else away("The file store")
        return await self.refused(request, refusal, given)

    async def _serve(self, services: Services, request: Request, given: dict[str, Any]) -> Response:
        """The answer; `given` is filled with what the function is given."""
        given["services"] = services
        if self._needs_request:
            given["request"] = request
        principal: Any = None
        if self.caller is not None:
            with services.shares.short():
                principal = request.state.principal = await self.caller.prove(services, request)
                given |= dict.fromkeys(self._principals, principal)
                for name, scope in self.scopes.items():
                    assert self.permission is not None
                    given[name] = await scope.enter(services, request, name, principal, self.permission)
        for name, kind in self.in_path.items():
            given[name] = _path_member(request.path_params[name], kind)
        if self.query is not None:
            check_query(request)
        named = self.named_parameters(request)
        if self.query is not None:
            given["query"] = self._decoded_query(named)
        await self.read_body(request, given)
        tenant = None if principal is None or self.body is Streamed else _tenant(principal, given)
        if tenant is None:
            answer = await self._done(services, request, principal, given)
        else:
            is_long = self._may_be_long and given["query"].is_long()
            async with services.shares.long_read(tenant) if is_long else services.shares.place(tenant):
                answer = await self._done(services, request, principal, given)
        return answer if isinstance(answer, Response) else await self.answered(request, given, answer)

    async def _done(self, services: Services, request: Request, principal: Any, given: dict[str, Any]) -> Any:
        """What the function returns; a change is written down."""
        if not self.audited:
            return await self.function(**given)
        changed = Changed()
        if self.answers_are_data:
            answer = await self._watched(given, changed)
        else:
            watching = _changed.set(changed)
            try:
                answer = await self.function(**given)
            finally:
                _changed.reset(watching)
        asked = audit.kept(given.get("body"))
        tenant = _tenant(principal, given)
        organization_id = tenant if isinstance(tenant, UUID) else principal.organization_id
        action = getattr(self.function, "__name__", "")
        await audit.note(services, request, principal, organization_id, action, asked, changed.before, changed.after)
        return answer

    async def _watched(self, given: Mapping[str, Any], changed: "Changed") -> Any:
        """What the function returns, with what it changed: the thing before and after, where that can be read."""
        before = await self._read(given)
        answer = await self.function(**given)
        after = audit.kept(answer)
        if self.reader is not None and self.method != "DELETE":
            same = type(answer) is self.reader.answer
            before, after = audit.differing(before, after if same else await self._read(given))
        changed.tell(before, after)
        return answer

    async def _read(self, given: Mapping[str, Any]) -> Any:
        """The thing that is changed, as it is now; None where it cannot be read by itself."""
        if self.reader is None:
            return None
        asked = {name: given[name] for name in ("services", *self.reader.scopes, *self.reader.in_path)}
        try:
            return audit.kept(await self.reader.function(**asked))
        except Refusal:
            return None

    def read_by(self, reader: "Endpoint") -> bool:
        """Note what reads the thing that this changes; False where that is not what it does."""
        fits = (
            self.audited
            and self.method in ("PUT", "PATCH", "DELETE")
            and reader.path == self.path
            and all(self.scopes.get(name) is kind for name, kind in reader.scopes.items())
            and set(reader.in_path) <= set(self.in_path)
            and reader.query is None
            and not reader._needs_request
            and not reader._principals
            and isinstance(reader.answer, type)
            and issubclass(reader.answer, msgspec.Struct)
        )
        if fits:
            self.reader = reader
        return fits

    async def read_body(self, request: Request, given: dict[str, Any]) -> None:
        """Add the body to what the function is given, where it takes one."""
        if self.body is Streamed:
            given["body"] = Streamed(request)
        elif self.body is not None:
            data = await bodies.read(request, self.body_bytes_max)
            given["body"] = data if self._decoder is None else self._decoded_body(data, self._decoder)
        elif self.exact and request.method not in ("GET", "HEAD"):
            check_no_body(await bodies.read(request, self.body_bytes_max))

    async def answered(self, request: Request, given: Mapping[str, Any], answer: Any) -> Response:
        """The response that tells what the function returned."""
        body = self._encoder.encode(answer)
        return Response(body, self.status, headers=dialects.UNCACHED, media_type="application/json")

    async def refused(self, request: Request, refusal: Refusal, given: Mapping[str, Any]) -> Response:
        """The response to a refusal; `given` is what the function had been given until then."""
        return self.dialect.refused(refusal)

    def named_parameters(self, request: Request) -> list[tuple[str, str]]:
        """The parameters of a request, each as its field is called. Raises Malformed for one that has none."""
        named = request.query_params.multi_items()
        if self.dialect.is_v2:
            named = [(_UPPER.sub(lambda upper: f"_{upper[0].lower()}", name), value) for name, value in named]
        if self.exact:
            lists = [name for name, is_list in self._parameters.items() if is_list]
            check_parameters([name for name, _ in named], self._parameters, lists)
        return named

    def _decoded_query(self, named: list[tuple[str, str]]) -> Any:
        given: dict[str, Any] = {}
        for name, value in named:
            if self._parameters.get(name):
                given.setdefault(name, []).append(value)
            else:
                given[name] = value
        try:
            return msgspec.convert(given, self.query, strict=False)
        except msgspec.ValidationError as error:
            raise DoesNotFit(sentence(error, self.patterns)) from None

    def _decoded_body(self, data: bytes, decoder: "msgspec.json.Decoder[Any]") -> Any:
        check = None if self._members is None else self._members.check
        if self.body_optional and not data.strip():
            data = b"{}"
        return bodies.decode(decoder, data, self.patterns, check)

    def _exact_members(self) -> Members:
        returned: frozenset[str] = frozenset()
        if self.dialect.is_v2 and self.method in ("PATCH", "PUT") and hasattr(self.answer, "__struct_fields__"):
            returned = frozenset(self.answer.__struct_encode_fields__)
        return Members(self.body, returned)


class Call(Endpoint, Generic[Given, Answer]):
    """An endpoint that can be called as the function that it is, by pages: they let callers in by a door of their own,
    into the same scopes."""

    def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Awaitable[Answer]:
        """What the function returns; raises its refusals."""
        changed = _changed.get()
        if changed is not None and self.audited:
            return self._watched(self._signature.bind(*args, **kwargs).arguments, changed)
        answer: Awaitable[Answer] = self.function(*args, **kwargs)
        return answer


def endpoint(
    method: str,
    path: str,
    *,
    status: int = 200,
    errors: Mapping[int, str] = {},
    body_bytes_max: int = BODY_BYTES_MAX,
    partial_status: int | None = None,
    described_body: Any = None,
    body_media_type: str = "application/json",
    caller: CallerKind | None = None,
    described_caller: CallerKind | None = None,
    doors: Sequence[Door] = (),
    permission: Permission | None = None,
    stream: bool = False,
    described_answer: Any = None,
    audited: bool = True,
) -> Callable[[Callable[Given, Awaitable[Answer]]], Call[Given, Answer]]:
    """Make a function an endpoint.

    `caller` is the kind of caller that must prove itself, `permission` what it needs in the scope that the function
    takes. With `doors` instead of a caller it stands at each of them, and `path` is below the door's. `errors`
    describes refusals beyond those that follow from these and the signature. `partial_status` is the status of an
    answer of the usual shape in which some items were done and others refused. A `stream` tells why it ends as one of
    its lines. What is no GET changes something, and is written into the audit log; not `audited` is what asks a
    question in its body, or is what devices say.

    For the document only: a function that takes the bare request says what body it reads (`described_body`, as
    `body_media_type`) and whom it asks for a proof itself (`described_caller`); one that returns a bare response says
    what is in it (`described_answer`).
    """

    def wrap(function: Callable[Given, Awaitable[Answer]]) -> Call[Given, Answer]:
        if not doors:
            return made(function, path, caller, errors)
        return mounted(
            [made(function, f"/core/v1/{one.area}{path}", one.caller, {**errors, **one.errors}, one) for one in doors]
        )

    def made(
        function: Callable[Given, Awaitable[Answer]],
        path: str,
        caller: CallerKind | None,
        errors: Mapping[int, str],
        door: Door | None = None,
    ) -> Call[Given, Answer]:
        return Call(
            method,
            path,
            function,
            status=status,
            errors=errors,
            body_bytes_max=body_bytes_max,
            partial_status=partial_status,
            described_body=described_body,
            body_media_type=body_media_type,
            caller=caller,
            described_caller=described_caller,
            permission=permission,
            stream=stream,
            described_answer=described_answer,
            audited=audited,
            door=door,
        )

    return wrap


def mounted(faces: Sequence[Face]) -> Face:
    """Endpoints of one function, as the first of them, which knows the others."""
    first, *others = faces
    first.others = tuple(others)
    return first


def _tenant(principal: Any, given: Mapping[str, Any]) -> UUID | str | None:
    """Whose share of the connections a call is of; a device has none."""
    if not isinstance(principal, Principal):
        return None
    scope = next((one for one in given.values() if isinstance(one, Scope)), None)
    if scope is not None:
        return scope.tenant
    return principal.grants[0].organization_id if principal.grants else principal.id


def _is_scope(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Scope)


def _asks_for_nothing(body: Any) -> bool:
    """Whether a struct has no member that must be there: nothing at all is one of its kind, too."""
    return (
        isinstance(body, type)
        and issubclass(body, msgspec.Struct)
        and not any(field.required for field in msgspec.structs.fields(body))
    )


def _parameters(query: type[msgspec.Struct]) -> dict[str, bool]:
    """The parameters of a call by name, each with whether it is a list."""
    return {field.encode_name: _is_list(field.type) for field in msgspec.structs.fields(query)}


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind.__origin__ if typing.get_origin(kind) is typing.Annotated else kind) is list


def _path_member(value: str, kind: type) -> Any:
    found = uuid_of(value) if kind is UUID else value if is_text(value) else None
    if found is None:
        raise NotFound(NOT_FOUND)
    return found
