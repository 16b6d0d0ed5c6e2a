"""Signed URLs of files: for agents that are told a URL by a command and send no key along.

A token is for one device, one file and so many days. It is derived from a master key, so nothing is stored; a rotated
master key ends it with its generation. Withdrawing the file or deleting the device ends it at once.
"""

import hashlib
import re
from datetime import datetime, timedelta
from uuid import UUID

from schemas.constant_time import same_text
from schemas.master_keys import MasterKeys

LIFE = timedelta(days=14)
"""A command waits for its device for up to seven days; the rest is for a slow download."""
_TOKEN = re.compile(r"(?P<until>[0-9a-f]{1,10})\.(?P<mac>[0-9a-f]{40})")
_MAC_BYTES = 20
_PATH = re.compile(r"/v1/devices/[0-9a-f-]{36}/files/[0-9a-f-]{36}/content\?token=[0-9a-f.]+$")


def url(base_url: str, keys: MasterKeys, device_id: UUID, file_id: UUID, now: datetime) -> str:
    """Where a device fetches a file without a key."""
    return f"{base_url}/v1/devices/{device_id}/files/{file_id}/content?token={issue(keys, device_id, file_id, now)}"


def moved(url: str, base_url: str) -> str:
    """The same file at another base URL: whoever made it may not have known where its device calls. Others stay."""
    found = _PATH.search(url)
    return url if found is None else base_url + found[0]


def issue(keys: MasterKeys, device_id: UUID, file_id: UUID, now: datetime) -> str:
    """A token of the newest master key."""
    until = f"{int((now + LIFE).timestamp()):x}"
    return f"{until}.{_mac(keys.of(keys.newest), device_id, file_id, until)}"


def is_good(keys: MasterKeys, token: str, device_id: UUID, file_id: UUID, now: datetime) -> bool:
    """Whether the token is for this device and file, and not over."""
    found = _TOKEN.fullmatch(token)
    if found is None or int(found["until"], 16) < now.timestamp():
        return False
    return any(same_text(found["mac"], _mac(key, device_id, file_id, found["until"])) for _, key in keys.items())


def _mac(key: str, device_id: UUID, file_id: UUID, until: str) -> str:
    said = device_id.bytes + file_id.bytes + until.encode()
    return hashlib.blake2b(said, key=bytes.fromhex(key), digest_size=_MAC_BYTES, person=b"download").hexdigest()
