"""The service as a model of Label Studio: it answers what Label Studio asks of an "ML backend"."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from frcnn.inference.results import Detections
from frcnn.messages import short
from frcnn.serve.bodies import ImageError, Upload, from_base64
from frcnn.serve.budget import BusyError, TooMuchError
from frcnn.serve.label_studio_client import KEY, Client
from frcnn.serve.label_studio_config import Interface, read_interface
from frcnn.serve.limits import Limits
from frcnn.serve.model import Model, ServedModel
from frcnn.serve.retraining import BusyTrainingError, PlanTraining, Retraining

LOG = logging.getLogger("frcnn.serve")
Detect = Callable[[Sequence[Upload]], Awaitable[list[Detections | Exception]]]
_DOWNLOADS = 4
"""Images of a request that are downloaded at the same time, and then detected together."""
_BEGIN, _END = 0.6, 0.9
"""Of the time of a request: no image is begun after the first, and none is waited for after the second."""
_LATE = ImageError("there was no time left in this request; select the task and retrieve predictions again")
_MAX_TASKS = 10_000
_BUSY_SECONDS = 0.2
_TRAIN = "START_TRAINING"


class LabelStudio:
    """Answers requests of Label Studio.

    Args:
        url: of the Label Studio server; None: images are only read from data URLs.
        key: its access token.
        train: plans a training; None: the service does not train.
    """

    def __init__(self, url: str | None = None, key: str = "", train: PlanTraining | None = None) -> None:
        self._client = None if url is None else Client(url, key)
        self._retraining = None
        if train is not None:
            if self._client is None:
                raise ValueError("A training needs a Label Studio server.")
            self._retraining = Retraining(self._client, train)
        self._downloads = ThreadPoolExecutor(_DOWNLOADS, "download")
        self._warned: tuple[str, ...] = ()

    async def predict(self, content: dict[str, Any], model: Model, detect: Detect, limits: Limits) -> Response:
        """The predictions of tasks, one for each. A task that fails has an error instead; Label Studio logs it, stores
        the others, and asks again when the user does.

        Raises:
            HTTPException: 400, the request is not one of Label Studio.
        """
        start = time.monotonic()
        deadline, end = (start + share * limits.request_seconds for share in (_BEGIN, _END))
        tasks = content["tasks"]
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise HTTPException(400, f"tasks is {short(tasks)}; it must be a list of tasks of Label Studio.")
        if len(tasks) > _MAX_TASKS:
            raise HTTPException(413, f"{len(tasks)} tasks; a request may have {_MAX_TASKS}. Select fewer.")
        interface = _interface(content.get("label_config"))
        results: list[dict[str, Any]] = []
        left_out: Counter[str] = Counter()
        failed: list[Exception] = []
        for first in range(0, len(tasks), _DOWNLOADS):
            chosen = tasks[first : first + _DOWNLOADS]
            if time.monotonic() > deadline:
                found: list[Detections | Exception] = [_LATE] * len(chosen)
            else:
                try:
                    async with asyncio.timeout(end - time.monotonic()):
                        found = await self._detect(chosen, interface, detect, limits, deadline)
                except TimeoutError:
                    found = [_LATE] * len(chosen)
            for task, each in zip(chosen, found, strict=True):
                if isinstance(each, Exception):
                    failed.append(each)
                    results.append({"error": _explained(task, each), "model_version": model.version})
                else:
                    results.append(_prediction(each, interface, model.version, left_out))
        if failed:
            unexpected = next((each for each in failed if not isinstance(each, ImageError)), None)
            facts = {"failed": len(failed), "of": len(tasks), "first": str(failed[0])}
            LOG.warning("tasks failed", extra=facts, exc_info=unexpected)
        if left_out:
            LOG.warning("detections of classes without a label in the project", extra={"left_out": dict(left_out)})
        return JSONResponse({"results": results, "model_version": model.version})

    def setup(self, content: Any, model: Model) -> Response:
        """Label Studio connects, and asks for the version before each batch of predictions.

        Raises:
            HTTPException: 400 or 422, the project has no boxes.
        """
        if not isinstance(content, dict):
            raise HTTPException(400, "The body must be the JSON object that Label Studio sends.")
        try:
            interface = _interface(content.get("schema"))
        except HTTPException as error:  # Label Studio shows its user only the status
            LOG.warning("the project cannot be connected", extra={"error": error.detail})
            raise
        missing = tuple(interface.without_label(model.detector.classes))
        if missing != self._warned:
            self._warned = missing
            if missing:
                LOG.warning("classes without a label in the project", extra={"classes": short(list(missing))})
        return JSONResponse({"model_version": model.version})

    def webhook(self, content: Any, served: ServedModel, limits: Limits) -> Response:
        """An event in Label Studio. Only one has an effect: somebody presses "Start training".

        Raises:
            HTTPException: 400; 403: the service does not train; 409: it is training already.
        """
        if not isinstance(content, dict) or not isinstance(content.get("action"), str):
            raise HTTPException(400, "The body must be the JSON object that Label Studio sends, with an action.")
        if content["action"] != _TRAIN:
            return JSONResponse({"status": "ignored"})
        if self._retraining is None:
            LOG.warning("Label Studio asks for a training; start the service with --retrain to allow it")
            raise HTTPException(403, "This service does not train; start it with --retrain.")
        project = content.get("project")
        number = project.get("id") if isinstance(project, dict) else None
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise HTTPException(400, f"project.id is {short(number)}; it must be the number of a project.")
        try:
            self._retraining.start(number, served, limits)
        except BusyTrainingError as error:
            raise HTTPException(409, str(error)) from None
        return JSONResponse({"status": "training"}, 201)

    def training(self) -> dict[str, Any] | None:
        """How the training is going; None: the service does not train."""
        return None if self._retraining is None else self._retraining.status()

    async def stop(self) -> None:
        """End downloads, and a training that is running."""
        self._downloads.shutdown(wait=False, cancel_futures=True)
        if self._retraining is not None:
            await self._retraining.stop()

    async def _detect(
        self, tasks: Sequence[dict[str, Any]], interface: Interface, detect: Detect, limits: Limits, deadline: float
    ) -> list[Detections | Exception]:
        contents = await asyncio.gather(*[self._content(task, interface, limits) for task in tasks])
        uploads = [Upload("its image", each) for each in contents if isinstance(each, bytes)]
        found: list[Detections | Exception] = []
        while uploads and not found:
            try:
                found = await detect(uploads)
            except BusyError:
                if time.monotonic() > deadline:
                    found = [ImageError("the service is busy; retrieve predictions again later")] * len(uploads)
                else:
                    await asyncio.sleep(_BUSY_SECONDS)
            except TooMuchError:
                found = [ImageError("its image needs too much memory")] * len(uploads)
        rest = iter(found)
        return [next(rest) if isinstance(each, bytes) else each for each in contents]

    async def _content(self, task: dict[str, Any], interface: Interface, limits: Limits) -> bytes | ImageError:
        """The bytes of a task's image."""
        data = task.get("data")
        reference = data.get(interface.key) if isinstance(data, dict) else None
        if not isinstance(reference, str) or not reference:
            return ImageError(f"its data have no address of an image under {short(interface.key)}")
        if reference.startswith("data:"):
            try:
                return from_base64(reference)
            except HTTPException:
                return ImageError("its image is not valid base64")
        if self._client is None:
            return ImageError(
                f"its image is on a server, and the service may only read data URLs; to read images from Label "
                f"Studio, start it with --label-studio URL and {KEY}"
            )
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._downloads, self._client.file, reference, task.get("id"), limits.body_bytes
            )
        except ValueError as error:
            return ImageError(str(error))


