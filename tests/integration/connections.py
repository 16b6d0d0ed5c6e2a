"""Raw connections, for what no HTTP client would send, or not in such pieces."""

import asyncio
import ssl

from edges import RunningEdge

from schemas import ids

BODY = b'{"status":"online"}'


class Client:
    """One raw connection of a device."""

    def __init__(self, edge: RunningEdge) -> None:
        self.edge = edge
        self.device_id = str(ids.new_id())
        self.key = edge.services.access_keys.issue(self.device_id, 0)

    async def connect(self, context: ssl.SSLContext | None = None) -> "Client":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.edge.port, ssl=context)
        return self

    def head(self, length: int = len(BODY), extra: str = "") -> bytes:
        line = f"POST /v1/devices/{self.device_id}/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: {self.key}\r\n"
        return f"{line}{extra}Content-Length: {length}\r\n\r\n".encode()

    async def answer(self) -> tuple[int, bytes]:
        """The next answer's status and body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return int(head[9:12]), await self.reader.readexactly(length)

    async def end(self) -> bytes:
        """What comes until the edge closes."""
        async with asyncio.timeout(20):
            answer = await self.reader.read()
        self.writer.close()
        return answer
