"""Base models: any convolutional classifier, cut by node names into conv layers and a head for RoIs.

The classifier comes from torchvision or timm. torch.fx records it as a graph of named nodes; two pieces of the
graph become modules of their own, with the classifier's own weights under the classifier's own names.
"""

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import NodePathTracer

from frcnn.config import BaseModelSettings
from frcnn.config.merge import nearest


class BaseModel(NamedTuple):
    """A classifier, cut."""

    conv_layers: nn.Module
    """(B, 3, H, W) -> (B, channels, H / stride, W / stride)"""
    head: nn.Module
    """(R, channels, roi_size, roi_size) -> (R, ...) with `hidden` numbers for each of R RoIs"""
    stride: int
    offset: float
    """Where a cell of the feature map looks: its centre is at (i + offset) * stride input pixels."""
    channels: int
    hidden: int
    fixed: frozenset[str]
    """Names of conv-layer parameters before `train_from_node`."""


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
            gives something of the wrong shape.
    """
    tracer = _Tracer()
    graph = tracer.trace(classifier)
    names = {node: str(name) for node, name in tracer.node_to_qualname.items()}

    source = next(node for node in graph.nodes if node.op == "placeholder")
    if settings.input_node is not None:
        source = _find(names, "input_node", settings.input_node)
    last_conv = _find(names, "last_conv_node", settings.last_conv_node)
    pool = last_conv if settings.pool_node is None else _find(names, "pool_node", settings.pool_node)

    conv_layers = _between(classifier, graph, names, source, last_conv)
    head: nn.Module = nn.Identity()
    if settings.last_hidden_node is not None:
        last_hidden = _find(names, "last_hidden_node", settings.last_hidden_node)
        head = _between(classifier, graph, names, pool, last_hidden)
    stride, channels = _measure_conv_layers(conv_layers, settings)
    offset = settings.offset if settings.offset is not None else _centre(classifier, graph, source, last_conv) / stride
    hidden = _measure_head(head, channels, settings)
    if settings.dropout is not None:
        for module in head.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings.dropout

    fixed: frozenset[str] = frozenset()
    if settings.train_from_node is not None:
        first = _find(names, "train_from_node", settings.train_from_node, last=False)
        before = list(graph.nodes)[: list(graph.nodes).index(first)]
        modules = {str(node.target) for node in before if node.op == "call_module"}
        fixed = frozenset(name for name, _ in conv_layers.named_parameters() if name.rpartition(".")[0] in modules)
    return BaseModel(conv_layers, head, stride, offset, channels, hidden, fixed)


class _Tracer(NodePathTracer):  # type: ignore[misc]
    """Looks into a classifier's own blocks, but not into layers: some (timm's batch norm and padded
    convolutions) branch on their input and cannot be traced."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        is_layer = isinstance(module, nn.Conv2d | nn.modules.batchnorm._BatchNorm)
        return is_layer or bool(super().is_leaf_module(module, qualified_name))


def _find(names: dict[fx.Node, str], setting: str, wanted: str, *, last: bool = True) -> fx.Node:
    """The node of that name, or the last (first) node inside the block of that name."""
    found = [node for node, name in names.items() if name == wanted or name.startswith(wanted + ".")]
    if not found:
        # a block's name stands for its nodes: "layer4" for "layer4.0.conv1", ...
        known = list(
            dict.fromkeys(block for name in names.values() for block in accumulate(name.split("."), "{}.{}".format))
        )
        raise ValueError(f"base_model.{setting}: there is no node '{wanted}'. {nearest(wanted, known)}")
    return found[-1 if last else 0]


def _between(
    root: nn.Module, graph: fx.Graph, names: dict[fx.Node, str], start: fx.Node, end: fx.Node
) -> fx.GraphModule:
    """The piece of the graph that computes `end` from the output of `start`."""
    needed: set[fx.Node] = set()
    stack = [end]
    while stack:
        node = stack.pop()
        if node is start or node in needed:
            continue
        if node.op == "placeholder":
            raise ValueError(
                f"base model: node '{names.get(end, end.name)}' does not follow from '{names.get(start, start.name)}' "
                f"alone; cut it elsewhere"
            )
        needed.add(node)
        stack += node.all_input_nodes

    piece = fx.Graph()
    copies = {start: piece.placeholder("x")}
    for node in graph.nodes:
        if node in needed:
            copies[node] = piece.node_copy(node, lambda n: copies[n])
    piece.output(copies[end])
    return fx.GraphModule(root, piece)


def _centre(classifier: nn.Module, graph: fx.Graph, source: fx.Node, end: fx.Node) -> float:
    """The input pixel (continuous) at the centre of what the first cell of `end` sees.

    Not always the middle of the cell: a 3x3 convolution of stride 2 that is padded by 1 looks at the even pixels, so
    after four of them a cell of 16 pixels sees its upper left corner; AlexNet, which hardly pads, its lower right one.
    """
    seen = {source: (0.5, 1)}  # the centre of the first cell, and the pixels from one cell to the next
    for node in graph.nodes:
        before = next((seen[given] for given in node.all_input_nodes if given in seen), None)
        if node in seen or before is None:
            continue
        centre, pixels = before
        layer = classifier.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            if isinstance(layer.padding, str) or type(layer).__name__ == "Conv2dSame":
                raise ValueError(
                    f"base model: layer '{node.target}' pads by the size of its input, so where a cell looks is not "
                    f"known; set base_model.offset (0.5 is the centre of a cell)"
                )
            kernel, step, padding, dilation = (
                value if isinstance(value, int) else value[0]
                for value in (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
            )
            centre, pixels = centre + (dilation * (kernel - 1) / 2 - int(padding)) * pixels, pixels * step
        seen[node] = (centre, pixels)
    return seen[end][0]


@torch.no_grad()
def _measure_conv_layers(conv_layers: nn.Module, settings: BaseModelSettings) -> tuple[int, int]:
    """Stride and channels, seen on two blank images (one is not enough: some networks do not pad)."""
    sides = (256, 512)
    maps = [conv_layers(torch.zeros(1, 3, side, side)) for side in sides]
    if any(not isinstance(m, Tensor) or m.ndim != 4 for m in maps):
        raise ValueError(f"base_model.last_conv_node '{settings.last_conv_node}' does not give a feature map")
    cells = maps[1].shape[-1] - maps[0].shape[-1]
    stride, rest = divmod(sides[1] - sides[0], max(cells, 1))
    if cells < 1 or rest:
        raise ValueError(
            f"base_model.last_conv_node '{settings.last_conv_node}': the stride is not a whole number of pixels"
        )
    if settings.stride not in (None, stride):
        raise ValueError(
            f"base_model.stride is {settings.stride}, but node '{settings.last_conv_node}' has stride {stride}; "
            f"leave the setting empty"
        )
    return stride, maps[0].shape[1]


@torch.no_grad()
def _measure_head(head: nn.Module, channels: int, settings: BaseModelSettings) -> int:
    size = settings.roi_size
    try:
        hidden: Tensor = head(torch.zeros(1, channels, size, size))
    except RuntimeError as error:
        raise ValueError(f"base_model.roi_size {size} does not fit the head: {error}") from None
    return int(hidden[0].numel())
