"""Faster R-CNN that trains on a few labelled photos, on an ordinary computer.

import frcnn

detector, run = frcnn.train("my_photos")
print(frcnn.evaluate(run).table())
for prediction in frcnn.predict(run, "new.jpg"):
    frcnn.draw("new.jpg", prediction).save("new-detections.png")
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frcnn.drawing import draw
    from frcnn.evaluation.evaluate import evaluate
    from frcnn.evaluation.report import Evaluation
    from frcnn.evaluator import Evaluator
    from frcnn.memory import keep_memory
    from frcnn.nn.checkpoint import from_torchvision, load
    from frcnn.nn.compression import compressed
    from frcnn.nn.detector import FasterRCNN
    from frcnn.prediction import predict
    from frcnn.training.run import train
    from frcnn.types import Prediction

# Imported at first use: `import frcnn` and `frcnn --help` do not wait for torch.
_HOMES = {
    "Evaluation": "frcnn.evaluation.report",
    "Evaluator": "frcnn.evaluator",
    "FasterRCNN": "frcnn.nn.detector",
    "Prediction": "frcnn.types",
    "compressed": "frcnn.nn.compression",
    "draw": "frcnn.drawing",
    "evaluate": "frcnn.evaluation.evaluate",
    "from_torchvision": "frcnn.nn.checkpoint",
    "keep_memory": "frcnn.memory",
    "load": "frcnn.nn.checkpoint",
    "predict": "frcnn.prediction",
    "train": "frcnn.training.run",
}

__all__ = [
    "Evaluation",
    "Evaluator",
    "FasterRCNN",
    "Prediction",
    "compressed",
    "draw",
    "evaluate",
    "from_torchvision",
    "keep_memory",
    "load",
    "predict",
    "train",
]

__version__ = version("frcnn")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'frcnn' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
