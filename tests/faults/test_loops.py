"""Edges whose loops die: a process that is no longer whole ends, and says of what."""

import asyncio
import json
import signal
from typing import Any

import pytest

from schemas import redis
from tests.faults.stack import Stack

BREAKABLE = """
import signal
broken = []
signal.signal(signal.SIGUSR1, lambda *_: broken.append(True))
def breakable(owner, name):
    whole = getattr(owner, name)
    def call(self, *arguments):
        if broken:
            raise KeyError("broken by a test")
        return whole(self, *arguments)
    setattr(owner, name, call)
"""
"""What it does to a process: one method fails once SIGUSR1 has come."""
WATCHED = """
begin = EventTail.__init__
def watched(self, *arguments):
    begin(self, *arguments)
    self._watched.set()
EventTail.__init__ = watched
"""
"""It reads while somebody watches."""
LOOPS = {
    "pressure": ("gateway.ingest.pressure", "Pressure", "_measure", "pressure"),
    "hot tick": ("gateway.ingest.hot_state", "HotState", "tick", "hot tick"),
    "event tail": ("gateway.event_tail", "EventTail", "_poll", "event tail"),
    "ingest": ("gateway.ingest.call_limit", "CallLimit", "tick", "ingest"),
    "a pipe to Redis": ("gateway.ingest.pipe", "Pipe", "_connect", "ingest"),
}


@pytest.mark.parametrize("place", LOOPS)
async def test_an_edge_whose_loop_dies_ends_with_its_cause(stack: Stack, place: str) -> None:
    """It finishes the request that it has, says what died of what, and its exit code is not 0."""
    module, owner, method, loop = LOOPS[place]
    prelude = f"{BREAKABLE}\nfrom {module} import {owner}\nbreakable({owner}, {method!r})\n"
    if loop == "event tail":
        prelude += WATCHED
    await stack.worker()
    edge = await stack.edge(prelude)
    await stack.until_answers("/readyz")
    device_id = stack.devices[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]))
    head = (
        f"POST /v1/devices/{device_id}/config HTTP/1.1\r\nHost: x\r\nAuthorization: {stack.access_key(device_id)}\r\n"
    )
    writer.write(f'{head}Content-Length: 7\r\n\r\n{{"a"'.encode())
    await writer.drain()
    edge.signal(signal.SIGUSR1)
    if place == "a pipe to Redis":
        client: Any = redis.connect(stack.redis_url)
        await client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
        await client.aclose()
    line = json.loads(await edge.logged("loop_died"))
    assert (line["level"], line["loop"]) == ("critical", loop)
    assert "broken by a test" in line["trace"]
    writer.write(b":1}")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert await edge.ended() == 1
