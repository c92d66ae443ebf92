"""The model that is served, and its replacement while requests run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from frcnn.detector import Detector, load
from frcnn.inference.runtimes import model_files, model_sha256

LOG = logging.getLogger("frcnn.serve")
_INTERVAL = 2.0
"""Seconds between two looks at the model's file."""
Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Source:
    """Where the model comes from; every worker process opens it.

    Args:
        path: run directory, model file, exported file, or "coco:NAME".
        precision: of the layers; None: as in the file.
        trust: open a `.pt2` file.
    """

    path: str
    precision: str | None = None
    trust: bool = False

    def open(self) -> Model:
        """Errors as `frcnn.load`."""
        while True:
            stamp = self.stamp()
            detector = load(self.path, trust=self.trust)
            if self.precision is not None:
                detector = detector.in_precision(self.precision)
            model = Model(detector, self._name(), model_sha256(self.path), time.time(), stamp)
            if self.stamp() == stamp:  # else it was replaced meanwhile
                return model

    def _name(self) -> str:
        if self.path.startswith("coco:"):
            return self.path
        path = Path(self.path).resolve()
        return path.parent.name if path.name == "run" and path.is_dir() else path.name

    def stamp(self) -> Stamp | None:
        """Changes when a file changes; None: a file cannot be found."""
        try:
            found = [file.stat() for file in model_files(self.path)]
        except OSError:
            return None
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found) or None


@dataclass(frozen=True)
class Model:
    """An opened model."""

    detector: Detector
    name: str
    """Of its file or folder, without the path."""
    sha256: str
    opened_at: float
    """Seconds since 1970."""
    stamp: Stamp | None = None
    """Of its files; None: it has none."""

    @property
    def version(self) -> str:
        """Of the content: the same file has the same version on every computer."""
        return self.sha256[:12]


class ServedModel:
    """The current model. It is replaced when its file changes, and when somebody asks for it.

    Args:
        on_reload: called with whether a new model could be opened.
    """

    def __init__(self, source: Source, model: Model, on_reload: Callable[[bool], None] = lambda done: None) -> None:
        self._source, self._on_reload = source, on_reload
        self._lock = asyncio.Lock()
        self._stamp = model.stamp
        self.current = model

    @property
    def source(self) -> Source:
        """Where the current model comes from."""
        return self._source

    async def reload(self) -> None:
        """Open the model again. If that fails, the old one stays."""
        await self.serve(self._source)

    async def serve(self, source: Source) -> bool:
        """Open a model and serve it. If that fails, the old one stays. Returns whether it could be opened."""
        async with self._lock:
            before = source.stamp()
            try:
                model = await run_in_threadpool(source.open)
            except Exception as error:
                LOG.error("the new model cannot be opened, the old one stays", extra={"error": str(error)})
                self._on_reload(False)
                if source == self._source:
                    self._stamp = before  # not again until it changes
                return False
            self._source, self._stamp, self.current = source, model.stamp, model
            LOG.info("reloaded", extra={"model": model.name, "version": model.version})
            self._on_reload(True)
            return True

    async def watch(self) -> None:
        """Reload when the file has changed and then stayed as it is for a moment."""
        before = self._stamp
        while True:
            await asyncio.sleep(_INTERVAL)
            now = self._source.stamp()
            if now is not None and now == before != self._stamp:
                await self.reload()
            before = now
