"""The cookie that holds a session's id, and the token that forms of the session must bring.

Over TLS it is `__Host-…`: only this host over TLS can set it, and it is sent to no other. Below a path its name tells
the path, so that two installations on one host keep apart; without TLS it is confined to the path itself.
"""

import hashlib
import re
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from gateway.services import Services
from gateway.stores.people import sessions
from schemas.constant_time import same_text

SECRET_CHARACTERS_MAX = 128
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9]+")


def name_of(url: str) -> str:
    """What the cookie is called where people call this base URL."""
    parts = urlsplit(url)
    below = _NOT_IN_NAMES.sub("-", parts.path).strip("-")
    prefix = "__Host-" if parts.scheme == "https" else ""
    return f"{prefix}fleetgate{'-' * bool(below)}{below}"


def path_below(services: Services, path: str) -> str:
    """A path as browsers ask for it, below that of the public URL."""
    return urlsplit(services.url).path.rstrip("/") + path


def read(services: Services, request: Request) -> str:
    """The id that a request shows; empty where it shows none."""
    secret = request.cookies.get(name_of(services.url), "")
    return secret if len(secret) <= SECRET_CHARACTERS_MAX else ""


def give(services: Services, response: Response, secret: str) -> None:
    """Let a browser keep a session's id."""
    give_beside(services, response, "", secret, int(sessions.LIFE.total_seconds()))


def take(services: Services, response: Response) -> None:
    """Let a browser forget it."""
    give_beside(services, response, "", "", 0)


def read_beside(services: Services, request: Request, ending: str) -> str:
    """What a browser keeps beside a session's id, under a name that ends so; empty where it keeps nothing."""
    return request.cookies.get(name_of(services.url) + ending, "")


def give_beside(services: Services, response: Response, ending: str, value: str, age_s: int) -> None:
    """Let it keep that, as well guarded as the session's id."""
    parts = urlsplit(services.url)
    tls = parts.scheme == "https"
    response.set_cookie(
        name_of(services.url) + ending,
        value,
        max_age=age_s,
        path="/" if tls else parts.path or "/",
        secure=tls,
        httponly=True,
        samesite="lax",
    )


def form_token(secret: str) -> str:
    """What forms of a session bring along: it follows from the id, which no other site can read, and hides it."""
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"fg form token").hexdigest()


def is_form_token(secret: str, token: str) -> bool:
    """Whether a form is of this session. Constant time."""
    return same_text(token, form_token(secret))
