"""A classifier as a graph of named nodes: list them, find one, take out the piece between some of them.

torch.fx records the graph. A node's name is that of its layer in the classifier ("layer3.0.conv1"); the name of a block
("layer3") stands for the nodes inside it.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import NodePathTracer

_DEPTH = 2  # blocks are listed down to "features.3" or "blocks.2", not each one inside


class Graph(NamedTuple):
    """A recorded classifier."""

    classifier: nn.Module
    graph: fx.Graph
    names: dict[fx.Node, str]


class NodeFacts(NamedTuple):
    """A node or a block of a classifier, for one image."""

    name: str
    shape: tuple[int, ...]
    """Of the output, without the batch: (channels, height, width) of a feature map."""
    stride: int | None
    """Input pixels per cell; None if the output is no feature map, or the stride is not a whole number."""
    parameters: int
    """Weights of the node, or of the block up to its end."""
    block: bool
    """It stands for the nodes above it."""


class _Tracer(NodePathTracer):  # type: ignore[misc]
    """Looks into a classifier's own blocks, but not into layers: some (timm's batch norm and padded
    convolutions) branch on their input and cannot be traced.

    Args:
        whole: other modules that are nodes as a whole.
    """

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self.whole = whole
        self.inside: list[nn.Module] = []
        """The modules that are being recorded, the innermost last."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        is_layer = isinstance(module, nn.Conv2d | nn.modules.batchnorm._BatchNorm) or module in self.whole
        return is_layer or bool(super().is_leaf_module(module, qualified_name))

    def call_module(self, m: nn.Module, *rest: Any) -> Any:
        self.inside.append(m)
        output = super().call_module(m, *rest)
        self.inside.pop()
        return output


def record(classifier: nn.Module, architecture: str) -> Graph:
    """The classifier's graph. A block that branches on its input (as the head of timm's VGGs) is one node.

    Raises:
        ValueError: the classifier itself branches on its input, so there is no one graph.
    """
    whole: set[nn.Module] = set()
    while True:
        tracer = _Tracer(whole)
        try:
            graph = tracer.trace(classifier)
            break
        except Exception as error:  # whatever a stranger's forward raises when it is given proxies
            if tracer.inside and tracer.inside[-1] not in whole:
                whole.add(tracer.inside[-1])
                continue
            reason = str(error).strip().split("\n")[0]
            raise ValueError(
                f"base_model.architecture '{architecture}': torch.fx cannot record it as a graph of nodes ({reason}); "
                f"choose another one"
            ) from None
    return Graph(classifier, graph, {node: str(name) for node, name in tracer.node_to_qualname.items()})


def find(graph: Graph, setting: str, wanted: str, *, last: bool = True) -> fx.Node:
    """The node of that name, or the last (first) node inside the block of that name.

    Raises:
        ValueError: there is none; names the setting and the nearest name.
    """
    found = [node for node, name in graph.names.items() if name == wanted or name.startswith(wanted + ".")]
    if not found:
        known = list(dict.fromkeys(block for name in graph.names.values() for block in _blocks(name)))
        first, *others = get_close_matches(wanted, known, n=3, cutoff=0)
        raise ValueError(
            f"base_model.{setting}: there is no node '{wanted}'. Did you mean '{first}'? Next nearest: "
            f"{', '.join(others)}; `frcnn nodes` lists them all."
        )
    return found[-1 if last else 0]


def source(graph: Graph) -> fx.Node:
    """The node of the image."""
    return next(node for node in graph.graph.nodes if node.op == "placeholder")


def between(graph: Graph, start: fx.Node, ends: Sequence[fx.Node], *, single: bool) -> fx.GraphModule:
    """The piece of the graph that computes `ends` from the output of `start`.

    Args:
        single: give the output of the only end itself, not a list of one.
    """
    needed: set[fx.Node] = set()
    stack = list(ends)
    while stack:
        node = stack.pop()
        if node is start or node in needed:
            continue
        if node.op == "placeholder":
            end_names = "', '".join(graph.names.get(end, end.name) for end in ends)
            way_out = "name them in the order of `frcnn nodes`: input, last_conv, pool, last_hidden"
            if start.op == "placeholder":
                way_out = f"it takes '{node.name}' too, as transformers do; choose a convolutional model"
            raise ValueError(
                f"base model: node '{end_names}' does not follow from '{graph.names.get(start, start.name)}' "
                f"alone; {way_out}"
            )
        needed.add(node)
        stack += node.all_input_nodes

    piece = fx.Graph()
    copies = {start: piece.placeholder("x")}
    for node in graph.graph.nodes:
        if node in needed:
            copies[node] = piece.node_copy(node, lambda n: copies[n])
    outputs = [copies[end] for end in ends]
    piece.output(outputs[0] if single else outputs)
    return fx.GraphModule(graph.classifier, piece)


