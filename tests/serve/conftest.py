"""Services on free ports."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from service import NOWHERE, FakeRuntime, Serve, Service, model_of

from frcnn.http.connections import bounded
from frcnn.inference.runtimes import Runtime
from frcnn.serve.app import make_app
from frcnn.serve.limits import Limits


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a service in a thread, and ends it with the test."""
    started: list[Service] = []

    def start(runtime: Runtime | None = None, **options: Any) -> Service:
        limits = options.setdefault("limits", Limits())
        app = make_app(NOWHERE, model_of(runtime or FakeRuntime()), **options)
        http = bounded(limits.connections, limits.header_seconds, limits.read_seconds)
        server = uvicorn.Server(uvicorn.Config(app, port=0, http=http, ws="none", log_config=None, access_log=False))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)

        def stop() -> None:
            server.should_exit = True

        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        started.append(Service(address, httpx.Client(base_url=address, timeout=30), thread, stop))
        return started[-1]

    yield start
    for service in started:
        service.client.close()
        service.stop()
        service.thread.join()
