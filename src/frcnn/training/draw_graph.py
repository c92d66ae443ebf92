"""Pictures of the training model and of the evaluation model: their modules and functions, and the shapes of tensors.

A node is a module or a function of `frcnn.ops`. An arrow from one node to another means that an output of the first is
an input of the second. Both are recorded while one image runs through the model.
"""

import copy
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import frcnn.ops
from frcnn.config import TrainSettings
from frcnn.files import atomic_write
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.seeds import generator_of
from frcnn.training.schemes import Part, Phase
from frcnn.training.step import TrainingStep
from frcnn.types import Batch

_RULES = {
    str(Path(frcnn.ops.__file__).with_name(f"{name}.py"))
    for name in ("anchors", "matcher", "sampler", "postprocess", "roi_pooling", "losses")
}
"""Files whose functions are nodes; those of boxes and box_coder are details."""
_DEPTH = 4  # modules with the same first parts of the name are one node: backbone.conv_layers.blocks.2
_STYLES = {Part.BACKBONE: ("backbone", "#dbe9f6"), Part.RPN: ("RPN", "#fde2c8"), Part.ROI_HEAD: ("RoI head", "#d9f0d3")}


def check_graphs() -> None:
    """Raise a ValueError that says what to install if graphs cannot be drawn."""
    try:
        import graphviz  # noqa: F401
    except ImportError:
        raise ValueError("train.draw_graph needs a package: pip install graphviz") from None
    if shutil.which("dot") is None:
        raise ValueError("train.draw_graph needs the program `dot`: install Graphviz (apt, brew, winget: graphviz)")


def draw_graphs(
    model: FasterRCNN,
    settings: TrainSettings,
    phases: Sequence[Phase],
    batch: Batch,
    folder: Path,
) -> list[Path]:
    """Draw the evaluation model, and the training model of every phase, for a batch of one image.

    Args:
        model: plain, not optimized: in fused layers, the modules are not called.
        batch: without proposals, on the model's device; it should have objects.
        folder: of graph-evaluation.png and graph-training.png (or graph-training-1-rpn.png, ...).

    Returns:
        The files.
    """
    model = copy.deepcopy(model).eval()  # neither weights nor statistics may change
    inputs = {"images": batch.images, "image sizes": batch.image_sizes, "original sizes": batch.original_sizes}
    trace = _trace(model, inputs, lambda: model(*inputs.values())._asdict())
    files = [_draw(model, trace, frozenset(), folder / f"graph-evaluation.{settings.graph_type}")]
    for phase in phases:
        target = batch.targets[0]
        inputs |= {"true boxes": target.boxes, "true labels": target.labels}
        own = batch
        if phase.uses_stored_proposals:
            own = batch._replace(proposals=[target.boxes.clone()])
            inputs["stored proposals"] = own.proposals[0]  # type: ignore[index]
        step = TrainingStep(model, settings, phase.train)
        trace = _trace(model, inputs, partial(step, own, [generator_of(0)]))
        name = "graph-training" if len(phases) == 1 else f"graph-training-{phase.name.replace(' ', '-')}"
        files.append(_draw(model, trace, phase.train, folder / f"{name}.{settings.graph_type}"))
    return files


class _Trace(TorchFunctionMode):
    """Records the node that every tensor comes from, while operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.module: str | None = None  # the one that runs now
        self.shapes: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        """The shapes of each node's outputs. Nodes are in the order in which they ran."""
        self.edges: dict[tuple[str, str], None] = {}
        self.last: dict[str, tuple[int, ...]] = {}
        """The shape of each node's last output."""
        self._makers: dict[int, str] = {}
        self._sources: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # else another tensor could get the same id

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
            self._alive.append(value)
            if node is not None:
                self.made_by(node, value)
            else:
                self._sources[id(value)] = frozenset().union(*map(self._sources_of, given))
        return result

    def made_by(self, node: str, value: Tensor) -> None:
        self._makers[id(value)] = node
        self.last[node] = tuple(value.shape)
        self._sources[id(value)] = frozenset({node})

    def _sources_of(self, value: Tensor) -> frozenset[str]:
        return self._sources.get(id(value), frozenset())

    def use(self, node: str, values: Sequence[Tensor]) -> None:
        """Record these tensors as inputs of the node."""
        self.shapes[node]  # creates the entry of the defaultdict
        for value in values:
            for source in self._sources_of(value) - {node}:
                self.edges[source, node] = None
                shape = tuple(value.shape)
                made = self._makers.get(id(value)) == source and not _is_module(source)
                if made and shape and shape not in self.shapes[source]:
                    self.shapes[source].append(shape)


