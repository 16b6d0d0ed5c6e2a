"""A client that takes files as fast as it is given them: `python -m bench.taker SECONDS CONNECTIONS URL [KEY]`.

Bytes are thrown away as they come. Prints bytes a second, over all connections.
"""

import socket
import sys
import threading
import time
from urllib.parse import urlsplit

CHUNK_BYTES = 1024 * 1024


def take(url: str, key: str, until: float, taken: list[int]) -> None:
    """Fetch the file again and again over one connection."""
    parts = urlsplit(url)
    buffer = bytearray(CHUNK_BYTES)
    head = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: {key}\r\n\r\n".encode()
    total = 0
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        while time.monotonic() < until:
            connection.sendall(head)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65_536)
            told, _, body = answer.partition(b"\r\n\r\n")
            assert told.startswith(b"HTTP/1.1 200"), told
            length = next(int(line[15:]) for line in told.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            left = length - len(body)
            total += len(body)
            while left and time.monotonic() < until:
                got = connection.recv_into(buffer, min(left, CHUNK_BYTES))
                assert got
                left -= got
                total += got
    taken.append(total)


def main() -> int:
    seconds, connections, url = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    key = sys.argv[4] if len(sys.argv) > 4 else ""
    taken: list[int] = []
    began = time.monotonic()
    threads = [threading.Thread(target=take, args=(url, key, began + seconds, taken)) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == connections
    print(sum(taken) / (time.monotonic() - began))
    return 0


if __name__ == "__main__":
    sys.exit(main())