def _interface(config: object) -> Interface:
    try:
        return read_interface(config)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


def _explained(task: dict[str, Any], error: Exception) -> str:
    text = str(error) if isinstance(error, ImageError) else "the service failed; its log has the reason"
    return f"Task {short(task.get('id'))}: {text}."


def _prediction(result: Detections, interface: Interface, version: str, left_out: Counter[str]) -> dict[str, Any]:
    """A prediction as Label Studio stores it, in percent of the image's sides. Its score is the lowest one of its
    boxes: Label Studio shows tasks of low scores first. Without boxes there is none."""
    height, width = result.size or (0, 0)
    regions, scores = [], []
    for detection in result:
        label = interface.label_of(detection.class_name)
        if label is None:
            left_out[detection.class_name] += 1
            continue
        x1, y1, x2, y2 = detection.xyxy.tolist()
        score = round(float(detection.confidence), 4)
        scores.append(score)
        box = {
            "x": _percent(x1, width),
            "y": _percent(y1, height),
            "width": _percent(x2 - x1, width),
            "height": _percent(y2 - y1, height),
            "rotation": 0,
        }
        region = {
            "id": secrets.token_hex(5),
            "to_name": interface.image,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": score,
        }
        if label.rectangle is None:
            value = box | {"rectanglelabels": [label.value]}
            regions.append(region | {"from_name": label.control, "type": "rectanglelabels", "value": value})
        else:  # two results with one identifier
            regions.append(region | {"from_name": label.rectangle, "type": "rectangle", "value": box})
            value = box | {"labels": [label.value]}
            regions.append(region | {"from_name": label.control, "type": "labels", "value": value})
    return {"result": regions, "score": min(scores, default=None), "model_version": version}


def _percent(value: float, side: int) -> float:
    return round(100 * value / side, 4) if side else 0.0
