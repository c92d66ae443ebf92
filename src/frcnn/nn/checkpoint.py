"""Model files: weights, class names and settings in one .safetensors file that describes itself."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from frcnn.config import dump, from_dict
from frcnn.files import whole_file
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.device import choose_device

FORMAT_VERSION = 1
MODEL_FILE = "model.safetensors"


def save(detector: FasterRCNN, path: Path) -> None:
    """Write the detector to one file, whole or not at all.

    Contract: `load(save(d))` gives the same detections as d.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    metadata = {
        "format": "frcnn",
        "format_version": str(FORMAT_VERSION),
        "classes": json.dumps(detector.classes, ensure_ascii=False),
        "config": json.dumps(dump(detector.config)),
    }
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata)


def load(run: str | Path, *, device: str = "auto") -> FasterRCNN:
    """The detector of a RUN folder or of a model file, ready to predict.

    Args:
        device: "auto" (cuda where there is one), "cpu" or "cuda".

    Raises:
        FileNotFoundError: there is no model.
        ValueError: a damaged file, one of something else, or one of a newer format.
    """
    path = Path(run) / MODEL_FILE if Path(run).is_dir() else Path(run)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no trained model there; `frcnn train DATA --out {run}` makes one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: damaged, or not a model file ({error})") from None
    if metadata.get("format") != "frcnn":
        raise ValueError(f"{path}: not a model of frcnn; weights of a base model go to `frcnn train --weights`")
    try:
        version = int(metadata["format_version"])
        classes, settings = json.loads(metadata["classes"]), json.loads(metadata["config"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged, its description cannot be read ({error})") from None
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: has format {version}, this frcnn reads up to {FORMAT_VERSION}; install a newer frcnn"
        )
    detector = FasterRCNN(from_dict(settings), classes)
    try:
        detector.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the settings stored with them: {error}") from None
    return detector.to(choose_device(device))
