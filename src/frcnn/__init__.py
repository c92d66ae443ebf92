"""Faster R-CNN that trains on a few labeled photos, on an ordinary computer.

import frcnn

result = frcnn.train("my_photos", split=(0.8, 0, 0.2))
print(result.metrics)
detections = result.detector.predict("new.jpg")
detections.save("new-detections.png")
"""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frcnn.detector import Detector, load
    from frcnn.evaluation.metrics import Metrics
    from frcnn.fast.malloc import tune_malloc
    from frcnn.inference.evaluator import Evaluator
    from frcnn.inference.results import Detections
    from frcnn.nn.faster_rcnn import FasterRCNN
    from frcnn.nn.migrate.from_detectron2 import from_detectron2
    from frcnn.nn.migrate.from_mmdetection import from_mmdetection
    from frcnn.nn.migrate.from_torchvision import from_torchvision
    from frcnn.planning.plan import Plan, plan
    from frcnn.tools.check.check import check
    from frcnn.tools.convert import convert
    from frcnn.training.callbacks import Callback
    from frcnn.training.crossval import CrossvalResult, crossval
    from frcnn.training.train import TrainResult, train

# frcnn sends nothing over the network. ONNX Runtime reports to Microsoft, and `import openvino` to Google Analytics.
# Both write an identifier into the home folder. They must be switched off before they are imported: here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO takes it for not installed
# On Apple GPUs, PyTorch computes operators that they lack on the CPU. It reads this when it is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

# Imported at first use: `import frcnn` and `frcnn --help` do not wait for torch.
_HOMES = {
    "Callback": "frcnn.training.callbacks",
    "CrossvalResult": "frcnn.training.crossval",
    "Detections": "frcnn.inference.results",
    "Detector": "frcnn.detector",
    "Evaluator": "frcnn.inference.evaluator",
    "FasterRCNN": "frcnn.nn.faster_rcnn",
    "Metrics": "frcnn.evaluation.metrics",
    "Plan": "frcnn.planning.plan",
    "TrainResult": "frcnn.training.train",
    "check": "frcnn.tools.check.check",
    "convert": "frcnn.tools.convert",
    "crossval": "frcnn.training.crossval",
    "from_detectron2": "frcnn.nn.migrate.from_detectron2",
    "from_mmdetection": "frcnn.nn.migrate.from_mmdetection",
    "from_torchvision": "frcnn.nn.migrate.from_torchvision",
    "load": "frcnn.detector",
    "plan": "frcnn.planning.plan",
    "train": "frcnn.training.train",
    "tune_malloc": "frcnn.fast.malloc",
}

__all__ = [
    "Callback",
    "CrossvalResult",
    "Detections",
    "Detector",
    "Evaluator",
    "FasterRCNN",
    "Metrics",
    "Plan",
    "TrainResult",
    "check",
    "convert",
    "crossval",
    "from_detectron2",
    "from_mmdetection",
    "from_torchvision",
    "load",
    "plan",
    "train",
    "tune_malloc",
]

__version__ = version("frcnn")


_OTHER_LIBRARIES = {
    **{name: f"frcnn.load(path).{name}" for name in ("predict", "evaluate", "export")},
    **dict.fromkeys(("load_model", "YOLO", "RCNN", "pipeline"), "frcnn.load(path), or frcnn.train(data)"),
    **dict.fromkeys(("base_models", "list_models"), "the command `frcnn base-models`"),
}
"""Names of other libraries and of commands -> ours, for messages."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        hint = f"; use {_OTHER_LIBRARIES[name]}" if name in _OTHER_LIBRARIES else ""
        raise AttributeError(f"module 'frcnn' has no attribute '{name}'{hint}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
