"""Pictures of the training model and of the evaluation model: modules and rules, and the shapes of what flows.

A node is a module, or a function of `frcnn.ops`; an arrow says that what one gave went into the other. Both are noted
while one image runs through the model, so the picture shows what happens, not what someone once drew.
"""

import copy
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import frcnn.ops
from frcnn.files import whole_file
from frcnn.nn.batch_norm import unfold_batch_norm
from frcnn.nn.detector import FasterRCNN
from frcnn.ops.sampling import generator_of
from frcnn.training.phases import Part, Phase
from frcnn.training.step import TrainingStep
from frcnn.types import Batch

_RULES = {
    str(Path(frcnn.ops.__file__).with_name(f"{name}.py"))
    for name in ("anchors", "matching", "sampling", "selection", "roi_pooling", "losses")
}
"""Files whose functions are nodes; those of boxes and coding are details."""
_DEPTH = 4  # parts of a module's name that tell nodes apart: backbone.conv_layers.blocks.2 is one node
_COLOURS = {Part.BACKBONE: "#dbe9f6", Part.RPN: "#fde2c8", Part.ROI_HEAD: "#d9f0d3"}
_TITLES = {Part.BACKBONE: "backbone", Part.RPN: "RPN", Part.ROI_HEAD: "RoI head"}


def check_graphs() -> None:
    """Raise a ValueError that says what to install, if pictures of graphs cannot be drawn."""
    try:
        import graphviz  # noqa: F401
    except ImportError:
        raise ValueError("train.draw_graph needs a package: pip install 'frcnn[graph]'") from None
    if shutil.which("dot") is None:
        raise ValueError("train.draw_graph needs the program `dot`: install Graphviz (apt, brew, winget: graphviz)")


def draw_graphs(
    detector: FasterRCNN, phases: Sequence[Phase], batch: Batch, folder: Path, graph_type: str
) -> list[Path]:
    """Draw the evaluation model, and the training model of every phase, as seen with a batch of one image.

    Args:
        batch: without kept proposals, on the detector's device; better with objects.
        folder: where graph-evaluation.png, graph-training.png (or graph-training-1-rpn.png, ...) go.
        graph_type: "png" or "pdf".

    Returns:
        The files.
    """
    detector = copy.deepcopy(detector).eval()  # nothing is to change, neither weights nor statistics
    unfold_batch_norm(detector)
    inputs = {"images": batch.images, "image sizes": batch.image_sizes, "original sizes": batch.original_sizes}
    found = _trace(detector, inputs, lambda: detector(*inputs.values())._asdict())
    files = [_draw(detector, found, frozenset(), folder / f"graph-evaluation.{graph_type}")]
    for phase in phases:
        target = batch.targets[0]
        inputs |= {"true boxes": target.boxes, "true labels": target.labels}
        own = batch
        if phase.keeps_proposals:
            own = batch._replace(proposals=[target.boxes.clone()])
            inputs["kept proposals"] = own.proposals[0]  # type: ignore[index]
        found = _trace(detector, inputs, lambda own=own, phase=phase: _losses(detector, phase, own))  # type: ignore[misc]
        name = "graph-training" if len(phases) == 1 else f"graph-training-{phase.name.replace(' ', '-')}"
        files.append(_draw(detector, found, phase.train, folder / f"{name}.{graph_type}"))
    return files


def _losses(detector: FasterRCNN, phase: Phase, batch: Batch) -> dict[str, Tensor]:
    return TrainingStep(detector, phase.train)(batch, [generator_of(0)])


