"""Identities and credentials: how ids, access keys and API keys are made and checked.

*Access keys* of devices are derived, not stored: two hex digits of key version, then 30 hex digits (120 bits) of a
keyed BLAKE2b over device id and version. An edge checks one in about a microsecond with no look-up. Whether the
device was deleted or its key rotated shows in the device's prepared reply (see `schemas.replies`).

*API keys* and *hardware keys* are random. Their text is ``fg<kind>_<row id>_<secret>``; only a SHA-256 digest of the
secret is stored, which is enough because the secret has 256 random bits.
"""

import hashlib
import hmac
import os
import secrets
import time
import zlib
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

_B32HEX = "0123456789abcdefghijklmnopqrstuv"


def new_id() -> UUID:
    """A UUIDv7: random, and ordered by time so that indexes stay dense."""
    value = (int(time.time() * 1000) << 80) | (int.from_bytes(os.urandom(10)))
    value &= ~(0xF000 << 64) & ~(0xC000 << 48)
    value |= (0x7000 << 64) | (0x8000 << 48)
    return UUID(int=value)


def shard_of(device_id: bytes, shards: int) -> int:
    """The shard of a device, from the 36 ASCII characters of its id."""
    return zlib.crc32(device_id) % shards


def event_id(stored_at_s: int, shard: int, seq: int) -> str:
    """The stable public id of a log entry: 20 characters, ordered by time, derived from its place in the log."""
    number = (stored_at_s << 64 | shard << 48 | seq) << 4
    return "".join(_B32HEX[number >> shift & 31] for shift in range(95, -1, -5))


class AccessKeys:
    """Makes and checks the access keys of devices."""

    def __init__(self, master_key: str) -> None:
        self._mac = hashlib.blake2b(key=bytes.fromhex(master_key), digest_size=15, person=b"fg access key")

    def __repr__(self) -> str:
        return "<AccessKeys>"

    def issue(self, device_id: str, version: int) -> str:
        """The access key of one device: 32 hex characters."""
        return self._key(device_id.encode(), b"%02x" % version).decode()

    def verify(self, device_id: bytes, key: bytes) -> bool:
        """Whether `key` is this device's key of the version that it names. Constant time."""
        return len(key) == 32 and hmac.compare_digest(self._key(device_id, key[:2]), key)

    def _key(self, device_id: bytes, version: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(device_id + version)
        return version + mac.hexdigest().encode()


def fingerprint(master_key: str) -> bytes:
    """Tells two master keys apart without telling either."""
    return hashlib.blake2b(key=bytes.fromhex(master_key), digest_size=8, person=b"fg fingerprint").digest()


class Minted(NamedTuple):
    """A new credential: `text` is shown once, `id` and `digest` are stored."""

    id: UUID
    text: str
    digest: bytes


class Presented(Struct, frozen=True):
    """A credential as a caller presented it."""

    kind: str
    id: UUID
    digest: bytes


KINDS = {"organization": "fgo", "partner": "fgp", "hardware": "fgh"}


def mint(kind: str) -> Minted:
    """A new random credential of a kind in `KINDS`."""
    key_id, secret = new_id(), secrets.token_hex(32)
    return Minted(key_id, f"{KINDS[kind]}_{key_id.hex}_{secret}", hashlib.sha256(secret.encode()).digest())


def present(text: str) -> Presented | None:
    """Take a credential apart; None if it cannot be one of ours."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    kind = next((kind for kind, known in KINDS.items() if known == prefix), None)
    if kind is None or len(key_id) != 32 or not secret:
        return None
    try:
        return Presented(kind, UUID(key_id), hashlib.sha256(secret.encode()).digest())
    except ValueError:
        return None


def same(digest: bytes, stored: bytes) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(digest, stored)
