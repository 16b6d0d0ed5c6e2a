"""How each API words a refusal: the one place that turns a meaning into a status, JSON and headers.

Three dialects: of devices, organizations and partners (`{"error"}`); of `/v2` and its emulator, as their existing
clients expect (`{"error", "code", "help"}`, and what does not fit is 400); and of streams below `/v2`, whose last line
tells why they end. A new kind of refusal gets its status here.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Struct
from starlette.responses import Response

from gateway.refusals import (
    Conflict,
    DoesNotFit,
    Gone,
    Malformed,
    NotFound,
    NotPermitted,
    Refusal,
    TimedOut,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UnknownCoding,
)

STATUSES: Mapping[type[Refusal], int] = {
    Malformed: 400,
    Unauthenticated: 401,
    NotPermitted: 403,
    NotFound: 404,
    Conflict: 409,
    Gone: 410,
    TooLarge: 413,
    UnknownCoding: 415,
    DoesNotFit: 422,
    TooMany: 429,
    Unavailable: 503,
    TimedOut: 504,
}
HELP = "/docs"
UNCACHED = {"cache-control": "no-store"}
"""No cache may keep an answer: many hold a secret that is shown once, all are for the caller alone."""
_V2_PATHS = ("/v2/", "/emulator/v2/")


class ErrorBody(Struct):
    """Every refusal: a text for a person."""

    error: str

    @classmethod
    def of(cls, status: int, text: str) -> "ErrorBody":
        """The body of an answer with this status."""
        return cls(text)


class V2ErrorBody(Struct):
    """Every refusal below `/v2`."""

    error: str
    code: int
    help: str

    @classmethod
    def of(cls, status: int, text: str) -> "V2ErrorBody":
        """The body of an answer with this status."""
        return cls(text, status, HELP)


class StreamError(Struct):
    """Why a stream ends, or does not begin."""

    code: int
    message: str
    help: str


class StreamErrorBody(Struct):
    """A refusal as a stream tells it."""

    error: StreamError
    code: int

    @classmethod
    def of(cls, status: int, text: str) -> "StreamErrorBody":
        """The body of an answer with this status, or the last line of a stream that ends."""
        return cls(StreamError(status, text, HELP), status)


class Dialect(Struct, frozen=True):
    """How one API answers when it refuses."""

    body: type[ErrorBody] | type[V2ErrorBody] | type[StreamErrorBody]
    statuses: Mapping[type[Refusal], int]
    challenge: str
    """How callers may prove who they are: with 401, as RFC 9110 wants it."""
    is_v2: bool
    """Whether parameters come in snake_case or camelCase, repeated for lists."""

    def status(self, refusal: Refusal) -> int:
        """The HTTP status of a refusal."""
        return next(self.statuses[kind] for kind in type(refusal).__mro__ if kind in self.statuses)

    def line(self, refusal: Refusal) -> bytes:
        """The JSON of a refusal."""
        return msgspec.json.encode(self.body.of(self.status(refusal), refusal.text))

    def refused(self, refusal: Refusal) -> Response:
        """The response of a refusal."""
        headers = {} if refusal.retry_after_s is None else {"retry-after": str(refusal.retry_after_s)}
        if isinstance(refusal, Unauthenticated):
            headers["www-authenticate"] = self.challenge
        return self.error(self.status(refusal), refusal.text, headers)

    def error(self, status: int, text: str, headers: Mapping[str, str] = {}) -> Response:
        """The response to an error that no endpoint raised as a refusal: the router's 404 and 405, and a bug's 500."""
        body = msgspec.json.encode(self.body.of(status, text))
        return Response(body, status, headers={**UNCACHED, **headers}, media_type="application/json")


PLAIN = Dialect(ErrorBody, STATUSES, 'Bearer realm="fleetgate"', is_v2=False)
V2 = Dialect(
    V2ErrorBody,
    {**STATUSES, DoesNotFit: 400},
    'Basic realm="fleetgate", charset="UTF-8", Bearer realm="fleetgate"',
    is_v2=True,
)
V2_STREAM = Dialect(StreamErrorBody, V2.statuses, V2.challenge, is_v2=True)


def of_path(path: str) -> Dialect:
    """The dialect of the API that a path belongs to."""
    return V2 if f"{path}/".startswith(_V2_PATHS) else PLAIN
