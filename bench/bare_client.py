"""The limit that the dispatcher is held against: an aiohttp client that does nothing but POST given bodies.

    python -m bench.bare_client URL BODIES --seconds 5 --requests 64

Reads one body a line and sends them round and round; prints requests answered with 2xx a second.
"""

import argparse
import asyncio
import itertools
import time
from pathlib import Path

import aiohttp
import uvloop
from yarl import URL


async def _run(url: URL, bodies: list[bytes], seconds: float, requests: int) -> float:
    endless = itertools.cycle(bodies)
    headers = {"Content-Type": "application/json"}
    answered = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        began = time.perf_counter()
        deadline = began + seconds

        async def send() -> None:
            nonlocal answered
            while time.perf_counter() < deadline:
                async with session.post(url, data=next(endless), headers=headers) as response:
                    await response.read()
                    answered += response.status < 300

        await asyncio.gather(*(send() for _ in range(requests)))
        return answered / (time.perf_counter() - began)


def main() -> None:
    """Measure, print one number."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--requests", type=int, default=64)
    given = parser.parse_args()
    bodies = given.bodies.read_bytes().splitlines()
    print(uvloop.run(_run(URL(given.url), bodies, given.seconds, given.requests)))


if __name__ == "__main__":
    main()
