"""A server on a free port, and a tab of a browser."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import uvicorn
from playwright.sync_api import Browser, Page
from serving import TOKEN, Serve

from frcnn.config import DataSettings
from frcnn.detector import Detector
from frcnn.inference.results import Detections
from frcnn.tools.annotate.assistant import Assistant
from frcnn.tools.annotate.editing import Editor
from frcnn.tools.annotate.review import Review
from frcnn.tools.annotate.server import make_app

Propose = Callable[[Path], Detections]


class Fake:
    """A detector that answers what a test says."""

    def __init__(self, propose: Propose) -> None:
        self._propose = propose

    def predict(self, image: Path, *, threshold: float | None) -> Detections:
        return self._propose(image)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a folder, and gives the address to open."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(
        folder: Path,
        *,
        class_names: tuple[str, ...] = (),
        propose: Propose | None = None,
        review: Path | None = None,
        assist: Callable[[Editor], Assistant] | None = None,
    ) -> str:
        editor = Editor(folder, DataSettings(), class_names=class_names)
        detector = None if propose is None else cast(Detector, Fake(propose))
        assistant = Assistant(editor, detector) if assist is None else assist(editor)
        app = make_app(editor, assistant, TOKEN, None if review is None else Review(review, editor))
        config = uvicorn.Config(app, port=0, log_level="warning", ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/?token={TOKEN}"

    yield start
    for server, thread in servers:
        server.should_exit = server.force_exit = True
        thread.join()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """At the size of a laptop; a script that fails fails the test."""
    with browser.new_context(viewport={"width": 1366, "height": 768}) as context:
        page = context.new_page()
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        yield page
        assert not failures
