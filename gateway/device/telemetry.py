"""Telemetry on the ordinary path, and many messages in one request.

Single telemetry normally never gets here: `gateway.ingest.protocol` answers it. This route serves the same address for
requests that the hot path leaves alone (pipelined, `Expect: 100-continue`, HTTP/1.0), through the same `Ingest.offer`.
"""

import asyncio
import json
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Raw, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import bodies
from gateway.api.callers import devices
from gateway.api.callers.authorization import credential, presented_key
from gateway.api.callers.devices import DEVICE
from gateway.api.dialects import ErrorBody
from gateway.api.endpoint import Endpoint, endpoint
from gateway.ingest.answers import refusal
from gateway.ingest.ingest import Ingest
from gateway.refusals import DoesNotFit, Malformed, TooLarge, Unauthenticated
from gateway.services import Services
from gateway.stores.devices import children
from schemas import nul, telemetry
from schemas.replies import ResponseMap
from schemas.telemetry import Telemetry

MESSAGES_MAX = 100
MASS_BODY_BYTES_MAX = 4 * 1024 * 1024
TOKENS_BODY_BYTES_MAX = 1024 * 1024
"""Of a request without a key: its tokens are in the messages, so it is read before anybody is known."""


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


class AnswerSlot:
    """The receiver of one device's answer among many."""

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
    place = AnswerSlot(answers, 0)
    key, device = _shown(request, device_id)
    try:
        body = await bodies.read(request, telemetry.BODY_BYTES_MAX) if services.ingest.knows(device, key) else b""
    except TooLarge:
        services.ingest.refuse_too_large(place)
    else:
        services.ingest.offer(place, device, key, body)
    await answers.done.wait()
    return _response(answers.statuses[0], answers.bodies[0], answers.retry_after_s)  # type: ignore[return-value]


class TelemetryWithToken(Telemetry, omit_defaults=True):
    """A message with its credential, decoded in one go."""

    access_token: str | None = None
    access_key: str | None = None


class Credentials(Struct):
    """The credential of a message that is refused."""

    access_token: str | None = None
    access_key: str | None = None


_members = msgspec.json.Decoder(dict[str, Raw])
_several = msgspec.json.Decoder(list[Raw])
_with_token = msgspec.json.Decoder(TelemetryWithToken)
_credentials = msgspec.json.Decoder(Credentials)
_encoder = msgspec.json.Encoder()


class DeviceMessages:
    """The messages of one device, and the token among them."""

    __slots__ = ("device_id", "messages", "token")

    def __init__(self, name: str, raw: Raw) -> None:
        self.device_id = name.lower()
        self.token: str | None = None
        text = bytes(raw)
        self.messages = [bytes(one) for one in bodies.decode(_several, text)] if text[:1] == b"[" else [text]

    def take_tokens(self) -> None:
        """Take the tokens out of the messages, so that no credential is ever stored. Raises Unauthenticated."""
        for place, message in enumerate(self.messages):
            if b'"access_' not in message:
                continue
            token, self.messages[place] = _take_token(message)
            if token is None:
                continue
            if self.token not in (None, token):
                raise Unauthenticated
            self.token = token


@endpoint(
    "POST",
    "/v1/devices/{device_id}/children/telemetries",
    status=201,
    errors={
        401: "Neither a parent's key nor a token in every message.",
        422: f"Some messages were refused; or, of the whole, more than {MESSAGES_MAX} messages, or a device twice.",
    },
    partial_status=422,
    described_body=Annotated[dict[str, TelemetryWithToken | list[TelemetryWithToken]], Meta(max_length=MESSAGES_MAX)],
    described_caller=DEVICE,
    body_bytes_max=MASS_BODY_BYTES_MAX,
)
async def post_telemetries(services: Services, request: Request, device_id: str) -> dict[UUID, ResponseMap | ErrorBody]:
    """Send messages of many devices at once: one's own, one's children's, any whose `access_token` is in its message.

    Several messages of one device come as an array: they count as one call of it and are stored together or not at all.
    The answer maps each id to its response map or error: 201 when all are stored, else 422.
    """
    body = await _read_of_many(services, request, device_id)
    items = bodies.decode(_members, body)
    by_device = [DeviceMessages(name, raw) for name, raw in items.items()]
    _check(body, items, by_device)
    answers = Answers(len(by_device))
    of_parent: list[tuple[int, DeviceMessages]] = []
    for place, one in enumerate(by_device):
        try:
            one.take_tokens()
        except Unauthenticated as refused:
            answers.put(place, 401, refusal(refused.text, None))
            continue
        if not one.messages:
            answers.put(place, 422, refusal("One message at least is required", None))
        elif one.token is None:
            of_parent.append((place, one))
        else:
            first, *more = one.messages
            device, token = one.device_id.encode("utf-8", "replace"), one.token.encode("utf-8", "replace")
            services.ingest.offer(AnswerSlot(answers, place), device, token, first, more=more)
    if of_parent or not by_device:
        await _offer_of_parent(services, request, of_parent, answers)
    if by_device:
        await answers.done.wait()
    members = b",".join(
        [_encoder.encode(name) + b":" + answer for name, answer in zip(items, answers.bodies, strict=True)]
    )
    status = 201 if all(status == 201 for status in answers.statuses) else 422
    return _response(status, b"{%b}" % members, answers.retry_after_s)  # type: ignore[return-value]


