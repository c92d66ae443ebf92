"""Model files: weights, class names and settings in one .safetensors file that describes itself."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from frcnn.config import dump, from_dict, merge
from frcnn.files import whole_file
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.device import choose_device
from frcnn.nn.translation import MARK, coco_classes, from_torchvision_keys
from frcnn.nn.weights import MODEL_FILE, DetectorWeights, find_weights

FORMAT_VERSION = 1
COCO = "coco:"


def save(detector: FasterRCNN, path: Path) -> None:
    """Write the detector to one file, whole or not at all.

    Contract: `load(save(d))` gives the same detections as d.

    Raises:
        OSError: it cannot be written.
        ValueError: a compressed detector, whose layers are not those of its settings.
    """
    if detector.svd_rank is not None:
        raise ValueError(
            f"{path}: the detector is compressed (svd {detector.svd_rank}) and can only detect and be exported; save "
            f"the one that it was made of, and compress that again after loading"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    metadata = {
        "format": "frcnn",
        "format_version": str(FORMAT_VERSION),
        "classes": json.dumps(detector.classes, ensure_ascii=False),
        "config": json.dumps(dump(detector.config)),
    }
    with whole_file(path) as partial:
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:  # which hides the system's error, e.g. of a full disk
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, f"{path}: {error}") from None


def from_torchvision(state_dict: Mapping[str, Tensor], name: str, classes: Sequence[str] | None = None) -> FasterRCNN:
    """One of torchvision's detectors as ours: the same detections, from the same weights.

    Args:
        state_dict: of torchvision's model.
        name: torchvision's: fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2, fasterrcnn_mobilenet_v3_large_fpn or
            fasterrcnn_mobilenet_v3_large_320_fpn.
        classes: names of labels 1, 2, ...; None for COCO's, as torchvision's own weights have them.

    Raises:
        ValueError: the weights are of another detector, or the number of classes is another.
    """
    config = merge(base_model=name)
    if MARK not in state_dict:
        raise ValueError(f"the state dict is not one of a torchvision Faster R-CNN: it lacks {MARK}")
    count = len(state_dict[MARK]) - 1
    names = tuple(classes) if classes is not None else coco_classes(count)
    if len(names) != count:
        raise ValueError(f"classes: {len(names)} names, but the weights tell {count} apart; name them all, in order")
    weights = DetectorWeights(from_torchvision_keys(state_dict), names, f"weights of {name}")
    return FasterRCNN(config, names, weights)


def _trained_on_coco(name: str) -> FasterRCNN:
    config = merge(base_model=name)
    weights = find_weights(config.base_model, "coco", offline=False)
    assert isinstance(weights, DetectorWeights)
    return FasterRCNN(config, weights.classes, weights)


def load(run: str | Path, *, device: str = "auto") -> FasterRCNN:
    """The detector of a RUN folder or of a model file, ready to predict.

    Args:
        run: also "coco:NAME", torchvision's detector NAME trained on COCO, e.g. "coco:fasterrcnn_resnet50_fpn"; its
            weights are downloaded once.
        device: "auto" (cuda where there is one), "cpu" or "cuda".

    Raises:
        FileNotFoundError: there is no model.
        ValueError: a damaged file, one of something else, or one of a newer format.
    """
    if str(run).startswith(COCO):
        return _trained_on_coco(str(run).removeprefix(COCO)).to(choose_device(device))
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
