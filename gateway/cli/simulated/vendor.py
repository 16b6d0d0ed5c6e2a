"""`fleetgate vendor`: a simulated vendor's cloud whose devices come and go, to try cloud connectors with.

Its manifest is `simulated`. A dozen rooms, of which one or two are missing at any time, and not for long; each tells
whether it is online, how warm it is and how many people are there.
"""

import argparse
import math
import time
from typing import Any

from aiohttp import web

from gateway.cli.simulated.serving import serve
from schemas.constant_time import same_text

ROOMS = 12
AWAY_S, CYCLE_S = 120, 900
"""Each room is missing from the list for so long in every cycle."""
PER_PAGE_MAX = 100
TOKEN = "simulated"  # noqa: S105 (it protects nothing)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "vendor", help="simulate a vendor's cloud", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8091, help="port on 127.0.0.1 (default 8091)")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    application = web.Application()
    application.router.add_get("/devices", _list)
    greeting = f"listing devices on http://127.0.0.1:{arguments.port}/devices with the token {TOKEN}"
    return await serve(application, arguments.port, greeting)


async def _list(request: web.Request) -> web.Response:
    if not same_text(request.headers.get("authorization", ""), f"Bearer {TOKEN}"):
        return web.json_response({"error": "The token is not right"}, status=401)
    try:
        page, size = int(request.query.get("page", 1)), int(request.query.get("per_page", 10))
    except ValueError:
        return web.json_response({"error": "page and per_page are numbers"}, status=400)
    devices = listed(time.time())
    size = max(1, min(size, PER_PAGE_MAX))
    start = (max(1, page) - 1) * size
    return web.json_response({"devices": devices[start : start + size], "total": len(devices)})


def listed(now_s: float) -> list[dict[str, Any]]:
    """The rooms that are listed at a time."""
    return [
        {
            "id": f"room-{number}",
            "name": f"Room {number}",
            "serial": f"SIM{number:04}",
            "mac": f"02:51:00:00:00:{number:02x}",
            "model": "Sim 100" if number % 2 else "Sim 200",
            "firmware": "1.2.0",
            "site": "Imported" if number % 3 else "Annex",
            "floor": f"Floor {number % 3}",
            "online": (now_s // 60 + number) % 10 != 0,
            "temperature": round(21 + 3 * math.sin(now_s / 600 + number), 1),
            "people": int(now_s // 120 + number * 7) % 9,
        }
        for number in range(1, ROOMS + 1)
        if (now_s + number * CYCLE_S / ROOMS) % CYCLE_S >= AWAY_S
    ]
