"""`fleetgate receiver`: a small receiver of webhooks that shows what arrives, to try a data connector with.

It checks each request's signature as any receiver should, prints one line for each event, and answers 200. The check
is all in `verified`: a JWT in `X-Dt-Signature`, signed with the connector's secret, that holds the body's checksum.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import jwt
import msgspec
from aiohttp import web

from gateway.cli.demo_file import Demo
from gateway.cli.simulated.serving import serve
from schemas.constant_time import same_text

BODY_BYTES_MAX = 1024 * 1024


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "receiver", help="show what a data connector sends", description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8090, help="port on 127.0.0.1 (default 8090)")
    parser.add_argument(
        "--secret", default="", help="signature secret of the connector; without one nothing is checked"
    )
    parser.add_argument("--demo", type=Path, metavar="FILE", help="take the secret of the demo's connector from here")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Receive until SIGINT or SIGTERM."""

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        # Read each time: the demo is made, and made anew, while its receiver is up.
        secret = arguments.secret if arguments.demo is None else Demo.read(arguments.demo).signature_secret
        if secret and not verified(body, request.headers.get("X-Dt-Signature", ""), secret):
            print("refused: the signature is not good", flush=True)
            return web.Response(status=401)
        print(_line(body), flush=True)
        return web.Response()

    application = web.Application(client_max_size=BODY_BYTES_MAX)
    application.router.add_post("/{path:.*}", receive)
    return await serve(application, arguments.port, f"receiving on http://127.0.0.1:{arguments.port}/")


def verified(body: bytes, token: str, secret: str) -> bool:
    """Whether the token was made with the secret, for this body, within the last hour."""
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"])
    except jwt.PyJWTError:
        return False
    return same_text(str(claims.get("checksum_sha256")), hashlib.sha256(body).hexdigest())


def _line(body: bytes) -> str:
    try:
        event: dict[str, Any] = msgspec.json.decode(body)["event"]
        device = event["targetName"].rpartition("/")[2]
        return f"{event['timestamp']} {event['eventType']:16} {device} {msgspec.json.encode(event['data']).decode()}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"not an event: {body[:200]!r}"
