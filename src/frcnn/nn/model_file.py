"""Model files: weights, class names and model settings in one .safetensors file."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from frcnn.config import ModelSettings, base_model_names, from_dict, make_config
from frcnn.files import MAX_NAME, atomic_write, is_class_name, require_format, require_input
from frcnn.json_text import load_json
from frcnn.messages import short
from frcnn.nn.build import build_model, empty_model
from frcnn.nn.device import choose_device
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.torchvision_keys import DETECTOR_KEY
from frcnn.nn.weights import DetectorWeights, find_weights, first_difference, read_weights, shapes_of, stored_classes
from frcnn.resizing import frame_size
from frcnn.run_files import model_path

FORMAT_VERSION = 2
COCO = "coco:"


def save_model(model: FasterRCNN, path: Path) -> None:
    """Write the model to one file, atomically.

    The file holds no local paths, neither of the data nor of the initial weights.

    Contract: the model that `load_model` reads from the file gives the same detections.

    Raises:
        OSError: the file cannot be written.
        ValueError: the model is compressed, so its layers are not those of its settings; or `load_model` would refuse
            the name of a class.
    """
    if model.svd_rank is not None:
        raise ValueError(
            f"{path}: the model is compressed (svd {model.svd_rank}) and can only detect and be exported; save "
            f"the uncompressed model, and compress it again after loading"
        )
    wrong = next((name for name in model.classes if not is_class_name(name)), None)
    if wrong is not None:
        raise ValueError(
            f"{path}: the class {short(wrong)} cannot be stored; rename it: a name has 1 to {MAX_NAME:,} characters, "
            f"without control characters"
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {
        "format": "frcnn",
        "format_version": str(FORMAT_VERSION),
        "classes": json.dumps(model.classes, ensure_ascii=False),
        "settings": model.settings.model_dump_json(),
    }
    with atomic_write(path) as partial:
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:  # it hides the system's error, e.g. that the disk is full
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, f"{path}: {error}") from None


def _trained_on_coco(name: str) -> FasterRCNN:
    config = make_config(base_model=name)
    own = config.base_model.coco_detector
    if own is not None and config.detector.rules != "torchvision":  # e.g. resnet50-fpn, whose input is smaller
        raise ValueError(
            f"{COCO}{name}: is no detector of torchvision; use {COCO}{own}, or train with `frcnn train DATA "
            f"--base-model {name} --weights coco`"
        )
    weights = find_weights(config.base_model, "coco", offline=False)
    assert isinstance(weights, DetectorWeights)
    return build_model(config.model, weights.classes, weights)


def _instead_of(run: str) -> str:
    """What to do where there is no model."""
    if run == "coco" or run.startswith("fasterrcnn_"):
        return "'coco:fasterrcnn_resnet50_fpn' is torchvision's detector trained on COCO"
    if run in base_model_names():
        return f"it is a base model, which `frcnn train DATA --base-model {run}` trains"
    return f"`frcnn train DATA --out {run}` makes one"


def detector_settings(settings: ModelSettings, weights: str | None) -> ModelSettings | None:
    """The settings of the detector that weights belong to; None: they are not of a whole detector, or cannot be read.

    Args:
        settings: of the model that is made; they must fit a detector of torchvision, whose file has none.
        weights: as for `frcnn.nn.weights.find_weights`.
    """
    if weights in (None, "auto", "none", "coco"):
        return settings if weights == "coco" else None
    path = model_path(str(weights))
    try:
        if path.suffix != ".safetensors":
            return settings if DETECTOR_KEY in read_weights(path) else None
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, set(file.keys())
        if metadata.get("format") == "frcnn":
            return _description(metadata, path)[0]
        return settings if DETECTOR_KEY in names else None
    except (SafetensorError, OSError, KeyError, ValueError):
        return None  # loading the weights gives the error


def store_threshold(run: str | Path, threshold: float) -> None:
    """Change the threshold of a stored model (`detector.results.predict_threshold`).

    Args:
        run: a run directory or a model file.
        threshold: 0..1, the least score of a detection that `predict` reports.

    Raises:
        FileNotFoundError: see `load_model`.
        ValueError: see `load_model`; or a threshold that is none.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold: {threshold!r} must be a number from 0 to 1")
    path = model_path(run)
    if path.suffix != ".safetensors":
        raise ValueError(f"{run}: a threshold is stored in a run directory or a .safetensors file, not in this")
    model = load_model(path, device="cpu")
    detector = model.settings.detector
    results = detector.results.model_copy(update={"predict_threshold": threshold})
    changed = detector.model_copy(update={"results": results})
    model.settings = model.settings.model_copy(update={"detector": changed})
    save_model(model, path)


