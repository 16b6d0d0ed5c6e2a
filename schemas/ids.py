"""Identities and credentials: how ids, access keys and API keys are made and checked.

*Access keys* of devices are derived, not stored: two hex digits of key version, then 30 hex digits (120 bits) of a
keyed BLAKE2b over device id and version. An edge checks one in about a microsecond with no look-up. Whether the
device was deleted or its key rotated shows in the device's prepared reply (see `schemas.replies`).

*API keys* and *hardware keys* are random. Their text is ``fg<kind>_<row id>_<secret>``; only a SHA-256 digest of the
secret is stored, which is enough because the secret has 256 random bits.
"""

import hashlib
import secrets
import time
import zlib
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from schemas.constant_time import same_bytes

_B32HEX = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = [high + low for high in _B32HEX for low in _B32HEX]
_EMULATED_VERSION = 8


class _Ascending:
    """Random numbers that start with the time and only grow, so that what one process makes in a row stays in order."""

    def __init__(self, random_bits: int) -> None:
        self._random_bits = random_bits
        self._latest = self._time = 0

    def next(self, time_: int) -> int:
        number = 0
        if time_ > self._time:
            self._time = time_
            number = time_ << self._random_bits | secrets.randbits(self._random_bits)
        if number <= self._latest:
            number = self._latest + 1 + secrets.randbits(32)
        self._latest = number
        return number


_ids = _Ascending(74)
_xids = _Ascending(64)


def new_id() -> UUID:
    """A UUIDv7: random, and ascending so that indexes stay dense and lists stay in the order of making."""
    number = _ids.next(int(time.time() * 1000))
    return _uuid(7, number >> 74, number >> 62 & 0xFFF, number & (1 << 62) - 1)


def _uuid(version: int, high: int, middle: int, low: int) -> UUID:
    """48 bits before the version, 12 beside it, 62 after the variant."""
    return UUID(int=high << 80 | version << 76 | middle << 64 | 0b10 << 62 | low)


def new_xid() -> str:
    """A new id of the /v2 API: 20 characters of base 32, ascending."""
    return _xid(_new_number())


def _new_number() -> int:
    """100 bits for 20 characters, of which the last four are 0."""
    return _xids.next(int(time.time())) << 4


def _xid(number: int) -> str:
    pairs = _PAIRS
    return (
        f"{pairs[number >> 90]}{pairs[number >> 80 & 1023]}{pairs[number >> 70 & 1023]}{pairs[number >> 60 & 1023]}"
        f"{pairs[number >> 50 & 1023]}{pairs[number >> 40 & 1023]}{pairs[number >> 30 & 1023]}"
        f"{pairs[number >> 20 & 1023]}{pairs[number >> 10 & 1023]}{pairs[number & 1023]}"
    )


def new_emulated_id() -> UUID:
    """The id of an emulated device: a UUIDv8 that its name, `emu` and 20 characters, tells whole."""
    return _emulated(_new_number())


def _emulated(number: int) -> UUID:
    return _uuid(_EMULATED_VERSION, number >> 52, number >> 40 & 0xFFF, number & (1 << 40) - 1)


def device_name(device_id: UUID) -> str:
    """A device's id as the /v2 API writes it: `emu…` for an emulated device, else the UUID."""
    if device_id.version != _EMULATED_VERSION:
        return str(device_id)
    number = device_id.int
    return "emu" + _xid((number >> 80) << 52 | (number >> 64 & 0xFFF) << 40 | number & (1 << 40) - 1)


ID_CHARACTERS = 36
"""Characters of a UUID as we write it; other spellings are no ids of ours."""


def uuid_of(text: str) -> UUID | None:
    """The id that a text is, if it is one as we write them."""
    try:
        found = UUID(text) if len(text) == ID_CHARACTERS else None
    except ValueError:
        return None
    return found if str(found) == text.lower() else None  # UUID() also reads other digits, and hyphens anywhere


def device_of_name(name: str) -> UUID | None:
    """The id behind `device_name`; None for anything else."""
    try:
        if not name.startswith("emu"):
            return uuid_of(name)
        number = 0
        for character in name[3:]:
            number = number << 5 | _B32HEX.index(character)
        return _emulated(number) if len(name) == 23 else None
    except ValueError:
        return None


def shard_of(device_id: bytes, shards: int) -> int:
    """The shard of a device, from the 36 ASCII characters of its id."""
    return zlib.crc32(device_id) % shards


def event_id(stored_at_s: int, shard: int, seq: int) -> str:
    """The stable public id of a log entry: 20 characters, ordered by time, derived from its place in the log."""
    return _xid((stored_at_s << 64 | shard << 48 | seq) << 4)


GENERATIONS_MAX, VERSIONS_OF_GENERATION = 4, 64
"""Generations of the master key that may be in use at once, and versions that a device's key may have in each."""
_HEX_DIGITS = b"0123456789abcdef"


class UnknownGeneration(Exception):
    """A key is of a generation whose master key this process was not given."""


class AccessKeys:
    """Makes and checks the access keys of devices.

    A key's version says which generation of the master key it is of: the first digit tells its slot of four.
    """

    def __init__(self, *master_keys: str, following: int | None = None) -> None:
        """Master keys by slot, empty ones none; `following` is the slot of the next generation."""
        macs = [
            hashlib.blake2b(key=bytes.fromhex(key), digest_size=15, person=b"fg access key") if key else None
            for key in (*master_keys, *[""] * (GENERATIONS_MAX - len(master_keys)))
        ]
        in_slot = len(_HEX_DIGITS) // GENERATIONS_MAX
        self._macs = {_HEX_DIGITS[n : n + 1]: mac for n in range(16) if (mac := macs[n // in_slot]) is not None}
        self._slots = macs
        self._awaited = b""
        if following is not None and macs[following] is None:
            self._awaited = _HEX_DIGITS[following * in_slot : (following + 1) * in_slot]

    def __repr__(self) -> str:
        return "<AccessKeys>"

    def issue(self, device_id: str, version: int) -> str:
        """The access key of one device: 32 hex characters. Raises UnknownGeneration."""
        master = self._slots[version // VERSIONS_OF_GENERATION]
        if master is None:
            raise UnknownGeneration
        text = f"{version:02x}"
        mac = master.copy()
        mac.update(f"{device_id}{text}".encode())
        return text + mac.hexdigest()

    def verify(self, device_id: bytes, key: bytes) -> bool:
        """Whether `key` is this device's key of the version that it names. Constant time."""
        master = self._macs.get(key[:1])
        if master is None:
            return False
        version = key[:2]
        mac = master.copy()
        mac.update(device_id + version)
        return len(key) == 32 and same_bytes(version + mac.hexdigest().encode(), key)

    def awaits(self, key: bytes) -> bool:
        """Whether a key may be of the next generation, whose master key this process was not given: it cannot say."""
        return len(key) == 32 and key[:1] in self._awaited


def next_key_version(version: int, generation: int) -> int | None:
    """The version of the key that follows one of this version, under a generation of the master key.

    None when the generation has no more.
    """
    first = generation % GENERATIONS_MAX * VERSIONS_OF_GENERATION
    if not first <= version < first + VERSIONS_OF_GENERATION:
        return first
    return version + 1 if version + 1 < first + VERSIONS_OF_GENERATION else None


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
