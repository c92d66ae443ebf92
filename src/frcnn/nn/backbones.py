"""Base models: any convolutional classifier, cut by node names into conv layers and a head for RoIs.

The classifier comes from torchvision or timm. Pieces of its graph become modules of their own, with the classifier's
own weights under the classifier's own names.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from frcnn.config import BaseModelSettings
from frcnn.config.merge import nearest
from frcnn.nn import graph as graphs
from frcnn.nn.batch_norm import fold_batch_norm
from frcnn.nn.linear import use_faster_linear
from frcnn.types import Level


class BaseModel(NamedTuple):
    """A classifier, cut."""

    conv_layers: nn.Module
    """(B, 3, H, W) -> a list of (B, channels, H / stride, W / stride), finest first"""
    head: nn.Module
    """(R, channels, roi_size, roi_size) -> (R, ...) for each of R RoIs"""
    levels: tuple[Level, ...]
    """Where the cells of each feature map look."""
    channels: tuple[int, ...]
    """Of each feature map."""
    fixed: frozenset[str]
    """Names of conv-layer parameters before `train_from_node`."""


class Backbone(nn.Module):
    """Images to feature maps: the base model's conv layers, and a pyramid (FPN) on them where there is one."""

    def __init__(self, conv_layers: nn.Module, pyramid: nn.Module) -> None:
        super().__init__()
        self.conv_layers = conv_layers
        self.pyramid = pyramid

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, C, H_l, W_l) of each level, finest first."""
        maps: list[Tensor] = self.pyramid(self.conv_layers(images))
        return maps


def build_classifier(architecture: str) -> nn.Module:
    """The classifier with random weights, in evaluation mode.

    Args:
        architecture: "torchvision:NAME" or "timm:NAME".

    Raises:
        ValueError: neither library knows it (with the nearest name).
    """
    library, _, name = architecture.partition(":")
    if library == "torchvision":
        import torchvision.models as zoo

        names, build = zoo.list_models(module=zoo), lambda: zoo.get_model(name, weights=None)
    elif library == "timm":
        import timm

        names, build = timm.list_models(), lambda: timm.create_model(name, pretrained=False)
    else:
        raise ValueError(f"base_model.architecture '{architecture}': must be torchvision:NAME or timm:NAME")
    if name not in names:
        raise ValueError(f"base_model.architecture: {library} has no model '{name}'. {nearest(name, names)}")
    classifier: nn.Module = build()
    return classifier.eval()


def cut(classifier: nn.Module, settings: BaseModelSettings) -> BaseModel:
    """Conv layers (input to `last_conv_node`) and head (after `pool_node` to `last_hidden_node`).

    Raises:
        ValueError: a node does not exist (with the nearest name), does not follow from the one before, or
            gives something of the wrong shape; or the classifier cannot be recorded as a graph.
    """
    if settings.batch_norm_eps is not None:
        for module in classifier.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eps = settings.batch_norm_eps
    graph = graphs.record(classifier, settings.architecture)
    source = graphs.source(graph)
    if settings.input_node is not None:
        source = graphs.find(graph, "input_node", settings.input_node)
    ends = [graphs.find(graph, "last_conv_node", name) for name in settings.last_conv_node]
    if len(set(ends)) < len(ends):
        raise ValueError(f"base_model.last_conv_node {list(settings.last_conv_node)}: names a node twice")
    conv_layers = graphs.between(graph, source, ends, single=False)

    head: nn.Module = nn.Identity()
    if settings.last_hidden_node is None:
        if not settings.fc_channels and not settings.conv_channels:
            raise ValueError(
                "base model: the cut leaves no head; name base_model.last_hidden_node, or give new layers in "
                "base_model.fc_channels, e.g. [1024, 1024]"
            )
    elif len(ends) > 1:
        raise ValueError(
            f"base_model.last_hidden_node '{settings.last_hidden_node}': the base model's own layers do not fit the "
            f"maps of a pyramid; leave it empty and give new ones in base_model.fc_channels, e.g. [1024, 1024]"
        )
    else:
        pool = ends[-1] if settings.pool_node is None else graphs.find(graph, "pool_node", settings.pool_node)
        last_hidden = graphs.find(graph, "last_hidden_node", settings.last_hidden_node)
        if last_hidden is pool:
            raise ValueError(
                f"base_model.last_hidden_node '{settings.last_hidden_node}': the cut leaves no head, as RoI pooling "
                f"comes after this very node; name a later one, or leave it empty and give base_model.fc_channels"
            )
        head = graphs.between(graph, pool, [last_hidden], single=True)
        _drop_idle_pooling(head, settings.roi_size)
    if settings.dropout is not None:
        for module in head.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings.dropout
    use_faster_linear(head)

    if settings.freeze_batch_norm:
        for piece in (conv_layers, head):
            if isinstance(piece, fx.GraphModule):
                fold_batch_norm(piece)
    strides, channels = _measure(conv_layers, settings)
    centres = graphs.centres(graph, source)
    levels = []
    for name, end, stride in zip(settings.last_conv_node, ends, strides, strict=True):
        offset = settings.offset if settings.offset is not None else centres[end] / stride
        if math.isnan(offset):
            raise ValueError(
                f"base model: a layer before '{name}' pads by the size of its input, so where a cell looks is not "
                f"known; set base_model.offset (0.5 is the centre of a cell)"
            )
        levels.append(Level(stride, offset))

    fixed: frozenset[str] = frozenset()
    if settings.train_from_node is not None:
        first = graphs.find(graph, "train_from_node", settings.train_from_node, last=False)
        nodes = list(graph.graph.nodes)
        before = {str(node.target) for node in nodes[: nodes.index(first)] if node.op in ("call_module", "get_attr")}
        fixed = frozenset(
            name for name, _ in conv_layers.named_parameters() if {name, name.rpartition(".")[0]} & before
        )
    return BaseModel(conv_layers, head, tuple(levels), channels, fixed)


def _drop_idle_pooling(head: fx.GraphModule, roi_size: int) -> None:
    """Classifiers that take images of any size average to the side that their fully connected layers take; RoIs have it
    already, but measured, averaging single cells still took 100 ms of AlexNet's 800."""
    image = next(node for node in head.graph.nodes if node.op == "placeholder")
    for node in list(image.users):
        layer = head.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (roi_size, (roi_size, roi_size)):
            node.replace_all_uses_with(image)
            head.graph.erase_node(node)
    head.recompile()


