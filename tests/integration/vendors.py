"""A vendor's cloud to import from: a real HTTP server whose list and manners a test sets."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

MANIFEST = """
title = "Acme Cloud"
base_url = "{{url}}"
requests_per_s = 1000.0
[settings.url]
label = "URL"
[credentials.token]
label = "Token"
[authentication]
kind = "bearer"
token = "{{token}}"
[list]
path = "/devices"
items = "devices"
{total}
[list.paging]
{paging}
[device]
id = "id"
name = "name"
serial = "serial"
mac = "mac"
model = "model"
firmware = "firmware"
space = "space"
[telemetry]
online = "online"
[telemetry.values]
temperature = "temperature"
"""
PAGING = {
    "none": 'kind = "none"',
    "page": 'kind = "page"\nparameter = "page"\nsize_parameter = "size"\nsize = 3',
    "offset": 'kind = "offset"\nparameter = "skip"\nsize_parameter = "size"\nsize = 3',
    "cursor": 'kind = "cursor"\ncursor = "next"\nparameter = "after"\nsize_parameter = "size"\nsize = 3',
    "url": 'kind = "cursor"\ncursor = "next_url"\nsize_parameter = "size"\nsize = 3',
    "link": 'kind = "link"\nsize_parameter = "size"\nsize = 3',
}


def manifest(paging: str = "page", *, total: bool = False) -> str:
    """The manifest of a cloud that pages in this way."""
    return MANIFEST.format(paging=PAGING[paging], total='total = "total"' if total else "")


@dataclass
class VendorCloud:
    """What it lists, and how it behaves: `before` may answer in place of the list."""

    devices: list[dict[str, Any]] = field(default_factory=list)
    token: str = "s3cret"
    total: int | None = None
    page_size: int = 3
    before: Callable[[web.Request, int], Any] | None = None
    asked: list[str] = field(default_factory=list)
    url: str = ""
    folder: Path = Path()

    def has(self, *names: str, **members: Any) -> None:
        """List these devices from now on."""
        self.devices = [{"id": name, "name": name.title(), **members} for name in names]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One page of the list."""
        self.asked.append(request.path_qs)
        if self.before is not None:
            found = self.before(request, len(self.asked))
            if asyncio.iscoroutine(found):
                found = await found
            if found is not None:
                return found  # type: ignore[no-any-return]
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return web.json_response({"error": "who are you"}, status=401)
        query = request.query
        size = int(query.get("size", 10**9))
        start = int(query.get("skip", query.get("after", 0))) or (int(query.get("page", 1)) - 1) * size
        page = self.devices[start : start + size]
        more = start + size < len(self.devices)
        told: dict[str, Any] = {"devices": page, "total": len(self.devices) if self.total is None else self.total}
        headers = {}
        if more:
            following = f"/devices?after={start + size}&size={size}"
            told |= {"next": str(start + size), "next_url": following}
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(told, headers=headers)


async def serve(cloud: VendorCloud) -> web.AppRunner:
    """Start it on a free port; the caller cleans up."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", cloud.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    cloud.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    return runner