def _shown(request: Request, device_id: str) -> tuple[bytes, bytes]:
    """The key that a request shows, and the device that it is for."""
    return presented_key(request).encode("utf-8", "replace"), device_id.lower().encode("utf-8", "replace")


async def _read_of_many(services: Services, request: Request, device_id: str) -> bytes:
    """The messages of a caller with a good key; without one they are fewer, until their tokens are read.

    Raises Unauthenticated for a wrong key.
    """
    key, device = _shown(request, device_id)
    if not key:
        return await bodies.read(request, TOKENS_BODY_BYTES_MAX)
    if not services.ingest.knows(device, key):
        raise Unauthenticated
    return await bodies.read(request, MASS_BODY_BYTES_MAX)


def _check(body: bytes, items: dict[str, Raw], by_device: list[DeviceMessages]) -> None:
    """Raises DoesNotFit for too many messages, for a device that stands in the map twice, and for U+0000 in its id.

    A decoder keeps the last of two members of one name; that there were two shows in the length of a compact body, and
    else by another parser.
    """
    if sum(len(one.messages) for one in by_device) > MESSAGES_MAX:
        raise DoesNotFit(f"At most {MESSAGES_MAX} messages are sent at once")
    if any(nul.NUL in name for name in items):
        raise DoesNotFit(nul.sentence_of(""))
    names = [one.device_id for one in by_device]
    if len(body) != 1 + sum(len(_encoder.encode(name)) + len(raw) + 2 for name, raw in items.items()):
        names = [name.lower() for name in _names(body)]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DoesNotFit(f"{name} stands there twice: send several messages of a device as an array")
        seen.add(name)


def _names(body: bytes) -> list[str]:
    """The names of a JSON object's members, each as often as it stands there."""
    try:
        names: list[str] = json.loads(
            body, object_pairs_hook=lambda pairs: [name for name, _ in pairs], parse_int=len, parse_float=len
        )
    except RecursionError:
        raise Malformed("Body is nested too deeply") from None
    return names


async def _offer_of_parent(
    services: Services, request: Request, by_device: list[tuple[int, DeviceMessages]], answers: Answers
) -> None:
    """Offer messages without a token: the caller must be their device, or the parent of it."""
    parent = await devices.authenticate(services, request)
    versions = await children.key_versions(services.postgres, parent.id, [one.device_id for _, one in by_device])
    versions[str(parent.id)] = int(presented_key(request)[:2], 16)
    ingest: Ingest = services.ingest
    for place, one in by_device:
        version = versions.get(one.device_id)
        if version is None:
            answers.put(place, 404, refusal("Device not found", None))
        else:
            first, *more = one.messages
            ingest.offer_trusted(
                AnswerSlot(answers, place), one.device_id.encode(), b"%02x" % version, first, more=more
            )


def _take_token(body: bytes) -> tuple[str | None, bytes]:
    """The token of a message, and the message without it. Raises Unauthenticated for two different ones.

    One that is no message stays as it is: it is about to be refused by `offer`, with its sentence.
    """
    try:
        message = telemetry.parse_as(body, _with_token, TelemetryWithToken)
    except telemetry.TelemetryError:
        try:
            credentials = _credentials.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None, body
        return _token_of(credentials), body
    token = _token_of(message)
    message.access_token = message.access_key = None
    return token, _encoder.encode(message)


def _token_of(message: TelemetryWithToken | Credentials) -> str | None:
    given = {credential(token) for token in (message.access_token, message.access_key) if token}
    if len(given) > 1:
        raise Unauthenticated
    return given.pop() if given else None


def _response(status: int, body: bytes, retry_after_s: int | None) -> Response:
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return Response(body, status, headers=headers, media_type="application/json")


ENDPOINTS: tuple[Endpoint, ...] = (post_telemetry, post_telemetries)
