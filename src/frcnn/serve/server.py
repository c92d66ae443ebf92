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
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import uvicorn

from frcnn.serve.address import address_of, listening_socket
from frcnn.serve.connections import bounded
from frcnn.serve.limits import Limits
from frcnn.serve.log import log_to
from frcnn.serve.metrics import SHARED_FOLDER
from frcnn.serve.model import Model, Source

LOG = logging.getLogger("frcnn.serve")
_RESTART_SECONDS = (1, 2, 4, 8, 16, 30)
"""Waiting time before a worker is started again that has died so many times in a row."""
_STABLE_SECONDS = 60
"""A worker that lived so long did not die because of its start."""


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


def serve(
    settings: Settings, *, host: str, port: int, workers: int = 1, on_ready: Callable[[str, Model], None]
) -> None:
    """Answer requests until SIGTERM or Ctrl-C. Running requests are finished.

    Args:
        host: address to listen on.
        port: 0: any free port.
        workers: processes, each with a model of its own.
        on_ready: called with the address and the model when the service answers.

    Raises:
        OSError: the port is taken.
        FileNotFoundError, ValueError: the model cannot be opened.
    """
    with listening_socket(host, port, settings.limits.connections) as listening:
        model = settings.source.open()
        on_ready(address_of(listening, host), model)
        log_to(sys.stderr)
        if workers == 1:
            _answer(settings, model, listening)
        else:
            del model
            _Supervisor(settings, listening, workers).run()


def _answer(settings: Settings, model: Model, listening: socket.socket) -> None:
    """Answer requests in this process."""
    from frcnn.serve.app import make_app
    from frcnn.serve.label_studio import LabelStudio

    limits = settings.limits
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
    server = uvicorn.Server(config)

    async def run() -> None:
        if hasattr(signal, "SIGHUP"):
            reloading: set[asyncio.Task[None]] = set()

            def reload() -> None:
                task = asyncio.create_task(app.state.served.reload())
                reloading.add(task)
                task.add_done_callback(reloading.discard)

            with suppress(RuntimeError, ValueError):  # not the main thread
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        await server.serve(sockets=[listening])

    asyncio.run(run())


# ------------------------------------------------------------------------------------------------------------- workers


@dataclass
class _Worker:
    process: BaseProcess
    started_at: float
    deaths: int
    """In a row."""


class _Supervisor:
    """Starts the workers, passes signals on, and starts a worker that died again."""

    def __init__(self, settings: Settings, listening: socket.socket, count: int) -> None:
        self._settings, self._listening, self._count = settings, listening, count
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, _Worker] = {}
        self._stopping = False

    def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="frcnn-") as folder, self._signals() as wake:
            os.environ[SHARED_FOLDER] = folder
            try:
                for number in range(self._count):
                    self._start(number, deaths=0)
                while not self._stopping:
                    wait([wake, *(each.process.sentinel for each in self._workers.values())])
                    with suppress(BlockingIOError):
                        wake.recv(1024)
                    if not self._stopping:
                        self._restart_dead()
            finally:
                self._stop()
                del os.environ[SHARED_FOLDER]

    def _start(self, number: int, deaths: int) -> None:
        share = _cores_of(number, self._count)
        arguments = (self._settings, self._listening, share)
        process = self._context.Process(target=_run_worker, args=arguments, name=f"worker {number}")
        with _sighup_blocked():  # it would end a worker that has no handler yet
            process.start()
        self._workers[number] = _Worker(process, time.monotonic(), deaths)
        LOG.info("worker started", extra={"worker": number, "pid": process.pid})

    def _restart_dead(self) -> None:
        for number, worker in list(self._workers.items()):
            if worker.process.is_alive():
                continue
            lived = time.monotonic() - worker.started_at
            deaths = 0 if lived > _STABLE_SECONDS else worker.deaths
            pause = _RESTART_SECONDS[min(deaths, len(_RESTART_SECONDS) - 1)] if deaths else 0
            LOG.error("worker died", extra={"worker": number, "status": worker.process.exitcode, "restart_in": pause})
            _forget_gauges(worker.process.pid)
            deadline = time.monotonic() + pause
            while not self._stopping and time.monotonic() < deadline:
                time.sleep(0.1)
            if not self._stopping:
                self._start(number, deaths + 1)

    def _stop(self) -> None:
        self._listening.close()  # or clients would wait for an answer of nobody
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

        def stop(*_: object) -> None:
            self._stopping = True
            waking.send(b"s")

        def reload(*_: object) -> None:
            for worker in self._workers.values():
                if worker.process.pid is not None and worker.process.is_alive():
                    os.kill(worker.process.pid, signal.SIGHUP)

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = reload
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            with woken, waking:
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


@contextmanager
def _sighup_blocked() -> Iterator[None]:
    """A process that is started meanwhile gets SIGHUP when it unblocks the signal."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forget_gauges(process: int | None) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    if process is not None:
        mark_process_dead(process)


def _run_worker(settings: Settings, listening: socket.socket, cores: list[int] | None) -> None:
    """The main function of a worker process."""
    if cores is not None:
        os.sched_setaffinity(0, cores)
    log_to(sys.stderr)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        model = settings.source.open()
    except Exception as error:
        LOG.error("the model cannot be opened", extra={"error": str(error)})
        raise SystemExit(2) from None
    _answer(settings, model, listening)
