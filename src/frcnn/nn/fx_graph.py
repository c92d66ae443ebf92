"""A classifier as a graph of named nodes, traced by torch.fx: list the nodes, find one, take out a subgraph.

A node has the name of its layer in the classifier ("layer3.0.conv1"). The name of a block ("layer3") stands for the
nodes inside the block.
"""

import threading
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import NodePathTracer

_TRACING = threading.Lock()
"""torch.fx replaces functions of all modules while it traces."""
_DEPTH = 2  # blocks are listed down to "features.3" or "blocks.2"


class Graph(NamedTuple):
    """A traced classifier."""

    classifier: nn.Module
    graph: fx.Graph
    names: dict[fx.Node, str]


class LayerInfo(NamedTuple):
    """A node or a block of a classifier, and its output for one image."""

    name: str
    shape: tuple[int, ...]
    """Shape of the output without the batch: (channels, height, width) of a feature map."""
    stride: int | None
    """Input pixels per cell; None: the output is no feature map, or the stride is not a whole number."""
    parameters: int
    """Number of weights in the node or the block."""
    block: bool
    """Whether this is a block. It follows its last node."""


class _Tracer(NodePathTracer):  # type: ignore[misc]
    """Traces into a classifier's blocks, but not into layers: some layers (timm's batch norm and padded convolutions)
    branch on their input and cannot be traced.

    Args:
        whole: other modules that become one node each.
    """

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self.whole = whole
        self._thread = threading.get_ident()
        self.inside: list[nn.Module] = []
        """The modules that are being traced, the innermost last."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        is_layer = isinstance(module, nn.Conv2d | nn.modules.batchnorm._BatchNorm) or module in self.whole
        return is_layer or bool(super().is_leaf_module(module, qualified_name))

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:  # torch.fx sees the calls of all threads, e.g. of one that predicts
            return forward(*args, **kwargs)
        self.inside.append(m)
        output = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return output


def trace(classifier: nn.Module, architecture: str) -> Graph:
    """Trace a classifier. A block that branches on its input (e.g. the head of timm's VGGs) becomes one node.

    Raises:
        ValueError: the classifier itself branches on its input.
    """
    whole: set[nn.Module] = set()
    while True:
        tracer = _Tracer(whole)
        try:
            with _TRACING:
                graph = tracer.trace(classifier)
            break
        except Exception as error:  # a forward that is given proxies may raise anything
            if tracer.inside and tracer.inside[-1] not in whole:
                whole.add(tracer.inside[-1])
                continue
            reason = str(error).strip().split("\n")[0]
            raise ValueError(
                f"base_model.architecture '{architecture}': torch.fx cannot trace it as a graph of nodes ({reason}); "
                f"choose another one"
            ) from None
    return Graph(classifier, graph, {node: str(name) for node, name in tracer.node_to_qualname.items()})


def find_node(graph: Graph, setting: str, wanted: str, *, last: bool = True) -> fx.Node:
    """The node of this name, or the last (or first) node of the block of this name.

    Args:
        setting: name of the setting, for the message.

    Raises:
        ValueError: there is no such node; the message names the most similar ones.
    """
    matches = [node for node, name in graph.names.items() if name == wanted or name.startswith(wanted + ".")]
    if not matches:
        known = list(dict.fromkeys(block for name in graph.names.values() for block in _blocks(name)))
        first, *others = get_close_matches(wanted, known, n=3, cutoff=0)
        raise ValueError(
            f"base_model.{setting}: there is no node '{wanted}'. Did you mean '{first}'? Next nearest: "
            f"{', '.join(others)}; `frcnn layers` lists them all."
        )
    return matches[-1 if last else 0]


def input_node(graph: Graph) -> fx.Node:
    """The node of the input image."""
    return next(node for node in graph.graph.nodes if node.op == "placeholder")


def subgraph(graph: Graph, start: fx.Node, ends: Sequence[fx.Node], *, single: bool) -> fx.GraphModule:
    """A module that computes the outputs of `ends` from the output of `start`.

    Args:
        single: return the output of the only end, not a list of one.

    Raises:
        ValueError: an end depends on more than `start`.
    """
    needed = set(ends)
    for node in reversed(graph.graph.nodes):
        if node in needed and node is not start:
            needed.update(node.all_input_nodes)
    needed.discard(start)
    other_input = next((node for node in graph.graph.nodes if node in needed and node.op == "placeholder"), None)
    if other_input is not None:
        end_names = "', '".join(graph.names.get(end, end.name) for end in ends)
        start_name = graph.names.get(start, start.name)
        way_out = "name them in the order of `frcnn layers`: input_node, last_conv_node, pool_node, last_hidden_node"
        if start.op == "placeholder":
            way_out = f"it takes '{other_input.name}' too, as transformers do; choose a convolutional model"
        raise ValueError(f"base model: node '{end_names}' does not follow from '{start_name}' alone; {way_out}")

    piece = fx.Graph()
    copies = {start: piece.placeholder("x")}
    for node in graph.graph.nodes:
        if node in needed:
            copies[node] = piece.node_copy(node, lambda n: copies[n])
    outputs = [copies[end] for end in ends]
    piece.output(outputs[0] if single else outputs)
    return fx.GraphModule(graph.classifier, piece)


def cell_centers(graph: Graph, start: fx.Node) -> dict[fx.Node, float]:
    """For every node after `start`, the center of the receptive field of its first cell, in input pixels.

    It need not be the center of the cell. A 3x3 convolution of stride 2 with padding 1 is centered on even pixels, so
    after four of them the receptive field of a cell of 16 pixels is centered on the cell's upper left corner. AlexNet
    pads less, and its receptive field is centered near the lower right corner.

    Returns:
        One number for x and y, which are equal; NaN after a layer whose padding depends on the size of its input.
    """
    seen = {start: (0.5, 1)}  # the center of the first cell, and the stride
    for node in graph.graph.nodes:
        before = next((seen[given] for given in node.all_input_nodes if given in seen), None)
        if node in seen or before is None:
            continue
        center, pixels = before
        layer = graph.classifier.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            if isinstance(layer.padding, str) or type(layer).__name__ == "Conv2dSame":
                center = float("nan")
            else:
                kernel, step, padding, dilation = (
                    value if isinstance(value, int) else value[0]
                    for value in (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
                )
                center, pixels = center + (dilation * (kernel - 1) / 2 - int(padding)) * pixels, pixels * step
        seen[node] = (center, pixels)
    return {node: center for node, (center, _) in seen.items()}


def list_layers(graph: Graph, image_size: tuple[int, int]) -> list[LayerInfo]:
    """Every node whose output is a tensor, in order, and every block after its last node.

    Args:
        image_size: (height, width), pixels.
    """
    height, width = image_size
    shapes = _shapes(graph, image_size)
    try:  # the stride follows from two images, as some networks do not pad
        larger = _shapes(graph, (2 * height, 2 * width))
    except ValueError:
        raise ValueError(
            f"takes images of {width} x {height} pixels, but not of twice that: it is made for one size, as many "
            f"transformers are; choose a convolutional classifier"
        ) from None
    named = [(node, name) for node, name in graph.names.items() if node in shapes and node.op != "get_attr"]
    last = {block: node for node, name in named for block in _blocks(name)}
    facts = []
    for node, name in named:
        shape, stride = shapes[node][1:], stride_of(shapes[node], larger[node], image_size)
        if node.op == "call_module" or last[name] is node:
            facts.append(LayerInfo(name, shape, stride, _parameters(graph, [node]), False))
        for block in list(_blocks(name))[::-1]:
            if block != name and block.count(".") < _DEPTH and last[block] is node:
                inside = [other for other, its_name in named if its_name.startswith(block + ".")]
                facts.append(LayerInfo(block, shape, stride, _parameters(graph, inside), True))
    return facts


def _blocks(name: str) -> Iterator[str]:
    """ "layer4.0.conv1" -> "layer4", "layer4.0", "layer4.0.conv1"."""
    return accumulate(name.split("."), "{}.{}".format)


def parameter_names(module: nn.Module, nodes: Sequence[fx.Node]) -> frozenset[str]:
    """The module's parameters in the layers of these nodes, and those that the nodes read."""
    read = [given for node in nodes for given in node.all_input_nodes if given.op == "get_attr"]
    names = {str(node.target) for node in (*nodes, *read) if node.op in ("call_module", "get_attr")}
    return frozenset(name for name, _ in module.named_parameters() if {name, name.rpartition(".")[0]} & names)


def _parameters(graph: Graph, nodes: Sequence[fx.Node]) -> int:
    names = parameter_names(graph.classifier, nodes)
    return sum(graph.classifier.get_parameter(name).numel() for name in names)


@torch.no_grad()
def _shapes(graph: Graph, image_size: tuple[int, int]) -> dict[fx.Node, tuple[int, ...]]:
    """The shape of every node's output. On the meta device nothing is computed."""
    shapes: dict[fx.Node, tuple[int, ...]] = {}

    class Shapes(fx.Interpreter):
        extra_traceback = False

        def run_node(self, node: fx.Node) -> object:
            output = super().run_node(node)
            if isinstance(output, Tensor):
                shapes[node] = tuple(output.shape)
            return output

    device = next(graph.classifier.parameters()).device
    try:
        Shapes(fx.GraphModule(graph.classifier, graph.graph)).run(torch.zeros(1, 3, *image_size, device=device))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"an image of {image_size[1]} x {image_size[0]} pixels does not go through: {reason}"
        ) from None
    return shapes


def stride_of(shape: Sequence[int], larger: Sequence[int], image_size: tuple[int, int]) -> int | None:
    """Input pixels per cell, from the shapes of the output for an image of this size and for one of twice the size."""
    if len(shape) != 4:
        return None
    strides = set()
    for pixels, cells, more in zip(image_size, shape[2:], larger[2:], strict=True):
        if more <= cells or pixels % (more - cells):
            return None
        strides.add(pixels // (more - cells))
    return strides.pop() if len(strides) == 1 else None
