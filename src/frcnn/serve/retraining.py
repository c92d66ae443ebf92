"""A training on the annotations of a Label Studio project, whose model is served when it ends well."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from frcnn.data.images import IMAGE_SUFFIXES, UNREADABLE, open_safely
from frcnn.files import atomic_write
from frcnn.http import training_process
from frcnn.messages import clipped, plural, short
from frcnn.serve.bodies import from_base64
from frcnn.serve.label_studio_client import Client
from frcnn.serve.label_studio_config import read_interface
from frcnn.serve.limits import Limits
from frcnn.serve.model import ServedModel

LOG = logging.getLogger("frcnn.serve")
_IMAGES, _TASKS = "images", "tasks.json"


class TrainingPlan(NamedTuple):
    """Where a training reads and writes."""

    data: Path
    """Folder for the annotations and images of the project. It belongs to the service."""
    command: list[str]
    """Trains on it."""
    run_dir: Path
    """What the command writes."""


PlanTraining = Callable[[int], TrainingPlan]
"""Plans a training on a project of this number."""


class BusyTrainingError(Exception):
    """A training is running already."""


class Retraining:
    """Trains on a project of Label Studio, one training at a time.

    Args:
        client: of the server.
        plan: the next training.
    """

    def __init__(self, client: Client, plan: PlanTraining) -> None:
        self._client, self._plan = client, plan
        self._state, self._message = "idle", ""
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._task: asyncio.Task[None] | None = None

    def status(self) -> dict[str, Any]:
        """How the last training is going: idle, running, done or failed, and a message for people."""
        return {"state": self._state, "message": self._message}

    def start(self, project: int, served: ServedModel, limits: Limits) -> None:
        """Start a training, and serve its model when it ends well.

        Raises:
            BusyTrainingError: one is running.
        """
        if self._task is not None and not self._task.done():
            raise BusyTrainingError(f"A training is running already ({clipped(self._message)}); wait until it ends.")
        self._say("running", "reading the annotations")
        self._task = asyncio.create_task(self._run(project, served, limits))

    async def stop(self) -> None:
        """End a training that is running."""
        with self._starting:
            self._stopping.set()
        await run_in_threadpool(training_process.end, self._process)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, project: int, served: ServedModel, limits: Limits) -> None:
        LOG.info("training starts", extra={"project": project})
        try:
            run_dir = await _in_thread(partial(self._train, project, limits))
            if not await served.serve(replace(served.source, path=str(run_dir))):
                raise ValueError(f"{run_dir.name} cannot be opened; the log has the reason")
        except Exception as error:  # nobody else would see it
            reason = error if isinstance(error, ValueError) else "the log has the reason"
            self._say("failed", f"The training failed, and the old model stays: {reason}")
            LOG.error("training failed", extra={"project": project, "error": str(error)})
        else:
            self._say("done", f"The training has finished; {run_dir.name} is served.")
            LOG.info("training ended", extra={"project": project, "run_dir": str(run_dir)})

    def _train(self, project: int, limits: Limits) -> Path:
        plan = self._plan(project)
        self._download(project, plan.data, limits)
        with self._starting:  # a process that starts while the service stops would stay
            self._require_running()
            self._process = training_process.start(plan.command)
        self._say("running", "starting the training")
        try:
            training_process.follow(self._process, lambda message: self._say("running", message))
        except ValueError as error:  # the end of its output, which is not for clients
            raise RuntimeError(str(error)) from None
        self._require_running()
        return plan.run_dir

    def _require_running(self) -> None:
        if self._stopping.is_set():
            raise ValueError("the service stops")

    def _download(self, project: int, folder: Path, limits: Limits) -> None:
        """Write the annotated tasks of a project as a data set. Images that are there already stay."""
        key = read_interface(self._client.project(project).get("label_config")).key
        tasks = self._client.export(project)
        if not tasks:
            raise ValueError(f"project {project} has no annotated tasks; label some images and submit them")
        images = folder / _IMAGES
        images.mkdir(parents=True, exist_ok=True)
        kept, failed = [], []
        for number, task in enumerate(tasks, start=1):
            self._require_running()
            self._say("running", f"reading image {number} of {len(tasks)}")
            try:
                name = self._image(task, key, images, limits)
            except ValueError as error:
                failed.append(f"task {short(task.get('id'))}: {error}")
                LOG.warning("an image is left out", extra={"task": short(task.get("id")), "error": str(error)})
            else:
                answers = {"annotations": task.get("annotations", [])}
                kept.append({"id": task.get("id"), "data": {"image": f"{_IMAGES}/{name}"}, **answers})
        if not kept:
            raise ValueError(f"none of {plural(len(tasks), 'image')} can be read: {failed[0]}")
        if failed:
            LOG.warning("images are left out", extra={"left_out": len(failed), "of": len(tasks)})
        with atomic_write(folder / _TASKS) as partial:
            partial.write_text(json.dumps(kept), encoding="utf-8")
        names = {Path(task["data"]["image"]).name for task in kept}
        for file in images.iterdir():  # of tasks that somebody has deleted in Label Studio
            if file.name not in names:
                with suppress(OSError):
                    file.unlink()

    def _image(self, task: dict[str, Any], key: str, images: Path, limits: Limits) -> str:
        """The name of the file with a task's image. No part of it comes from Label Studio."""
        data = task.get("data")
        reference = data.get(key) if isinstance(data, dict) else None
        if not isinstance(reference, str) or not reference:
            raise ValueError(f"its data have no address of an image under {short(key)}")
        name = hashlib.sha256(reference.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        known = next(images.glob(f"{name}.*"), None)
        if known is not None:
            return known.name
        content = self._content(reference, task.get("id"), limits)
        path = images / f"{name}{_suffix_of(content)}"
        with atomic_write(path) as partial:
            partial.write_bytes(content)
        return path.name

    def _content(self, reference: str, task: object, limits: Limits) -> bytes:
        if not reference.startswith("data:"):
            return self._client.file(reference, task, limits.body_bytes)
        try:
            return from_base64(reference)
        except HTTPException:
            raise ValueError("its image is not valid base64") from None

    def _say(self, state: str, message: str) -> None:
        self._state, self._message = state, message


async def _in_thread(function: Callable[[], Path]) -> Path:
    """The result of a function that runs in a thread of its own. The thread ends with the process: a server that does
    not answer must not keep the service from stopping."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Path] = loop.create_future()

    def settle(value: Path | None, error: Exception | None) -> None:
        if not result.done():  # else it was canceled
            if error is None:
                assert value is not None
                result.set_result(value)
            else:
                result.set_exception(error)

    def run() -> None:
        value, error = None, None
        try:
            value = function()
        except Exception as reason:
            error = reason
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True, name="training").start()
    return await result


def _suffix_of(content: bytes) -> str:
    """The suffix that fits the content of an image file.

    Raises:
        ValueError: it is not an image.
    """
    try:
        with open_safely(BytesIO(content)) as image:
            form = image.format
    except UNREADABLE:
        raise ValueError("its image is not in a format that frcnn reads") from None
    usual = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "TIFF": ".tif"}
    extensions = Image.registered_extensions()
    suffixes = [suffix for suffix in sorted(IMAGE_SUFFIXES) if extensions.get(suffix) == form]
    return usual.get(form or "", suffixes[0] if suffixes else ".img")
