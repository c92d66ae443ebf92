"""An auto-annotation function of CVAT: a detector of frcnn draws rectangles on the images of a task. See README.md."""

import cvat_sdk.auto_annotation as cvataa
import PIL.Image
from cvat_sdk import models

import frcnn


class FrcnnFunction:
    """Detects objects.

    Args:
        model: exported file, run directory, or model file.
    """

    def __init__(self, model: str) -> None:
        self._detector = frcnn.load(model)
        labels = [cvataa.label_spec(name, id, type="rectangle") for id, name in enumerate(self._detector.classes)]
        self.spec = cvataa.DetectionFunctionSpec(labels=labels)

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image
    ) -> list[models.LabeledShapeRequest]:
        """Rectangles around the objects; without a threshold of the user, the detector's own applies."""
        detections = self._detector.predict(image, threshold=context.conf_threshold)
        return [cvataa.rectangle(int(each.class_id), each.xyxy.tolist()) for each in detections]


create = FrcnnFunction
