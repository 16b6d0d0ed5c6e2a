"""Scripts and styles: from this package, under an address that changes with them, so that browsers keep them for good.

    /assets/<digest of all>/portal.js

Modules import one another by relative addresses, and so stay those of one version. A page of another version, while
edges are renewed one by one, gets today's files, which are then not kept.
"""

import functools
import gzip
import hashlib
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "assets"
PATH = "/assets"
MEDIA_TYPES = MappingProxyType(
    {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}
)
_DIGEST_CHARACTERS = 16
_FOR_GOOD = "public, max-age=31536000, immutable"


class Asset(Struct, frozen=True):
    """One file, as it is and as most browsers take it."""

    data: bytes
    packed: bytes
    media_type: str


class Assets(Struct, frozen=True):
    """All files by name, and the digest of them all."""

    files: dict[str, Asset]
    digest: str


@functools.cache
def assets() -> Assets:
    """What is served; read once."""
    files: dict[str, Asset] = {}
    digest = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix not in MEDIA_TYPES:
            continue
        data = path.read_bytes()
        name = path.relative_to(FOLDER).as_posix()
        digest.update(f"{name}\n{len(data)}\n".encode() + data)
        files[name] = Asset(data, gzip.compress(data, 9, mtime=0), MEDIA_TYPES[path.suffix])
    return Assets(files, digest.hexdigest()[:_DIGEST_CHARACTERS])


def address(name: str) -> str:
    """Where a file is, below the path prefix. Raises KeyError for one that is not there."""
    found = assets()
    if name not in found.files:
        raise KeyError(f"no asset is called {name}: those of others come with `make assets`")
    return f"{PATH}/{found.digest}/{name}"


async def serve(request: Request) -> Response:
    """One file."""
    known = assets()
    found = known.files.get(request.path_params["name"])
    if found is None:
        return Response("Not found", 404, media_type="text/plain")
    headers = {
        "cache-control": _FOR_GOOD if request.path_params["digest"] == known.digest else "no-store",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "vary": "accept-encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, media_type=found.media_type, headers={**headers, "content-encoding": "gzip"})
    return Response(found.data, media_type=found.media_type, headers=headers)


ROUTES = (Route(f"{PATH}/{{digest}}/{{name:path}}", serve, methods=["GET"]),)