def load_model(run: str | Path, *, device: str = "auto") -> FasterRCNN:
    """Load a model, in evaluation mode.

    Args:
        run: a run directory, a model file, or "coco:NAME", torchvision's detector NAME trained on COCO, e.g.
            "coco:fasterrcnn_resnet50_fpn"; its weights are downloaded once.
        device: "auto" (cuda if it is available), "cpu", "cuda" or "mps".

    Raises:
        FileNotFoundError: there is no model.
        ValueError: the file is damaged, no model of frcnn, or of a newer format.
    """
    if str(run).startswith(COCO):
        return _trained_on_coco(str(run).removeprefix(COCO)).to(choose_device(device))
    path = model_path(run)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no trained model there; {_instead_of(str(run))}")
    try:
        with safe_open(path, framework="pt") as file:
            settings, classes = _description(file.metadata() or {}, path)
            model = _empty_model(settings, classes, path)
            own = model.state_dict()
            _require_shapes({name: file.get_slice(name).get_shape() for name in file.keys()}, own, path)  # noqa: SIM118
            # Copies, because a file that somebody overwrites must not change the model.
            tensors = {name: file.get_tensor(name).to(tensor.dtype, copy=True) for name, tensor in own.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: damaged, or not a model file ({error})") from None
    bad = next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)
    if bad is not None:
        raise ValueError(f"{path}: damaged, {bad} has infinite or NaN values; train again")
    if any(buffer.is_meta for name, buffer in model.named_buffers() if name not in own):
        model = build_model(settings, classes)  # some layers compute tables that no file holds
    model.load_state_dict(tensors, assign=True)
    return model.to(choose_device(device))


def _empty_model(settings: ModelSettings, classes: tuple[str, ...], path: Path) -> FasterRCNN:
    """A model without values, whose settings come from this file.

    Raises:
        ValueError: no model has these settings; names the file.
    """
    try:
        return empty_model(settings, classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _description(metadata: Mapping[str, str], path: Path) -> tuple[ModelSettings, tuple[str, ...]]:
    """The settings and the class names of a model file.

    Raises:
        ValueError: the file is damaged, no model of frcnn, or of a newer format.
    """
    if metadata.get("format") != "frcnn":
        raise ValueError(f"{path}: not a model of frcnn; weights of a base model go to `frcnn train --weights`")
    require_format(metadata, path, FORMAT_VERSION, "train again")
    try:
        values = load_json(metadata["settings"])
        if not isinstance(values, dict):
            raise ValueError(f"the settings are {short(values)}")
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged, its description cannot be read ({error})") from None
    classes = stored_classes(metadata, path)
    try:
        settings = from_dict(ModelSettings, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    image = settings.detector.resizing
    require_input(frame_size([(image.shorter_side, image.longer_side)], image), 1, path)
    return settings, classes


def _require_shapes(given: Mapping[str, Sequence[int]], own: Mapping[str, Tensor], path: Path) -> None:
    """Compare before memory is taken: a file of one kilobyte may describe a model of many gigabytes."""
    problem = first_difference(shapes_of(own), given)
    if problem is not None:
        raise ValueError(f"{path}: the weights do not fit the settings stored with them: {problem}; train again")
