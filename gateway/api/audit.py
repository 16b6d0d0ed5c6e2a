"""What is written down of a change, for the audit log: the frame does it for every endpoint that changes something.

An entry is made after the change is done, in a statement of its own: with Postgres lost between the two, it is in the
process's log only (`audit_lost`). What is secret is masked by the name that it has in a body or an answer, and of URLs
what stands before the host and behind the path.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from starlette.requests import Request

from gateway.api.addresses import address_of
from gateway.api.principals import Principal
from gateway.services import Services
from gateway.stores import audit
from schemas import logs
from schemas.postgres import PostgresAway

log = logging.getLogger(__name__)

MASK = "•••"
JSON_BYTES_MAX, TEXT_CHARACTERS_MAX, DEPTH_MAX = 16 * 1024, 500, 12
_SECRET = re.compile(r"(^|_)(password|again|secret|token|passcode|credentials?|headers|key|invite_url|link)$")
_UPPER = re.compile("(?<=[a-z0-9])[A-Z]")


def masked(value: Any, name: str = "", depth: int = 0) -> Any:
    """A value as it may be kept: without secrets, and without what is long."""
    if depth > DEPTH_MAX:
        return "…"
    secret_name = _SECRET.search(_UPPER.sub(lambda upper: f"_{upper[0]}", name).lower())
    # What is called a key and has members is one with its id: the secret has a name of its own.
    if secret_name and value not in (None, "", [], {}, False) and not (secret_name[2] == "key" and _is_map(value)):
        return MASK
    if isinstance(value, Mapping):
        # An address that comes with its passcode is as secret as that.
        secret = {"url"} if "passcode" in value else set()
        return {key: MASK if key in secret else masked(inner, str(key), depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner, "", depth + 1) for inner in value[:100]]
    if not isinstance(value, str):
        return value
    if "://" in value:
        value = _without_secrets(value)
    return value if len(value) <= TEXT_CHARACTERS_MAX else value[:TEXT_CHARACTERS_MAX] + "…"


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _without_secrets(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return MASK
    host = parts.netloc.rpartition("@")
    shown = f"{parts.scheme}://{MASK + '@' if host[1] else ''}{host[2]}{parts.path}"
    return f"{shown}?{MASK}" if parts.query or parts.fragment else shown


def kept(value: Any) -> Any:
    """A body or an answer as JSON that may be kept; None for what is none."""
    if value is None or isinstance(value, bytes):
        return None
    try:
        plain = masked(msgspec.to_builtins(value, str_keys=True))
    except (TypeError, NotImplementedError):
        return None
    size = len(msgspec.json.encode(plain))
    return plain if size <= JSON_BYTES_MAX else {"left_out_bytes": size}


def differing(before: Any, after: Any) -> tuple[Any, Any]:
    """Of two views of one thing, the members that are not the same."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return before, after
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: before[name] for name in names if name in before}, {
        name: after[name] for name in names if name in after
    }


async def note(
    services: Services,
    request: Request,
    principal: Principal,
    organization_id: UUID | None,
    action: str,
    given: Any,
    before: Any,
    after: Any,
) -> None:
    """Write a change down."""
    try:
        await audit.note(
            services.postgres,
            at=services.clock(),
            organization_id=organization_id,
            actor=principal.id,
            action=action,
            target=request.url.path,
            address=address_of(request),
            given=given,
            before=before,
            after=after,
        )
    except PostgresAway as error:
        done = {"action": action, "actor": principal.id, "path": request.url.path}
        logs.event(log, logging.ERROR, "audit_lost", **done, cause=str(error))
