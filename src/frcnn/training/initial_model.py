"""The model that training starts from."""

import gc
from collections.abc import Sequence

import torch

from frcnn.config import Config
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.weights import DetectorWeights, find_weights
from frcnn.training.reports import InitialWeights

_HEAD = "roi_head.head."


def initial_model(
    config: Config, classes: Sequence[str], weights: str | None = None, *, offline: bool = False
) -> tuple[FasterRCNN, InitialWeights]:
    """Build the model and load its initial weights. The same seed gives the same model.

    Args:
        classes: names, without background.
        weights: see `find_weights`.
        offline: never open a connection.

    Raises:
        FileNotFoundError: no source has the weights.
        ValueError: the weights are damaged, or do not fit.
    """
    torch.manual_seed(config.train.seed)
    loaded = find_weights(config.base_model, weights, offline=offline)
    gc.collect()  # an earlier model: graphs that torch recorded are reference cycles, which Python frees late
    model = build_model(config.model, classes, loaded)
    if loaded is None:
        return model, InitialWeights(None, None, ())
    if isinstance(loaded, DetectorWeights):
        known = tuple(name for name in classes if name in loaded.classes)
        return model, InitialWeights(loaded.source, known, ())
    new = sorted(name.removeprefix(_HEAD) for name in model.newly_initialized if name.startswith(_HEAD))
    layers = dict.fromkeys(name.rpartition(".")[0] for name in new)
    return model, InitialWeights(loaded.source, None, tuple(layers))
