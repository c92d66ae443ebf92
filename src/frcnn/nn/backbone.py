"""Base models: a convolutional classifier of torchvision or timm, cut by node names into conv layers and an RoI head.

The pieces of its graph become modules. They hold the classifier's weights under the classifier's names. A new base
model needs no code, only an entry in config/base_models.yaml.

Letters: B images, F channels, H x W pixels, H_l x W_l cells of level l.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torchvision.models.resnet import Bottleneck

from frcnn.config import BaseModelSettings
from frcnn.config.presets import nearest
from frcnn.config.rules import PAPER, Rules
from frcnn.nn import fx_graph
from frcnn.types import Level


class BaseModel(NamedTuple):
    """A classifier that is cut into two modules."""

    conv_layers: nn.Module
    """(B, 3, H, W) -> a list of (B, channels, H / stride, W / stride), finest first"""
    head: nn.Module
    """(R, channels, roi_size, roi_size) -> (R, ...) for each of R RoIs"""
    levels: tuple[Level, ...]
    """Stride and offset of each feature map."""
    channels: tuple[int, ...]
    """Channels of each feature map."""
    frozen: frozenset[str]
    """Names of the parameters in `conv_layers` that come before the node `freeze_before`."""


class Backbone(nn.Module):
    """Images to feature maps: the conv layers of the base model, then the feature pyramid (FPN) if there is one."""

    def __init__(self, conv_layers: nn.Module, pyramid: nn.Module) -> None:
        super().__init__()
        self.conv_layers = conv_layers
        self.pyramid = pyramid

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> (B, F, H_l, W_l) of each level, finest first."""
        maps: list[Tensor] = self.pyramid(self.conv_layers(images))
        return maps


