"""The service as a model of Label Studio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from frcnn.inference.results import Detections
from frcnn.serve.bodies import Upload
from frcnn.serve.model import Model

Detect = Callable[[Sequence[Upload]], Awaitable[list[Detections | Exception]]]


class LabelStudio:
    async def predict(self, content: dict[str, Any], model: Model, detect: Detect) -> Response:
        raise HTTPException(501)

    def setup(self, content: Any, model: Model) -> Response:
        raise HTTPException(501)

    def webhook(self, content: Any) -> Response:
        raise HTTPException(501)