def centres(graph: Graph, start: fx.Node) -> dict[fx.Node, float]:
    """For every node after `start`: the input pixel (continuous) at the centre of what its first cell sees.

    Not always the middle of the cell: a 3x3 convolution of stride 2 that is padded by 1 looks at the even pixels, so
    after four of them a cell of 16 pixels sees its upper left corner; AlexNet, which hardly pads, its lower right one.
    A layer that pads by the size of its input gives NaN.
    """
    seen = {start: (0.5, 1)}  # the centre of the first cell, and the pixels from one cell to the next
    for node in graph.graph.nodes:
        before = next((seen[given] for given in node.all_input_nodes if given in seen), None)
        if node in seen or before is None:
            continue
        centre, pixels = before
        layer = graph.classifier.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            if isinstance(layer.padding, str) or type(layer).__name__ == "Conv2dSame":
                centre = float("nan")
            else:
                kernel, step, padding, dilation = (
                    value if isinstance(value, int) else value[0]
                    for value in (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
                )
                centre, pixels = centre + (dilation * (kernel - 1) / 2 - int(padding)) * pixels, pixels * step
        seen[node] = (centre, pixels)
    return {node: centre for node, (centre, _) in seen.items()}


def list_nodes(graph: Graph, image_size: tuple[int, int]) -> list[NodeFacts]:
    """Every node that gives a tensor, in order, and every block after its last node.

    Args:
        image_size: (height, width), pixels.
    """
    height, width = image_size
    shapes = _shapes(graph, image_size)
    try:  # the stride is seen on two images: some networks do not pad
        larger = _shapes(graph, (2 * height, 2 * width))
    except ValueError:
        raise ValueError(
            f"takes images of {height} x {width} pixels, but not of twice that: it is made for one size, as many "
            f"transformers are; choose a convolutional classifier"
        ) from None
    named = [(node, name) for node, name in graph.names.items() if node in shapes and node.op != "get_attr"]
    last = {block: node for node, name in named for block in _blocks(name)}
    facts = []
    for node, name in named:
        shape, stride = shapes[node][1:], _stride(shapes[node], larger[node], image_size)
        if node.op == "call_module" or last[name] is node:
            facts.append(NodeFacts(name, shape, stride, _parameters(graph, [node]), False))
        for block in list(_blocks(name))[::-1]:
            if block != name and block.count(".") < _DEPTH and last[block] is node:
                inside = [other for other, its_name in named if its_name.startswith(block + ".")]
                facts.append(NodeFacts(block, shape, stride, _parameters(graph, inside), True))
    return facts


def _blocks(name: str) -> Iterator[str]:
    """ "layer4.0.conv1" -> "layer4", "layer4.0", "layer4.0.conv1"."""
    return accumulate(name.split("."), "{}.{}".format)


def _parameters(graph: Graph, nodes: Sequence[fx.Node]) -> int:
    """Numbers in the layers of these nodes, and in the parameters that they read."""
    read = [given for node in nodes for given in node.all_input_nodes if given.op == "get_attr"]
    names = {str(node.target) for node in (*nodes, *read) if node.op in ("call_module", "get_attr")}
    parameters = graph.classifier.named_parameters()
    return sum(value.numel() for name, value in parameters if {name, name.rpartition(".")[0]} & names)


@torch.no_grad()
def _shapes(graph: Graph, image_size: tuple[int, int]) -> dict[fx.Node, tuple[int, ...]]:
    """The shape of every node's output; nothing is computed if the classifier is on the meta device."""
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
            f"an image of {image_size[0]} x {image_size[1]} pixels does not go through: {reason}"
        ) from None
    return shapes


def _stride(shape: tuple[int, ...], larger: tuple[int, ...], image_size: tuple[int, int]) -> int | None:
    if len(shape) != 4:
        return None
    strides = set()
    for pixels, cells, more in zip(image_size, shape[2:], larger[2:], strict=True):
        if more <= cells or pixels % (more - cells):
            return None
        strides.add(pixels // (more - cells))
    return strides.pop() if len(strides) == 1 else None
