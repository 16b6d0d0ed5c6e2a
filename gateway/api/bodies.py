"""The body of a request: read within its bound, unpacked, decoded; or taken as it comes, where it may be too large.

Devices send what their libraries make of a message: packed with gzip, behind a byte order mark, whole numbers as `2.0`.
All of that is taken. A packed body is bounded by what it unpacks to, as every other one by its length.
"""

import base64
import binascii
import re
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from starlette.requests import ClientDisconnect, Request

from gateway.api.texts import check_body
from gateway.ingest.connection import GIVE_TIME
from gateway.refusals import DoesNotFit, Malformed, TooLarge, UnknownCoding
from schemas.sentences import sentence
from schemas.telemetry import BYTE_ORDER_MARK

GZIP_MEMBERS_MAX = 16
_GZIP_WINDOW = 31
STREAMED_BYTES_MIN = 16 * 1024
"""So much must come of a body within the time of a whole request: as for answers, see `gateway.ingest.slow_readers`."""
_WHOLE_MAX = 2**53
"""Up to here every float that is a whole number is exactly that number."""
_APART = (list[Raw], dict[str, Raw])
"""Bodies of many messages: each is decoded later, and refused alone for the texts in it too."""

T = TypeVar("T")


async def read(request: Request, bytes_max: int) -> bytes:
    """The whole body, unpacked. Raises Malformed, UnknownCoding, or TooLarge as soon as it is known to be."""
    coding = request.headers.get("content-encoding", "").lower()
    if coding not in ("", "identity", "gzip", "x-gzip"):
        raise UnknownCoding(f"Content-Encoding {coding} is not taken: send gzip, or the body as it is")
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
    return unpacked(bytes(body), bytes_max) if coding.endswith("gzip") else bytes(body)


class Streamed:
    """A body that is not held: its pieces as they come, and what its headers say of it.

    It may take as long as it needs while enough of it comes. It is not unpacked: what is kept is what was sent.
    """

    def __init__(self, request: Request) -> None:
        coding = request.headers.get("content-encoding", "").lower()
        if coding not in ("", "identity"):
            raise UnknownCoding(f"Content-Encoding {coding} is not taken: send the bytes as they are")
        self._request = request
        self._give_time = request.scope.get("extensions", {}).get(GIVE_TIME)
        self.length = int(request.headers["content-length"]) if "content-length" in request.headers else None
        """In bytes, as announced; None when the sender does not know it."""
        self.digests = _digests(request.headers.getlist("content-digest"))
        """What the sender says of the bytes, by the algorithms that are known here."""

    def __repr__(self) -> str:
        return f"<Streamed length={self.length}>"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises Malformed when it is cut off."""
        try:
            came = 0
            async for chunk in self._request.stream():
                came += len(chunk)
                if came >= STREAMED_BYTES_MIN and self._give_time is not None:
                    came = 0
                    self._give_time()
                if chunk:
                    yield chunk
        except ClientDisconnect:
            raise Malformed("Body was cut off") from None


_DIGEST = re.compile(r"(?P<algorithm>[a-z*][a-z0-9_.*-]*)=:(?P<digest>[A-Za-z0-9+/=]*):\s*(;.*)?")
_DIGEST_BYTES = {"sha-256": 32, "sha-512": 64}


def _digests(values: list[str]) -> dict[str, bytes]:
    """What `Content-Digest` (RFC 9530) says, by algorithm; others than ours are left to others. Raises Malformed."""
    found: dict[str, bytes] = {}
    for item in ",".join(values).split(",") if values else ():
        parsed = _DIGEST.fullmatch(item.strip())
        if parsed is None:
            raise Malformed("Content-Digest cannot be read: write it as sha-256=:BASE64:")
        if (length := _DIGEST_BYTES.get(parsed["algorithm"])) is None:
            continue
        try:
            digest = base64.b64decode(parsed["digest"], validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != length:
            raise Malformed(f"Content-Digest: {parsed['algorithm']} has {length} bytes, in base64")
        found[parsed["algorithm"]] = digest
    return found


def unpacked(data: bytes, bytes_max: int) -> bytes:
    """What gzip packed. Raises Malformed, or TooLarge; no more than `bytes_max` is ever unpacked."""
    whole = b""
    for _ in range(GZIP_MEMBERS_MAX):
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            whole += member.decompress(data, bytes_max - len(whole) + 1)
        except zlib.error:
            break
        if len(whole) > bytes_max:
            raise TooLarge(f"Body is larger than {bytes_max} bytes when it is unpacked")
        if not member.eof:
            break
        data = member.unused_data
        if not data:
            return whole
    raise Malformed("Body is not valid gzip")


def decode(
    decoder: "msgspec.json.Decoder[T]",
    data: bytes,
    patterns: Mapping[str, str | None] = {},
    check: Callable[[Any], None] | None = None,
) -> T:
    """The body as what it should be. Raises Malformed, or DoesNotFit with a sentence that names the member.

    `patterns` are those of the type with their sentences, as `patterns_of` finds them; `check` looks at the JSON first.
    """
    data = data.removeprefix(BYTE_ORDER_MARK)
    try:
        if check is not None:
            check(msgspec.json.decode(data))
        try:
            body = decoder.decode(data)
        except msgspec.ValidationError as error:
            if "`int" not in str(error) or "got `float`" not in str(error):
                raise
            # A whole number that a library wrote as a float; cost does not matter here.
            body = msgspec.convert(_whole_numbers.decode(data), decoder.type)
    except msgspec.ValidationError as error:
        kind = Malformed if "unknown field" in str(error) else DoesNotFit
        raise kind(sentence(error, patterns)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed("Body is not valid JSON" if data.strip() else "Body is missing: this call takes JSON") from None
    except RecursionError:
        raise Malformed("Body is nested too deeply") from None
    if decoder.type not in _APART:
        check_body(data)
    return body


def whole(number: Any) -> Any:
    """A float that is a whole number as an integer; anything else as it is."""
    if isinstance(number, float) and number.is_integer() and abs(number) <= _WHOLE_MAX:
        return int(number)
    return number


_whole_numbers = msgspec.json.Decoder(float_hook=lambda text: whole(float(text)))
