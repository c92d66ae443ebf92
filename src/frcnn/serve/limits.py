"""What a client may ask of the service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of time and memory. A request beyond them gets an error; other requests are answered."""

    body_bytes: int = 20 << 20
    """Of a request."""
    pixels: int = 50_000_000
    """Of an image. A small file can claim any number."""
    tiles: int = 400
    """Of all images of a request. The detector runs once for each."""
    images: int = 16
    """Of a request."""
    waiting: int = 64
    """Images that wait for the detector. More get status 503."""
    memory_bytes: int = 1 << 30
    """Of the bodies and decoded images of all requests together."""
    connections: int = 256
    """Open connections; of more, the oldest idle one is closed."""
    header_seconds: float = 10
    """Until the header of a request is complete."""
    body_seconds: float = 30
    """Until its body is complete."""
    request_seconds: float = 60
    """Until it is answered."""
    read_seconds: float = 60
    """Until the client has read the answer."""
    stop_seconds: float = 30
    """Until running requests are given up when the service stops."""
    rate: float | None = None
    """Requests per second of one client, by its address; None: any number."""