class _Trace(TorchFunctionMode):
    """Notes which node every tensor came from, while operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.module: str | None = None  # that runs now
        self.shapes: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        """Of each node: what it gives. Nodes are in the order in which they ran."""
        self.edges: dict[tuple[str, str], None] = {}
        self.last: dict[str, tuple[int, ...]] = {}
        """Of each node: the shape of what it made last."""
        self._makers: dict[int, str] = {}
        self._sources: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # or another tensor would take its id

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        node = self.module or _rule(sys._getframe(1))
        if made and node is not None:
            self.use(node, given)
            if self.module is not None:
                self.shapes[node] = [tuple(made[0].shape)]
        for value in made:
            if node is not None:
                self.made_by(node, value)
            else:
                self._sources[id(value)] = frozenset().union(*(self._sources_of(each) for each in given))
                self._alive.append(value)
        return result

    def made_by(self, node: str, value: Tensor) -> None:
        self._makers[id(value)] = node
        self.last[node] = tuple(value.shape)
        self._sources[id(value)] = frozenset({node})
        self._alive.append(value)

    def _sources_of(self, value: Tensor) -> frozenset[str]:
        return self._sources.get(id(value), frozenset())

    def use(self, node: str, values: Sequence[Tensor]) -> None:
        """These go into the node."""
        self.shapes[node]  # a defaultdict: now it is there
        for value in values:
            for source in self._sources_of(value) - {node}:
                self.edges[source, node] = None
                shape = tuple(value.shape)
                made = self._makers.get(id(value)) == source and not _is_module(source)
                if made and shape and shape not in self.shapes[source]:
                    self.shapes[source].append(shape)


@torch.no_grad()
def _trace(detector: FasterRCNN, inputs: Mapping[str, Tensor], run: Callable[[], Mapping[str, Tensor]]) -> _Trace:
    trace = _Trace()
    for name, value in inputs.items():
        trace.made_by(name, value)
        trace.shapes[name] = [tuple(value.shape)]
    hooks = []
    for name, module in detector.named_modules():
        if next(module.children(), None) is None and name:
            node = ".".join(name.split(".")[:_DEPTH])

            def enter(_: nn.Module, __: Any, node: str = node) -> None:
                trace.module = node

            def leave(_: nn.Module, __: Any, ___: Any) -> None:
                trace.module = None

            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        with trace:
            results = run()
    finally:
        for hook in hooks:
            hook.remove()
    for name, value in results.items():
        trace.use(f"→ {name}", [value])
    return trace


def _is_module(node: str) -> bool:
    return node.startswith(tuple(f"{part.value}." for part in Part))


def _parameters(detector: FasterRCNN, nodes: Collection[str]) -> dict[str, int]:
    """How many parameters each node has; those of a module that has others inside count for the first of them."""
    counts: dict[str, int] = defaultdict(int)
    for name, parameter in detector.named_parameters():
        module = name.rpartition(".")[0]
        node = ".".join(module.split(".")[:_DEPTH])
        if node not in nodes:
            node = next((other for other in nodes if other.startswith(f"{module}.")), node)
        counts[node] += parameter.numel()
    return counts


def _rule(frame: Any) -> str | None:
    """The function of `frcnn.ops` that runs now, called from outside of it."""
    name = None
    while frame is not None:
        if frame.f_code.co_filename in _RULES and not frame.f_code.co_name.startswith("_"):
            name = frame.f_code.co_name
        frame = frame.f_back
    return name


def _draw(detector: FasterRCNN, trace: _Trace, trained: frozenset[Part], path: Path) -> Path:
    import graphviz

    graph = graphviz.Digraph(
        graph_attr={"rankdir": "TB", "fontname": "Helvetica", "nodesep": "0.25", "ranksep": "0.35"},
        node_attr={"shape": "box", "style": "filled", "fillcolor": "white", "fontname": "Helvetica", "fontsize": "11"},
        edge_attr={"color": "#555555", "arrowsize": "0.7"},
    )
    used = {name for edge in trace.edges for name in edge}
    parameters = _parameters(detector, trace.shapes)
    for part in Part:
        kind = "" if not trained else " (trained)" if part in trained else " (fixed)"
        with graph.subgraph(name=f"cluster_{part.value}") as cluster:
            cluster.attr(label=_TITLES[part] + kind, style="rounded", color="#999999")
            for node in trace.shapes:
                if node in used and node.startswith(f"{part.value}."):
                    count = parameters[node]
                    text = node.removeprefix(f"{part.value}.").removeprefix("conv_layers.").removeprefix("head.")
                    lines = [text, *_shapes(trace, node), *([f"{count:,} parameters"] if count else [])]
                    cluster.node(_id(node), "\n".join(lines), fillcolor=_COLOURS[part])
    for node in trace.shapes:
        if node in used and not _is_module(node):
            is_rule = node.isidentifier() and node != "images"
            style = {"style": "filled,rounded"} if is_rule else {"shape": "ellipse", "fillcolor": "#eeeeee"}
            graph.node(_id(node), "\n".join([node.removeprefix("→ "), *_shapes(trace, node)]), **style)
    for source, node in trace.edges:
        graph.edge(_id(source), _id(node))
    with whole_file(path) as partial:
        partial.write_bytes(graph.pipe(format=path.suffix.removeprefix(".")))
    return path


def _id(node: str) -> str:
    return node.replace(":", "_")


def _shapes(trace: _Trace, node: str) -> list[str]:
    shapes = [shape for shape in trace.shapes[node] or [trace.last.get(node, ())] if shape]
    return [" × ".join(map(str, shape)) for shape in shapes[:3]] + (["..."] if len(shapes) > 3 else [])
