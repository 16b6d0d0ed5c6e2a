"""A TCP proxy in front of Redis that can stand still, cut, or answer in Redis' place."""

import asyncio
import contextlib


class Proxy:
    """Forwards bytes; `stalled` holds answers back, `complaint` replaces every answer to XADD by this error."""

    def __init__(self, port: int) -> None:
        self.stalled = asyncio.Event()
        self.complaint = b""
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Listen on loopback; the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers |= {writer, to_redis}
            await asyncio.gather(self._requests(reader, to_redis, writer), self._answers(from_redis, writer))
            self._writers -= {writer, to_redis}

    async def _requests(
        self, reader: asyncio.StreamReader, to_redis: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                count = data.count(b"\r\nXADD\r\n") + data.count(b"\r\nHMGET\r\n")
                if self.complaint and b"\r\nXADD\r\n" in data:
                    back.write(b"-%b\r\n" % self.complaint * count)
                else:
                    to_redis.write(data)
            to_redis.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                while self.stalled.is_set():
                    await asyncio.sleep(0.01)
                writer.write(data)
            writer.close()
