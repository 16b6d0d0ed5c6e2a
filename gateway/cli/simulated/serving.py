"""Serving something small on this machine, for a person who tries things out, until a signal ends it."""

import sys

from aiohttp import web

from gateway.cli.stopping import stop_event


async def serve(application: web.Application, port: int, greeting: str) -> int:
    """Listen on 127.0.0.1, say so, and serve until SIGINT or SIGTERM. The exit code: 1 when the port is taken."""
    stop = stop_event("stopping")
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(greeting, flush=True)
        await stop.wait()
    except OSError as error:
        print(f"127.0.0.1:{port} cannot be listened on ({error.strerror}): choose another with --port", file=sys.stderr)
        return 1
    finally:
        await runner.cleanup()
    return 0
