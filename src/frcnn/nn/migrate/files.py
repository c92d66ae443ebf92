"""Files of detectors that other libraries have written."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frcnn.config import Named
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.migrate.from_detectron2 import RPN_KEY, from_detectron2
from frcnn.nn.migrate.from_mmdetection import HEAD_KEY, from_mmdetection, parse_config, read_config
from frcnn.nn.migrate.from_torchvision import from_torchvision
from frcnn.nn.migrate.numpy_pickle import load_numpy_pickle
from frcnn.nn.torchvision_keys import DETECTOR_KEY
from frcnn.nn.weights import read_content, state_dict_of

LIBRARIES = ("torchvision", "detectron2", "mmdetection")
_MORE_THAN_TENSORS = {
    "torchvision": "torch.save(model.state_dict(), 'weights.pth')",
    "detectron2": "torch.save(torch.load(FILE, weights_only=False)['model'], 'weights.pth')",
    "mmdetection": "c = torch.load(FILE, weights_only=False); "
    "torch.save({'meta': c['meta'], 'state_dict': c['state_dict']}, 'weights.pth')",
}
"""How to save the weights alone, in the library's own environment."""


def import_detector(
    path: str | Path,
    library: str,
    *,
    config: str | Path | None = None,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    settings: Named = (),
) -> FasterRCNN:
    """Read a trained detector of another library. Code in its files never runs.

    Args:
        path: the file of weights, e.g. a training checkpoint.
        library: one of LIBRARIES.
        config: the library's own config file; torchvision has none, and checkpoints of mmdetection hold it.
        name: of torchvision's model, see `from_torchvision`; other libraries name theirs in the config.
        classes: names, in the library's order; None: those in the file (mmdetection), else those of COCO.
        settings: other settings by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is damaged or of another library, or describes a detector that frcnn cannot have.
    """
    path = Path(path)
    if library not in LIBRARIES:
        raise ValueError(f"library '{library}': choose {', '.join(LIBRARIES)}")
    if library == "torchvision" and config is not None:
        raise ValueError(f"config {config}: torchvision has no config files; use settings instead (--set)")
    if library != "torchvision" and name is not None:
        raise ValueError(f"base model '{name}': the config of {library} names it; leave it out")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    content = _read(path, library)
    tensors = state_dict_of(content, path)
    written_by = library_of(tensors)
    if written_by is None:
        raise ValueError(f"{path}: not a Faster R-CNN of {library}: its weights have other names")
    if written_by != library:
        raise ValueError(f"{path}: its weights have the names of {written_by}, not of {library}; import it as such")
    if library == "torchvision":
        return _naming(path, from_torchvision, tensors, name, classes, settings)
    if library == "mmdetection":
        meta = _meta(content, path)
        its_own = meta.get("cfg")
        if config is None and not isinstance(its_own, str):
            raise ValueError(
                f"{path}: the config of mmdetection is missing (--config), as the file does not hold it; give the one "
                f"that training writes in work_dirs"
            )
        # A text in the file is never taken for the name of another file.
        values = read_config(config) if config is not None else parse_config(str(its_own), f"{path}: its config")
        return _naming(path, from_mmdetection, tensors, values, classes or _classes(meta), settings)
    if config is None:
        raise ValueError(
            f"{path}: the config of detectron2 is missing (--config). The weights do not say how images are normalized "
            f"and where the ResNet has its strides; config.yaml in OUTPUT_DIR does"
        )
    return _naming(path, from_detectron2, tensors, config, classes, settings)


def library_of(names: Container[str]) -> str | None:
    """The library whose Faster R-CNN has weights of these names; None: none that frcnn knows."""
    if RPN_KEY in names:
        return "detectron2"
    if HEAD_KEY in names:
        return "mmdetection"
    return "torchvision" if DETECTOR_KEY in names else None


def _naming(path: Path, convert: Any, *arguments: Any) -> FasterRCNN:
    """Convert the weights; errors name the file."""
    try:
        model: FasterRCNN = convert(*arguments)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return model


def _meta(content: Any, path: Path) -> dict[str, Any]:
    """What a checkpoint of mmdetection says besides its weights.

    Raises:
        ValueError: it is of mmdetection 1.
    """
    meta = content.get("meta") if isinstance(content, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    version = str(meta.get("mmdet_version", ""))
    if version[:2] in ("0.", "1."):
        raise ValueError(
            f"{path}: of mmdetection {version}, whose boxes are one pixel larger and whose classes are in another "
            f"order; frcnn reads files of mmdetection 2 and 3"
        )
    return meta


def _classes(meta: dict[str, Any]) -> list[str] | None:
    """The class names in a checkpoint of mmdetection."""
    for part in (meta.get("dataset_meta"), meta):
        for key in ("classes", "CLASSES"):
            names = part.get(key) if isinstance(part, dict) else None
            if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
                return list(names)
    return None


def _read(path: Path, library: str) -> Any:
    """The content of a file."""
    if path.suffix != ".pkl":
        how = f"Save the weights alone where it was written: {_MORE_THAN_TENSORS[library]}"
        return read_content(path, how)
    content = load_numpy_pickle(path)
    if isinstance(content, dict) and "blobs" in content:
        raise ValueError(
            f"{path}: a file of Detectron, the predecessor of detectron2. Its boxes are one pixel larger and its "
            f"classes are in another order, so frcnn does not read it; train with detectron2 or frcnn"
        )
    weights = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise ValueError(f"{path}: holds no weights (arrays by name)")
    return {str(key): torch.from_numpy(array) for key, array in weights.items() if isinstance(array, np.ndarray)}
