"""A TCP proxy in front of Redis that can stand still, cut, fall silent, or answer in Redis' place."""

import asyncio
import contextlib
import ssl

import hiredis


class Proxy:
    """Forwards bytes; `stalled` holds answers back, `complaint` replaces every answer to XADD by this error."""

    def __init__(self, port: int) -> None:
        self.stalled = asyncio.Event()
        self.complaint = b""
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._lines: list[_Line] = []

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen on loopback, with TLS if told how."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def lead_to(self, port: int) -> None:
        """New connections go there; those that are there stay."""
        self._to = port

    def forget(self) -> None:
        """All connections there are stay open and say nothing any more, as when a host vanishes; new ones work."""
        for line in self._lines:
            line.forgotten = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers |= {writer, to_redis}
            line = _Line()
            self._lines.append(line)
            await asyncio.gather(
                self._requests(reader, to_redis, writer, line), self._answers(from_redis, writer, line)
            )
            self._writers -= {writer, to_redis}

    async def _requests(
        self, reader: asyncio.StreamReader, to_redis: asyncio.StreamWriter, back: asyncio.StreamWriter, line: "_Line"
    ) -> None:
        commands = hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if line.forgotten:
                    continue
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    if self.complaint and command[0] == b"XADD":
                        # Answers keep the order of their requests: those before this one come first.
                        await line.empty()
                        back.write(b"-%b\r\n" % self.complaint)
                    else:
                        line.sent += 1
                        to_redis.write(b"*%d\r\n" % len(command))
                        to_redis.writelines(b"$%d\r\n%b\r\n" % (len(word), word) for word in command)
            to_redis.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: "_Line") -> None:
        answers = hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                while self.stalled.is_set():
                    await asyncio.sleep(0.01)
                if line.forgotten:
                    continue
                writer.write(data)
                answers.feed(data)
                while answers.gets() is not False:
                    line.answered += 1
            writer.close()


class _Line:
    """How many requests of a connection went to Redis, and how many answers came back."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered = 0
        self.forgotten = False

    async def empty(self) -> None:
        """Wait until all are answered."""
        while self.answered < self.sent:
            await asyncio.sleep(0.001)