def build_classifier(architecture: str) -> nn.Module:
    """A classifier with random weights, in evaluation mode.

    Args:
        architecture: "torchvision:NAME" or "timm:NAME".

    Raises:
        ValueError: the library has no such model; the message names the most similar one.
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


def cut_classifier(classifier: nn.Module, settings: BaseModelSettings, rules: Rules = PAPER) -> BaseModel:
    """Cut a classifier: the conv layers end at `last_conv_node`, the head goes from `pool_node` to `last_hidden_node`.

    Args:
        classifier: in evaluation mode; the pieces share its modules.
        rules: the epsilon of batch norm and the offset of cells.

    Raises:
        ValueError: a node does not exist (the message names the most similar one), depends on other nodes than the
            preceding one, or has an output of the wrong shape; or torch.fx cannot trace the classifier.
    """
    eps = settings.batch_norm_eps
    if eps is None:
        eps = rules.batch_norm_eps
        if eps is not None and settings.freeze_batch_norm and settings.coco_detector == "fasterrcnn_resnet50_fpn":
            eps = 0.0  # torchvision trained the COCO weights of this one with eps 0
    if eps is not None:
        for module in classifier.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eps = eps
    if settings.stride_in_1x1:
        _move_strides(classifier, settings.architecture)
    graph = fx_graph.trace(classifier, settings.architecture)
    source = fx_graph.input_node(graph)
    if settings.input_node is not None:
        source = fx_graph.find_node(graph, "input_node", settings.input_node)
    ends = [fx_graph.find_node(graph, "last_conv_node", name) for name in settings.last_conv_node]
    if len(set(ends)) < len(ends):
        raise ValueError(f"base_model.last_conv_node {list(settings.last_conv_node)}: names a node twice")
    conv_layers = fx_graph.subgraph(graph, source, ends, single=False)

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
        pool = ends[-1] if settings.pool_node is None else fx_graph.find_node(graph, "pool_node", settings.pool_node)
        last_hidden = fx_graph.find_node(graph, "last_hidden_node", settings.last_hidden_node)
        if last_hidden is pool:
            raise ValueError(
                f"base_model.last_hidden_node '{settings.last_hidden_node}': the cut leaves no head, as RoI pooling "
                f"comes after this very node; name a later one, or leave it empty and give base_model.fc_channels"
            )
        head = fx_graph.subgraph(graph, pool, [last_hidden], single=True)
        _remove_identity_pooling(head, settings.roi_size)
    if settings.dropout is not None:
        for module in head.modules():
            if isinstance(module, nn.Dropout):
                module.p = settings.dropout

    strides, channels = _measure_maps(conv_layers, settings)
    centers = fx_graph.cell_centers(graph, source)
    levels = []
    for end, stride in zip(ends, strides, strict=True):
        offset = rules.offset if rules.offset is not None else centers[end] / stride
        # Where a layer pads by the size of its input, the center differs from image to image: half a cell is the mean.
        levels.append(Level(stride, 0.5 if math.isnan(offset) else offset))

    frozen: frozenset[str] = frozenset()
    if settings.freeze_before is not None:
        first = fx_graph.find_node(graph, "freeze_before", settings.freeze_before, last=False)
        nodes = list(graph.graph.nodes)
        frozen = fx_graph.parameter_names(conv_layers, nodes[: nodes.index(first)])
    return BaseModel(conv_layers, head, tuple(levels), channels, frozen)


def _move_strides(classifier: nn.Module, architecture: str) -> None:
    """Move the stride of each bottleneck from its 3x3 convolution to the first 1x1 convolution.

    Source:
        He et al. 2016, arXiv:1512.03385, has it in the 1x1 convolution; torchvision in the 3x3 convolution.
    """
    blocks = [module for module in classifier.modules() if isinstance(module, Bottleneck)]
    if not blocks:
        raise ValueError(
            f"base_model.stride_in_1x1: base_model.architecture '{architecture}' has no bottlenecks of torchvision's "
            f"ResNets; leave the setting false"
        )
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def _remove_identity_pooling(head: fx.GraphModule, roi_size: int) -> None:
    """Remove adaptive average pooling to the size that pooled RoIs have already. It changes nothing, but took 100 ms of
    the 800 ms of AlexNet."""
    image = next(node for node in head.graph.nodes if node.op == "placeholder")
    for node in list(image.users):
        layer = head.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (roi_size, (roi_size, roi_size)):
            node.replace_all_uses_with(image)
            head.graph.erase_node(node)
    head.recompile()


@torch.no_grad()
def head_width(head: nn.Module, channels: int, size: int) -> int:
    """The length of the vector that a head makes of `channels` maps of `size` x `size` cells.

    Raises:
        ValueError: the head does not accept maps of this size.
    """
    try:
        hidden: Tensor = head(torch.zeros(1, channels, size, size))
    except RuntimeError as error:
        raise ValueError(
            f"base_model.roi_size {size} does not fit the head ({error}); set the size that it accepts, or another "
            f"base_model.pool_node"
        ) from None
    return int(hidden[0].numel())


@torch.no_grad()
def _measure_maps(conv_layers: fx.GraphModule, settings: BaseModelSettings) -> tuple[list[int], tuple[int, ...]]:
    """Strides and channels of the feature maps, from the shapes for two blank images. One image is not enough, as some
    networks do not pad."""
    sides = (256, 512)
    interpreter = fx.Interpreter(conv_layers)  # unlike the module's forward, it prints nothing if it fails
    interpreter.extra_traceback = False
    try:
        small, large = (interpreter.run(torch.zeros(1, 3, side, side)) for side in sides)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"base_model.architecture '{settings.architecture}' does not accept images of any size ({error}); choose a "
            f"convolutional one"
        ) from None
    strides: list[int] = []
    for name, before, after in zip(settings.last_conv_node, small, large, strict=True):
        if not isinstance(before, Tensor) or before.ndim != 4 or before.shape[1] != after.shape[1]:
            raise ValueError(
                f"base_model.last_conv_node '{name}' does not give a feature map (channels x height x width); name a "
                f"convolutional layer or block (`frcnn layers` shows what each node gives)"
            )
        stride = fx_graph.stride_of(before.shape, after.shape, (sides[0], sides[0]))
        if stride is None:
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
