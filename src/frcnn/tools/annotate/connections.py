"""The connections of the annotation page's server."""

import asyncio
import time

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 100
"""A browser opens about six."""


class BoundedProtocol(H11Protocol):
    """HTTP for a bounded number of connections. Without a bound, any program on the computer could open connections,
    ask nothing, and so use up the files that the server may open. A new connection closes the oldest idle one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.since = time.monotonic()
        if len(self.connections) > MAX_CONNECTIONS:
            others = (each for each in self.connections if isinstance(each, BoundedProtocol) and each is not self)
            idle = [each for each in others if each.cycle is None or each.cycle.response_complete]
            oldest = min(idle, key=lambda each: each.since, default=self)
            oldest.transport.abort()