@torch.no_grad()
def measure_head(head: nn.Module, channels: int, size: int) -> int:
    """Numbers per RoI that the head makes of `channels` maps of `size` x `size` cells.

    Raises:
        ValueError: it cannot take such maps.
    """
    try:
        hidden: Tensor = head(torch.zeros(1, channels, size, size))
    except RuntimeError as error:
        raise ValueError(
            f"base_model.roi_size {size} does not fit the head ({error}); set the size that it takes, or another "
            f"base_model.pool_node"
        ) from None
    return int(hidden[0].numel())


@torch.no_grad()
def _measure(conv_layers: fx.GraphModule, settings: BaseModelSettings) -> tuple[list[int], tuple[int, ...]]:
    """Strides and channels, seen on two blank images (one is not enough: some networks do not pad)."""
    sides = (256, 512)
    interpreter = fx.Interpreter(conv_layers)  # which, unlike the module's forward, prints nothing when it fails
    interpreter.extra_traceback = False
    try:
        small, large = (interpreter.run(torch.zeros(1, 3, side, side)) for side in sides)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"base_model.architecture '{settings.architecture}' does not take images of any size ({error}); choose a "
            f"convolutional one"
        ) from None
    strides: list[int] = []
    for name, before, after in zip(settings.last_conv_node, small, large, strict=True):
        if not isinstance(before, Tensor) or before.ndim != 4 or before.shape[1] != after.shape[1]:
            raise ValueError(
                f"base_model.last_conv_node '{name}' does not give a feature map (channels x height x width); name a "
                f"convolutional layer or block (`frcnn nodes` shows what each node gives)"
            )
        cells = after.shape[-1] - before.shape[-1]
        stride, rest = divmod(sides[1] - sides[0], max(cells, 1))
        if cells < 1 or rest:
            raise ValueError(f"base_model.last_conv_node '{name}': the stride is not a whole number of pixels")
        if strides and stride % strides[-1]:
            raise ValueError(
                f"base_model.last_conv_node {list(settings.last_conv_node)}: the maps of a pyramid come finest first, "
                f"each stride a multiple of the one before, but '{name}' has stride {stride} after {strides[-1]}"
            )
        strides.append(stride)
    if settings.stride not in (None, strides[0]):
        raise ValueError(
            f"base_model.stride is {settings.stride}, but node '{settings.last_conv_node[0]}' has stride "
            f"{strides[0]}; leave the setting empty"
        )
    return strides, tuple(one.shape[1] for one in small)
