"""Weights of base models: where they come from, and how they are read without running anyone's code."""

import importlib
import os
import pickle
import struct
import urllib.error
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from frcnn.config import BaseModelSettings

_PICKLE = b"\x80"  # how PyTorch's files from before 2020 begin; newer ones are zip archives


class BaseWeights(NamedTuple):
    """ImageNet weights, and where they were found."""

    tensors: dict[str, Tensor]
    source: str
    by_order: bool = False
    """Places are found by order and shape, not by name."""


def cache_folder() -> Path:
    """Where downloaded weights are kept: $FRCNN_CACHE, else torch.hub's folder of checkpoints."""
    folder = os.environ.get("FRCNN_CACHE")
    return Path(folder) if folder else Path(torch.hub.get_dir()) / "checkpoints"


def find_weights(settings: BaseModelSettings, weights: str | None, *, offline: bool) -> BaseWeights | None:
    """The first of: the file given, the cache, an installed package that carries them, a download.

    Args:
        weights: a file; "auto" or None for the settings' file or the other sources; "none" for no weights.
        offline: never open a connection.

    Returns:
        None if no weights are wanted.

    Raises:
        FileNotFoundError: no source has them; the message says what was tried.
        ValueError: a damaged file, or one that is not a file of weights.
    """
    file = settings.weights if weights in (None, "auto") else weights
    if file == "none":
        return None
    if file is not None:
        return BaseWeights(read_weights(Path(file)), file)

    tried = []
    url = settings.weights_url
    if url is not None:
        cached = cache_folder() / url.rsplit("/", 1)[-1]
        if cached.is_file():
            return BaseWeights(read_weights(cached), str(cached))
        tried.append(f"the cache ({cached}): not there")
    if settings.weights_package is not None:
        packaged = _file_in_package(settings.weights_package)
        if packaged is not None:
            by_order = settings.weights_keys == "order"
            return BaseWeights(read_weights(packaged), f"package {settings.weights_package}", by_order)
        tried.append(f"the package {settings.weights_package}: not installed")
    if url is not None:
        if offline:
            tried.append(f"a download ({url}): not allowed by --offline")
        else:
            try:
                return BaseWeights(read_weights(_download(url)), url)
            except (OSError, RuntimeError) as error:
                tried.append(f"a download ({url}): {_reason(error)}")
    raise FileNotFoundError(
        f"no weights for base model '{settings.name}'. Tried {'; '.join(tried) or 'nothing: no source is set'}. "
        f"Give a file with --weights FILE, or start from random weights with --weights none."
    )


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
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: holds no state dict (tensors by name)")
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


def _file_in_package(package: str) -> Path | None:
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
