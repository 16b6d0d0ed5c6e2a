"""What an idle keep-alive connection costs an edge, after it has carried a message."""

import asyncio
import resource

import psutil

from bench.results import Report
from bench.rig import Rig, open_shards, until_ready

FIRST, LAST = 500, 5_500


async def run(rig: Rig, report: Report) -> None:
    """Resident memory over connections, from the 500th to the 5,500th (fewer where descriptors are limited)."""
    valkey = rig.valkey("everysec")
    await open_shards(valkey)
    url, edge = rig.edge(valkey)
    await until_ready(url)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    last = min(LAST, hard - 200)
    host, port = url.removeprefix("http://").split(":")
    process = psutil.Process(edge.pid)
    writers = []
    at_first = 0
    for number in range(last):
        device_id = rig.device_ids[number % len(rig.device_ids)]
        reader, writer = await asyncio.open_connection(host, int(port))
        body = b'{"status":"online"}'
        head = f"POST /v1/devices/{device_id}/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: {rig.key(device_id)}\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201")
        writers.append(writer)
        if number == FIRST:
            at_first = process.memory_info().rss
    value = (process.memory_info().rss - at_first) / (last - FIRST)
    for writer in writers:
        writer.close()
    report.ratio("idle_connection_bytes", round(value), at_most=6 * 1024)
