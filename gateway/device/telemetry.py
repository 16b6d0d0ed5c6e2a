"""Telemetry on the ordinary path, and many messages in one request.

Single telemetry normally never gets here: `gateway.ingest.protocol` answers it. This route serves the same address for
requests that the hot path leaves alone (pipelined, `Expect: 100-continue`, HTTP/1.0), through the same `Ingest.offer`.
"""

import asyncio
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Raw, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.callers import devices
from gateway.api.callers.authorization import presented_key
from gateway.api.callers.devices import DEVICE
from gateway.api.dialects import ErrorBody
from gateway.api.endpoint import Endpoint, endpoint, read_body
from gateway.ingest.ingest import Ingest
from gateway.ingest.protocol import refusal
from gateway.refusals import TooLarge
from gateway.services import Services
from gateway.stores.devices import children
from schemas import telemetry
from schemas.replies import ResponseMap
from schemas.telemetry import Telemetry

MESSAGES_MAX = 100
MASS_BODY_BYTES_MAX = 4 * 1024 * 1024


class Answers:
    """Receives the answers to many messages; `done` is set when the last one is there."""

    def __init__(self, expected: int) -> None:
        self.bodies: list[bytes] = [b""] * expected
        self.statuses: list[int] = [0] * expected
        self.retry_after_s: int | None = None
        self.done = asyncio.Event()
        self._left = expected

    def put(self, place: int, status: int, body: bytes) -> None:
        """One answer is known."""
        self.statuses[place] = status
        self.bodies[place] = body
        self._left -= 1
        if not self._left:
            self.done.set()


class Place:
    """The receiver of one message among many."""

    __slots__ = ("_answers", "_place")

    def __init__(self, answers: Answers, place: int) -> None:
        self._answers = answers
        self._place = place

    def accepted(self, response_map: bytes) -> None:
        """The message is stored."""
        self._answers.put(self._place, 201, response_map)

    def refused(self, status: int, text: str, response_map: bytes | None, retry_after_s: int | None) -> None:
        """The message is not stored."""
        self._answers.retry_after_s = retry_after_s or self._answers.retry_after_s
        self._answers.put(self._place, status, refusal(text, response_map))


@endpoint(
    "POST",
    "/v1/devices/{device_id}/telemetry",
    status=201,
    errors={413: "The message is too large.", 429: "Too many calls.", 503: "Not taken at the moment."},
    body_bytes_max=telemetry.BODY_BYTES_MAX,
    described_body=Telemetry,
    described_caller=DEVICE,
)
async def post_telemetry(services: Services, request: Request, device_id: str) -> ResponseMap:
    """Send one telemetry message; the answer says what waits for the device."""
    answers = Answers(1)
    place = Place(answers, 0)
    key = presented_key(request).encode("utf-8", "replace")
    try:
        body = await read_body(request, telemetry.BODY_BYTES_MAX)
    except TooLarge:
        services.ingest.refuse_too_large(place)
    else:
        services.ingest.offer(place, device_id.lower().encode("utf-8", "replace"), key, body)
    await answers.done.wait()
    return _response(answers.statuses[0], answers.bodies[0], answers.retry_after_s)  # type: ignore[return-value]


class Credentials(Struct):
    """What a message among many may carry to speak for itself."""

    access_token: str | None = None
    access_key: str | None = None


class TelemetryWithToken(Telemetry, omit_defaults=True):
    """A message with its credential, decoded in one go."""

    access_token: str | None = None
    access_key: str | None = None


MassItem = Annotated[dict[str, Raw], Meta(max_length=MESSAGES_MAX)]
_credentials = msgspec.json.Decoder(Credentials)
_spoken = msgspec.json.Decoder(TelemetryWithToken)
_encoder = msgspec.json.Encoder()
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@endpoint(
    "POST",
    "/v1/devices/{device_id}/children/telemetries",
    status=201,
    errors={401: "Neither a parent's key nor a token in every message.", 422: "Some messages were refused."},
    partial_status=422,
    described_body=Annotated[dict[str, TelemetryWithToken], Meta(max_length=MESSAGES_MAX)],
    described_caller=DEVICE,
    body_bytes_max=MASS_BODY_BYTES_MAX,
)
async def post_telemetries(
    services: Services, request: Request, device_id: str, body: MassItem
) -> dict[UUID, ResponseMap | ErrorBody]:
    """Send messages of many devices at once: one's own children, or any device whose `access_token` is in its message.

    The answer maps each id to its response map or error: 201 when all are stored, else 422.
    """
    answers = Answers(len(body))
    ingest = services.ingest
    of_parent: list[tuple[int, str, bytes]] = []
    for place, (child_id, raw) in enumerate(body.items()):
        body_of_one = bytes(raw)
        token = message = None
        if b'"access_' in body_of_one:
            token, message = _take_token(body_of_one)
        if token is None:
            of_parent.append((place, child_id, body_of_one))
        else:
            if message is not None:
                body_of_one = _encoder.encode(message)
            ingest.offer(Place(answers, place), child_id.encode(), token.encode(), body_of_one, message)
    if of_parent or not body:
        await _offer_children(services, request, of_parent, answers)
    if body:
        await answers.done.wait()
    members = b",".join(
        [_encoder.encode(child) + b":" + answer for child, answer in zip(body, answers.bodies, strict=True)]
    )
    status = 201 if all(status == 201 for status in answers.statuses) else 422
    return _response(status, b"{%b}" % members, answers.retry_after_s)  # type: ignore[return-value]


async def _offer_children(
    services: Services, request: Request, messages: list[tuple[int, str, bytes]], answers: Answers
) -> None:
    """Offer messages without a token: the caller must be the parent of their devices."""
    parent = await devices.authenticate(services, request)
    versions = await children.key_versions(services.postgres, parent.id, [child for _, child, _ in messages])
    ingest: Ingest = services.ingest
    for place, child_id, message in messages:
        version = versions.get(child_id)
        if version is None:
            answers.put(place, 404, refusal("Device not found", None))
        else:
            ingest.offer_trusted(Place(answers, place), child_id.encode(), b"%02x" % version, message)


def _take_token(body: bytes) -> tuple[str | None, Telemetry | None]:
    """The token of a message, and the message without it, so that no credential is ever stored.

    A message that does not decode is None: it is about to be refused by `offer`, with its sentence.
    """
    try:
        message = _spoken.decode(body)
    except _UNDECODABLE:
        try:
            credentials = _credentials.decode(body)
        except _UNDECODABLE:
            return None, None
        return credentials.access_token or credentials.access_key, None
    token = message.access_token or message.access_key
    message.access_token = message.access_key = None
    return token, message


def _response(status: int, body: bytes, retry_after_s: int | None) -> Response:
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return Response(body, status, headers=headers, media_type="application/json")


ENDPOINTS: tuple[Endpoint, ...] = (post_telemetry, post_telemetries)
