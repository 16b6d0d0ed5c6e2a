"""A client that takes files as fast as it is given them, until it is ended.

    python -m bench.taker CONNECTIONS URL [KEY]

Bytes are thrown away as they come. Ten times a second it prints the time and how many there were by then, over all
connections: who reads that knows the rate of any stretch.
"""

import socket
import sys
import threading
import time
from urllib.parse import urlsplit

CHUNK_BYTES = 1024 * 1024
TOLD_EVERY_S = 0.1


def take(url: str, key: str, place: int, taken: list[int]) -> None:
    """Fetch the file again and again over one connection, counting at a place of its own."""
    parts = urlsplit(url)
    buffer = bytearray(CHUNK_BYTES)
    head = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: {key}\r\n\r\n".encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        while True:
            connection.sendall(head)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65_536)
            told, _, body = answer.partition(b"\r\n\r\n")
            assert told.startswith(b"HTTP/1.1 200"), told
            length = next(int(line[15:]) for line in told.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            left = length - len(body)
            taken[place] += len(body)
            while left:
                got = connection.recv_into(buffer, min(left, CHUNK_BYTES))
                assert got
                left -= got
                taken[place] += got


def main() -> None:
    """Take until ended, or until one of the connections fails."""
    connections, url = int(sys.argv[1]), sys.argv[2]
    key = sys.argv[3] if len(sys.argv) > 3 else ""
    taken = [0] * connections
    threads = [threading.Thread(target=take, args=(url, key, n, taken), daemon=True) for n in range(connections)]
    for thread in threads:
        thread.start()
    while all(thread.is_alive() for thread in threads):
        time.sleep(TOLD_EVERY_S)
        print(time.monotonic(), sum(taken), flush=True)


if __name__ == "__main__":
    main()
