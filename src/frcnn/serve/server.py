"""Processes and signals: one process, or several workers that share a socket."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import uvicorn
from PIL import Image

from frcnn.http.address import address_of, listening_socket
from frcnn.http.connections import bounded
from frcnn.serve.limits import Limits
from frcnn.serve.log import log_to
from frcnn.serve.metrics import SHARED_FOLDER
from frcnn.serve.model import Model, ServedModel, Source

LOG = logging.getLogger("frcnn.serve")
_RESTART_SECONDS = (0, 1, 2, 4, 8, 16, 30)
"""Pause before a worker is restarted, by how often it has died in a row."""
_STABLE_SECONDS = 60
"""A worker that lived longer did not fail at its start."""


class Started(NamedTuple):
    """What a service says when it answers requests."""

    url: str
    model: str
    version: str
    classes: int


@dataclass(frozen=True)
class Settings:
    """All that a worker process needs."""

    source: Source
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    max_batch: int = 8
    max_wait: float = 0.005
    """Seconds."""
    threshold: float | None = None
    label_studio: dict[str, Any] = field(default_factory=dict)
    """Arguments of `LabelStudio`."""


def serve(settings: Settings, *, host: str, port: int, workers: int = 1, on_ready: Callable[[Started], None]) -> None:
    """Answer requests until SIGTERM or Ctrl-C. Running requests are finished.

    Args:
        host: address to listen on.
        port: 0: any free port.
        workers: processes, each with a model of its own.
        on_ready: called when the service answers requests.

    Raises:
        OSError: the port is taken.
        FileNotFoundError, ValueError: the model cannot be opened.
    """
    log_to(sys.stderr)
    with listening_socket(host, port, settings.limits.connections) as listening:
        url = address_of(listening, host)
        if workers == 1:
            with _blocked("SIGHUP"):  # it would end the process until its handler is set
                model = settings.source.open()
                _answer(settings, model, listening, lambda: on_ready(_started(url, model)))
        else:
            _Supervisor(settings, listening, workers, url, on_ready).run()


def _started(url: str, model: Model) -> Started:
    return Started(url, model.name, model.version, len(model.detector.classes))


def _answer(settings: Settings, model: Model, listening: socket.socket, on_ready: Callable[[], None]) -> None:
    """Answer requests in this process."""
    from frcnn.serve.app import make_app
    from frcnn.serve.label_studio import LabelStudio

    limits = settings.limits
    Image.MAX_IMAGE_PIXELS = limits.pixels
    app = make_app(
        settings.source,
        model,
        limits=limits,
        token=settings.token,
        max_batch=settings.max_batch,
        max_wait=settings.max_wait,
        threshold=settings.threshold,
        label_studio=LabelStudio(**settings.label_studio),
    )
    config = uvicorn.Config(
        app,
        http=bounded(limits.connections, limits.header_seconds, limits.read_seconds),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(limits.stop_seconds),
        backlog=limits.connections,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _reload_on_sighup(app.state.served)
                on_ready()

    asyncio.run(Server(config).serve(sockets=[listening]))


def _reload_on_sighup(served: ServedModel) -> None:
    if not hasattr(signal, "SIGHUP"):
        return
    tasks: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.create_task(served.reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    with suppress(RuntimeError, ValueError):  # not the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


@contextmanager
def _blocked(name: str) -> Iterator[None]:
    """A signal waits until it is unblocked, also in a process that is started meanwhile."""
    if not (hasattr(signal, "pthread_sigmask") and hasattr(signal, name)):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name)})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ------------------------------------------------------------------------------------------------------------- workers


@dataclass
class _Worker:
    process: BaseProcess
    started_at: float
    deaths: int
    """In a row."""
    restart_at: float | None = None
    """None: it is alive."""


class _Supervisor:
    """Starts the workers, passes signals on, and restarts workers that die."""

    def __init__(
        self, settings: Settings, listening: socket.socket, count: int, url: str, on_ready: Callable[[Started], None]
    ) -> None:
        self._settings, self._listening, self._count, self._url = settings, listening, count, url
        self._on_ready: Callable[[Started], None] | None = on_ready  # None: it has been called
        self._context = multiprocessing.get_context("spawn")
        self._said, self._saying = self._context.Pipe(duplex=False)
        self._workers: dict[int, _Worker] = {}
        self._stopping = self._reloading = False

    def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="frcnn-") as folder, self._signals() as wake:
            os.environ[SHARED_FOLDER] = folder
            try:
                for number in range(self._count):
                    self._start(number, deaths=0)
                while not self._stopping:
                    alive = [each.process.sentinel for each in self._workers.values() if each.restart_at is None]
                    wait([wake, self._said, *alive], self._pause())
                    with suppress(BlockingIOError):
                        wake.recv(1024)
                    while self._said.poll():
                        self._hear(self._said.recv())
                    if self._reloading:
                        self._reloading = False
                        self._reload()
                    if not self._stopping:
                        self._restart_dead()
            finally:
                self._stop()
                del os.environ[SHARED_FOLDER]

    def _hear(self, said: Started | Exception) -> None:
        """The first worker answers requests, or it cannot open the model, so that none can."""
        if self._on_ready is None:
            return
        if isinstance(said, Exception):
            raise said
        self._on_ready(said)
        self._on_ready = None

    def _start(self, number: int, deaths: int) -> None:
        share = _cores_of(number, self._count)
        arguments = (self._settings, self._listening, share, self._url, self._saying)
        process = self._context.Process(target=_run_worker, args=arguments, name=f"worker {number}")
        with _blocked("SIGHUP"):  # it would end a worker that has no handler yet
            process.start()
        self._workers[number] = _Worker(process, time.monotonic(), deaths)
        LOG.info("worker started", extra={"worker": number, "pid": process.pid})

    def _pause(self) -> float | None:
        """Seconds until the next worker is to be restarted; None: none is."""
        times = [each.restart_at for each in self._workers.values() if each.restart_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _restart_dead(self) -> None:
        now = time.monotonic()
        for number, worker in list(self._workers.items()):
            if worker.restart_at is None and not worker.process.is_alive():
                worker.deaths = 0 if now - worker.started_at > _STABLE_SECONDS else worker.deaths
                pause = _RESTART_SECONDS[min(worker.deaths, len(_RESTART_SECONDS) - 1)]
                worker.restart_at = now + pause
                facts = {"worker": number, "status": worker.process.exitcode, "restart_in": pause}
                LOG.error("worker died", extra=facts)
                _forget_gauges(worker.process.pid)
            if worker.restart_at is not None and worker.restart_at <= now:
                self._start(number, worker.deaths + 1)

    def _reload(self) -> None:
        for worker in self._workers.values():
            if worker.process.pid is not None and worker.process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGHUP)

    def _stop(self) -> None:
        self._listening.close()  # otherwise clients would connect and get no answer
        for worker in self._workers.values():
            worker.process.terminate()
        deadline = time.monotonic() + self._settings.limits.stop_seconds + 5
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """SIGTERM and SIGINT stop, SIGHUP is passed on. Gives a socket that wakes up a waiting process."""
        woken, waking = socket.socketpair()
        woken.setblocking(False)
        waking.setblocking(False)

        def wake() -> None:
            with suppress(BlockingIOError):  # it will wake up anyway
                waking.send(b"s")

        def stop(*_: object) -> None:
            self._stopping = True
            wake()

        def reload(*_: object) -> None:
            self._reloading = True
            wake()

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = reload
        with woken, waking:
            before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
            try:
                yield woken
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)


def _cores_of(number: int, workers: int) -> list[int] | None:
    """The cores of a worker, so that the threads of all workers together are as many as the cores; None: all."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores[number::workers] if len(cores) >= workers else None


def _forget_gauges(process: int | None) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    if process is not None:
        mark_process_dead(process)


def _run_worker(
    settings: Settings, listening: socket.socket, cores: list[int] | None, url: str, say: Connection
) -> None:
    """The main function of a worker process."""
    if cores is not None:
        os.sched_setaffinity(0, cores)
    log_to(sys.stderr)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when all requests are answered
        signal.signal(number, lambda *_: sys.exit(0))
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        _open_and_answer(settings, listening, url, say)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):  # it ends already: Python would print the handler's SystemExit
            signal.signal(number, signal.SIG_IGN)


def _open_and_answer(settings: Settings, listening: socket.socket, url: str, say: Connection) -> None:
    try:
        model = settings.source.open()
    except Exception as error:
        LOG.error("the model cannot be opened", extra={"error": str(error)})
        say.send(error if isinstance(error, OSError | ValueError) else ValueError(str(error)))
        raise SystemExit(2) from None

    def on_ready() -> None:
        LOG.info("worker ready", extra={"pid": os.getpid(), "model": model.name, "version": model.version})
        say.send(_started(url, model))

    _answer(settings, model, listening, on_ready)
