"""Clients of a service, in a process that imports little and so costs little.

    python load.py ADDRESS PHOTOS CLIENTS REQUESTS [form]

Each client has one connection, which stays open. Prints a Load.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit


class Load(NamedTuple):
    """Measured over some requests."""

    per_second: float
    p50: float
    """Milliseconds, as the others."""
    p95: float
    p99: float


async def send_all(address: str, photos: Sequence[bytes], clients: int, requests: int, form: bool) -> list[float]:
    """Returns the seconds of each request. The clients are cheap: each has one socket, and reads just the length of the
    answer."""
    where, left, seconds = urlsplit(address), iter(range(requests)), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        for number in left:
            body = photos[number % len(photos)]
            content = "image/jpeg"
            if form:
                start = '--cut\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
                body, content = start.encode() + body + b"\r\n--cut--\r\n", "multipart/form-data; boundary=cut"
            begun = time.perf_counter()
            writer.write(
                f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None, head
            answer = await reader.readexactly(int(length.group(1)))
            if b" 200 " not in head[:15]:
                raise RuntimeError(f"{head!r} {answer!r}")
            seconds.append(time.perf_counter() - begun)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


def main(address: str, folder: str, clients: str, requests: str, form: str = "") -> None:
    photos = [file.read_bytes() for file in sorted(Path(folder).iterdir())]
    begun = time.perf_counter()
    found = sorted(asyncio.run(send_all(address, photos, int(clients), int(requests), bool(form))))
    whole = time.perf_counter() - begun
    at = [1000 * found[min(len(found) - 1, int(part * len(found)))] for part in (0.5, 0.95, 0.99)]
    print(json.dumps(Load(len(found) / whole, *at)))


if __name__ == "__main__":
    main(*sys.argv[1:])
