"""The nodes of a classifier, as they are listed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from frcnn.nn.backbone import build_classifier
from frcnn.nn.fx_graph import Graph, LayerInfo, find_node, input_node, list_layers, subgraph, trace

ARCHITECTURES = ("torchvision:alexnet", "torchvision:resnet18", "timm:convnext_nano", "timm:efficientnet_lite0")
SIZE = (224, 160)


@cache
def recorded(architecture: str) -> Graph:
    torch.manual_seed(0)
    return trace(build_classifier(architecture), architecture)


@cache
def listed(architecture: str) -> dict[str, LayerInfo]:
    return {node.name: node for node in list_layers(recorded(architecture), SIZE)}


@torch.no_grad()
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shapes_are_those_that_the_layers_give(architecture: str) -> None:
    """Oracle: hooks on the classifier itself."""
    classifier = recorded(architecture).classifier
    seen: dict[str, tuple[int, ...]] = {}

    def look(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            seen[name] = tuple(output.shape[1:])

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: look(name, output))
        for name, module in classifier.named_modules()
        if name
    ]
    classifier(torch.zeros(1, 3, *SIZE))
    for hook in hooks:
        hook.remove()
    nodes = listed(architecture)
    both = seen.keys() & nodes.keys()
    assert len(both) > 15
    assert {name: seen[name] for name in both} == {name: nodes[name].shape for name in both}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_is_counted_once(architecture: str) -> None:
    """Also those of ConvNeXt's layer norms, which are read by functions and belong to no layer of the graph."""
    layers = sum(node.parameters for node in listed(architecture).values() if not node.block)
    assert layers == sum(parameter.numel() for parameter in recorded(architecture).classifier.parameters())


def test_strides_are_measured() -> None:
    """ResNet's stages: He et al. 2016, table 1."""
    nodes = listed("torchvision:resnet18")
    strides = [nodes[name].stride for name in ("x", "conv1", "layer1", "layer2", "layer3", "layer4")]
    assert strides == [1, 2, 4, 8, 16, 32]
    assert nodes["avgpool"].stride is None  # one cell whatever the image
    assert nodes["fc"].stride is None
    assert nodes["fc"].shape == (1000,)


def test_a_block_stands_for_its_last_node_and_all_its_parameters() -> None:
    nodes = listed("torchvision:resnet18")
    order = list(nodes)
    layer1 = recorded("torchvision:resnet18").classifier.get_submodule("layer1")
    assert nodes["layer1"].block
    assert nodes["layer1"].parameters == sum(parameter.numel() for parameter in layer1.parameters())
    assert order.index("layer1") == order.index("layer1.1") + 1 == order.index("layer1.1.relu_1") + 2
    assert not nodes["conv1"].block
    assert find_node(recorded("torchvision:resnet18"), "last_conv_node", "layer1").name == "layer1_1_relu_1"


@torch.no_grad()
def test_a_piece_computes_what_the_classifier_computes_between_two_nodes() -> None:
    graph = recorded("torchvision:resnet18")
    classifier = graph.classifier
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    start, end = (find_node(graph, "last_conv_node", name) for name in ("layer1", "layer3"))
    (features,) = subgraph(graph, input_node(graph), [start], single=False)(image)
    stem = classifier.maxpool(classifier.relu(classifier.bn1(classifier.conv1(image))))
    torch.testing.assert_close(features, classifier.layer1(stem))
    expected = classifier.layer3(classifier.layer2(features))
    torch.testing.assert_close(subgraph(graph, start, [end], single=True)(features), expected)


def test_an_image_that_is_too_small_is_named() -> None:
    with pytest.raises(ValueError, match=r"an image of 12 x 10 pixels does not go through: .*too small$"):
        list_layers(recorded("torchvision:alexnet"), (10, 12))


def test_a_classifier_that_decides_by_its_input_is_named() -> None:
    class Moody(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"base_model\.architecture 'my:moody': torch\.fx cannot trace it .*choose an"):
        trace(Moody(), "my:moody")


def test_other_threads_use_their_modules_meanwhile() -> None:
    """A server predicts with one detector while it loads another one."""
    layers, image, stop = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.rand(1, 3, 9, 9), threading.Event()
    expected, outputs, failures = layers(image), [], []

    def predict() -> None:
        while not stop.is_set():
            try:
                outputs.append(layers(image))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=predict) for _ in range(2)]
    for thread in threads:
        thread.start()
    classifier = build_classifier("torchvision:alexnet")
    with ThreadPoolExecutor(2) as pool:
        graphs = list(pool.map(lambda _: trace(classifier, "torchvision:alexnet"), range(8)))
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(torch.equal(output, expected) for output in outputs)
    assert len({tuple(each.names.values()) for each in graphs}) == 1
    assert nn.Module.__call__.__name__ != "module_call_wrapper"  # nothing stays replaced