@torch.no_grad()
def _trace(model: FasterRCNN, inputs: Mapping[str, Tensor], run: Callable[[], Mapping[str, Tensor]]) -> _Trace:
    trace = _Trace()
    for name, value in inputs.items():
        trace.made_by(name, value)
        trace.shapes[name] = [tuple(value.shape)]
    hooks = []
    for name, module in model.named_modules():
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


def _parameters(model: FasterRCNN, nodes: Collection[str]) -> dict[str, int]:
    """The number of parameters of each node; those of a module with children count for the first child."""
    counts: dict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        module = name.rpartition(".")[0]
        node = ".".join(module.split(".")[:_DEPTH])
        if node not in nodes:
            node = next((other for other in nodes if other.startswith(f"{module}.")), node)
        counts[node] += parameter.numel()
    return counts


def _rule(frame: Any) -> str | None:
    """The function of `frcnn.ops` that runs now and was called from outside `frcnn.ops`."""
    name = None
    while frame is not None:
        if frame.f_code.co_filename in _RULES and not frame.f_code.co_name.startswith("_"):
            name = frame.f_code.co_name
        frame = frame.f_back
    return name


def _draw(model: FasterRCNN, trace: _Trace, trained: frozenset[Part], path: Path) -> Path:
    import graphviz

    graph = graphviz.Digraph(
        graph_attr={"rankdir": "TB", "fontname": "Helvetica", "nodesep": "0.25", "ranksep": "0.35"},
        node_attr={"shape": "box", "style": "filled", "fillcolor": "white", "fontname": "Helvetica", "fontsize": "11"},
        edge_attr={"color": "#555555", "arrowsize": "0.7"},
    )
    used = {name for edge in trace.edges for name in edge}
    parameters = _parameters(model, trace.shapes)
    for part, (title, color) in _STYLES.items():
        kind = "" if not trained else " (trained)" if part in trained else " (frozen)"
        with graph.subgraph(name=f"cluster_{part.value}") as cluster:
            cluster.attr(label=title + kind, style="rounded", color="#999999")
            for node in trace.shapes:
                if node in used and node.startswith(f"{part.value}."):
                    count = parameters[node]
                    text = node.removeprefix(f"{part.value}.").removeprefix("conv_layers.").removeprefix("head.")
                    lines = [text, *_shapes(trace, node), *([f"{count:,} parameters"] if count else [])]
                    cluster.node(_id(node), "\n".join(lines), fillcolor=color)
    for node in trace.shapes:
        if node in used and not _is_module(node):
            is_rule = node.isidentifier() and node != "images"
            style = {"style": "filled,rounded"} if is_rule else {"shape": "ellipse", "fillcolor": "#eeeeee"}
            graph.node(_id(node), "\n".join([node.removeprefix("→ "), *_shapes(trace, node)]), **style)
    for source, node in trace.edges:
        graph.edge(_id(source), _id(node))
    with atomic_write(path) as partial:
        partial.write_bytes(graph.pipe(format=path.suffix.removeprefix(".")))
    return path


def _id(node: str) -> str:
    return node.replace(":", "_")


def _shapes(trace: _Trace, node: str) -> list[str]:
    shapes = [shape for shape in trace.shapes[node] or [trace.last.get(node, ())] if shape]
    return [" × ".join(map(str, shape)) for shape in shapes[:3]] + (["..."] if len(shapes) > 3 else [])
